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
# The server's log writer may sleep for seconds where nothing waits for it; no load does.
PATIENCE_S = 0.1


@dataclass(frozen=True)
class Written:
    """How far a source's log had been filled, and the transaction id from which on it counts after any crash."""

    position: str
    durable_xid: int


def read_written(source: psycopg.Connection) -> Written | None:
    """Return what has been written, to be read after the snapshot; None where the server does not tell.

    A standby only shows what its primary has made durable. Managed servers with a storage of their own may refuse these
    functions: there nothing is held back.
    """
    try:
        with source.transaction():
            row = source.execute(
                "select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end::text, next_xid "
                "from pg_control_checkpoint()"
            ).fetchone()
    except (errors.FeatureNotSupported, errors.UndefinedFunction, errors.InsufficientPrivilege) as error:
        log.info("the source does not tell what is durable", why=type(error).__name__)
        return None
    if row is None or row[0] is None:
        return None
    epoch, _, xid = str(row[1]).rpartition(":")
    return Written(str(row[0]), (int(epoch) << 32) + int(xid))


def durable_horizon(source: psycopg.Connection, horizon: Horizon, written: Written | None) -> Horizon:
    """Return the horizon that may be saved: where the log is not on disk yet, as far back as the last checkpoint.

    A transaction that was rolled back, or committed without waiting, is not written at once. After a crash its id is
    given out again, and rows that are written under it then would look older than a horizon that had counted it as
    finished. The next load reads what was written since the checkpoint once more, and finds it unchanged.
    """
    if written is None or written.durable_xid >= horizon.oldest_running:
        return horizon
    deadline = time.monotonic() + PATIENCE_S
    while True:
        row = source.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", (written.position,)).fetchone()
        if row == (True,):
            return horizon
        if time.monotonic() > deadline:
            return replace(horizon, oldest_running=written.durable_xid)
        time.sleep(POLL_S)
