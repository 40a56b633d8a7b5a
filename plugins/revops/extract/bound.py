"""The moment before which a source is known to be at rest: where a cursor may go on next time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import structlog

log = structlog.get_logger(__name__)

# Between a transaction's start and its being seen in pg_stat_activity.
REPORT_GAP = timedelta(seconds=5)

# A transaction stamps its rows with the moment it began. Our own sessions write nothing and don't count.
# As a number, since a source may print dates in a style that can't be read back.
_OLDEST = """
    select extract(epoch from least(
        clock_timestamp(),
        (select min(xact_start) from pg_stat_activity
         where pid <> pg_backend_pid() and datname = current_database()
             and backend_type not in ('autovacuum worker', 'walsender')
             and not starts_with(application_name, 'revops:')),
        (select min(prepared) from pg_prepared_xacts where database = current_database())
    ))::double precision
"""


def read_cursor_bound(source: psycopg.Connection) -> datetime | None:
    """Return a moment such that every transaction that began before it has ended; None when the source does not tell.

    Must be read before the snapshot in which the rows are read: what ended before the bound was read is visible in
    it. A transaction that is forgotten for days only makes more rows be read again. Ends the session's transaction.
    A login without pg_read_all_stats sees of other sessions that they exist, but not since when; a standby does
    not see the transactions of its primary.
    """
    row = source.execute(
        "select not pg_is_in_recovery() and pg_has_role(current_user, 'pg_read_all_stats', 'usage')"
    ).fetchone()
    bound = None
    if row == (True,):
        found = source.execute(_OLDEST).fetchone()
        bound = datetime.fromtimestamp(found[0], UTC) - REPORT_GAP if found else None
    source.rollback()
    return bound


def fallback_bound(source: psycopg.Connection, *, lag_s: int) -> datetime:
    """Return the source's clock less a lag that no transaction is believed to outlast. Ends the transaction."""
    row = source.execute("select extract(epoch from clock_timestamp())::double precision").fetchone()
    source.rollback()
    if row is None:
        raise AssertionError("a select without FROM returns a row")
    log.warning(
        "the source does not show how long its transactions run; rows are read again from a fixed time back. "
        "Remedy: on the source, GRANT pg_read_all_stats TO the login",
        lag_seconds=lag_s,
    )
    return datetime.fromtimestamp(row[0], UTC) - timedelta(seconds=lag_s)
