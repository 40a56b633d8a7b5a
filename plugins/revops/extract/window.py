"""Which rows of a source table a load has to read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from revops.extract.catalog import Relation

# xmin is the low 32 bits of a transaction id; differences are taken modulo 2^32.
XID_MASK = 0xFFFFFFFF
# Past this many transactions since the last load the 32 bits no longer tell old from new.
XID_SPAN = 1 << 31


@dataclass(frozen=True)
class Horizon:
    """The transactions that a snapshot saw as finished.

    oldest_running: every transaction before it was finished and visible; it and later ones may not have been.
    next: the first transaction id not yet given out.
    identity: the table whose transactions are meant (see Relation.identity).
    """

    oldest_running: int
    next: int
    identity: str

    def as_watermark(self) -> dict[str, Any]:
        return {"mode": "xid", **asdict(self)}


@dataclass(frozen=True)
class Window:
    """The rows to read: all of them, or those written since a horizon; `reason` says why all."""

    condition: sql.Composed | None
    reason: str | None = None

    @property
    def is_full(self) -> bool:
        return self.condition is None


def read_horizon(source: psycopg.Connection, relation: Relation) -> Horizon:
    """Read the horizon of the transaction's snapshot."""
    row = source.execute(
        "select pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint from pg_current_snapshot() as s"
    ).fetchone()
    if row is None:
        raise AssertionError("a select without FROM returns a row")
    return Horizon(int(row[0]), int(row[1]), relation.identity)


def plan_window(relation: Relation, *, mode: str, saved: dict[str, Any] | None, now: Horizon) -> Window:
    """Choose the rows to read from the saved watermark and the present horizon.

    Wraparound-safe: rows are chosen by how many transactions ago they were written, modulo 2^32, which can
    only choose too many.
    A horizon of another server, database or table, or one too far back, leads to a full read with its reason.
    """
    if mode == "full":
        return Window(None, "mode full")
    if not relation.has_transaction_ids:
        return Window(None, "a view has no transaction ids")
    if not relation.key:
        return Window(None, "the table has no primary key")
    if saved is None:
        return Window(None, "first load")
    if saved.get("identity") != now.identity:
        return Window(None, "the source table was re-created, restored or altered")
    span = now.next - int(saved["oldest_running"])
    if not 0 <= span < XID_SPAN:
        return Window(None, "the last load is too many transactions ago")
    condition = sql.SQL("(({next} - xmin::text::bigint) & {mask}) <= {span}").format(
        next=sql.Literal(now.next & XID_MASK), mask=sql.Literal(XID_MASK), span=sql.Literal(span)
    )
    return Window(condition)
