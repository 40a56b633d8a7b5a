"""The nightly DAG of one source: extract, check raw, transform, check core, embed, report."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, TaskGroup, chain, task, teardown

from revops import alerts
from revops.assets import EMBEDDING
from revops.operators.embed import EmbedOperator
from revops.operators.extract import ExtractOperator, SnapshotOperator
from revops.operators.profile import ProfileOperator
from revops.operators.quality import QualityOperator
from revops.operators.retrying import FullJitter
from revops.operators.transform import TransformOperator
from revops.operators.vectors import ExportTextsOperator, LoadVectorsOperator
from revops.sources import Source, load_source
from revops.transform.targets import core_tables

RUN_TIMEOUT = timedelta(hours=6)
RETRY_DELAY = timedelta(seconds=30)
MAX_RETRY_DELAY = timedelta(minutes=10)
DEFAULT_ARGS: dict[str, Any] = {
    "owner": "revops",
    "retries": 3,
    "retry_policy": FullJitter(base=2 * RETRY_DELAY, cap=MAX_RETRY_DELAY),
    "retry_delay": RETRY_DELAY,
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": MAX_RETRY_DELAY,
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": [alerts.task_failed],
}
# The snapshot must be there before the tables want it.
SNAPSHOT_PRIORITY = 2000
# The only tables of core that are made from each other, in their order.
ACCOUNTS = ("account_record", "account_link", "account")


def source_dag(source_name: str, *, doc: str | None, assets: dict[str, Asset]) -> DAG:
    """Build the DAG of a source from include/sources/<source_name>.yaml.

    assets: what other DAGs wait for, by the table of core that updates it.
    """
    config = load_source(source_name)
    with DAG(
        dag_id=source_name,
        doc_md=doc,
        # Without a start date and with no catching up, switching the DAG on starts nothing: the first run is
        # the next night's.
        schedule=CronTriggerTimetable(config.schedule, timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=RUN_TIMEOUT,
        default_args=DEFAULT_ARGS,
        on_failure_callback=[alerts.run_failed],
        params={
            "full_refresh": Param(
                False,
                type="boolean",
                description="Read every row again, whatever the watermarks say, and compute all of core anew",
            ),
            "accept_deletions": Param(
                False, type="boolean", description="Mark as many rows deleted as are gone from the source"
            ),
        },
        tags=["revops", "source"],
    ) as dag:
        extract = _extract(config)
        with TaskGroup("check_raw") as check_raw:
            QualityOperator(task_id="soda", source_name=source_name, layer="raw", retries=1)
            ProfileOperator(task_id="profile", source_name=source_name, layer="raw", retries=1)
        tables = core_tables(source_name)
        with TaskGroup("transform") as transform:
            steps = {
                table: TransformOperator(
                    task_id=table,
                    source_name=source_name,
                    target=table,
                    outlets=[assets[table]] if table in assets else [],
                )
                for table in tables
            }
            # The others read raw only, and run beside these.
            chain(*(steps[table] for table in ACCOUNTS))
        with TaskGroup("check_core") as check_core:
            QualityOperator(task_id="soda", source_name=source_name, layer="core", tables=tables, retries=1)
            ProfileOperator(task_id="profile", source_name=source_name, layer="core", tables=tables, retries=1)
        embed = _embed(source_name)
        chain(extract, check_raw, transform, check_core, embed, _report(source_name))
    return dag


def _extract(config: Source) -> TaskGroup:
    # Beside the tables, not before them: it holds the snapshot open while they read.
    SnapshotOperator(
        task_id="snapshot",
        source_name=config.source,
        priority_weight=SNAPSHOT_PRIORITY,
        weight_rule="absolute",
        execution_timeout=timedelta(seconds=config.snapshot_hold_s + 120),
    )
    with TaskGroup("extract") as group:
        for entry in config.entries:
            ExtractOperator(
                task_id=entry.name,
                source_name=config.source,
                entry=entry.name,
                pool=f"{config.source}_source",
                priority_weight=entry.priority,
                weight_rule="absolute",
            )
    return group


def _embed(source_name: str) -> TaskGroup:
    with TaskGroup("embed") as group:
        documents = TransformOperator(task_id="documents", source_name=source_name, target="document")
        # A container each; what the model says of itself must come from where it will encode.
        model = EmbedOperator(task_id="model", source_name=source_name, command="describe")
        export = ExportTextsOperator(
            task_id="export", source_name=source_name, model=model.output, abandoned_after=RUN_TIMEOUT
        )
        encode = EmbedOperator(
            task_id="encode",
            source_name=source_name,
            command="batch",
            texts="{{ ti.xcom_pull('embed.export')['texts'] }}",
            model_key="{{ ti.xcom_pull('embed.model')['key'] }}",
            pool="embedding",
        )
        load = LoadVectorsOperator(
            task_id="load",
            source_name=source_name,
            model_id="{{ ti.xcom_pull('embed.export')['model_id'] }}",
            encoded=encode.output,
            outlets=[EMBEDDING],
        )
        chain(documents, model, export, encode, load)
    return group


def _report(source_name: str) -> Any:
    # A teardown runs whatever happened before it, and leaves the run failed when it failed.
    @teardown
    @task(task_id="report", retries=2)
    def report(run_id: str | None = None) -> dict[str, Any]:
        import structlog

        from revops.hooks.warehouse import connect_warehouse
        from revops.quality.report_files import write_reports
        from revops.report import read_report
        from revops.settings import report_folder

        log = structlog.get_logger("revops.report")
        with connect_warehouse("revops_quality", task=f"report:{source_name}") as warehouse:
            result = read_report(warehouse, source=source_name, run_id=str(run_id))
        for load in result.loads:
            log.info("table", **{key: value for key, value in load.items() if value is not None})
        for line in result.warnings:
            log.warning(line)
        page, document = write_reports(result, report_folder())
        log.info("report written", page=str(page), document=str(document))
        mailed = alerts.warn(result)
        return {
            "tables": len(result.loads),
            "absent": result.absent,
            "rows_read": result.rows_read,
            "rows_changed": result.rows_changed,
            "warnings": len(result.warnings),
            "warnings_mailed": mailed,
            "report": str(page),
        }

    return report()
