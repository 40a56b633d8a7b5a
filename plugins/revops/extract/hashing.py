"""Hashes of rows and keys that come out the same on both servers, so that sets can be compared without moving them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import Column, Relation, without_modifier
from revops.extract.raw_table import RawTable

INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})
# The functions take a seed from version 11 on.
_SEEDED_SINCE = 110000
# Before version 12 floats print all their digits, later the fewest that tell them apart.
_SHORT_FLOATS_SINCE = 120000
_FLOATS = frozenset({"real", "double precision"})
_PROBE = (
    "select hashint8extended(9007199254740993, 7), hashtextextended('Zürich €', 7), "
    "hash_numeric_extended(12.50, 7), hash_array_extended(array[-1, null]::bigint[], 7), "
    "uuid_hash_extended('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 7)"
)


@dataclass(frozen=True)
class Side:
    """Expressions over the rows of one server.

    table: what stands after FROM. key: a bigint for the row's key (for the whole row where there is no key). columns: a
    bigint for each column that can be compared, by name; null for null. gone: the condition for rows that do not
    count, None where all do.
    """

    table: sql.Composed
    key: sql.Composed
    columns: tuple[tuple[str, sql.Composed], ...]
    gone: sql.SQL | None = None

    @property
    def hashes(self) -> sql.Composed:
        """An array of the columns' hashes."""
        return sql.SQL("array[{}]::bigint[]").format(sql.SQL(", ").join(value for _, value in self.columns))

    @property
    def row(self) -> sql.Composed:
        """A bigint for all columns that can be compared."""
        return sql.SQL("hash_array_extended({}, 0)").format(self.hashes)


@dataclass(frozen=True)
class Hashing:
    """The same hashes, as each side computes them."""

    source: Side
    warehouse: Side

    def covers(self, relation: Relation) -> bool:
        """Tell whether a change of any column shows in these hashes: encrypted columns and some floats have none."""
        return [name for name, _ in self.source.columns] == [column.name for column in relation.columns]


def plan_hashing(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    relation: Relation,
    raw: RawTable,
    *,
    is_first: bool = False,
) -> Hashing | None:
    """Return how both servers hash the table's rows alike; None when they do not: then keys have to be moved.

    is_first: no row of raw can be marked deleted, and no index would tell so at once. The servers are asked, not
    trusted: encodings, versions and processors may differ.
    """
    if not _agree(source, warehouse):
        return None
    comparable = [column for column in relation.plain if _is_comparable(source, column)]
    if not relation.key and comparable != list(relation.plain):
        return None
    return Hashing(
        Side(
            relation.from_clause,
            _key(relation, raw, in_source=True),
            tuple((column.name, _hash(stored_text(column, raw.types[column.name]))) for column in comparable),
        ),
        Side(
            sql.Composed([raw.identifier]),
            _key(relation, raw, in_source=False),
            tuple((column.name, _hash(as_text(column.name))) for column in comparable),
            gone=None if is_first else sql.SQL("_deleted_at is not null"),
        ),
    )


def _agree(source: psycopg.Connection, warehouse: psycopg.Connection) -> bool:
    for connection in (source, warehouse):
        if connection.info.server_version < _SEEDED_SINCE:
            return False
        if connection.info.parameter_status("server_encoding") != "UTF8":
            return False
    return source.execute(_PROBE).fetchone() == warehouse.execute(_PROBE).fetchone()


def _is_comparable(source: psycopg.Connection, column: Column) -> bool:
    is_float = without_modifier(column.source_type).removesuffix("[]") in _FLOATS
    return source.info.server_version >= _SHORT_FLOATS_SINCE or not is_float


def _key(relation: Relation, raw: RawTable, *, in_source: bool) -> sql.Composed:
    by_name = {column.name: column for column in relation.columns}
    if not relation.key:
        texts = [
            stored_text(column, raw.types[column.name]) if in_source else as_text(column.name)
            for column in relation.plain
        ]
        return _hash(sql.SQL("row({})::text").format(sql.SQL(", ").join(texts)))
    # Each part's hash is the next one's seed, so that (1, 2) and (2, 1) differ.
    seed: sql.Composable = sql.SQL("0")
    for name in relation.key:
        seed = _key_part(by_name[name], raw.types[name], seed, in_source=in_source)
    return sql.Composed([seed])


def _key_part(column: Column, raw_type: str, seed: sql.Composable, *, in_source: bool) -> sql.Composed:
    name = sql.Identifier(column.name)
    types = {without_modifier(column.source_type), without_modifier(raw_type)}
    if types <= INTEGERS:
        return sql.SQL("hashint8extended({}::bigint, {})").format(name, seed)
    if types <= INTEGERS | {"numeric"}:
        return sql.SQL("hash_numeric_extended({}::numeric, {})").format(name, seed)
    if types == {"uuid"}:
        return sql.SQL("uuid_hash_extended({}, {})").format(name, seed)
    return _hash(stored_text(column, raw_type) if in_source else as_text(column.name), seed)


def _hash(text: sql.Composable, seed: sql.Composable | None = None) -> sql.Composed:
    return sql.SQL('hashtextextended({} collate "C", {})').format(text, seed or sql.SQL("0"))


def as_text(name: str) -> sql.Composed:
    """Return the text of a value of raw."""
    return sql.SQL("{}::text").format(sql.Identifier(name))


def stored_text(column: Column, raw_type: str) -> sql.Composed:
    """Return what the source must compute to get the text of the value that raw holds."""
    name = sql.Identifier(column.name)
    bare, raw_bare = without_modifier(column.source_type), without_modifier(raw_type)
    if raw_bare == "text" and bare not in _TEXTS:
        # COPY writes what the type's output function says; a cast to text may say something else, as of boolean. And a
        # record of nulls is neither null nor `not null`.
        return sql.SQL("(case when {0} is distinct from null then concat({0}) end)").format(name)
    if bare == "date" and raw_bare.startswith("timestamp"):
        return sql.SQL("{}::timestamp::text").format(name)
    return sql.SQL("{}::text").format(name)


def key_text(names: Sequence[str], *, prefix: sql.Composable | None = None) -> sql.Composed:
    """Return the text of a key for people: `12`, or `12, 7` of more than one column."""
    qualified = [(prefix or sql.SQL("")) + sql.Identifier(name) for name in names]
    return sql.SQL("concat_ws(', ', {})").format(sql.SQL(", ").join(qualified))
