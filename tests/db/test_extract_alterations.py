"""What changes the rows of a table without writing any: types and names altered in place, before and during loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from builders import Extract

from revops.extract.errors import TooManyDeletionsError, TryAgainError
from revops.extract.sessions import Route

pytestmark = pytest.mark.db


class Meddled(psycopg.Connection[Any]):
    """Does something in another session just before it locks a table."""

    deed: Callable[[], None] | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = query.as_string(self) if hasattr(query, "as_string") else str(query)
        if self.deed is not None and "lock table" in text:
            deed, self.deed = self.deed, None
            deed()
        return super().execute(query, params, **options)


@pytest.mark.parametrize(
    "ddl",
    [
        "alter table t rename a to x; alter table t rename b to a; alter table t rename x to b",
        "alter table t drop a; alter table t add a text default 'other'",
        "set timezone = 'UTC'; alter table t alter c type timestamptz",
        "alter table t add d integer default 7",
    ],
)
def test_altered_without_a_rewrite_between_snapshot_and_lock(extract: Extract, ddl: str) -> None:
    extract.run(
        "create table t (id int primary key, a text, b text, c timestamp); "
        "insert into t values (1, 'a', 'b', '2024-01-01')"
    )

    def connect() -> psycopg.Connection:
        connection = Meddled.connect(extract.source_dsn)
        connection.deed = lambda: extract.run(ddl)
        return connection

    with pytest.raises(TryAgainError, match="was altered or emptied after the snapshot was taken"):
        extract.load(route=Route(connect, extract.connect_ingest))
    extract.load()
    extract.assert_same()


MOOD = "create type mood as enum ('a');"
RENAMED = "alter type mood rename value 'a' to 'z'"
IN_PLACE: dict[str, list[str]] = {
    "label": [MOOD + "create table t (id int primary key, v mood); insert into t values (1, 'a')", RENAMED],
    "label in an array": [
        MOOD + "create table t (id int primary key, v mood[]); insert into t values (1, '{a}')",
        RENAMED,
    ],
    "label in a domain of a composite": [
        MOOD + "create type p as (m mood); create domain q as p;"
        "create table t (id int primary key, v q); insert into t values (1, '(a)')",
        RENAMED,
    ],
    "attribute": [
        "create type p as (a int); create table t (id int primary key, v p); insert into t values (1, '(1)')",
        "alter type p add attribute b int",
    ],
    "zone": [
        "create table t (id int primary key, v timestamp); insert into t values (1, '2024-01-01')",
        "set timezone = 'UTC'; alter table t alter v type timestamptz",
        "alter table t alter v type timestamp",
    ],
    "network": [
        "create table t (id int primary key, v text); insert into t values (1, '10.0.0.0/8')",
        "alter table t alter v type cidr using v::cidr",
        "alter table t alter v type inet",
    ],
    "virtual column": [
        "create table t (id int primary key, v int, g int generated always as (v * 2) virtual)",
        "insert into t (id, v) values (1, 1)",
        "alter table t alter g set expression as (v * 3)",
    ],
}


@pytest.mark.parametrize("statements", IN_PLACE.values(), ids=IN_PLACE)
def test_rows_read_otherwise_though_none_is_written(extract: Extract, statements: list[str]) -> None:
    for statement in statements:
        extract.run(statement)
        extract.load()
        extract.assert_same()
    result = extract.load()
    assert (result.read, result.deleted) == (0, 0)


def test_a_date_of_raw_that_no_timestamp_holds(extract: Extract) -> None:
    """PostgreSQL's dates reach further than its timestamps, and raw keeps what the source has deleted."""
    extract.run("create table t (id int primary key, d date); insert into t values (1, '5874897-12-31'), (2, 'today')")
    extract.load()
    extract.run("delete from t where id = 1; alter table t alter d type timestamp")
    extract.load()
    extract.assert_same()
    assert extract.changes()[-1] == ("type_widened", "d", "date", "text")


@pytest.mark.parametrize(
    ("declared", "value"),
    [("regclass", "'t'"), ("aclitem", "'odoo=r/odoo'"), ("regrole", "'odoo_reader'"), ("regtype[]", "'{integer}'")],
)
def test_types_that_name_objects_of_one_server(extract: Extract, declared: str, value: str) -> None:
    extract.run(f"create table t (id int primary key, v {declared}); insert into t values (1, {value})")
    extract.load()
    extract.assert_same()
    assert extract.raw_types()["v"] == ("text[]" if declared.endswith("[]") else "text")


def test_a_table_with_another_key_and_few_of_the_rows_is_not_taken_for_the_old_one(extract: Extract) -> None:
    """A wrong database may have a table of that name: it must not empty raw by having another key."""
    extract.run("create table t (id int primary key, v text); insert into t select n, n from generate_series(1, 99) n")
    extract.load()
    before = extract.everything()
    extract.run("drop table t; create table t (id int, v text primary key); insert into t values (1, 'x')")
    with pytest.raises(TooManyDeletionsError, match="98 of 99 rows"):
        extract.load()
    assert extract.everything() == before
    extract.load(accept_deletions=True)
    extract.assert_same()
