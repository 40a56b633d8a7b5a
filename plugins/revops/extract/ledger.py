"""ops.load: what a load is doing, what became of it, and whether it may still commit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb

from revops.errors import describe
from revops.extract.drift import Change, record_changes
from revops.extract.errors import LoadBusyError
from revops.sources import Source, Table

log = structlog.get_logger(__name__)

# How often a running load tells ops.load and the log how far it is.
TELL_S = 5.0
# How long an unanswered COMMIT is waited for on the other connection.
OUTCOME_TIMEOUT = "30s"
# A batch of a rotation takes a second; who holds the lock for longer is another load.
ROTATION_TIMEOUT = "20s"
MEGABYTE = 1_000_000


@dataclass
class Ledger:
    """The record of one load, kept in a session of its own so that others see it while the load runs.

    connection: in autocommit. attempt: counts the tries that share a load_id (see `open_load`).
    """

    connection: psycopg.Connection
    config: Source
    table: Table
    run_id: str
    load_id: int = 0
    attempt: int = 1
    rows: int = 0
    bytes: int = 0
    expected_rows: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _started: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def enter(self, phase: str, **facts: Any) -> None:
        """Say what the load does now; facts are columns of ops.load."""
        self._update(phase=phase, **facts)
        log.debug("phase", table=self.table.name, phase=phase)

    def expect(self, rows: int) -> None:
        """Say how many rows will be read."""
        self.expected_rows = rows
        self._update(expected_rows=rows)

    def progress(self, sent_bytes: int, rows: int) -> None:
        """Count what was sent, and tell it every few seconds; several workers may."""
        with self._counting:
            self.bytes += sent_bytes
            self.rows += rows
            if time.monotonic() - self._told < TELL_S:
                return
            self._told = time.monotonic()
        self._update(rows_read=self.rows, bytes=self.bytes, seconds=self.seconds)
        pace = self.rows / self.seconds
        left = max(0, self.expected_rows - self.rows)
        log.info(
            "reading",
            table=self.table.name,
            rows=self.rows,
            of_about=self.expected_rows or None,
            megabytes=round(self.bytes / MEGABYTE, 1),
            rows_per_second=round(pace),
            seconds_left=round(left / pace) if self.expected_rows else None,
        )

    def fail(self, error: BaseException) -> None:
        """Record why the load failed, unless it was committed or given to somebody else meanwhile."""
        self.connection.execute(
            "update ops.load set status = 'failed', error = %s, seconds = %s, finished_at = clock_timestamp() "
            "where load_id = %s and attempt = %s and status = 'running'",
            (describe(error), self.seconds, self.load_id, self.attempt),
        )

    def is_committed(self) -> bool:
        """Tell whether the load's transaction was committed, waiting for it to end where it has not yet.

        Only that transaction can have set the status to `succeeded`: so this answers what a lost answer of COMMIT
        left open.
        """
        with self.connection.transaction():
            self.connection.execute("select set_config('lock_timeout', %s, true)", (OUTCOME_TIMEOUT,))
            row = self.connection.execute(
                "select status from ops.load where load_id = %s for update", (self.load_id,)
            ).fetchone()
        return row == ("succeeded",)

    def _update(self, **facts: Any) -> None:
        names = ", ".join(f"{name} = %({name})s" for name in facts)
        self.connection.execute(
            f"update ops.load set {names} where load_id = %(load_id)s and attempt = %(attempt)s and status = 'running'",
            {**facts, "load_id": self.load_id, "attempt": self.attempt},
        )


def open_load(
    connection: psycopg.Connection,
    config: Source,
    table: Table,
    *,
    holder: psycopg.Connection,
    run_id: str,
    snapshot: str | None,
) -> Ledger:
    """Begin a load in ops.load and commit; the connection is in autocommit from then on.

    holder: the session of the load's own transaction. It takes the table's lock here already and keeps it, or loads
    that begin at the same time would each take the one before for dead.
    A first load in ranges that was cut off goes on under its load_id, since its rows carry it; the attempt tells
    the tries apart. Loads of the table that are still `running` were killed, for their lock is free: they are closed.
    Raises LoadBusyError while another load of the table runs.
    """
    connection.autocommit = True
    ledger = Ledger(connection, config, table, run_id)
    with connection.transaction():
        is_free = try_lock(holder, config, table) or _outlast_rotation(holder, ledger)
        if is_free:
            begun = connection.execute(
                "select min(load_id) from ops.load_range where source = %s and table_name = %s",
                (config.source, table.name),
            ).fetchone()
            connection.execute(
                "update ops.load set status = 'failed', finished_at = clock_timestamp(), "
                "error = 'the worker was lost; nothing was committed' "
                "where source = %s and table_name = %s and status = 'running'",
                (config.source, table.name),
            )
            if begun is not None and begun[0] is not None:
                ledger.load_id = int(begun[0])
                ledger.attempt = _resume(connection, ledger, snapshot)
                return ledger
        ledger.load_id = _insert(connection, ledger, snapshot)
    if not is_free:
        error = LoadBusyError(
            f"{config.source}.{table.name} is being loaded by another run. Remedy: none needed, the task tries again; "
            "if it stays so, look for a hanging session with application_name revops:extract in pg_stat_activity."
        )
        ledger.fail(error)
        raise error
    return ledger


def try_lock(warehouse: psycopg.Connection, config: Source, table: Table, *, shared: bool = False) -> bool:
    """Take the table's lock until the transaction ends; return False when another session holds it."""
    return try_table_lock(warehouse, config.source, table.name, shared=shared)


def try_table_lock(warehouse: psycopg.Connection, source: str, table_name: str, *, shared: bool = False) -> bool:
    """Take the lock that all who write a table of raw share, as `try_lock` does."""
    function = "pg_try_advisory_xact_lock_shared" if shared else "pg_try_advisory_xact_lock"
    row = warehouse.execute(f"select {function}(hashtextextended(%s, 0))", (_lock_name(source, table_name),)).fetchone()
    return row == (True,)


def _outlast_rotation(warehouse: psycopg.Connection, ledger: Ledger) -> bool:
    """Wait for the lock where a rotation of keys holds it, which lets go after each batch; tell whether it was had."""
    name = ledger.config.raw_table(ledger.table)
    rotating = warehouse.execute(
        "select exists (select from ops.key_rotation where raw_table = %s and status = 'running')", (name,)
    ).fetchone()
    if rotating != (True,):
        return False
    row = warehouse.execute("select current_setting('lock_timeout')").fetchone()
    try:
        with warehouse.transaction():
            warehouse.execute("select set_config('lock_timeout', %s, true)", (ROTATION_TIMEOUT,))
            warehouse.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (_lock_name(ledger.config.source, ledger.table.name),),
            )
            warehouse.execute("select set_config('lock_timeout', %s, true)", row)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _lock_name(source: str, table_name: str) -> str:
    return f"load:{source}.{table_name}"


def require_own(warehouse: psycopg.Connection, ledger: Ledger, *, shared: bool = False) -> None:
    """Take the table's lock in a transaction that will write, and see that the load was not given to another try.

    A worker that was cut off and comes back finds its load closed, or its attempt outnumbered. Raises LoadBusyError.
    """
    if not try_lock(warehouse, ledger.config, ledger.table, shared=shared):
        raise LoadBusyError(f"{ledger.config.source}.{ledger.table.name} is being loaded by another run")
    row = warehouse.execute(
        "select status, attempt from ops.load where load_id = %s for key share", (ledger.load_id,)
    ).fetchone()
    newer = warehouse.execute(
        "select load_id from ops.watermark where source = %s and table_name = %s and load_id > %s",
        (ledger.config.source, ledger.table.name, ledger.load_id),
    ).fetchone()
    if row != ("running", ledger.attempt) or newer is not None:
        raise LoadBusyError(
            f"{ledger.config.source}.{ledger.table.name}: another load has taken over meanwhile; load "
            f"{ledger.load_id} gives way"
        )


def close_load(warehouse: psycopg.Connection, ledger: Ledger, *, status: str, **facts: Any) -> None:
    """Write the outcome of a load in the transaction of its data. Does not commit."""
    names = "".join(f", {name} = %({name})s" for name in facts)
    done = warehouse.execute(
        f"update ops.load set status = %(status)s, phase = null, finished_at = clock_timestamp(){names} "
        "where load_id = %(load_id)s and attempt = %(attempt)s and status = 'running'",
        {**facts, "status": status, "load_id": ledger.load_id, "attempt": ledger.attempt},
    ).rowcount
    if done != 1:
        raise LoadBusyError(f"load {ledger.load_id} of {ledger.table.name} was taken over; it gives way")


def read_watermark(warehouse: psycopg.Connection, ledger: Ledger) -> dict[str, Any] | None:
    """Return where the last load of the table stopped, or None."""
    row = warehouse.execute(
        "select watermark from ops.watermark where source = %s and table_name = %s for update",
        (ledger.config.source, ledger.table.name),
    ).fetchone()
    return row[0] if row else None


def save_watermark(warehouse: psycopg.Connection, ledger: Ledger, watermark: dict[str, Any]) -> None:
    """Save where the next load starts, in the transaction of the data. Does not commit."""
    warehouse.execute(
        "insert into ops.watermark (source, table_name, load_id, watermark) values (%s, %s, %s, %s) "
        "on conflict (source, table_name) do update "
        "set load_id = excluded.load_id, watermark = excluded.watermark, saved_at = now()",
        (ledger.config.source, ledger.table.name, ledger.load_id, Jsonb(watermark)),
    )


def previous_load(warehouse: psycopg.Connection, ledger: Ledger) -> int:
    """Return the id of the table's last load that was committed; 0 when there is none."""
    row = warehouse.execute(
        "select max(load_id) from ops.load where source = %s and table_name = %s and status = 'succeeded' "
        "and load_id < %s",
        (ledger.config.source, ledger.table.name, ledger.load_id),
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def was_absent(warehouse: psycopg.Connection, ledger: Ledger) -> bool:
    """Tell whether the source lacked the table when it was last looked for."""
    last = warehouse.execute(
        "select status from ops.load where source = %s and table_name = %s and load_id < %s "
        "and status in ('succeeded', 'absent') order by load_id desc limit 1",
        (ledger.config.source, ledger.table.name, ledger.load_id),
    ).fetchone()
    return last == ("absent",)


def record_schema(warehouse: psycopg.Connection, ledger: Ledger, changes: list[Change]) -> None:
    """Write changes to ops.schema_change under the name in raw. Does not commit."""
    record_changes(
        warehouse,
        changes,
        source=ledger.config.source,
        table=ledger.config.raw_table(ledger.table),
        run_id=ledger.run_id,
        load_id=ledger.load_id,
    )


def record_given_up(
    warehouse: psycopg.Connection, *, config: Source, table: Table, run_id: str, error: BaseException
) -> None:
    """Record in ops.load that a run will not try this table again; commits.

    A failure before the load began, such as a warehouse that was down, has no row yet and gets one here.
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


def _insert(connection: psycopg.Connection, ledger: Ledger, snapshot: str | None) -> int:
    row = connection.execute(
        "insert into ops.load (source, table_name, run_id, mode, status, phase, snapshot, is_shared_snapshot) "
        "values (%s, %s, %s, %s, 'running', 'connecting', %s, %s) returning load_id",
        (
            ledger.config.source,
            ledger.table.name,
            ledger.run_id,
            ledger.table.mode,
            snapshot,
            snapshot is not None,
        ),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    return int(row[0])


def _resume(connection: psycopg.Connection, ledger: Ledger, snapshot: str | None) -> int:
    row = connection.execute(
        "update ops.load set status = 'running', attempt = attempt + 1, run_id = %s, mode = %s, phase = 'connecting', "
        "snapshot = %s, is_shared_snapshot = %s, error = null, finished_at = null, is_final = false "
        "where load_id = %s returning attempt",
        (ledger.run_id, ledger.table.mode, snapshot, snapshot is not None, ledger.load_id),
    ).fetchone()
    if row is None:
        raise AssertionError(f"ops.load_range names load {ledger.load_id}, which ops.load lacks")
    return int(row[0])
