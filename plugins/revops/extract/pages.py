"""Parts of a source table by its pages: found without reading the rest, whatever the keys are."""

from __future__ import annotations

import psycopg
from psycopg import sql

from revops.extract.catalog import Relation

BLOCK_BYTES = 8192
# The first version that finds a range of pages without a scan of the table.
_SINCE = 140000


def has_pages(source: psycopg.Connection, relation: Relation) -> bool:
    """Tell whether rows can be chosen by their pages: a table, with rows of its own, on a server that can."""
    return relation.kind == "r" and relation.pages > 0 and source.info.server_version >= _SINCE


def in_pages(first: int, last: int | None) -> sql.Composed:
    """Return the condition for rows on the pages from the first on, up to before the last, or to the end."""
    condition = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first},0)"))
    return condition if last is None else condition + sql.SQL(" and ctid < {}::tid").format(sql.Literal(f"({last},0)"))
