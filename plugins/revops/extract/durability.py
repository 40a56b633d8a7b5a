"""Count only on those transactions of a source as finished that it could not forget in a crash."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import psycopg
import structlog
from psycopg import errors

from revops.extract.window import Horizon

log = structlog.get_logger(__name__)

POLL_S = 0.01
# A commit that does not wait for the disk is there after three rounds of the log writer at the latest (PostgreSQL's
# documentation, "Asynchronous Commit"). What is not, then, is no end of a transaction: the writer sleeps through that.
WRITER_ROUNDS = 3
LEAST_PATIENCE_S = 0.1


@dataclass(frozen=True)
class Written:
    """How far a source's log had been filled, and the transaction id from which on it counts after any crash.

    deadline: until when (time.monotonic()) the end of a transaction may take to reach the disk.
    """

    position: str
    durable_xid: int
    deadline: float


def read_written(source: psycopg.Connection) -> Written | None:
    """Return what has been written, to be read after the snapshot; None where the server does not tell.

    A standby only shows what its primary has made durable. Managed servers with a storage of their own may refuse these
    functions: there nothing is held back.
    """
    try:
        with source.transaction():
            row = source.execute(
                "select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end::text, next_xid, "
                "(select setting::int / 1000.0::float8 from pg_settings where name = 'wal_writer_delay') "
                "from pg_control_checkpoint()"
            ).fetchone()
    except (errors.FeatureNotSupported, errors.UndefinedFunction, errors.InsufficientPrivilege) as error:
        log.info("the source does not tell what is durable", why=type(error).__name__)
        return None
    if row is None or row[0] is None:
        return None
    epoch, _, xid = str(row[1]).rpartition(":")
    patience_s = max(LEAST_PATIENCE_S, WRITER_ROUNDS * float(row[2]))
    return Written(str(row[0]), (int(epoch) << 32) + int(xid), time.monotonic() + patience_s)


def is_durable(source: psycopg.Connection, written: Written | None) -> bool:
    """Wait until the log is on disk, or no end of a transaction can be missing there any more; return which it was.

    What was read may be kept from then on: a commit that the source could take back is not in it.
    """
    while written is not None:
        row = source.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", (written.position,)).fetchone()
        if row == (True,):
            return True
        if time.monotonic() > written.deadline:
            return False
        time.sleep(POLL_S)
    return True


def durable_horizon(source: psycopg.Connection, horizon: Horizon, written: Written | None) -> Horizon:
    """Wait as `is_durable` does; return the horizon that may be saved.

    After a crash the id of a transaction whose end was not on disk is given out again, and rows that are written under
    it then would look older than a horizon that had counted it as finished. So where the log is not on disk, the
    horizon is at most that of the last checkpoint; the next load reads what was written since then once more, and finds
    it unchanged.
    """
    if is_durable(source, written) or written is None:
        return horizon
    return replace(horizon, oldest_running=min(horizon.oldest_running, written.durable_xid))
