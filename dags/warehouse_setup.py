"""
### Set up the warehouse

**What**: creates the database `revops_core` where it is missing, and applies the migrations that it lacks. The
same as `make setup`.

**Reads**: `include/sql/migrations`, `include/seeds`.

**Writes**: schemas, roles, tables and functions of the warehouse; `ops.migration`; the tables filled from
`include/seeds`, and `ops.seed`.

**When**: by hand, after an update of this repository.

**Re-run**: safe; applied migrations are skipped, and a failure leaves nothing behind.

**If it fails**: the log names the setting to look at (host, port, TLS, role, password, pg_hba, extension,
version) and the remedy.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from revops import alerts
from revops.source_dag import DEFAULT_ARGS


@dag(
    dag_id="warehouse_setup",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "execution_timeout": timedelta(minutes=30)},
    on_failure_callback=[alerts.run_failed],
    tags=["revops", "warehouse"],
)
def warehouse_setup() -> None:
    @task
    def migrate() -> list[str]:
        import structlog

        from revops.hooks.warehouse import warehouse_conninfo
        from revops.operators.failure import failing_fast
        from revops.sources import INCLUDE
        from revops.warehouse_setup import read_migrations, set_up_warehouse

        log = structlog.get_logger("revops.setup")
        with failing_fast():
            migrations = read_migrations(INCLUDE / "sql" / "migrations")
            return set_up_warehouse(warehouse_conninfo(None, task="setup"), migrations, progress=log.info)

    migrate()


warehouse_setup()
