"""Wait until a source could no longer forget, in a crash, the transactions that a snapshot saw as finished."""

from __future__ import annotations

import time

import psycopg
import structlog
from psycopg import errors

from revops.extract.errors import NotDurableError

log = structlog.get_logger(__name__)

POLL_S = 0.05
# The server writes its log several times a second; one that does not for so long is in trouble.
PATIENCE_S = 30.0


def written_position(source: psycopg.Connection) -> str | None:
    """Return how far the source's log had been filled, to be read after the snapshot; None where it does not tell.

    A standby only shows what its primary has made durable. Managed servers with a storage of their own may refuse these
    functions: there nothing is waited for.
    """
    try:
        with source.transaction():
            row = source.execute(
                "select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end::text"
            ).fetchone()
    except (errors.FeatureNotSupported, errors.UndefinedFunction, errors.InsufficientPrivilege) as error:
        log.info("the source does not tell what is durable", why=type(error).__name__)
        return None
    return str(row[0]) if row and row[0] is not None else None


def wait_until_durable(source: psycopg.Connection, position: str | None) -> None:
    """Return when the log is on disk up to a position; raises NotDurableError when that takes too long.

    A transaction that was rolled back is not written at once. After a crash its id is given out again, and rows that
    are written under it then would look older than a horizon that had counted it as finished.
    """
    deadline = time.monotonic() + PATIENCE_S
    while position is not None:
        row = source.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", (position,)).fetchone()
        if row == (True,):
            return
        if time.monotonic() > deadline:
            raise NotDurableError(
                f"the source has not written its log to disk for {PATIENCE_S:.0f} s. "
                "Remedy: look at the disk of the source's server; the task tries again"
            )
        time.sleep(POLL_S)
