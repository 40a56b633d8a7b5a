"""Bring rows into a raw table: fill it, or stage, insert, update only where something differs, revive."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import Relation
from revops.extract.encryption import RowEncryptor
from revops.extract.errors import ExtractError
from revops.extract.formats import agreed_format
from revops.extract.raw_table import RawTable
from revops.extract.stream import Format, Progress, Rewrite, Streamed, stream_rows
from revops.keyring import Keyring
from revops.rotation.renewal import is_old, renew

STAGING = sql.Identifier("pg_temp", "staging")


@dataclass(frozen=True)
class Merged:
    """Rows by what became of them; read = inserted + updated + unchanged. A revived row counts as updated."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    bytes: int = 0

    def __add__(self, other: Merged) -> Merged:
        return Merged(
            self.read + other.read,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True)
class Pipe:
    """Everything that moving rows of one table needs: both sessions, the shape of the rows, keys, and who is told."""

    source: psycopg.Connection
    warehouse: psycopg.Connection
    relation: Relation
    raw: RawTable
    load_id: int
    keyring: Keyring | None = None
    has_old_tokens: bool = False
    progress: Progress | None = None

    @property
    def form(self) -> Format:
        return agreed_format(self.relation, self.raw.types)

    def rewrite(self) -> Rewrite | None:
        """Return what encrypts the rows of one stream, or None where nothing is sensitive."""
        if not self.relation.sensitive:
            return None
        if self.keyring is None:
            raise ExtractError(f"raw.{self.raw.name}: sensitive columns can't be read without keys")
        kinds = self.relation.sensitive
        return RowEncryptor(self.keyring, self.raw.name, list(kinds), form=self.form, domains=kinds)

    def renew_tokens(self, condition: sql.Composable) -> None:
        """Bring the tokens of those of raw's rows `t` that a condition names to the key that writes. Does not commit.

        What is read has tokens of that key: only then rows whose values are the same are the same, byte by byte.
        """
        if not self.has_old_tokens or self.keyring is None:
            return
        # Of columns that drift has just made there is nothing to renew, but they are there.
        columns = {name: kind for name, kind in self.relation.sensitive.items() if name in self.raw.types}
        renew(
            self.warehouse,
            self.keyring,
            table=self.raw.name,
            key=token_key(self.relation.key),
            columns=columns,
            condition=is_old(columns, self.keyring) + sql.SQL(" and ") + condition,
        )


def fill_table(
    pipe: Pipe, target: sql.Identifier, *, condition: sql.Composable | None = None, freeze: bool
) -> Streamed:
    """Copy rows straight into an empty table, or one that has none of them. Does not commit.

    freeze: the table was made in this transaction, so that its rows need not be visited again to be settled.
    """
    query = read_query(pipe.relation, condition=condition, load_id=pipe.load_id)
    columns = sql.SQL(", ").join([_stored(pipe.relation), sql.SQL("_load_id")])
    return _stream(pipe, query, sql.SQL("{} ({})").format(target, columns), freeze=freeze)


def stage_rows(pipe: Pipe, *, condition: sql.Composable | None) -> Streamed:
    """Copy the rows that a condition names, or all, into a temporary table of raw's types. Does not commit."""
    stored = _stored(pipe.relation)
    pipe.warehouse.execute(sql.SQL("drop table if exists {}").format(STAGING))
    pipe.warehouse.execute(
        sql.SQL("create temp table staging on commit drop as select {} from {} with no data").format(
            stored, pipe.raw.identifier
        )
    )
    query = read_query(pipe.relation, condition=condition)
    return _stream(pipe, query, sql.SQL("{} ({})").format(STAGING, stored))


def merge_staged(pipe: Pipe, staged: Streamed) -> Merged:
    """Merge the staged rows into raw by primary key. Does not commit.

    Rows that are the same, byte for byte, are not written: a second reading of the same rows changes nothing. A row
    that was marked deleted and is there again is revived.
    """
    relation = pipe.relation
    pipe.renew_tokens(_is_staged(relation.key))
    names = [column.name for column in relation.columns]
    dropped = [name for name in pipe.raw.types if name not in names]
    assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names]
    assignments += [sql.SQL("{} = null").format(sql.Identifier(name)) for name in dropped]
    # The operators of record images (record_image_ne) compare bytes: 1.0 differs from 1.00, and types without any
    # equality, such as json and point, can be compared.
    statement = sql.SQL(
        "with merged as ("
        " insert into {raw} as t ({names}, _loaded_at, _load_id) select {names}, now(), {load_id} from {staging}"
        " on conflict ({key}) do update set {assignments}, _loaded_at = now(), _load_id = {load_id}, _deleted_at = null"
        " where t._deleted_at is not null or record_image_ne(row({stored}), row({incoming}))"
        " returning xmax = 0 as is_new)"
        " select count(*) filter (where is_new), count(*) filter (where not is_new) from merged"
    ).format(
        raw=pipe.raw.identifier,
        names=_stored(relation),
        load_id=sql.Literal(pipe.load_id),
        staging=STAGING,
        key=sql.SQL(", ").join(map(sql.Identifier, relation.key)),
        assignments=sql.SQL(", ").join(assignments),
        stored=_qualified("t", names),
        incoming=_qualified("excluded", names),
    )
    row = pipe.warehouse.execute(statement).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    inserted, updated = int(row[0]), int(row[1])
    return Merged(staged.rows, inserted, updated, staged.rows - inserted - updated, staged.bytes)


def merge_staged_without_key(pipe: Pipe, staged: Streamed) -> Merged:
    """Match the staged rows, which are all rows of the source, with raw by their whole content. Does not commit.

    The table has no key: rows are told apart by a hash of their text, equal ones by counting them. What raw has and
    the source has not is left to `mark_unmatched`.
    """
    pipe.renew_tokens(sql.SQL("true"))
    names = [column.name for column in pipe.relation.columns]
    pipe.warehouse.execute(
        sql.SQL(
            "create temp table pairing on commit drop as"
            " select incoming, stored, is_deleted from ({incoming}) as i full join ({stored}) as s"
            " using (hash_1, hash_2, ordinal)"
        ).format(
            incoming=_numbered(
                names, STAGING, kept=sql.SQL("ctid as incoming"), order=sql.SQL("ctid"), extra=sql.SQL("")
            ),
            stored=_numbered(
                names,
                pipe.raw.identifier,
                kept=sql.SQL("ctid as stored, is_deleted"),
                order=sql.SQL("is_deleted, ctid"),
                extra=sql.SQL(", _deleted_at is not null as is_deleted"),
            ),
        )
    )
    revived = pipe.warehouse.execute(
        sql.SQL(
            "update {} as t set _deleted_at = null, _loaded_at = now(), _load_id = {} from pairing as p"
            " where p.stored = t.ctid and p.is_deleted and p.incoming is not null"
        ).format(pipe.raw.identifier, sql.Literal(pipe.load_id))
    ).rowcount
    inserted = pipe.warehouse.execute(
        sql.SQL(
            "insert into {} ({}, _load_id) select {}, {} from {} as s"
            " where s.ctid in (select incoming from pairing where stored is null)"
        ).format(
            pipe.raw.identifier,
            _stored(pipe.relation),
            _stored(pipe.relation),
            sql.Literal(pipe.load_id),
            STAGING,
        )
    ).rowcount
    return Merged(staged.rows, inserted, revived, staged.rows - inserted - revived, staged.bytes)


def mark_unmatched(pipe: Pipe) -> int:
    """Mark the rows of raw that `merge_staged_without_key` found no match for; return how many. Does not commit."""
    return pipe.warehouse.execute(
        sql.SQL(
            "update {} as t set _deleted_at = now(), _loaded_at = now(), _load_id = {} from pairing as p"
            " where p.stored = t.ctid and not p.is_deleted and p.incoming is null"
        ).format(pipe.raw.identifier, sql.Literal(pipe.load_id))
    ).rowcount


def read_query(
    relation: Relation, *, condition: sql.Composable | None = None, load_id: int | None = None
) -> sql.Composed:
    """Return the select that the stream is made of, in the order that encryption and `_stored` expect."""
    fields: list[sql.Composable] = []
    if relation.sensitive:
        fields.append(token_key(relation.key))
        fields += [sql.SQL("{}::text").format(sql.Identifier(name)) for name in relation.sensitive]
    fields += [sql.Identifier(column.name) for column in relation.plain]
    if load_id is not None:
        fields.append(sql.SQL("{}::bigint").format(sql.Literal(load_id)))
    query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(fields), relation.from_clause)
    return query if condition is None else query + sql.SQL(" where ") + condition


def token_key(key: tuple[str, ...]) -> sql.Composed:
    """Return the text that binds a token to its row: the key's, a composite one in the form of a record.

    Whoever decrypts a token from raw computes the same text, in a session that has agreed on text.
    """
    if not key:
        return sql.Composed([sql.SQL("''::text")])
    if len(key) == 1:
        return sql.SQL("{}::text").format(sql.Identifier(key[0]))
    parts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key)
    return sql.SQL("row({})::text").format(parts)


def _is_staged(key: tuple[str, ...]) -> sql.Composed:
    same = sql.SQL(" and ").join(sql.SQL("s.{0} = t.{0}").format(sql.Identifier(name)) for name in key)
    return sql.SQL("exists (select from {} as s where {})").format(STAGING, same)


def _stored(relation: Relation) -> sql.Composed:
    secret = [column for column in relation.columns if column.role != "plain"]
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in (*secret, *relation.plain))


def _stream(pipe: Pipe, query: sql.Composed, target: sql.Composed, *, freeze: bool = False) -> Streamed:
    return stream_rows(
        pipe.source,
        query,
        pipe.warehouse,
        target,
        form=pipe.form,
        freeze=freeze,
        rewrite=pipe.rewrite(),
        progress=pipe.progress,
    )


def _numbered(
    names: list[str], table: sql.Identifier, *, kept: sql.SQL, order: sql.SQL, extra: sql.SQL
) -> sql.Composed:
    # Offset 0 keeps the planner from computing the text twice.
    return sql.SQL(
        "select {kept}, hash_1, hash_2, row_number() over (partition by hash_1, hash_2 order by {order}) as ordinal"
        " from (select *, hashtextextended(content, 0) as hash_1, hashtextextended(content, 1) as hash_2"
        " from (select ctid{extra}, row({names})::text as content from {table} offset 0) as c) as h"
    ).format(
        kept=kept,
        order=order,
        extra=extra,
        names=sql.SQL(", ").join(map(sql.Identifier, names)),
        table=table,
    )


def _qualified(table: str, names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier(table), sql.Identifier(name)) for name in names)
