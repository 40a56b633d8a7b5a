"""Airflow's own GenericTransfer, with the fast path of its Postgres hook."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import Command, Contender, Job, program


def load(job: Job) -> Command:
    """Fill the table."""
    return program(
        "benchmarks.contenders.generic_transfer",
        job,
        AIRFLOW_HOME=str(Path(job.home) / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="false",
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="false",
        AIRFLOW_CONN_BENCH_SOURCE=job.source,
        AIRFLOW_CONN_BENCH_TARGET=job.target,
    )


def main() -> None:
    """Execute the operator outside of any DAG."""
    from airflow.providers.common.sql.operators.generic_transfer import GenericTransfer

    job = Job.given()
    names = ", ".join(f'"{name}"' for name in job.columns)
    GenericTransfer(
        task_id="transfer",
        sql=f"select {names} from {job.table}",
        source_conn_id="bench_source",
        destination_conn_id="bench_target",
        destination_table=job.table,
        insert_args={"target_fields": list(job.columns), "commit_every": 10_000, "fast_executemany": True},
    ).execute({})


CONTENDER = Contender("GenericTransfer", load, is_given_table=True)

if __name__ == "__main__":
    main()
