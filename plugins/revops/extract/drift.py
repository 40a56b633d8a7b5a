"""Keep a raw table's columns in step with the source: add, keep, widen; never narrow, never drop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import psycopg
from psycopg import errors, sql

from revops.extract.catalog import Relation, without_modifier
from revops.extract.errors import SchemaFrozenError
from revops.extract.raw_table import (
    RawTable,
    add_raw_key,
    as_type,
    read_raw_columns,
    read_raw_key,
    read_raw_table,
)
from revops.extract.shape import blind_index_name

Strictness = Literal["evolve", "freeze", "ignore"]

# Each type holds every value of the ones before it, as text does of all types.
_CHAINS = (
    ("smallint", "integer", "bigint", "numeric"),
    ("real", "double precision"),
    ("date", "timestamp without time zone"),
)

_NEVER_IGNORED = ("column_excluded", "column_encrypted", "column_returned", "column_dropped", "key_changed")


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
        return self.change in ("column_added", "column_returned", "column_encrypted", "type_widened", "key_changed")

    def __str__(self) -> str:
        what = self.change.replace("_", " ") + (f' "{self.column}"' if self.column else "")
        types = [declared for declared in (self.type_before, self.type_after) if declared]
        return what + (f" ({' -> '.join(types)})" if types else "")


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


def align_raw_table(
    warehouse: psycopg.Connection,
    table: str,
    relation: Relation,
    *,
    strictness: Strictness = "evolve",
    is_excluded: Callable[[str], bool] = lambda _: False,
    is_sensitive: Callable[[str], bool] = lambda _: False,
) -> tuple[list[Change], Relation, RawTable]:
    """Alter `raw.<table>`, which exists, so that it can take the relation's rows. Does not commit.

    Returns what changed, the relation as raw takes it, and raw as it is now. strictness: `evolve` follows the source;
    `freeze` raises SchemaFrozenError with every difference, before anything is altered; `ignore` leaves raw as it is,
    so that new columns are not read and values must fit the old types.
    A column that the source dropped stays, and is null from then on in rows that are written again. A column that
    must no longer leave the source is dropped, and so is a sensitive one that raw has in clear and the source no longer
    has. When the source's primary key has become another, rows can't be matched any more: raw is emptied and
    filled anew.
    """
    existing = read_raw_columns(warehouse, table)
    # The index beside it tells a token from bytes that came as they are.
    tokens = {name for name, kind in existing.items() if kind == "bytea" and blind_index_name(name) in existing}
    changes = [
        *_differences(warehouse, table, relation, existing=existing, tokens=tokens),
        *_absences(
            warehouse,
            table,
            relation,
            existing=existing,
            tokens=tokens,
            is_forbidden=lambda name: is_excluded(name) or (is_sensitive(name) and name not in tokens),
        ),
    ]
    if (key := read_raw_key(warehouse, table)) != relation.key:
        changes.append(Change("key_changed", None, ", ".join(key), ", ".join(relation.key)))
    if strictness == "freeze" and changes:
        raise SchemaFrozenError(
            f"raw.{table} is frozen, but the source's {relation.schema}.{relation.name} differs: "
            + "; ".join(map(str, changes))
            + ". Nothing was loaded. Remedy: undo the change in the source, or set `drift: evolve` for the table in "
            "include/sources, if only for one run."
        )
    if strictness == "ignore":
        relation, changes = _ignoring(warehouse, table, relation, changes)
    changes = [_apply(warehouse, sql.Identifier("raw", table), relation, change) for change in changes]
    return changes, relation, read_raw_table(warehouse, table)


def _differences(
    warehouse: psycopg.Connection, table: str, relation: Relation, *, existing: dict[str, str], tokens: set[str]
) -> list[Change]:
    """Return how the relation's columns differ from those of raw."""
    changes: list[Change] = []
    dropped = _columns_after(warehouse, table, "column_dropped")
    for column in relation.columns:
        before = existing.get(column.name)
        if before is None:
            changes.append(Change("column_added", column.name, None, column.type))
        elif column.role != "plain" and (
            before != column.type or (column.role == "token" and column.name not in tokens)
        ):
            changes.append(Change("column_encrypted", column.name, before, column.type))
        elif column.role == "plain" and column.name in tokens:
            changes.append(Change("column_returned", column.name, before, wider_type(before, column.type)))
        elif (after := wider_type(before, column.type)) != before:
            changes.append(Change("type_widened", column.name, before, after))
        elif column.name in dropped:
            changes.append(Change("column_returned", column.name, before, before))
    return changes


def _absences(
    warehouse: psycopg.Connection,
    table: str,
    relation: Relation,
    *,
    existing: dict[str, str],
    tokens: set[str],
    is_forbidden: Callable[[str], bool],
) -> list[Change]:
    """Return what becomes of the columns that raw has and the relation has not."""
    changes: list[Change] = []
    dropped = _columns_after(warehouse, table, "column_dropped")
    present = {column.name for column in relation.columns}
    # An index goes with its column: when that is forbidden, or stored as it comes.
    owners = {blind_index_name(name): name for name in tokens}
    for name, declared in existing.items():
        if name in present:
            continue
        owner = owners.get(name)
        if is_forbidden(name) if owner is None else (owner in present or is_forbidden(owner)):
            changes.append(Change("column_excluded", name, declared, None))
        elif name not in dropped:
            changes.append(Change("column_dropped", name, declared, None))
    return changes


def _ignoring(
    warehouse: psycopg.Connection, table: str, relation: Relation, changes: list[Change]
) -> tuple[Relation, list[Change]]:
    """Return the relation without its new columns, and what is done none the less; the rest is recorded once."""
    known = _columns_after(warehouse, table, "column_ignored")
    encrypted = {change.column for change in changes if change.change == "column_encrypted"}
    needed = {*relation.key, *(blind_index_name(name) for name in encrypted if name is not None)}
    kept: list[Change] = []
    new: set[str] = set()
    for change in changes:
        # What is forbidden or secret must go, and without its key a table can't be kept in step.
        if change.change in _NEVER_IGNORED or (change.change == "column_added" and change.column in needed):
            kept.append(change)
            continue
        if change.change == "column_added" and change.column is not None:
            new.add(change.column)
        if change.column not in known:
            kept.append(Change("column_ignored", change.column, change.type_before, change.type_after))
    columns = tuple(column for column in relation.columns if column.name not in new)
    return replace(relation, columns=columns), kept


def _apply(warehouse: psycopg.Connection, target: sql.Identifier, relation: Relation, change: Change) -> Change:
    """Alter raw and return what was done."""
    name = sql.Identifier(change.column or "")
    if change.change == "column_added":
        warehouse.execute(sql.SQL("alter table {} add column {} {}").format(target, name, as_type(change.type_after)))
    elif change.change in ("type_widened", "column_returned") and change.type_before != change.type_after:
        return _retype(warehouse, target, change)
    elif change.change == "column_excluded":
        warehouse.execute(sql.SQL("alter table {} drop column {}").format(target, name))
    elif change.change == "column_encrypted":
        warehouse.execute(
            sql.SQL("alter table {0} drop column {1}, add column {1} {2}").format(
                target, name, as_type(change.type_after)
            )
        )
    elif change.change == "key_changed":
        _change_key(warehouse, target, relation)
    return change


def _retype(warehouse: psycopg.Connection, target: sql.Identifier, change: Change) -> Change:
    """Give a column its new type; text, where a value of raw, perhaps of a deleted row, is out of that type's range."""
    statement = sql.SQL("alter table {0} alter column {1} type {2} using {1}::{2}")
    name = sql.Identifier(change.column or "")
    try:
        with warehouse.transaction():
            warehouse.execute(statement.format(target, name, as_type(change.type_after)))
    except errors.DatetimeFieldOverflow:
        warehouse.execute(statement.format(target, name, as_type("text")))
        return replace(change, type_after="text")
    return change


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


def _change_key(warehouse: psycopg.Connection, target: sql.Identifier, relation: Relation) -> None:
    warehouse.execute(sql.SQL("delete from {}").format(target))
    row = warehouse.execute(
        "select c.conname, array_agg(a.attname::text) from pg_constraint c "
        "join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey) "
        "where c.contype = 'p' and c.conrelid = %s::regclass group by c.conname",
        (target.as_string(warehouse),),
    ).fetchone()
    if row is not None:
        warehouse.execute(sql.SQL("alter table {} drop constraint {}").format(target, sql.Identifier(row[0])))
        for name in row[1]:
            warehouse.execute(
                sql.SQL("alter table {} alter column {} drop not null").format(target, sql.Identifier(name))
            )
    add_raw_key(warehouse, target, relation)


def _columns_after(warehouse: psycopg.Connection, table: str, last: str) -> set[str]:
    """Return the columns whose last recorded change is this one."""
    rows = warehouse.execute(
        "select distinct on (column_name) column_name, change from ops.schema_change "
        "where table_name = %s and column_name is not null order by column_name, schema_change_id desc",
        (table,),
    ).fetchall()
    return {name for name, change in rows if change == last}
