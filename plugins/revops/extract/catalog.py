"""What a source table looks like, read from its catalogue in the snapshot of its data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, LiteralString

import psycopg
from psycopg import errors, sql

from revops.extract.errors import ExtractError, TableChangedError

METADATA_COLUMNS = ("_loaded_at", "_load_id", "_deleted_at")

# A domain counts as the type below it. Types that name objects (regclass, aclitem) mean something on one server only,
# so they are not taken for built-in ones. indkey counts from 0, so positions start at 1 here and 0 means: not part of
# the key.
_COLUMNS: LiteralString = """
    with recursive bare as (
        select attnum, attname, atttypid as type_id, atttypmod as modifier, attrelid
        from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped
        union all
        select b.attnum, b.attname, t.typbasetype, t.typtypmod, b.attrelid
        from bare b join pg_type t on t.oid = b.type_id where t.typtype = 'd'
    )
    select b.attname,
           format_type(b.type_id, b.modifier),
           coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::regnamespace
               and coalesce(e.typtype, t.typtype) in ('b', 'r', 'm')
               and coalesce(e.typname, t.typname) !~ '^(reg|aclitem$)',
           t.typcategory = 'A',
           coalesce(array_position(i.indkey::int2[], b.attnum) + 1, 0)
    from bare b
    join pg_type t on t.oid = b.type_id and t.typtype <> 'd'
    left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    left join pg_index i on i.indrelid = b.attrelid and i.indisprimary
    order by b.attnum
"""

# All that decides how a row reads although no row is written when it changes: numbers, names and types of columns
# (dropping one and adding another of its name, or exchanging two names, shows in the numbers only), expressions of
# generated columns, labels and attributes of the types below them at any depth, and partitions, which bring rows with
# old transaction ids. attgenerated is there from version 12 on.
_SHAPE: LiteralString = """
    with recursive columns as (
        select attnum, attname, atttypid, atttypmod, to_jsonb(a) ->> 'attgenerated' as generated
        from pg_attribute a where attrelid = %(oid)s and attnum > 0 and not attisdropped
    ),
    used as (
        select atttypid as oid from columns
        union
        select part.oid
        from used u
        join pg_type t on t.oid = u.oid
        cross join lateral (
            select t.typelem
            union all select t.typbasetype
            union all select rngsubtype from pg_range where rngtypid = t.oid
            union all select atttypid from pg_attribute where attrelid = t.typrelid and attnum > 0 and not attisdropped
        ) as part (oid)
        where part.oid <> 0
    )
    select md5(concat_ws('/',
        (select string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod,
                (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d
                 where d.adrelid = %(oid)s and d.adnum = c.attnum and c.generated <> '')), ',' order by attnum)
         from columns c),
        (select string_agg(concat_ws(' ', e.enumtypid, e.oid, e.enumlabel), ',' order by e.oid)
         from pg_enum e join used u on u.oid = e.enumtypid),
        (select string_agg(concat_ws(' ', a.attrelid, a.attnum, a.atttypid, a.atttypmod), ',' order by attrelid, attnum)
         from pg_attribute a join pg_type t on t.typrelid = a.attrelid join used u on u.oid = t.oid
         where a.attnum > 0 and not a.attisdropped and t.typrelid <> 0),
        (select string_agg(relid::oid::text, ',' order by relid::oid) from pg_partition_tree(%(oid)s::oid))
    ))
"""


@dataclass(frozen=True)
class Column:
    """One column of a raw table and where it comes from.

    type: the one that it needs in the warehouse. source_type: the one that it has in the source, as format_type()
    writes it, a domain as the type below it. role: `plain`, or for a sensitive column its `token` and
    its `blind_index`. kind: what a sensitive column holds; blind indexes of one kind can be compared.
    """

    name: str
    type: str
    source_type: str
    role: Literal["plain", "token", "blind_index"] = "plain"
    kind: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table of a source: columns in their order, primary key in key order (empty when there is none).

    identity: server, database, table, its partitions, and its columns with all that makes their text, as the catalogue
    has them. A restored, re-created or altered table has another one, and then rows may have changed without a new
    transaction id.
    rows and pages: what the planner believes there to be; 0 when it does not know.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    identity: str
    rows: int
    pages: int

    @property
    def has_transaction_ids(self) -> bool:
        return self.kind in ("r", "p")

    @property
    def plain(self) -> tuple[Column, ...]:
        """The columns that are stored as they come."""
        return tuple(column for column in self.columns if column.role == "plain")

    @property
    def sensitive(self) -> dict[str, str]:
        """The columns that are encrypted on the way, in their order, with the kind of each."""
        return {column.name: column.kind or column.name for column in self.columns if column.role == "token"}

    @property
    def from_clause(self) -> sql.Composed:
        """The table for a FROM clause, without the rows of tables that inherit from it."""
        only = sql.SQL("only ") if self.kind == "r" else sql.SQL("")
        return only + sql.Identifier(self.schema, self.name)


def without_modifier(declared: str) -> str:
    """Return a type without length, scale or precision: `timestamp(0) without time zone` has it in the middle."""
    return re.sub(r"\(.*?\)", "", declared)


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
    Raises ExtractError when the login may not read the table, TableChangedError when the snapshot is too old for it.
    """
    found = find_relation(source, schema, candidates)
    if found is None:
        return None
    name, oid, kind = found
    may_read = source.execute("select has_table_privilege(%s::oid, 'select')", (oid,)).fetchone()
    if may_read == (None,):
        raise _changed(schema, name)
    if may_read != (True,):
        raise ExtractError(
            f"the login may not read {schema}.{name}. Remedy: on the source, "
            f'GRANT SELECT ON {schema}."{name}" to the login of this connection.'
        )
    columns: list[Column] = []
    key: dict[int, str] = {}
    for column, declared, is_builtin, is_array, key_position in source.execute(_COLUMNS, (oid,)).fetchall():
        stored = declared if is_builtin else ("text[]" if is_array else "text")
        columns.append(Column(column, stored, declared))
        if key_position:
            key[key_position] = column
    key_columns = tuple(key[position] for position in sorted(key))
    rows, pages = _size(source, oid)
    relation = Relation(
        oid, schema, name, kind, tuple(columns), key_columns, _identity(source, oid), rows=rows, pages=pages
    )
    require_unchanged(source, relation)
    return relation


def require_unchanged(source: psycopg.Connection, relation: Relation) -> None:
    """Lock the table against changes and see that none came between the snapshot and the lock.

    To a snapshot from before it, a table that ALTER TABLE rewrote or TRUNCATE emptied looks empty: all its rows
    would count as deleted. The snapshot's catalogue then names another file than the table has now. Columns that were
    exchanged, added or given another type without a rewrite show in what a query of this moment returns.
    Raises TableChangedError.
    """
    try:
        if relation.has_transaction_ids:
            source.execute(sql.SQL("lock table {} in access share mode").format(relation.from_clause))
        row = source.execute(
            "select bool_and(coalesce(c.relfilenode = coalesce(pg_relation_filenode(p.oid), 0), false)) "
            "from (select %s::oid as oid union select relid::oid from pg_partition_tree(%s::oid)) as p "
            "left join pg_class c on c.oid = p.oid",
            (relation.oid, relation.oid),
        ).fetchone()
        if row == (True,):
            row = (_seen_columns(source, relation) == _present_columns(source, relation),)
    except (errors.UndefinedTable, errors.UndefinedColumn):
        row = (False,)
    if row != (True,):
        raise _changed(relation.schema, relation.name)


def _seen_columns(source: psycopg.Connection, relation: Relation) -> list[tuple[int, str, int | None]]:
    """Return number, name and type of the columns in the snapshot's catalogue; of a domain, which has none in a
    result, no type."""
    rows = source.execute(
        "select a.attnum, a.attname, case when t.typtype <> 'd' then a.atttypid end from pg_attribute a "
        "join pg_type t on t.oid = a.atttypid where a.attrelid = %s and a.attnum > 0 and not a.attisdropped "
        "order by a.attnum",
        (relation.oid,),
    ).fetchall()
    return [(int(number), str(name), None if type_id is None else int(type_id)) for number, name, type_id in rows]


def _present_columns(source: psycopg.Connection, relation: Relation) -> list[tuple[int, str, int | None]]:
    """Return the same of the table as it is now: parsing a query reads the present catalogue."""
    seen = {number: type_id for number, _, type_id in _seen_columns(source, relation)}
    result = source.execute(sql.SQL("select * from {} limit 0").format(relation.from_clause)).pgresult
    if result is None:
        raise AssertionError("a select returns a result")
    columns: list[tuple[int, str, int | None]] = []
    for index in range(result.nfields):
        number = result.ftablecol(index)
        type_id = None if seen.get(number, 0) is None else result.ftype(index)
        columns.append((number, (result.fname(index) or b"").decode(), type_id))
    return columns


def _changed(schema: str, name: str) -> TableChangedError:
    return TableChangedError(
        f"{schema}.{name} was altered or emptied after the snapshot was taken. "
        "Remedy: none needed, the task tries again with a new one."
    )


def _size(source: psycopg.Connection, oid: int) -> tuple[int, int]:
    # The sum over partitions; pages from the file itself, which the planner's figures lag behind.
    row = source.execute(
        "select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, "
        "coalesce(sum(pg_relation_size(c.oid)), 0)::bigint / current_setting('block_size')::bigint "
        "from (select %s::oid as oid union select relid::oid from pg_partition_tree(%s::oid)) as p "
        "join pg_class c on c.oid = p.oid and c.relkind in ('r', 'm')",
        (oid, oid),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _identity(source: psycopg.Connection, oid: int) -> str:
    row = source.execute(_SHAPE, {"oid": oid}).fetchone()
    return f"{_server_identity(source)}/{oid}/{row[0] if row else ''}"


def _server_identity(source: psycopg.Connection) -> str:
    row = source.execute(
        "select (select system_identifier from pg_control_system())::text, d.oid::text "
        "from pg_database d where d.datname = current_database()"
    ).fetchone()
    if row is None:
        raise ExtractError("the source does not tell which database it is")
    return "/".join(row)
