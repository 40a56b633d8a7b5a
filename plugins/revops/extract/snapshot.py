"""One picture of a source for all tables of a run: a snapshot exported by one session, read by many."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import structlog

log = structlog.get_logger(__name__)

POLL_S = 0.5
# The session is idle in its transaction; a query now and then keeps the server from ending it.
KEEP_ALIVE_S = 20.0


def hold_snapshot(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    *,
    source_name: str,
    run_id: str,
    is_done: Callable[[psycopg.Connection], bool],
    hold_s: float,
) -> str:
    """Export a snapshot, publish its name in ops.source_snapshot, and keep it until the run is done; return the name.

    The holding transaction reads nothing, so it locks no table: an ALTER TABLE in office hours does not wait
    for it. It ends after
    `hold_s` seconds in any case, since the source can't clean up dead rows meanwhile; tables that come later
    read in snapshots of their own.
    """
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    source.read_only = True
    row = source.execute("select pg_export_snapshot()").fetchone()
    if row is None:
        raise AssertionError("a select without FROM returns a row")
    name = str(row[0])
    warehouse.autocommit = True
    warehouse.execute(
        "insert into ops.source_snapshot (source, run_id, snapshot_name) values (%s, %s, %s) "
        "on conflict (source, run_id) do update "
        "set snapshot_name = excluded.snapshot_name, exported_at = clock_timestamp(), released_at = null",
        (source_name, run_id, name),
    )
    deadline = time.monotonic() + hold_s
    touched = time.monotonic()
    try:
        while not is_done(warehouse):
            if time.monotonic() > deadline:
                log.warning("snapshot released before all tables were read", source=source_name, held_seconds=hold_s)
                break
            if time.monotonic() - touched > KEEP_ALIVE_S:
                source.execute("select 1")
                touched = time.monotonic()
            time.sleep(POLL_S)
    finally:
        warehouse.execute(
            "update ops.source_snapshot set released_at = clock_timestamp() where source = %s and run_id = %s",
            (source_name, run_id),
        )
        source.rollback()
    return name


def find_snapshot(warehouse: psycopg.Connection, *, source_name: str, run_id: str, wait_s: float) -> str | None:
    """Return the name of the run's live snapshot, waiting for it to appear; None when there is none."""
    deadline = time.monotonic() + wait_s
    while True:
        row = warehouse.execute(
            "select snapshot_name, released_at is null from ops.source_snapshot where source = %s and run_id = %s",
            (source_name, run_id),
        ).fetchone()
        warehouse.rollback()
        if row is not None:
            return str(row[0]) if row[1] else None
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)


def all_tables_read(warehouse: psycopg.Connection, *, source_name: str, run_id: str, tables: int) -> bool:
    """Tell whether every table of a run has been loaded, found absent, or given up."""
    row = warehouse.execute(
        "select count(distinct table_name) from ops.load "
        "where source = %s and run_id = %s and (status in ('succeeded', 'absent') or is_final)",
        (source_name, run_id),
    ).fetchone()
    return row is not None and int(row[0]) >= tables
