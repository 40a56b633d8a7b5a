"""
### Care of the warehouse, every night

**What**: brings tokens that an older key has written to the key that writes now, and blind indexes to the index key;
deletes records of `ops` that nobody reads any more. Most nights there is nothing to do, which takes seconds.

**Reads**: `ops.encrypted_column`, `ops.data_key_use`, tokens in `raw`; `include/retention.yaml`.

**Writes**: tokens and blind indexes in `raw`, and `core.contact` and `core.app_user` after a change of the index key;
`ops.key_rotation`, `ops.data_key_use`, `ops.encrypted_column`, `ops.pruning`; deletes from the tables of `ops` that
`include/retention.yaml` names.

**When**: 05:30 UTC, after the sources; and by hand, where a new key should not wait. The same as `make rotate-keys`.

**Re-run**: safe at any moment. What is done is seen from the tokens themselves; a load of a table goes first.

**If it fails**: the log names table, key and remedy. No key may be removed from `REVOPS_DATA_KEYS` before a rotation
has said so; everything can be read meanwhile, and loads work.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task

from revops import alerts
from revops.source_dag import DEFAULT_ARGS


@dag(
    dag_id="warehouse_care",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 5 * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=10),
    default_args=DEFAULT_ARGS,
    on_failure_callback=[alerts.run_failed],
    tags=["revops", "warehouse"],
)
def warehouse_care() -> None:
    # Ended by its time-out, the next try goes on where it stopped.
    @task
    def rotate_keys(run_id: str | None = None) -> dict[str, Any]:
        from revops.operators.failure import failing_fast
        from revops.rotation.night import rotate_when_due

        with failing_fast():
            return rotate_when_due(run_id=str(run_id))

    @task
    def prune(run_id: str | None = None) -> dict[str, int]:
        from revops.hooks.warehouse import connect_warehouse
        from revops.operators.failure import failing_fast
        from revops.retention import prune, read_retention
        from revops.sources import INCLUDE

        with failing_fast():
            kept = read_retention(INCLUDE / "retention.yaml", anomaly=INCLUDE / "anomaly.yaml")
            with connect_warehouse("revops_quality", task="prune") as warehouse:
                return prune(warehouse, kept, run_id=str(run_id))

    rotate_keys()
    prune()


warehouse_care()
