"""The end of every load: mark what is gone from the source, and prove that the rest is the same."""

from __future__ import annotations

from psycopg import sql

from revops.extract import compare, completeness
from revops.extract.hashing import Hashing
from revops.extract.job import Job
from revops.extract.merge import Pipe


def settle(job: Job, pipe: Pipe, hashing: Hashing | None) -> tuple[int, int]:
    """Mark rows of raw that the source no longer has; return (marked, rows of the source). Does not commit.

    Raises TooManyDeletionsError, IncompleteLoadError.
    """
    with job.checking("comparing"):
        wanted = found = None
        if hashing is not None:
            wanted, found = compare.digest_both(pipe, hashing)
        deleted = compare.mark_missing(pipe, hashing, wanted, found) if pipe.relation.key else 0
        require_few_deletions(job, pipe, deleted=deleted)
        if hashing is not None and wanted is not None:
            completeness.require_same_values(pipe, hashing, rows=wanted.rows, loads=job.loads)
    job.is_compared = True
    return deleted, wanted.rows if wanted is not None else count_source(pipe)


def require_few_deletions(job: Job, pipe: Pipe, *, deleted: int, live: int | None = None) -> None:
    """Raise TooManyDeletionsError when a load loses too large a share of the rows that were live before it.

    live: how many those were; without it, what is live now and what is lost.
    """
    if deleted <= 0:
        return
    compare.require_few_deletions(
        pipe,
        deleted=deleted,
        live=deleted + compare.count_live(pipe.warehouse, pipe.raw.identifier) if live is None else live,
        most_share=job.order.most_deleted_share,
        accepted=job.order.accept_deletions,
    )


def count_source(pipe: Pipe) -> int:
    """Return how many rows the source has in the snapshot."""
    row = pipe.source.execute(sql.SQL("select count(*) from {}").format(pipe.relation.from_clause)).fetchone()
    return int(row[0]) if row else 0
