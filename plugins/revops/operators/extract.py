"""Operators of the first step: one snapshot for a run, one task a table."""

from __future__ import annotations

from typing import Any

import structlog
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from revops.extract.load import load_table, record_given_up
from revops.extract.snapshot import all_tables_read, find_snapshot, hold_snapshot
from revops.hooks.source import connect_source
from revops.hooks.warehouse import connect_warehouse
from revops.operators.failure import failing_fast
from revops.sources import load_source

log = structlog.get_logger(__name__)

# How long a table waits for the run's snapshot before it reads in one of its own.
SNAPSHOT_WAIT_S = 60.0
# `airflow tasks test` runs one task alone: nobody exports a snapshot for it.
TEST_RUN_PREFIX = "__airflow_temporary_run_"


class SnapshotOperator(BaseOperator):
    """Export a snapshot of a source and hold it until the run's tables are read; runs beside them, not before them."""

    def __init__(self, *, source_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name

    def execute(self, context: Context) -> None:
        with failing_fast():
            config = load_source(self.source_name)
            run_id = context["run_id"]
            with (
                connect_source(config.connection, task=f"{config.source}.snapshot") as source,
                connect_warehouse("revops_ingest", task=f"{config.source}.snapshot") as warehouse,
            ):
                hold_snapshot(
                    source,
                    warehouse,
                    source_name=config.source,
                    run_id=run_id,
                    is_done=lambda connection: all_tables_read(
                        connection, source_name=config.source, run_id=run_id, tables=len(config.tables)
                    ),
                    hold_s=config.snapshot_hold_s,
                )


class ExtractOperator(BaseOperator):
    """Bring one source table into raw; returns the counts of the load."""

    def __init__(self, *, source_name: str, table_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.table_name = table_name

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            with failing_fast():
                return self._load(context)
        except Exception as error:
            ti = context["ti"]
            if isinstance(error, AirflowFailException) or ti.try_number > ti.max_tries:
                self._give_up(context["run_id"], error)
            raise

    def _load(self, context: Context) -> dict[str, Any]:
        config = load_source(self.source_name)
        run_id = context["run_id"]
        name = f"{config.source}.{self.table_name}"
        with (
            connect_warehouse("revops_ingest", task=f"extract:{name}") as warehouse,
            connect_source(config.connection, task=f"extract:{name}") as source,
        ):
            wait_s = 0.0 if run_id.startswith(TEST_RUN_PREFIX) else SNAPSHOT_WAIT_S
            snapshot = find_snapshot(warehouse, source_name=config.source, run_id=run_id, wait_s=wait_s)
            result = load_table(
                source,
                warehouse,
                config=config,
                table=config.table(self.table_name),
                run_id=run_id,
                snapshot=snapshot,
                full_refresh=bool(context["params"].get("full_refresh", False)),
            )
        return vars(result)

    def _give_up(self, run_id: str, error: Exception) -> None:
        """Tell the run's records, so that the snapshot is not held for a table that nobody will read."""
        try:
            config = load_source(self.source_name)
            with connect_warehouse("revops_ingest", task=f"give-up:{self.table_name}") as warehouse:
                record_given_up(
                    warehouse, config=config, table=config.table(self.table_name), run_id=run_id, error=error
                )
        except Exception:
            log.exception("the failure could not be recorded in ops.load", table=self.table_name)
