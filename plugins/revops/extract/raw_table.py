"""A table of schema raw: made for a source's rows, its key and indexes, and its columns as the catalogue has them."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import METADATA_COLUMNS, Relation


@dataclass(frozen=True)
class RawTable:
    """A table of schema raw: its name there, and the types of its source columns, dropped ones included."""

    name: str
    types: dict[str, str]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("raw", self.name)


def read_raw_table(warehouse: psycopg.Connection, table: str) -> RawTable:
    """Return a raw table as the warehouse's catalogue has it."""
    return RawTable(table, read_raw_columns(warehouse, table))


def read_raw_columns(warehouse: psycopg.Connection, table: str) -> dict[str, str]:
    """Return type by name of a raw table's source columns in their order; empty when there is no such table."""
    rows = warehouse.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(format('raw.%%I', %s::text)) and attnum > 0 and not attisdropped order by attnum",
        (table,),
    ).fetchall()
    return {name: declared for name, declared in rows if name not in METADATA_COLUMNS}


def read_raw_key(warehouse: psycopg.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a raw table's primary key in key order; empty when it has none."""
    rows = warehouse.execute(
        "select a.attname from pg_index i "
        "cross join unnest(i.indkey::int2[]) with ordinality as k (attnum, position) "
        "join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum "
        "where i.indisprimary and i.indrelid = to_regclass(format('raw.%%I', %s::text)) order by k.position",
        (table,),
    ).fetchall()
    return tuple(name for (name,) in rows)


def create_raw_table(warehouse: psycopg.Connection, target: sql.Identifier, relation: Relation) -> None:
    """Create a table for the relation's rows, without its key and indexes. Does not commit.

    The key's columns are not null from the start: told later, the server would read every row again to see it.
    """
    columns: list[sql.Composable] = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            as_type(column.type),
            sql.SQL(" not null" if column.name in relation.key else ""),
        )
        for column in relation.columns
    ]
    columns += [
        sql.SQL("_loaded_at timestamptz not null default now()"),
        sql.SQL("_load_id bigint not null"),
        sql.SQL("_deleted_at timestamptz"),
    ]
    warehouse.execute(sql.SQL("create table {} ({})").format(target, sql.SQL(", ").join(columns)))


def add_raw_key(warehouse: psycopg.Connection, target: sql.Identifier, relation: Relation) -> None:
    """Add the primary key, if there is one. Does not commit.

    After the rows, which come in any order: one sort is cheaper than a search for the place of each.
    """
    if relation.key:
        key = sql.SQL(", ").join(map(sql.Identifier, relation.key))
        warehouse.execute(sql.SQL("alter table {} add primary key ({})").format(target, key))


def index_changes(warehouse: psycopg.Connection, raw: RawTable, *, since: int) -> None:
    """Index what is written after a load, and what is marked deleted, where that is not done. Does not commit.

    Not while the table is filled: the server would look at the last columns of every row, which costs 6 % of that load.
    Who looks for the rows since a load (`_load_id > 4711`, as a constant) finds them by the first index, unless that
    load was before the one that the index starts from.
    """
    _index(warehouse, raw, "_load_id", sql.SQL("_load_id > {}").format(sql.Literal(since)))
    _index(warehouse, raw, "_deleted_at", sql.SQL("_deleted_at is not null"))


def as_type(declared: str | None) -> sql.SQL:
    """Return a column's type as SQL: PostgreSQL's own spelling (format_type), never a user's."""
    if declared is None:
        raise AssertionError("a column has a type")
    return sql.SQL(declared)


def _index(warehouse: psycopg.Connection, raw: RawTable, column: str, condition: sql.Composable) -> None:
    known = warehouse.execute(
        "select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] "
        "where i.indrelid = to_regclass(format('raw.%%I', %s::text)) and a.attname = %s and not i.indisprimary",
        (raw.name, column),
    ).fetchone()
    if known is None:
        warehouse.execute(
            sql.SQL("create index on {} ({}) where {}").format(raw.identifier, sql.Identifier(column), condition)
        )
