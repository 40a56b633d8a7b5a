"""Edges against PostgreSQL: what it says that a statement reads, and what changes when a column does."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from revops.lineage.edges import Edge, read_edges
from tests.lineage_statements import CASES, INPUTS, RELATIONS

pytestmark = pytest.mark.db

TABLES = {
    "odoo_t": "id int, a text, b text, n int, j jsonb, arr text[], at timestamptz, flag boolean, u_id int",
    "odoo_u": "id int, x text, y int, t_id int",
    "odoo_v": "id int, x text, k text",
    "core.thing": "source_system text, source_id text, name text",
}
FUNCTIONS = """
    create function pairs(lefts text[], rights text[]) returns table (node text, root text)
    language sql immutable as 'select l, r from unnest(lefts, rights) as e (l, r) where l is not null'
"""
# The values of a text column tell where they are from: its letter and a number.
TOKEN = re.compile(r"\b([a-z])\d")
LETTERS = {"a": "t.a t.j", "b": "t.b", "p": "t.arr", "x": "u.x v.x", "k": "v.k", "s": "t.j", "m": "thing.name"}
CHANGES = 3


def value(column: str, number: int, chance: random.Random) -> Any:
    """A value of a column: few different ones, so that rows meet in joins and groups."""
    few = chance.randint(1, 5)
    made: dict[str, Any] = {
        "id": number,
        "j": f'{{"p": "s{few}", "q": {{"r": {few}}}, "a{few}": 1, "l": [{few}], "r": {{"s": "s{few}"}}}}',
        "arr": [f"p{few}", f"p{few + 1}"],
        "at": f"2026-0{few}-01 00:00:00+00",
        "flag": few > 2,
        "name": f"m{few}",
        "source_system": chance.choice(["odoo", "ace"]),
        "source_id": chance.choice([str(few), f"a{few}"]),
        "_load_id": few,
        "_deleted_at": f"2026-0{few}-01 00:00:00+00" if few > 2 else None,
        "u_id": few if few < 4 else None,
        **dict.fromkeys(("n", "y", "t_id"), few),
    }
    return made.get(column, f"{column}{few}")


def columns_of(table: str) -> list[str]:
    return [*INPUTS[table], *(() if "." in table else ("_load_id", "_deleted_at"))]


def edges_of(name: str) -> tuple[Edge, ...]:
    return read_edges(CASES[name].statement, target="core.made", inputs=INPUTS, name=name)


@pytest.fixture(scope="module")
def database(postgres: Any, passwords: dict[str, str]) -> Iterator[psycopg.Connection]:
    """A database with the tables that the statements read; nothing in it is ever committed but the tables."""
    name = "lineage_edges"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as server:
        server.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        server.execute(sql.SQL("create database {} owner odoo template template0").format(sql.Identifier(name)))
        with psycopg.connect(postgres.conninfo(name, user="odoo", password=passwords["odoo"])) as connection:
            connection.execute("create schema core")
            for table, columns in TABLES.items():
                metadata = "" if "." in table else ", _load_id bigint, _deleted_at timestamptz"
                connection.execute(f"create table {table} ({columns}{metadata})")
            connection.execute("create table scoped_odoo_t (like odoo_t)")
            connection.execute(FUNCTIONS)
            connection.commit()
            yield connection
        server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def filled(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    chance = random.Random(7)
    for table in TABLES:
        for number in range(1, 8):
            values = [value(column, number, chance) for column in columns_of(table)]
            database.execute(f"insert into {table} values ({', '.join(['%s'] * len(values))})", values)
    database.execute("insert into scoped_odoo_t select * from odoo_t")
    yield database
    database.rollback()


def bound(statement: str) -> str:
    return statement.replace("%(source)s", "'odoo'").replace("%%", "%")


def run(connection: psycopg.Connection, statement: str) -> tuple[list[str], Counter[tuple[Any, ...]]]:
    """The columns of a statement and its rows as text."""
    cursor = connection.execute(statement)
    assert cursor.description is not None
    return [column.name for column in cursor.description], Counter(tuple(map(str, row)) for row in cursor.fetchall())


@pytest.mark.parametrize("name", CASES)
def test_the_inputs_are_those_that_postgresql_finds(database: psycopg.Connection, name: str) -> None:
    """A view depends on the columns that its query names, as PostgreSQL itself reads the query."""
    shorts = {relation.removeprefix("raw."): short for short, relation in RELATIONS.items()}
    try:
        database.execute(f"create temp view made as {bound(CASES[name].statement)}")
        rows = database.execute(
            "select distinct c.relnamespace::regnamespace::text, c.relname, a.attname from pg_rewrite r "
            "join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid "
            "join pg_class c on d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid > 0 "
            "join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid "
            "where r.ev_class = 'made'::regclass and c.oid <> 'made'::regclass"
        ).fetchall()
    finally:
        database.rollback()
    read = {
        f"{shorts[(schema + '.' if schema == 'core' else '') + table.removeprefix('scoped_')]}.{column}"
        for schema, table, column in rows
    }
    known = {relation: short for short, relation in RELATIONS.items()}
    named = {f"{known[edge.input_relation]}.{edge.input_column}" for edge in edges_of(name)}
    assert {column for column in named if not column.endswith(".*")} == read - set(CASES[name].unused.split())
    assert set(CASES[name].unused.split()) <= read


def changed(before: Counter[tuple[Any, ...]], after: Counter[tuple[Any, ...]], names: list[str]) -> set[str]:
    """The output columns that differ; `*` where there are other rows. A key that is there once tells rows apart."""
    if "source_id" not in names:
        return {name for position, name in enumerate(names) if _column(before, position) != _column(after, position)}
    key = names.index("source_id")
    old, new = ({row[key]: row for row in rows if _times(rows, key, row[key]) == 1} for rows in (before, after))
    found = {
        name
        for shared in old.keys() & new.keys()
        for name, was, now in zip(names, old[shared], new[shared], strict=True)
        if was != now
    }
    return found | ({"*"} if _column(before, key) != _column(after, key) else set())


def _column(rows: Counter[tuple[Any, ...]], position: int) -> Counter[Any]:
    counted: Counter[Any] = Counter()
    for row, times in rows.items():
        counted[row[position]] += times
    return counted


def _times(rows: Counter[tuple[Any, ...]], position: int, wanted: Any) -> int:
    return sum(times for row, times in rows.items() if row[position] == wanted)


@pytest.mark.parametrize("name", CASES)
def test_only_what_has_an_edge_changes_when_a_column_does(filled: psycopg.Connection, name: str) -> None:
    case, chance = CASES[name], random.Random(11)
    statement = bound(case.statement)
    names, before = run(filled, statement)
    assert before, "a statement without rows shows nothing"
    edges = edges_of(name)
    for table in TABLES:
        relation = table if "." in table else f"raw.{table}"
        for column in columns_of(table):
            reached = {
                edge.output_column for edge in edges if (edge.input_relation, edge.input_column) == (relation, column)
            }
            for _ in range(CHANGES):
                with filled.transaction(force_rollback=True):
                    for changed_table in (table, *(["scoped_odoo_t"] if table == "odoo_t" else [])):
                        filled.execute(
                            f"update {changed_table} set {column} = (%s::text[])[1 + (random() * 4)::int]::"
                            f"{_type(filled, table, column)} where random() < 0.6",
                            ([_text(value(column, chance.randint(1, 7), chance)) for _ in range(5)],),
                        )
                    try:
                        differing = changed(before, run(filled, statement)[1], names)
                    except errors.DataError:
                        continue  # such as a query that finds two rows where one may be
                if "source_id" in reached:
                    continue  # another row may have the key now
                if "*" in reached and (case.chooses or "source_id" not in names):
                    continue  # other rows, other values
                if "*" not in reached:
                    assert "*" not in differing, f"{table}.{column} changes which rows there are"
                assert differing - {"*"} <= reached, f"{table}.{column} changes {differing - reached}"


def _type(connection: psycopg.Connection, table: str, column: str) -> str:
    row = connection.execute(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s",
        (table, column),
    ).fetchone()
    assert row is not None
    return str(row[0])


def _text(item: Any) -> Any:
    return "{" + ",".join(item) + "}" if isinstance(item, list) else None if item is None else str(item)


@pytest.mark.parametrize("name", CASES)
def test_a_value_that_comes_through_has_an_edge_of_kind_value(filled: psycopg.Connection, name: str) -> None:
    names, rows = run(filled, bound(CASES[name].statement))
    known = {relation: short for short, relation in RELATIONS.items()}
    values: dict[str, set[str]] = {}
    for edge in edges_of(name):
        if edge.kind == "value":
            values.setdefault(edge.output_column, set()).add(f"{known[edge.input_relation]}.{edge.input_column}")
    for row in rows:
        for output, text in zip(names, row, strict=True):
            for letter in TOKEN.findall(text.lower()):
                if letter in LETTERS:
                    assert values.get(output, set()) & set(LETTERS[letter].split()), f"{output} has {text!r}"
