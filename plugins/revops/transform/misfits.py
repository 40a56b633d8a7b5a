"""Name the values of raw that keep a transform from running: PostgreSQL names neither their column nor their row."""

from __future__ import annotations

import psycopg
from psycopg import sql

from revops.extract.catalog import without_modifier
from revops.extract.raw_table import read_raw_columns, read_raw_key
from revops.transform.definition import Definition
from revops.transform.views import TEXTS

SHOWN_KEYS = 5
_FIND = """
    select count(*), (array_agg({key} order by {key}))[1:{shown}] from raw.{table}
    where nullif({column}::text, '') is not null and not pg_input_is_valid({column}::text, {wanted})
"""


def find_misfits(warehouse: psycopg.Connection, definition: Definition, source: str) -> list[str]:
    """Return a line for each column of text that holds values which its type in inputs.yaml does not take.

    A line has table, column, both types, the number of rows and the first keys, never a value. Reads each such column
    once. Does not commit.
    """
    lines = []
    for item in definition.inputs:
        actual = read_raw_columns(warehouse, item.table) if item.table.startswith(f"{source}_") else {}
        for name, declared in item.columns.items():
            wanted = declared.rstrip("?")
            if wanted != "text" and without_modifier(actual.get(name, "")) in TEXTS:
                lines += _misfits(warehouse, item.table, name, actual[name], wanted)
    return lines


def _misfits(warehouse: psycopg.Connection, table: str, column: str, actual: str, wanted: str) -> list[str]:
    keys = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in read_raw_key(warehouse, table)]
    row = warehouse.execute(
        sql.SQL(_FIND).format(
            key=sql.SQL("concat_ws(':', {})").format(sql.SQL(", ").join(keys)) if keys else sql.SQL("''"),
            shown=sql.Literal(SHOWN_KEYS),
            table=sql.Identifier(table),
            column=sql.Identifier(column),
            wanted=sql.Literal(wanted),
        )
    ).fetchone()
    if row is None or not row[0]:
        return []
    first = f", first keys {', '.join(row[1])}" if keys else ""
    return [f"raw.{table}.{column} is {actual} and {row[0]:,} of its values are no {wanted}{first}"]
