"""The source's tables change: raw follows, never loses a value, and says what changed."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest
from builders import Extract, counts, query

from revops.extract.drift import wider_type

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text);"
    "insert into t select n, 'name ' || n from generate_series(1, 5) n"
)


def test_a_new_table_is_recorded(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    assert extract.changes() == [("table_created", None, None, None)]
    load = extract.last_load()
    assert query(extract.warehouse, "select source, table_name, run_id, load_id from ops.schema_change") == [
        ("odoo", "odoo_t", load["run_id"], load["load_id"])
    ]


@pytest.mark.parametrize("default", ["", " default 'given'", " not null default 'given'", " default random()::text"])
def test_column_added(extract: Extract, default: str) -> None:
    extract.run(PEOPLE)
    extract.load()
    # A constant default fills old rows without writing them: only a full read sees it.
    extract.run(f"alter table t add column extra text{default}")
    extract.load()
    extract.assert_same()
    assert extract.changes()[1:] == [("column_added", "extra", None, "text")]
    assert extract.last_load()["full_read_reason"] == 'column added "extra" (text): rows may have changed unseen'
    assert counts(extract.load()) == (0, 0, 0, 0, 0)


def test_column_dropped_is_kept_and_null_in_rows_written_again(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t drop column name; insert into t values (6)")
    extract.load()
    assert extract.raw() == Counter([*((str(n), f"name {n}") for n in range(1, 6)), ("6", None)])
    assert extract.changes()[1:] == [("column_dropped", "name", "text", None)]
    # Recorded once, however often the table is loaded.
    extract.load()
    assert len(extract.changes()) == 2
    extract.run("alter table t add column n integer; update t set n = 1 where id = 1; delete from t where id = 2")
    extract.load()
    kept = query(extract.warehouse, "select id, name from raw.odoo_t where _deleted_at is null order by id")
    assert kept == [(1, None), (3, "name 3"), (4, "name 4"), (5, "name 5"), (6, None)]


def test_column_returned(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t drop column name")
    extract.load()
    extract.run("alter table t add column name text default 'back'")
    extract.load()
    extract.assert_same()
    assert extract.changes()[1:] == [
        ("column_dropped", "name", "text", None),
        ("column_returned", "name", "text", "text"),
    ]
    # It may go and come again, with another type.
    extract.run("alter table t drop column name")
    extract.load()
    extract.run("alter table t add column name integer default 3")
    extract.load()
    extract.assert_same()
    assert [change for change, *_ in extract.changes()[3:]] == ["column_dropped", "column_returned"]
    assert extract.raw_types()["name"] == "text"


def test_column_renamed_is_a_drop_and_an_add(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t rename column name to title")
    extract.load()
    assert sorted(extract.changes()[1:]) == [
        ("column_added", "title", None, "text"),
        ("column_dropped", "name", "text", None),
    ]
    assert query(extract.warehouse, "select id, title from raw.odoo_t order by id") == query(
        extract.source, "select id, title from t order by id"
    )


def test_column_replaced_by_one_of_the_same_name_between_two_loads(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t drop column name; alter table t add column name text default 'other'")
    extract.load()
    extract.assert_same()


def test_names_of_two_columns_exchanged_between_two_loads(extract: Extract) -> None:
    extract.run("create table t (id integer primary key, a text, b text); insert into t values (1, 'a', 'b')")
    extract.load()
    extract.run("alter table t rename a to c; alter table t rename b to a; alter table t rename c to b")
    extract.load()
    assert query(extract.warehouse, "select a, b from raw.odoo_t") == [("b", "a")]


@pytest.mark.parametrize(
    ("before", "after", "using", "expected"),
    [
        ("smallint", "integer", "", "integer"),
        ("integer", "bigint", "", "bigint"),
        ("integer", "numeric(20,4)", "", "numeric"),
        ("integer", "text", "", "text"),
        ("varchar(10)", "varchar(20)", "", "text"),
        ("varchar(10)", "text", "", "text"),
        ("numeric(10,2)", "numeric(12,4)", "", "numeric"),
        ("numeric(10,2)", "numeric", "", "numeric"),
        ("real", "double precision", "", "double precision"),
        ("date", "timestamp", " using v::text::timestamp", "timestamp without time zone"),
        ("timestamp(0)", "timestamp", "", "timestamp without time zone"),
        ("timestamptz(3)", "timestamptz(6)", "", "timestamp with time zone"),
        ("integer", "integer[]", " using array[v]", "text"),
        ("integer[]", "bigint[]", "", "text[]"),
        ("json", "jsonb", "", "text"),
    ],
)
def test_type_widened(extract: Extract, before: str, after: str, using: str, expected: str) -> None:
    samples = {"date": "2026-02-01", "timestamp(0)": "2026-02-01 10:00:00", "timestamptz(3)": "2026-02-01 10:00:00+00"}
    sample = samples.get(before, "{1}" if before.endswith("[]") else "1")
    extract.run(f"create table t (id integer primary key, v {before}); insert into t values (1, '{sample}'), (2, null)")
    extract.load()
    told = extract.raw_types()["v"]
    extract.run(f"alter table t alter column v type {after}{using}")
    extract.load()
    assert extract.raw_types()["v"] == expected
    assert extract.changes()[1:] == [("type_widened", "v", told, expected)]
    # Another type prints the same value in another way only where its own type would, too.
    extract.assert_same()
    extract.load()
    assert len(extract.changes()) == 2


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("bigint", "integer", "bigint"),
        ("text", "varchar(10)", "text"),
        ("text", "integer using v::integer", "text"),
        ("numeric", "numeric(10,2)", "numeric"),
        ("double precision", "real", "double precision"),
        ("timestamp", "timestamp(0)", "timestamp without time zone"),
    ],
)
def test_narrowing_keeps_the_wider_type(extract: Extract, before: str, after: str, kept: str) -> None:
    sample = "2026-02-01 10:00:00" if before == "timestamp" else "1"
    extract.run(f"create table t (id integer primary key, v {before}); insert into t values (1, '{sample}')")
    extract.load()
    extract.run(f"alter table t alter column v type {after}; insert into t values (2, '{sample}')")
    extract.load()
    assert extract.raw_types()["v"] == kept
    assert extract.changes()[1:] == []
    values = query(extract.warehouse, "select distinct v::text from raw.odoo_t where id = 2")
    assert values == query(extract.source, "select v::text from t where id = 2") or kept == "numeric"


@pytest.mark.parametrize(("first", "second"), [("integer", "bigint"), ("bigint", "text"), ("text", "bigint")])
def test_type_of_the_key_changes(extract: Extract, first: str, second: str) -> None:
    extract.run(
        f"create table t (id {first} primary key, n integer); insert into t select v, v from generate_series(1, 5) v"
    )
    extract.load()
    extract.run(f"alter table t alter column id type {second} using id::{second}")
    extract.run("delete from t where n = 2; insert into t values ('9', 9); update t set n = 0 where n = 3")
    result = extract.load()
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    extract.assert_same()


@pytest.mark.parametrize(
    "ddl",
    [
        "alter table t drop constraint t_pkey; alter table t add primary key (id, lang)",
        "alter table t drop constraint t_pkey; alter table t add primary key (lang)",
        (
            "alter table t drop constraint t_pkey; alter table t alter id drop not null; "
            "insert into t values (null, 'x'), (1, 'de'), (1, 'de')"
        ),
        (
            "alter table t add column extra integer generated always as identity; "
            "alter table t drop constraint t_pkey; alter table t add primary key (id, extra)"
        ),
    ],
)
def test_another_primary_key(extract: Extract, ddl: str) -> None:
    extract.run(
        "create table t (id integer primary key, lang text not null); insert into t values (1, 'de'), (2, 'fr')"
    )
    extract.load()
    extract.run(ddl)
    extract.load()
    extract.assert_same()
    assert "key_changed" in [change for change, *_ in extract.changes()[1:]]
    extract.run("update t set id = 7 where id = 2")
    extract.load()
    extract.assert_same()
    assert len([change for change, *_ in extract.changes() if change == "key_changed"]) == 1


def test_a_table_without_key_gets_one(extract: Extract) -> None:
    """Odoo's relation tables got theirs in version 14."""
    extract.run("create table t (lead integer, tag integer); insert into t values (1, 1), (1, 2)")
    extract.load()
    extract.run("alter table t add primary key (lead, tag); insert into t values (2, 2)")
    extract.load()
    extract.assert_same()
    extract.run("delete from t where tag = 1")
    assert counts(extract.load()) == (0, 0, 0, 0, 1)
    extract.assert_same()


def test_source_table_dropped_and_created_again(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    # Written in a transaction that began long ago would look the same: the identity of the table tells.
    extract.run("drop table t;" + PEOPLE + "; update t set name = 'x' where id = 1; delete from t where id = 5")
    assert counts(extract.load()) == (4, 0, 1, 3, 1)
    assert extract.last_load()["full_read_reason"] == "the source table was re-created, restored or altered"
    extract.assert_same()


def test_tables_exchanged_by_renaming(extract: Extract) -> None:
    extract.run(PEOPLE + "; create table spare (id integer primary key, name text); insert into spare values (1, 's')")
    extract.load()
    extract.run("alter table t rename to away; alter table spare rename to t")
    extract.load()
    extract.assert_same()


def test_a_failed_load_leaves_no_change_behind(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    types = extract.raw_types()
    extract.run("alter table t add column extra integer default 1; alter table t alter column id type bigint")
    extract.ingest.execute("alter table raw.odoo_t add constraint planted check (name <> 'poison')")
    extract.ingest.commit()
    extract.run("insert into t values (6, 'poison')")
    with pytest.raises(psycopg.errors.CheckViolation):
        extract.load()
    assert extract.raw_types() == types
    assert len(extract.changes()) == 1


@pytest.mark.parametrize(
    ("raw", "source", "expected"),
    [
        ("integer", "integer", "integer"),
        ("bigint", "smallint", "bigint"),
        ("numeric", "bigint", "numeric"),
        ("numeric(10,2)", "bigint", "numeric"),
        ("integer", "double precision", "text"),
        ("timestamp without time zone", "timestamp with time zone", "text"),
        ("timestamp(3) with time zone", "timestamp(0) with time zone", "timestamp with time zone"),
        ("date", "timestamp(0) without time zone", "timestamp without time zone"),
        ("time without time zone", "time(0) without time zone", "time without time zone"),
        ("character varying", "character varying(5)", "text"),
        ("text[]", "integer[]", "text[]"),
        ("text", "text[]", "text"),
        ("boolean", "integer", "text"),
    ],
)
def test_lattice(raw: str, source: str, expected: str) -> None:
    assert wider_type(raw, source) == expected
    # A type that has been widened stays as it is.
    assert wider_type(expected, source) == wider_type(expected, raw) == expected
