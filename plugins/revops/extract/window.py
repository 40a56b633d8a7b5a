"""Which rows of a source table a load has to read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from revops.extract.catalog import Relation, without_modifier
from revops.extract.errors import ExtractError
from revops.sources import Table

# xmin is the low 32 bits of a transaction id.
XID_MASK = 0xFFFFFFFF
_SIGN_BIT = 1 << 31
# Past 2^31 transactions since the last load the 32 bits no longer tell old from new; this stays well below.
XID_SPAN = 1 << 30
_TIMESTAMPS = ("timestamp without time zone", "timestamp with time zone")


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


@dataclass(frozen=True)
class Window:
    """The rows to read: all of them, or those that a condition names; `reason` says why all.

    changed: a condition by which the rows can be counted that may be new or different, null where nothing tells.
    """

    condition: sql.Composed | None
    reason: str | None = None
    changed: sql.Composed | None = None

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


def xid_watermark(horizon: Horizon) -> dict[str, Any]:
    """Return what the next load needs to find the rows that this snapshot did not show."""
    return {"mode": "xid", **asdict(horizon)}


def cursor_watermark(horizon: Horizon, table: Table, bound: datetime) -> dict[str, Any]:
    """Return what the next load needs to find the rows that are stamped with the bound or later."""
    return {
        "mode": "cursor",
        "cursor": table.cursor,
        "from": bound.astimezone(UTC).isoformat(),
        "identity": horizon.identity,
    }


def plan_window(relation: Relation, table: Table, *, saved: dict[str, Any] | None, now: Horizon) -> Window:
    """Choose the rows to read from the saved watermark and the present horizon.

    A watermark of another server, database or table, of another mode, or one too far back, leads to a full read with
    its reason. Raises ExtractError when the cursor is no column that can be one.
    """
    if table.mode == "full":
        return Window(None, "mode full")
    if table.mode == "cursor":
        _require_cursor(relation, table)
    elif not relation.has_transaction_ids:
        return Window(None, "a view has no transaction ids")
    if saved is None:
        return Window(None, "first load")
    if saved.get("identity") != now.identity:
        return Window(None, "the source table was re-created, restored or altered")
    if table.mode == "cursor":
        return _cursor_window(relation, table, saved)
    return _xid_window(saved, now)


def written_since(transaction: int) -> sql.Composed:
    """Return the condition for rows written by a transaction with this id or by a later one, 2^31 ids on at most.

    The difference modulo 2^32 is not negative. By age(), which takes it too, no server would scan in parallel; and of
    an equation planners expect few rows, which it takes to scan in parallel as well.
    """
    return sql.SQL("((xmin::text::bigint - {}) & {}) = 0").format(
        sql.Literal(transaction & XID_MASK), sql.Literal(_SIGN_BIT)
    )


def _xid_window(saved: dict[str, Any], now: Horizon) -> Window:
    if saved.get("mode") != "xid":
        return Window(None, "the mode was changed")
    span = now.next - int(saved["oldest_running"])
    if not 0 <= span < XID_SPAN:
        return Window(None, "the last load is too many transactions ago")
    condition = written_since(int(saved["oldest_running"]))
    return Window(condition, changed=condition)


def _cursor_window(relation: Relation, table: Table, saved: dict[str, Any]) -> Window:
    if saved.get("mode") != "cursor" or saved.get("cursor") != table.cursor:
        return Window(None, "the mode or the cursor was changed")
    name = sql.Identifier(table.cursor or "")
    declared = next(column.source_type for column in relation.columns if column.name == table.cursor)
    # Applications keep UTC in a timestamp without zone; sessions of ours are in UTC, so the text reads as that.
    value = sql.SQL("{}::" + without_modifier(declared)).format(
        sql.Literal(datetime.fromisoformat(saved["from"]).replace(tzinfo=None).isoformat(" "))
    )
    return Window(sql.SQL("({0} >= {1} or {0} is null)").format(name, value))


def _require_cursor(relation: Relation, table: Table) -> None:
    declared = {column.name: without_modifier(column.source_type) for column in relation.columns}
    if declared.get(table.cursor or "") not in _TIMESTAMPS:
        raise ExtractError(
            f"{relation.schema}.{relation.name}: the cursor {table.cursor!r} is "
            + (f"of type {declared[table.cursor]}" if table.cursor in declared else "no column that is read")
            + "; it must be a timestamp that every change moves. Remedy: correct `cursor` of the table in "
            "include/sources, or use mode xid."
        )
    if not relation.key:
        raise ExtractError(
            f"{relation.schema}.{relation.name} has no primary key, so that changed rows can't be told from new "
            "ones. Remedy: use mode xid or full for it in include/sources."
        )
