"""dlt as fast as it goes: connectorx reads in partitions and streams, into Parquet files, which ADBC loads."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.contenders import RIVALS, Command, Contender, Job, program

# Four were faster than one on two cores, and streams take less memory than whole tables.
PARTITIONS = max(4, os.cpu_count() or 1)


def load(job: Job) -> Command:
    """Replace the table."""
    return program(
        "benchmarks.contenders.dlt", job, python=str(RIVALS / "bin" / "python"), RUNTIME__DLTHUB_TELEMETRY="false"
    )


def main() -> None:
    """Run the pipeline of the job; in the rivals' environment, the only one that has dlt."""
    import dlt
    from dlt.sources.sql_database import sql_table

    job = Job.given()
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir=str(Path(job.home) / "pipelines"),
        destination=dlt.destinations.postgres(job.target),
        dataset_name="public",
    )
    # SQLAlchemy would look for psycopg 3; connectorx, which encrypts but can't verify, gets the URL without the driver.
    source = job.source.replace("postgresql:", "postgresql+psycopg2:").replace("sslmode=verify-full", "sslmode=require")
    rows = sql_table(
        source,
        job.table,
        schema="public",
        backend="connectorx",
        chunk_size=100_000,
        backend_kwargs={"partition_on": job.key, "partition_num": PARTITIONS, "return_type": "arrow_stream"},
    )
    pipeline.run(rows, write_disposition="replace", loader_file_format="parquet").raise_on_failed_jobs()


CONTENDER = Contender("dlt", load)

if __name__ == "__main__":
    main()
