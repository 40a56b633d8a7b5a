"""What a source table looks like, read from its catalogue in the snapshot of its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

METADATA_COLUMNS = ("_loaded_at", "_load_id", "_deleted_at")

# Row changes can be told by comparing values only where the type has an equality that means identity.
_WITHOUT_EQUALITY = frozenset({"json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle"})

# indkey counts from 0, so positions start at 1 here and 0 means: not part of the key.
_COLUMNS: LiteralString = """
    select a.attname,
           format_type(a.atttypid, a.atttypmod),
           coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::regnamespace
               and coalesce(e.typtype, t.typtype) in ('b', 'r', 'm'),
           t.typcategory = 'A',
           coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""


@dataclass(frozen=True)
class Column:
    """One column: its name and the type it has in the warehouse."""

    name: str
    type: str

    @property
    def has_equality(self) -> bool:
        return self.type.removesuffix("[]") not in _WITHOUT_EQUALITY


@dataclass(frozen=True)
class Relation:
    """A table of a source: columns in their order, primary key in key order (empty when there is none).

    identity: server, database and table ids; a restored or re-created table has another one, and then saved
    transaction ids mean nothing.
    """

    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    identity: str

    @property
    def has_transaction_ids(self) -> bool:
        return self.kind in ("r", "p")

    @property
    def from_clause(self) -> sql.Composed:
        """The table for a FROM clause, without the rows of tables that inherit from it."""
        only = sql.SQL("only ") if self.kind == "r" else sql.SQL("")
        return only + sql.Identifier(self.schema, self.name)


class ExtractError(RuntimeError):
    """A table can't be extracted for a reason that a retry does not mend."""


def find_relation(source: psycopg.Connection, schema: str, candidates: tuple[str, ...]) -> tuple[str, int, str] | None:
    """Return (name, oid, relkind) of the first candidate that the source has as a table or view, or None."""
    rows = source.execute(
        "select c.relname, c.oid, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = any(%s) and c.relkind in ('r', 'p', 'v', 'm', 'f')",
        (schema, list(candidates)),
    ).fetchall()
    found = {name: (name, int(oid), kind) for name, oid, kind in rows}
    return next((found[name] for name in candidates if name in found), None)


def read_relation(source: psycopg.Connection, schema: str, candidates: tuple[str, ...]) -> Relation | None:
    """Read a table's columns, key and identity; None when the source has none of the candidates.

    User-defined types (enums, domains, composites, extensions' types) become text in the warehouse, which has
    no such types.
    Raises ExtractError when the login may not read the table, or when a column has a name that Revops needs itself.
    """
    found = find_relation(source, schema, candidates)
    if found is None:
        return None
    name, oid, kind = found
    if source.execute("select has_table_privilege(%s::oid, 'select')", (oid,)).fetchone() != (True,):
        raise ExtractError(
            f"the login may not read {schema}.{name}. Remedy: on the source, "
            f'GRANT SELECT ON {schema}."{name}" to the login of this connection.'
        )
    columns: list[Column] = []
    key: dict[int, str] = {}
    for column, declared, is_builtin, is_array, key_position in source.execute(_COLUMNS, (oid,)).fetchall():
        if column in METADATA_COLUMNS:
            raise ExtractError(
                f"{schema}.{name} has a column {column!r}, a name that Revops uses itself. "
                "Remedy: put the column into exclude_columns of the table."
            )
        columns.append(Column(column, declared if is_builtin else ("text[]" if is_array else "text")))
        if key_position:
            key[key_position] = column
    identity = f"{_server_identity(source)}/{oid}"
    return Relation(schema, name, kind, tuple(columns), tuple(key[position] for position in sorted(key)), identity)


def _server_identity(source: psycopg.Connection) -> str:
    row = source.execute(
        "select (select system_identifier from pg_control_system())::text, d.oid::text "
        "from pg_database d where d.datname = current_database()"
    ).fetchone()
    if row is None:
        raise ExtractError("the source does not tell which database it is")
    return "/".join(row)
