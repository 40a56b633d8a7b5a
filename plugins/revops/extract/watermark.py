"""Save where the next load of a table starts."""

from __future__ import annotations

from typing import Any

from revops.extract.durability import durable_horizon
from revops.extract.job import Job
from revops.extract.ledger import save_watermark
from revops.extract.window import Horizon, cursor_watermark, xid_watermark


def save(job: Job, horizon: Horizon, *, saved: dict[str, Any] | None = None) -> None:
    """Save the watermark of this load's snapshot, in the transaction of its rows. Does not commit.

    Waits until the source can't take back in a crash what was read from it.

    It also counts the table's loads, which choose what is compared, and keeps when all of it was last compared, by
    the source's clock.
    """
    horizon = durable_horizon(job.source, horizon, job.written)
    if job.order.table.mode == "cursor":
        if job.bound is None:
            raise AssertionError("a cursor's bound is read before its snapshot")
        watermark = cursor_watermark(horizon, job.order.table, job.bound)
    else:
        watermark = xid_watermark(horizon)
    compared_at = (saved or {}).get("compared_at")
    if job.is_compared:
        row = job.source.execute("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')").fetchone()
        compared_at = row[0] if row else None
    save_watermark(job.warehouse, job.ledger, {**watermark, "loads": job.loads + 1, "compared_at": compared_at})
