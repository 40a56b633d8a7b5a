"""Operators of the first step: one snapshot for a run, one task a table or pattern of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from revops.access_log import read_audit_mode, record_audit_mode
from revops.extract.ledger import record_given_up
from revops.extract.load import LoadResult, load_table
from revops.extract.patterns import PatternResult, load_pattern
from revops.extract.raw_table import read_raw_columns
from revops.extract.sessions import Route
from revops.extract.snapshot import (
    SharedSnapshot,
    all_have_left,
    find_snapshot,
    hold_snapshot,
    leave_snapshot,
)
from revops.extract.source_login import (
    REMEDY,
    WritingLoginError,
    describe_rights,
    find_write_rights,
    record_source_login,
)
from revops.hooks.source import connect_source, source_conninfo
from revops.hooks.warehouse import connect_warehouse, warehouse_conninfo
from revops.keyring import Keyring
from revops.lineage.openlineage import Copied, Database, extract_facets
from revops.naming import raw_table_name
from revops.operators.failure import failing_fast
from revops.rotation.registry import require_all
from revops.settings import requires_read_only_source
from revops.sources import Source, load_source

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

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
            readers = [entry.name for entry in config.entries]
            with (
                connect_source(config.connection, task=f"{config.source}.snapshot", may_write=True) as source,
                connect_warehouse("revops_ingest", task=f"{config.source}.snapshot") as warehouse,
            ):
                _record_access(source, warehouse, config=config, run_id=run_id)
                hold_snapshot(
                    source,
                    warehouse,
                    source_name=config.source,
                    run_id=run_id,
                    is_done=lambda connection: all_have_left(
                        connection, source_name=config.source, run_id=run_id, tasks=readers
                    ),
                    hold_s=config.snapshot_hold_s,
                )


class ExtractOperator(BaseOperator):
    """Bring one source table, or all that fit a pattern, into raw; returns the counts.

    entry: the name of the table or pattern in the source's file.
    """

    def __init__(self, *, source_name: str, entry: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.entry = entry
        self._loaded: list[LoadResult] = []

    def execute(self, context: Context) -> dict[str, Any]:
        is_over = True
        try:
            with failing_fast():
                return self._load(load_source(self.source_name), context)
        except Exception as error:
            ti = context["ti"]
            is_over = isinstance(error, AirflowFailException) or ti.try_number > ti.max_tries
            if is_over:
                self._record_given_up(context["run_id"], error)
            raise
        finally:
            if is_over:
                self._leave_snapshot(context["run_id"])

    def _load(self, config: Source, context: Context) -> dict[str, Any]:
        task = f"extract:{config.source}.{self.entry}"
        route = Route(
            source=lambda: connect_source(config.connection, task=task),
            warehouse=lambda: connect_warehouse("revops_ingest", task=task),
        )
        order: dict[str, Any] = {
            "config": config,
            "run_id": context["run_id"],
            "snapshot": self._find_snapshot(config, context["run_id"]),
            "full_refresh": bool(context["params"].get("full_refresh", False)),
            "accept_deletions": bool(context["params"].get("accept_deletions", False)),
            "keyring": _keyring(config),
        }
        if order["keyring"] is not None:
            with connect_warehouse("revops_ingest", task=task) as warehouse:
                require_all(warehouse, order["keyring"])
        if config.has_pattern(self.entry):
            return self._outcome(load_pattern(route, pattern=config.pattern(self.entry), **order))
        result = load_table(route, table=config.table(self.entry), **order)
        self._loaded = [result]
        return vars(result)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """Return what the task read and wrote, for OpenLineage's listener; absent tables are left out."""
        config, task = load_source(self.source_name), f"lineage:{self.source_name}.{self.entry}"
        with connect_warehouse("revops_ingest", task=task) as warehouse:
            copied = [self._copied(warehouse, result) for result in self._loaded if not result.is_absent]
        return extract_facets(
            copied,
            source=Database.of(source_conninfo(config.connection, task=task)),
            warehouse=Database.of(warehouse_conninfo("revops_ingest", task=task)),
        )

    def _copied(self, warehouse: psycopg.Connection, result: LoadResult) -> Copied:
        raw = raw_table_name(result.source, result.table)
        written = result.inserted + result.updated + result.deleted
        return Copied(result.relation, f"raw.{raw}", written, tuple(read_raw_columns(warehouse, raw)))

    def _outcome(self, result: PatternResult) -> dict[str, Any]:
        """Return how many tables and rows there were; raises when one of them failed."""
        if result.postponed:
            raise ConnectionError(f"{self.entry}: {result.explain()}")
        if result.refused:
            raise AirflowFailException(f"{self.entry}: {result.explain()}")
        self._loaded = result.loaded
        return {
            "tables": len(result.loaded),
            "read": sum(loaded.read for loaded in result.loaded),
            "changed": sum(loaded.inserted + loaded.updated + loaded.deleted for loaded in result.loaded),
        }

    def _find_snapshot(self, config: Source, run_id: str) -> SharedSnapshot | None:
        wait_s = 0.0 if run_id.startswith(TEST_RUN_PREFIX) else SNAPSHOT_WAIT_S
        with connect_warehouse("revops_ingest", task=f"snapshot:{self.entry}") as warehouse:
            return find_snapshot(warehouse, source_name=config.source, run_id=run_id, wait_s=wait_s)

    def _record_given_up(self, run_id: str, error: Exception) -> None:
        """Say in ops.load that the run will not try the table again; those of a pattern have rows of their own."""
        try:
            config = load_source(self.source_name)
            if config.has_pattern(self.entry):
                return
            with connect_warehouse("revops_ingest", task=f"give-up:{self.entry}") as warehouse:
                record_given_up(warehouse, config=config, table=config.table(self.entry), run_id=run_id, error=error)
        except Exception:
            log.exception("the failure could not be recorded in ops.load", table=self.entry)

    def _leave_snapshot(self, run_id: str) -> None:
        """Tell the run's records, so that the snapshot is not held for a table that nobody will read."""
        try:
            with connect_warehouse("revops_ingest", task=f"leave:{self.entry}") as warehouse:
                leave_snapshot(warehouse, source_name=self.source_name, run_id=run_id, task=self.entry)
        except Exception:
            log.exception("the snapshot is held longer than needed", table=self.entry)


def _record_access(source: psycopg.Connection, warehouse: psycopg.Connection, *, config: Source, run_id: str) -> None:
    """Record what the source's login may do, and how the warehouse logs sessions; commits.

    Raises WritingLoginError where the login may write and must not.
    """
    rights = find_write_rights(source)
    source.rollback()
    record_source_login(warehouse, source=config.source, login=source.info.user, rights=rights, run_id=run_id)
    record_audit_mode(warehouse, read_audit_mode(warehouse), run_id=run_id)
    warehouse.commit()
    if rights:
        told = describe_rights(config.source, source.info.user, rights)
        if requires_read_only_source():
            raise WritingLoginError(f"{told} {REMEDY}")
        log.warning("the source's login is not read-only", login=source.info.user, rights=rights)


def _keyring(config: Source) -> Keyring | None:
    wanted = config.encrypt or any(entry.encrypt for entry in config.entries)
    return Keyring.from_environment() if wanted else None
