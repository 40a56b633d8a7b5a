"""Where a row of core comes from, for people and programs outside SQL."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class TraceStep:
    """One step of ops.trace; it leads on from the last step before it that has a smaller depth (docs/lineage.md)."""

    depth: int
    relation: str
    key: str | None
    what: str
    load_id: int | None
    transform_run_id: int | None
    run_id: str | None
    at: dt.datetime | None
    detail: dict[str, Any] | None


def read_trace(warehouse: psycopg.Connection, table: str, key: str) -> list[TraceStep]:
    """Return the steps from a row of core or search back to its source, in their order.

    key: see docs/lineage.md. Raises psycopg.errors.RaiseException for an unknown table.
    """
    with warehouse.cursor(row_factory=class_row(TraceStep)) as cursor:
        return cursor.execute(
            "select depth, relation, key, what, load_id, transform_run_id, run_id, at, detail "
            "from ops.trace(%s, %s) order by step",
            (table, key),
        ).fetchall()
