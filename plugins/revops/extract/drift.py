"""Keep a raw table's columns in step with the source: add, keep, widen; never narrow, never drop."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import METADATA_COLUMNS, Column, Relation, without_modifier

# Each type holds every value of the ones before it, as text does of all types.
_CHAINS = (
    ("smallint", "integer", "bigint", "numeric"),
    ("real", "double precision"),
    ("date", "timestamp without time zone"),
)


@dataclass(frozen=True)
class Change:
    """One difference between source and raw, as ops.schema_change records it."""

    change: str
    column: str | None = None
    type_before: str | None = None
    type_after: str | None = None

    @property
    def needs_full_read(self) -> bool:
        """Whether rows may have changed unseen: a new column with a default and a new type rewrite rows silently."""
        return self.change in ("column_added", "column_returned", "type_widened")


def wider_type(raw: str, source: str) -> str:
    """Return the narrowest type known to hold all values of both; `text` holds everything.

    Types that differ in precision or scale only become the type without; varchar of different length becomes text.
    """
    if raw == source:
        return raw
    bare = (without_modifier(raw), without_modifier(source))
    if bare[0] == bare[1] and bare[0].startswith(("timestamp ", "time ")):
        return bare[0]
    for chain in _CHAINS:
        if bare[0] in chain and bare[1] in chain:
            return max(*bare, key=chain.index)
    return "text[]" if raw.endswith("[]") and source.endswith("[]") else "text"


def align_raw_table(warehouse: psycopg.Connection, table: str, relation: Relation) -> list[Change]:
    """Create or alter `raw.<table>` so that it can take the relation's rows; return what changed. Does not commit.

    A column that the source dropped stays, and is null from then on in rows that are written again. When the
    source's primary key has become another, rows can't be matched any more: raw is emptied and filled anew.
    """
    existing = read_raw_columns(warehouse, table)
    target = sql.Identifier("raw", table)
    if existing:
        changes = _align_columns(warehouse, table, relation, existing=existing)
        if (key := _read_raw_key(warehouse, table)) != relation.key:
            _change_key(warehouse, target, before=key, after=relation.key)
            changes.append(Change("table_created"))
        return changes
    _create(warehouse, target, relation)
    return [Change("table_created")]


def _align_columns(
    warehouse: psycopg.Connection, table: str, relation: Relation, *, existing: dict[str, str]
) -> list[Change]:
    target = sql.Identifier("raw", table)
    changes: list[Change] = []
    nullable = _dropped_before(warehouse, table)
    for column in relation.columns:
        if column.name not in existing:
            warehouse.execute(sql.SQL("alter table {} add column {}").format(target, _definition(column)))
            changes.append(Change("column_added", column.name, None, column.type))
            continue
        before = existing[column.name]
        after = wider_type(before, column.type)
        if after != before:
            warehouse.execute(
                sql.SQL("alter table {} alter column {} type {} using {}::{}").format(
                    target, *_cast(column.name, after), *_cast(column.name, after)
                )
            )
            changes.append(Change("type_widened", column.name, before, after))
        elif column.name in nullable:
            changes.append(Change("column_returned", column.name, before, before))
    present = {column.name for column in relation.columns}
    changes += [
        Change("column_dropped", name, declared, None)
        for name, declared in existing.items()
        if name not in present and name not in nullable
    ]
    return changes


def read_raw_columns(warehouse: psycopg.Connection, table: str) -> dict[str, str]:
    """Return type by name of a raw table's source columns in their order; empty when there is no such table."""
    rows = warehouse.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(format('raw.%%I', %s::text)) and attnum > 0 and not attisdropped order by attnum",
        (table,),
    ).fetchall()
    return {name: declared for name, declared in rows if name not in METADATA_COLUMNS}


def record_changes(
    warehouse: psycopg.Connection,
    changes: list[Change],
    *,
    source: str,
    table: str,
    run_id: str,
    load_id: int,
) -> None:
    """Write changes to ops.schema_change. Does not commit."""
    for change in changes:
        warehouse.execute(
            "insert into ops.schema_change "
            "(source, table_name, column_name, change, type_before, type_after, run_id, load_id) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                source,
                table,
                change.column,
                change.change,
                change.type_before,
                change.type_after,
                run_id,
                load_id,
            ),
        )


def _create(warehouse: psycopg.Connection, target: sql.Identifier, relation: Relation) -> None:
    columns: list[sql.Composable] = [_definition(column) for column in relation.columns]
    columns += [
        sql.SQL("_loaded_at timestamptz not null default now()"),
        sql.SQL("_load_id bigint not null"),
        sql.SQL("_deleted_at timestamptz"),
    ]
    if relation.key:
        columns.append(sql.SQL("primary key ({})").format(sql.SQL(", ").join(map(sql.Identifier, relation.key))))
    warehouse.execute(sql.SQL("create table {} ({})").format(target, sql.SQL(", ").join(columns)))
    warehouse.execute(sql.SQL("create index on {} (_load_id)").format(target))


def _read_raw_key(warehouse: psycopg.Connection, table: str) -> tuple[str, ...]:
    rows = warehouse.execute(
        "select a.attname from pg_index i "
        "cross join unnest(i.indkey::int2[]) with ordinality as k (attnum, position) "
        "join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum "
        "where i.indisprimary and i.indrelid = to_regclass(format('raw.%%I', %s::text)) order by k.position",
        (table,),
    ).fetchall()
    return tuple(name for (name,) in rows)


def _change_key(
    warehouse: psycopg.Connection, target: sql.Identifier, *, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    warehouse.execute(sql.SQL("delete from {}").format(target))
    if before:
        row = warehouse.execute(
            "select conname from pg_constraint where contype = 'p' and conrelid = %s::regclass",
            (target.as_string(warehouse),),
        ).fetchone()
        if row is not None:
            warehouse.execute(sql.SQL("alter table {} drop constraint {}").format(target, sql.Identifier(row[0])))
        for name in before:
            warehouse.execute(
                sql.SQL("alter table {} alter column {} drop not null").format(target, sql.Identifier(name))
            )
    if after:
        key = sql.SQL(", ").join(map(sql.Identifier, after))
        warehouse.execute(sql.SQL("alter table {} add primary key ({})").format(target, key))


def _definition(column: Column) -> sql.Composed:
    return sql.SQL("{} {}").format(*_cast(column.name, column.type))


def _cast(name: str, declared: str) -> tuple[sql.Identifier, sql.SQL]:
    # The type comes from format_type() of a built-in type or is `text`: PostgreSQL's own spelling, never a user's.
    return sql.Identifier(name), sql.SQL(declared)


def _dropped_before(warehouse: psycopg.Connection, table: str) -> set[str]:
    rows = warehouse.execute(
        "select distinct on (column_name) column_name, change from ops.schema_change "
        "where table_name = %s and column_name is not null order by column_name, schema_change_id desc",
        (table,),
    ).fetchall()
    return {name for name, change in rows if change == "column_dropped"}
