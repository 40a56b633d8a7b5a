"""The two applications that own the sample sources, and what they do to their rows between two nights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import errors, sql

from revops.transform.definition import Input
from tests.histories.shape import Field, Shape, read_shape

# What a change may meet in a table that other changes have altered; it is then undone.
REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.UndefinedColumn,
    errors.UndefinedTable,
    errors.DatatypeMismatch,
    errors.DuplicateColumn,
)

CLOCKS = ("write_date", "updated_at")

_REFERENCES = """
    select c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text
    from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    where c.contype = 'f' and cardinality(c.conkey) = 1
"""
# Odoo and ACE refuse some of what happens here; other versions, imports and hand-made SQL do not.
_CONSTRAINTS = """
    select format('alter table %s drop constraint %I cascade', conrelid::regclass, conname)
    from pg_constraint where contype in ('f', 'c', 'u') and connamespace = 'public'::regnamespace
    union all
    select format('alter table %s alter column %I drop not null', attrelid::regclass, attname)
    from pg_attribute join pg_class on pg_class.oid = attrelid
    where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and attnotnull and not attisdropped
    and not exists (select from pg_index where indrelid = attrelid and indisprimary and attnum = any(indkey::int2[]))
"""


@dataclass
class Application:
    """One source and who writes to it. inputs: what core reads of it; dirty: tables changed since their last load."""

    name: str
    connection: psycopg.Connection
    inputs: dict[str, Input]
    rng: random.Random
    references: dict[tuple[str, str], str] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, name: str, dsn: str, inputs: Sequence[Input], rng: random.Random, *, is_new: bool) -> Application:
        """Open a source that the sample generator has filled; a new one is freed of what refuses hostile changes."""
        connection = psycopg.connect(dsn, autocommit=True)
        connection.execute("set timezone = 'UTC'")
        if is_new:
            connection.execute("create schema away; create schema gone; create table away.reference as " + _REFERENCES)
            for (statement,) in connection.execute(_CONSTRAINTS).fetchall():
                connection.execute(statement)
        found = connection.execute("select * from away.reference order by 1, 2, 3").fetchall()
        own = {item.table.removeprefix(f"{name}_"): item for item in inputs if item.table.startswith(f"{name}_")}
        references = {(table, column): target for table, column, target in found if table in own}
        return cls(name, connection, own, rng, references, set(own) if is_new else set())

    @property
    def tables(self) -> list[str]:
        """The tables that core reads and that are there, in a fixed order."""
        return [table for table in self.inputs if table not in self.away]

    def pick(self, tables: Sequence[str]) -> str:
        """Choose a table, more likely one that has changed already: each that has costs a load."""
        changed = [table for table in tables if table in self.dirty]
        return self.rng.choice(changed if changed and self.rng.random() < 0.4 else tables)

    def shape(self, table: str) -> Shape:
        return read_shape(self.connection, table)

    def read_columns(self, table: str) -> list[Field]:
        """Return the columns of a table that core makes something of, without its key."""
        named = {name.removesuffix("_blind_index") for name in self.inputs[table].columns}
        return [column for column in self.shape(table).data if column.name in named]

    def run(self, table: str, statement: str, *parts: sql.Composable) -> int:
        """Run a statement that changes rows of a table; return how many."""
        changed = self.connection.execute(sql.SQL(statement).format(*parts)).rowcount  # type: ignore[arg-type]
        if changed != 0:
            self.dirty.add(table)
        return changed

    def some(self, table: str, most: int) -> sql.Composed:
        """Return the condition that tells a few rows of a table, which follow from the random numbers."""
        key = sql.SQL(", ").join(column.identifier for column in self.shape(table).key)
        return sql.SQL("({0}) in (select {0} from {1} order by md5(({0})::text || {2}) limit {3})").format(
            key, sql.Identifier(table), sql.Literal(str(self.rng.random())), sql.Literal(self.rng.randint(1, most))
        )

    def any_value(self, table: str, column: str) -> sql.Composed:
        """Return the expression for a value that some row of the table has."""
        return sql.SQL("(select {1} from {0} order by md5({0}::text || {2}) limit 1)").format(
            sql.Identifier(table), sql.Identifier(column), sql.Literal(str(self.rng.random()))
        )

    def touch(self, table: str, *, silent: bool, changed: str = "") -> sql.Composed:
        """Return the assignment that stamps a changed row as the application does, nothing for a silent change."""
        clocks = [name for name in CLOCKS if self.shape(table).has(name) and name != changed]
        if silent or not clocks:
            return sql.Composed([])
        return sql.SQL(", {} = clock_timestamp()").format(sql.Identifier(clocks[0]))

    def close(self) -> None:
        self.connection.close()
