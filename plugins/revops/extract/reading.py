"""Begin the transaction that a table is read in: in the run's snapshot, or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import psycopg
import structlog
from psycopg import errors, sql

from revops.errors import describe
from revops.extract.bound import fallback_bound, read_cursor_bound
from revops.extract.catalog import Relation, read_relation
from revops.extract.errors import SnapshotGoneError, TableChangedError
from revops.extract.job import Job
from revops.extract.stream import agree_on_text
from revops.sources import Source

log = structlog.get_logger(__name__)

Begin = Callable[[psycopg.Connection], None]


def begin_reading(job: Job) -> Relation | None:
    """Begin the reading transaction and return the table as it is in it, None when the source has no such table.

    The shared snapshot is unfit when its holder has ended, or for a table that was altered or emptied since; then the
    table is read in a snapshot of its own, and ops.load says so. For a cursor, the moment that it may go on
    from is read before the transaction begins.
    """
    config, table = job.order.config, job.order.table
    if job.snapshot is not None:
        job.bound = _cursor_bound(job)
        try:
            beginner(config, job.snapshot.name)(job.source)
            return read_relation(job.source, config.schema_name, table.candidates)
        except (TableChangedError, SnapshotGoneError) as error:
            job.source.rollback()
            log.warning("the shared snapshot is not used", table=job.order.name, why=describe(error))
            job.ledger.enter("connecting", snapshot=None, is_shared_snapshot=False)
            job.snapshot = None
    job.bound = _cursor_bound(job)
    beginner(config, None)(job.source)
    return read_relation(job.source, config.schema_name, table.candidates)


def _cursor_bound(job: Job) -> datetime | None:
    """Return where a cursor may go on after the snapshot that is read next; None for tables without one."""
    config = job.order.config
    if job.order.table.mode != "cursor":
        return None
    if job.snapshot is None:
        return read_cursor_bound(job.source) or fallback_bound(job.source, lag_s=config.cursor_lag_s)
    # The snapshot is older than the clock: by as much as it may have been held, where nobody says it exactly.
    return job.snapshot.cursor_bound or fallback_bound(job.source, lag_s=config.cursor_lag_s + config.snapshot_hold_s)


def beginner(config: Source, snapshot: str | None) -> Begin:
    """Return what begins a reading transaction in an exported snapshot, or in one of its own.

    It raises SnapshotGoneError when the snapshot's holder has ended.
    """

    def begin(source: psycopg.Connection) -> None:
        source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        source.read_only = True
        if snapshot is not None:
            try:
                source.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
            except (errors.InvalidParameterValue, errors.UndefinedObject) as error:
                raise SnapshotGoneError(
                    f"the snapshot {snapshot} is gone ({describe(error)}). Remedy: none needed, the task tries again "
                    "in another"
                ) from None
        limits = {"lock_timeout": config.lock_timeout_s, "statement_timeout": config.statement_timeout_s}
        for name, seconds in limits.items():
            source.execute(sql.SQL("set local {} = {}").format(sql.Identifier(name), sql.Literal(f"{seconds}s")))
        agree_on_text(source)

    return begin
