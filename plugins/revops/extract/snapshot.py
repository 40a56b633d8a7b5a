"""One picture of a source for all tables of a run: a snapshot exported by one session, read by many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import structlog

from revops.extract.bound import read_cursor_bound

log = structlog.get_logger(__name__)

POLL_S = 0.5
# The session is idle in its transaction; a query now and then keeps the server from ending it.
KEEP_ALIVE_S = 20.0


@dataclass(frozen=True)
class SharedSnapshot:
    """A snapshot that another session holds open.

    cursor_bound: every transaction that began before it had ended when the snapshot was taken; None where the source
    does not tell.
    """

    name: str
    cursor_bound: datetime | None = None


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
    bound = read_cursor_bound(source)
    name = _export(source)
    warehouse.autocommit = True
    warehouse.execute(
        "insert into ops.source_snapshot (source, run_id, snapshot_name, cursor_bound) values (%s, %s, %s, %s) "
        "on conflict (source, run_id) do update "
        "set snapshot_name = excluded.snapshot_name, cursor_bound = excluded.cursor_bound, "
        "exported_at = clock_timestamp(), released_at = null, "
        # What finished before this session was there counts; what a run that is repeated did before does not.
        "finished = case when ops.source_snapshot.released_at is null then ops.source_snapshot.finished "
        "else '{}' end",
        (source_name, run_id, name, bound),
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


def find_snapshot(
    warehouse: psycopg.Connection, *, source_name: str, run_id: str, wait_s: float
) -> SharedSnapshot | None:
    """Return the run's live snapshot, waiting for it to appear; None when there is none."""
    deadline = time.monotonic() + wait_s
    while True:
        row = warehouse.execute(
            "select snapshot_name, extract(epoch from cursor_bound)::double precision, released_at is null "
            "from ops.source_snapshot where source = %s and run_id = %s",
            (source_name, run_id),
        ).fetchone()
        warehouse.rollback()
        if row is not None and row[0]:
            bound = None if row[1] is None else datetime.fromtimestamp(row[1], UTC)
            return SharedSnapshot(str(row[0]), bound) if row[2] else None
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)


def leave_snapshot(warehouse: psycopg.Connection, *, source_name: str, run_id: str, task: str) -> None:
    """Say that a task of the run needs the snapshot no more, even if there is none yet; commits."""
    warehouse.execute(
        "insert into ops.source_snapshot as s (source, run_id, snapshot_name, finished) "
        "values (%s, %s, '', array[%s::text]) "
        "on conflict (source, run_id) do update set finished = s.finished || excluded.finished",
        (source_name, run_id, task),
    )
    warehouse.commit()


def all_have_left(warehouse: psycopg.Connection, *, source_name: str, run_id: str, tasks: list[str]) -> bool:
    """Tell whether all these tasks of a run need its snapshot no more."""
    row = warehouse.execute(
        "select finished @> %s::text[] from ops.source_snapshot where source = %s and run_id = %s",
        (tasks, source_name, run_id),
    ).fetchone()
    return row == (True,)


@contextmanager
def exported_snapshot(connect: Callable[[], psycopg.Connection], shared: SharedSnapshot | None) -> Iterator[str]:
    """Give the name of a snapshot that several sessions can read in: the shared one, or one held here meanwhile."""
    if shared is not None:
        yield shared.name
        return
    with closing(connect()) as holder:
        holder.execute("set idle_in_transaction_session_timeout = 0")
        holder.commit()
        yield _export(holder)


def _export(source: psycopg.Connection) -> str:
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    source.read_only = True
    row = source.execute("select pg_export_snapshot()").fetchone()
    if row is None:
        raise AssertionError("a select without FROM returns a row")
    return str(row[0])
