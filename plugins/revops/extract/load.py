"""Load one table: source to raw in one transaction with its records, or not at all."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import structlog
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from revops.errors import describe
from revops.extract.catalog import METADATA_COLUMNS, ExtractError, Relation, TableChangedError, read_relation
from revops.extract.drift import Change, align_raw_table, record_changes
from revops.extract.merge import Merged, mark_deleted, merge_rows
from revops.extract.stream import agree_on_text
from revops.extract.window import Window, plan_window, read_horizon
from revops.sources import Source, Table

log = structlog.get_logger(__name__)


class LoadBusyError(RuntimeError):
    """Another load of the same table is running; this one may be tried again later."""


class TableMissingError(ExtractError):
    """The source lacks a table that is not marked optional."""


@dataclass(frozen=True)
class LoadResult:
    """What one load did; `is_absent` when the source has no such table and need not have it. seconds: wall time."""

    source: str
    table: str
    load_id: int
    is_absent: bool = False
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    bytes: int = 0
    seconds: float = 0.0


def load_table(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    *,
    config: Source,
    table: Table,
    run_id: str,
    snapshot: str | None = None,
    full_refresh: bool = False,
) -> LoadResult:
    """Bring one source table into raw and commit; on any failure raw is as before and ops.load says why.

    source: an idle connection, not in autocommit; its transaction ends here. snapshot: the name of an exported
    snapshot to read in; without one, or when it can't show the table, the table is read in one of its own.
    full_refresh reads every row whatever the watermark says.
    Raises LoadBusyError, TableMissingError, TableChangedError, ExtractError, or psycopg.Error.
    """
    started = time.monotonic()
    raw = config.raw_table(table)
    load_id = _open_load(warehouse, config, table, run_id=run_id, snapshot=snapshot)
    try:
        _lock(warehouse, config, table, load_id=load_id)
        agree_on_text(warehouse)
        relation = _begin(source, warehouse, config, table, snapshot=snapshot, load_id=load_id)
        if relation is None:
            source.rollback()
            return _close_absent(warehouse, config, table, run_id=run_id, load_id=load_id)
        relation = _without_excluded(relation, config, table)
        changes = align_raw_table(warehouse, raw, relation)
        if _was_absent(warehouse, config, table, load_id=load_id) and Change("table_created") not in changes:
            changes.append(Change("table_returned"))
        record_changes(warehouse, changes, source=config.source, table=raw, run_id=run_id, load_id=load_id)
        horizon = read_horizon(source, relation)
        saved = None if full_refresh else _read_watermark(warehouse, config, table)
        window = _plan(relation, table, saved=saved, changes=changes, full_refresh=full_refresh, horizon=horizon)
        merged = merge_rows(source, warehouse, raw, relation=relation, window=window, load_id=load_id)
        deleted, source_rows = mark_deleted(source, warehouse, raw, relation=relation, load_id=load_id)
        source.commit()
        _save_watermark(warehouse, config, table, load_id=load_id, watermark=horizon.as_watermark())
        seconds = time.monotonic() - started
        _close_load(
            warehouse,
            load_id,
            window=window,
            merged=merged,
            deleted=deleted,
            source_rows=source_rows,
            seconds=seconds,
        )
        warehouse.commit()
    except BaseException as error:
        _fail(source, warehouse, load_id, error, seconds=time.monotonic() - started)
        raise
    if merged.inserted + merged.updated + deleted:
        warehouse.autocommit = True
        warehouse.execute(sql.SQL("analyze {}").format(sql.Identifier("raw", raw)))
        warehouse.autocommit = False
    result = LoadResult(
        config.source,
        table.name,
        load_id,
        read=merged.read,
        inserted=merged.inserted,
        updated=merged.updated,
        unchanged=merged.unchanged,
        deleted=deleted,
        bytes=merged.bytes,
        seconds=seconds,
    )
    log.info(
        "table loaded",
        table=raw,
        rows_read=result.read,
        inserted=result.inserted,
        updated=result.updated,
        unchanged=result.unchanged,
        deleted=result.deleted,
        seconds=round(seconds, 2),
        rows_per_second=round(result.read / seconds) if seconds else None,
        full_read_reason=window.reason,
        schema_changes=len(changes),
    )
    return result


def _open_load(
    warehouse: psycopg.Connection, config: Source, table: Table, *, run_id: str, snapshot: str | None
) -> int:
    row = warehouse.execute(
        "insert into ops.load (source, table_name, run_id, mode, status, snapshot, is_shared_snapshot) "
        "values (%s, %s, %s, %s, 'running', %s, %s) returning load_id",
        (config.source, table.name, run_id, table.mode, snapshot, snapshot is not None),
    ).fetchone()
    warehouse.commit()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    return int(row[0])


def _lock(warehouse: psycopg.Connection, config: Source, table: Table, *, load_id: int) -> None:
    key = f"load:{config.source}.{table.name}"
    row = warehouse.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (key,)).fetchone()
    if row != (True,):
        raise LoadBusyError(
            f"{config.source}.{table.name} is being loaded by another run. Remedy: none needed, the task tries again; "
            "if it stays so, look for a hanging session with application_name revops:extract in pg_stat_activity."
        )
    # Who holds the lock knows that no other load of this table is alive: what still says so was killed.
    warehouse.execute(
        "update ops.load set status = 'failed', finished_at = clock_timestamp(), "
        "error = 'the worker was lost; nothing was committed' "
        "where source = %s and table_name = %s and status = 'running' and load_id < %s",
        (config.source, table.name, load_id),
    )
    # A zombie with an older load than one that has already committed must not overwrite it.
    newer = warehouse.execute(
        "select load_id from ops.watermark where source = %s and table_name = %s and load_id > %s",
        (config.source, table.name, load_id),
    ).fetchone()
    if newer is not None:
        raise LoadBusyError(
            f"{config.source}.{table.name}: a newer load ({newer[0]}) has committed meanwhile; load {load_id} gives way"
        )


def _begin(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    config: Source,
    table: Table,
    *,
    snapshot: str | None,
    load_id: int,
) -> Relation | None:
    """Begin the reading transaction and find the table in it; in a snapshot of its own where the shared one is unfit.

    A shared snapshot is unfit when its holder has ended, or for a table that was altered or emptied since.
    """
    if snapshot is not None:
        try:
            _begin_transaction(source, config, snapshot=snapshot)
            return read_relation(source, config.schema_name, table.candidates)
        except (TableChangedError, errors.InvalidParameterValue, errors.UndefinedObject) as error:
            source.rollback()
            log.warning("the shared snapshot is not used", table=table.name, source=config.source, why=describe(error))
            warehouse.execute(
                "update ops.load set snapshot = null, is_shared_snapshot = false where load_id = %s", (load_id,)
            )
    _begin_transaction(source, config, snapshot=None)
    return read_relation(source, config.schema_name, table.candidates)


def _begin_transaction(source: psycopg.Connection, config: Source, *, snapshot: str | None) -> None:
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    source.read_only = True
    if snapshot is not None:
        source.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
    source.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(f"{config.lock_timeout_s}s")))
    source.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(f"{config.statement_timeout_s}s")))
    agree_on_text(source)


def _without_excluded(relation: Relation, config: Source, table: Table) -> Relation:
    kept = tuple(column for column in relation.columns if not config.is_excluded(table, column.name))
    names = {column.name for column in kept}
    if lost := [name for name in relation.key if name not in names]:
        raise ExtractError(
            f"{config.source}.{table.name}: exclude_columns names the key column(s) {lost}. "
            f"Remedy: narrow the pattern in include/sources/{config.source}.yaml."
        )
    if not kept:
        raise ExtractError(
            f"{config.source}.{table.name}: no column is left after exclude_columns. "
            f"Remedy: narrow the patterns, or take the table out of include/sources/{config.source}.yaml."
        )
    if reserved := sorted(names & set(METADATA_COLUMNS)):
        raise ExtractError(
            f"{config.source}.{table.name} has the column(s) {reserved}, names that Revops uses itself. "
            f"Remedy: put them into exclude_columns of the table in include/sources/{config.source}.yaml."
        )
    return replace(relation, columns=kept)


def _plan(
    relation: Relation,
    table: Table,
    *,
    saved: dict[str, Any] | None,
    changes: list[Change],
    full_refresh: bool,
    horizon: Any,
) -> Window:
    if full_refresh:
        return Window(None, "full_refresh was asked for")
    if rewritten := [change for change in changes if change.needs_full_read]:
        return Window(None, f"{rewritten[0].change} {rewritten[0].column}: rows may have changed unseen")
    return plan_window(relation, mode=table.mode, saved=saved, now=horizon)


def _read_watermark(warehouse: psycopg.Connection, config: Source, table: Table) -> dict[str, Any] | None:
    row = warehouse.execute(
        "select watermark from ops.watermark where source = %s and table_name = %s for update",
        (config.source, table.name),
    ).fetchone()
    return row[0] if row else None


def _save_watermark(
    warehouse: psycopg.Connection, config: Source, table: Table, *, load_id: int, watermark: dict[str, Any]
) -> None:
    warehouse.execute(
        "insert into ops.watermark (source, table_name, load_id, watermark) values (%s, %s, %s, %s) "
        "on conflict (source, table_name) do update "
        "set load_id = excluded.load_id, watermark = excluded.watermark, saved_at = now()",
        (config.source, table.name, load_id, Jsonb(watermark)),
    )


def _close_load(
    warehouse: psycopg.Connection,
    load_id: int,
    *,
    window: Window,
    merged: Merged,
    deleted: int,
    source_rows: int,
    seconds: float,
) -> None:
    warehouse.execute(
        "update ops.load set status = 'succeeded', full_read_reason = %s, rows_read = %s, inserted = %s, updated = %s, "
        "unchanged = %s, deleted = %s, quarantined = 0, source_rows = %s, bytes = %s, seconds = %s, "
        "finished_at = clock_timestamp() where load_id = %s",
        (
            window.reason,
            merged.read,
            merged.inserted,
            merged.updated,
            merged.unchanged,
            deleted,
            source_rows,
            merged.bytes,
            seconds,
            load_id,
        ),
    )


def _was_absent(warehouse: psycopg.Connection, config: Source, table: Table, *, load_id: int) -> bool:
    last = warehouse.execute(
        "select status from ops.load where source = %s and table_name = %s and load_id < %s and status <> 'failed' "
        "order by load_id desc limit 1",
        (config.source, table.name, load_id),
    ).fetchone()
    return last == ("absent",)


def _close_absent(
    warehouse: psycopg.Connection, config: Source, table: Table, *, run_id: str, load_id: int
) -> LoadResult:
    names = " or ".join(f"{config.schema_name}.{name}" for name in table.candidates)
    if not table.optional:
        raise TableMissingError(
            f"the source {config.source} has no table {names}. Remedy: correct the name or add it to `alternatives` in "
            f"include/sources/{config.source}.yaml, or mark the table `optional: true`."
        )
    if not _was_absent(warehouse, config, table, load_id=load_id):
        change = [Change("table_absent")]
        record_changes(
            warehouse,
            change,
            source=config.source,
            table=config.raw_table(table),
            run_id=run_id,
            load_id=load_id,
        )
    warehouse.execute(
        "update ops.load set status = 'absent', finished_at = clock_timestamp() where load_id = %s",
        (load_id,),
    )
    warehouse.commit()
    log.warning("optional table is absent in the source", source=config.source, table=table.name, looked_for=names)
    return LoadResult(config.source, table.name, load_id, is_absent=True)


def _fail(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    load_id: int,
    error: BaseException,
    *,
    seconds: float,
) -> None:
    """Roll both sides back and record why; a connection that is gone itself can't say so, the next load will."""
    for connection in (source, warehouse):
        if not connection.closed:
            connection.rollback()
    if warehouse.closed:
        return
    warehouse.execute(
        "update ops.load set status = 'failed', error = %s, seconds = %s, finished_at = clock_timestamp() "
        "where load_id = %s and status = 'running'",
        (describe(error), seconds, load_id),
    )
    warehouse.commit()


def record_given_up(
    warehouse: psycopg.Connection, *, config: Source, table: Table, run_id: str, error: BaseException
) -> None:
    """Record in ops.load that a run will not try this table again; commits.

    A failure before the load began, such as a source that is down, has no row yet and gets one here.
    """
    marked = warehouse.execute(
        "update ops.load set is_final = true where load_id = (select max(load_id) from ops.load "
        "where source = %s and table_name = %s and run_id = %s and status = 'failed')",
        (config.source, table.name, run_id),
    ).rowcount
    if not marked:
        warehouse.execute(
            "insert into ops.load (source, table_name, run_id, mode, status, error, is_final, finished_at) "
            "values (%s, %s, %s, %s, 'failed', %s, true, clock_timestamp())",
            (config.source, table.name, run_id, table.mode, describe(error)),
        )
    warehouse.commit()
