"""Bring rows into a raw table: insert, update only where something differs, revive, mark as deleted."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import ExtractError, Relation
from revops.extract.drift import read_raw_columns
from revops.extract.stream import Streamed, stream_rows
from revops.extract.window import Window

STAGING = sql.Identifier("pg_temp", "staging")
KEYS = sql.Identifier("pg_temp", "source_keys")
_INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True)
class Merged:
    """Rows by what became of them; read = inserted + updated + unchanged."""

    read: int
    inserted: int
    updated: int
    unchanged: int
    bytes: int


def merge_rows(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    table: str,
    *,
    relation: Relation,
    window: Window,
    load_id: int,
) -> Merged:
    """Read the window's rows and merge them into `raw.<table>`. Does not commit.

    An empty table is filled directly. A table without a key is replaced as a whole. Rows that are equal are
    not written, so that a second reading of the same rows changes nothing.
    """
    target = sql.Identifier("raw", table)
    is_empty = warehouse.execute(sql.SQL("select not exists (select from {})").format(target)).fetchone() == (True,)
    if not relation.key:
        if not is_empty:
            warehouse.execute(sql.SQL("delete from {}").format(target))
        is_empty = True
    if is_empty:
        moved = _fill(source, warehouse, target, relation=relation, load_id=load_id)
        return Merged(moved.rows, moved.rows, 0, 0, moved.bytes)
    moved = _stage(source, warehouse, target, relation=relation, window=window)
    inserted, updated = _upsert(warehouse, table, relation=relation, load_id=load_id)
    return Merged(moved.rows, inserted, updated, moved.rows - inserted - updated, moved.bytes)


def mark_deleted(
    source: psycopg.Connection, warehouse: psycopg.Connection, table: str, *, relation: Relation, load_id: int
) -> tuple[int, int]:
    """Mark rows whose keys the source no longer has; return (marked, source rows); commits nothing.

    Raises ExtractError when, afterwards, raw and source disagree about the number of rows: then the load is
    not complete.
    """
    target = sql.Identifier("raw", table)
    types = {column.name: column.type for column in relation.columns}
    raw_types = read_raw_columns(warehouse, table)
    key = relation.key[0] if len(relation.key) == 1 else None
    if key is None or types[key] not in _INTEGERS or raw_types[key] not in _INTEGERS:
        key = None
    wanted = _digest(source, relation.from_clause, key)
    live = sql.SQL("{} where _deleted_at is null").format(target)
    marked = 0
    # A digest of integer keys tells that the keys are the same; other keys are always compared one by one.
    if relation.key and (wanted.keys is None or _digest(warehouse, live, key) != wanted):
        marked = _mark_missing(source, warehouse, target, relation=relation, load_id=load_id)
    found = _digest(warehouse, live, key)
    if found != wanted:
        raise ExtractError(
            f"raw.{table} holds {found.rows} rows, the source {wanted.rows} in this snapshot, or the keys differ: "
            "the load is incomplete and was rolled back. "
            "Remedy: run the DAG with full_refresh, which reads every row again."
        )
    return marked, wanted.rows


@dataclass(frozen=True)
class _Digest:
    """Rows, and the sum of their keys where the key is one integer."""

    rows: int
    keys: int | None


def _digest(connection: psycopg.Connection, rows: sql.Composable, key: str | None) -> _Digest:
    summed: sql.Composable = sql.SQL("null::numeric")
    if key is not None:
        summed = sql.SQL("coalesce(sum({}), 0)::numeric").format(sql.Identifier(key))
    row = connection.execute(sql.SQL("select count(*), {} from {}").format(summed, rows)).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return _Digest(int(row[0]), None if row[1] is None else int(row[1]))


def _fill(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    target: sql.Identifier,
    *,
    relation: Relation,
    load_id: int,
) -> Streamed:
    names = _names(relation)
    query = sql.SQL("select {}, {}::bigint from {}").format(names, sql.Literal(load_id), relation.from_clause)
    return stream_rows(source, query, warehouse, sql.SQL("{} ({}, _load_id)").format(target, names))


def _stage(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    target: sql.Identifier,
    *,
    relation: Relation,
    window: Window,
) -> Streamed:
    names = _names(relation)
    warehouse.execute(
        sql.SQL("create temp table staging on commit drop as select {} from {} with no data").format(names, target)
    )
    query = sql.SQL("select {} from {}").format(names, relation.from_clause)
    if window.condition is not None:
        query += sql.SQL(" where ") + window.condition
    return stream_rows(source, query, warehouse, sql.SQL("{} ({})").format(STAGING, names))


def _upsert(warehouse: psycopg.Connection, table: str, *, relation: Relation, load_id: int) -> tuple[int, int]:
    names = _names(relation)
    present = {column.name for column in relation.columns}
    dropped = [name for name in read_raw_columns(warehouse, table) if name not in present]
    data = [column for column in relation.columns if column.name not in relation.key]
    assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column.name)) for column in data]
    assignments += [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in ("_loaded_at", "_load_id")]
    assignments += [sql.SQL("{} = null").format(sql.Identifier(name)) for name in dropped]
    differences = [
        sql.SQL("t.{0}{1} is distinct from excluded.{0}{1}").format(
            sql.Identifier(column.name), sql.SQL("" if column.has_exact_equality else "::text")
        )
        for column in data
    ]
    statement = sql.SQL(
        "with merged as ("
        " insert into {target} as t ({names}, _loaded_at, _load_id) select {names}, now(), {load_id} from {staging}"
        " on conflict ({key}) do update set {assignments}, _deleted_at = null"
        " where t._deleted_at is not null or {differences}"
        " returning xmax = 0 as is_new)"
        " select count(*) filter (where is_new), count(*) filter (where not is_new) from merged"
    ).format(
        target=sql.Identifier("raw", table),
        names=names,
        load_id=sql.Literal(load_id),
        staging=STAGING,
        key=sql.SQL(", ").join(map(sql.Identifier, relation.key)),
        assignments=sql.SQL(", ").join(assignments),
        differences=sql.SQL(" or ").join(differences) if differences else sql.SQL("false"),
    )
    row = warehouse.execute(statement).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return int(row[0]), int(row[1])


def _mark_missing(
    source: psycopg.Connection,
    warehouse: psycopg.Connection,
    target: sql.Identifier,
    *,
    relation: Relation,
    load_id: int,
) -> int:
    key = sql.SQL(", ").join(map(sql.Identifier, relation.key))
    warehouse.execute(
        sql.SQL("create temp table source_keys on commit drop as select {} from {} with no data").format(key, target)
    )
    stream_rows(
        source,
        sql.SQL("select {} from {}").format(key, relation.from_clause),
        warehouse,
        sql.SQL("{} ({})").format(KEYS, key),
    )
    warehouse.execute(sql.SQL("analyze {}").format(KEYS))
    same = sql.SQL(" and ").join(sql.SQL("k.{0} = t.{0}").format(sql.Identifier(name)) for name in relation.key)
    return warehouse.execute(
        sql.SQL(
            "update {target} as t set _deleted_at = now(), _loaded_at = now(), _load_id = {load_id}"
            " where t._deleted_at is null and not exists (select from {keys} as k where {same})"
        ).format(target=target, load_id=sql.Literal(load_id), keys=KEYS, same=same)
    ).rowcount


def _names(relation: Relation) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in relation.columns)
