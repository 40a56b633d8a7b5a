"""Rows into tables by COPY, and the ids handed out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from psycopg import Cursor, sql

Row = Mapping[str, object]


def columns_of(cursor: Cursor[tuple[object, ...]], table: str) -> tuple[str, ...]:
    """Return the columns of `table` (in the search path), in order."""
    cursor.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
        " and not attisdropped order by attnum",
        [table],
    )
    return tuple(str(name) for (name,) in cursor)


def run_file(cursor: Cursor[tuple[object, ...]], name: str) -> None:
    """Run the SQL file `name` beside this module. Does not commit."""
    cursor.execute(Path(__file__).with_name(name).read_bytes())


def copy_rows(cursor: Cursor[tuple[object, ...]], table: str, rows: Iterable[Row]) -> int:
    """Copy `rows` into `table` and return how many; a column that a row does not name becomes null.

    Raises KeyError where a row names a column that the table does not have. Does not commit.
    """
    columns = columns_of(cursor, table)
    known = frozenset(columns)
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    count = 0
    with cursor.copy(statement) as copy:
        for row in rows:
            if not row.keys() <= known:
                raise KeyError(f"rows for {table} name unknown columns {sorted(row.keys() - known)}: align its DDL")
            copy.write_row([row.get(column) for column in columns])
            count += 1
    return count


def copy_lines(cursor: Cursor[tuple[object, ...]], table: str, lines: Iterable[str]) -> int:
    """Copy `lines` of COPY's text format, line ends included, and return how many. Does not commit."""
    count = 0
    chunk: list[str] = []
    with cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy:
        for line in lines:
            chunk.append(line)
            count += 1
            if len(chunk) >= 2_000:
                copy.write("".join(chunk))
                chunk.clear()
        copy.write("".join(chunk))
    return count
