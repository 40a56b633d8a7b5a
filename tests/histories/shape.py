"""What a table of the source looks like at this moment, from its catalogue: any writer may have altered it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

_COLUMNS = """
    select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
           coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
    from pg_attribute a
    left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
    where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""


@dataclass(frozen=True)
class Field:
    """One column; key_position counts from 1, 0 means: not part of the key."""

    name: str
    declared: str
    is_required: bool
    is_generated: bool
    key_position: int

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)


@dataclass(frozen=True)
class Shape:
    """A table's columns; without any, there is no such table."""

    name: str
    fields: tuple[Field, ...]
    is_partitioned: bool

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier(self.name)

    @property
    def own_rows(self) -> sql.Composed:
        """The table for a FROM clause, without the rows of tables that inherit from it."""
        return sql.SQL("" if self.is_partitioned else "only ") + self.table

    @property
    def key(self) -> tuple[Field, ...]:
        return tuple(sorted((f for f in self.fields if f.key_position), key=lambda field: field.key_position))

    @property
    def data(self) -> tuple[Field, ...]:
        """The columns that a writer may set and that are not part of the key."""
        return tuple(field for field in self.fields if not field.key_position and not field.is_generated)

    def has(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)


def read_shape(connection: psycopg.Connection, name: str, *, schema: str = "public") -> Shape:
    """Read a table's columns as they are now."""
    quoted = sql.Identifier(schema, name).as_string(connection)
    rows = connection.execute(_COLUMNS, (quoted,)).fetchall()
    kind = connection.execute("select relkind = 'p' from pg_class where oid = to_regclass(%s)", (quoted,)).fetchone()
    return Shape(name, tuple(Field(*row) for row in rows), bool(kind and kind[0]))
