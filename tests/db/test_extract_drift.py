"""The source's tables change: raw follows, never loses a value, and says what changed."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest
from builders import Extract, counts, query

from revops.extract.drift import wider_type
from revops.extract.errors import IncompleteLoadError, SchemaFrozenError

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


@pytest.mark.parametrize(
    ("ddl", "undo", "difference"),
    [
        ("alter table t add extra integer", "alter table t drop extra", r'column added "extra" \(integer\)'),
        ("alter table t drop name", "alter table t add name text", r'column dropped "name" \(text\)'),
        (
            "alter table t alter id type bigint",
            "alter table t alter id type integer",
            r'type widened "id" \(integer -> bigint\)',
        ),
        (
            "alter table t rename name to title",
            "alter table t rename title to name",
            r'column added "title" \(text\); column dropped "name" \(text\)',
        ),
        (
            "alter table t drop constraint t_pkey",
            "alter table t add primary key (id)",
            r"key changed \(id\)",
        ),
    ],
)
def test_a_frozen_table_stops_at_every_difference(extract: Extract, ddl: str, undo: str, difference: str) -> None:
    extract.run(PEOPLE)
    extract.load(drift="freeze")
    before = (extract.everything(), extract.raw_types(), extract.watermark(), extract.changes())
    extract.run(f"{ddl}; insert into t (id) values (6)")
    with pytest.raises(
        SchemaFrozenError, match=rf"raw\.odoo_t is frozen.*public\.t differs: {difference}\. Nothing.*`drift: evolve`"
    ):
        extract.load(drift="freeze")
    assert (extract.everything(), extract.raw_types(), extract.watermark(), extract.changes()) == before
    assert extract.last_load()["status"] == "failed"
    extract.run(undo)
    extract.load(drift="freeze")
    extract.assert_same()
    assert extract.changes() == before[3]


def test_a_frozen_table_names_all_differences_and_goes_on_after_one_run_that_follows(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(drift="freeze")
    extract.run("alter table t drop name; alter table t alter id type bigint; alter table t add a text, add b text")
    with pytest.raises(SchemaFrozenError) as caught:
        extract.load(drift="freeze")
    for difference in ("type widened", 'column added "a"', 'column added "b"', 'column dropped "name"'):
        assert difference in str(caught.value)
    extract.load(drift="evolve")
    extract.run("insert into t values (6, 'x', 'y')")
    assert counts(extract.load(drift="freeze")) == (1, 1, 0, 0, 0)


def test_new_columns_are_not_read_where_drift_is_ignored(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(drift="ignore")
    types = extract.raw_types()
    extract.run("alter table t add extra text default 'x'; insert into t values (6, 'six', 'y')")
    for _ in range(2):
        extract.load(drift="ignore")
        extract.assert_same(without=("extra",))
        extract.run("update t set extra = 'changed', name = 'changed' where id = 2; delete from t where id = 3")
    assert extract.raw_types() == types
    assert extract.changes()[1:] == [("column_ignored", "extra", None, "text")]
    # Followed again, nothing is missing.
    extract.load()
    extract.assert_same()
    assert extract.changes()[2:] == [("column_added", "extra", None, "text")]


@pytest.mark.parametrize(
    ("declared", "value", "too_much", "error"),
    [
        ("integer to bigint", "7", "3000000000", psycopg.errors.NumericValueOutOfRange),
        ("varchar(5) to varchar(9)", "abcde", "abcdefg", psycopg.errors.StringDataRightTruncation),
        ("date to timestamp", "2026-01-01 00:00", "2026-01-01 12:00", IncompleteLoadError),
        ("numeric(10,2) to numeric(12,4)", "1.2500", "1.2345", IncompleteLoadError),
        ("integer to text", "7", "seven", psycopg.errors.InvalidTextRepresentation),
    ],
)
def test_where_drift_is_ignored_values_must_fit(
    extract: Extract, declared: str, value: str, too_much: str, error: type[Exception]
) -> None:
    """Never are they cut to fit: a value that raw's type can't hold stops the table."""
    before, after = declared.split(" to ")
    extract.run(f"create table t (id integer primary key, v {before}); insert into t values (1, null)")
    extract.load(drift="ignore")
    types = extract.raw_types()
    extract.run(f"alter table t alter v type {after}")
    extract.source.execute("insert into t values (2, %s)", (value,))
    if error is IncompleteLoadError:
        # The same moment or number, which raw writes in another way than the source.
        extract.run("delete from t where id = 2")
    extract.load(drift="ignore")
    assert extract.raw_types() == types
    if error is not IncompleteLoadError:
        extract.assert_same()
    state = (extract.everything(), extract.watermark())
    extract.source.execute("insert into t values (3, %s)", (too_much,))
    with pytest.raises(error):
        extract.load(drift="ignore")
    assert (extract.everything(), extract.watermark()) == state
    assert too_much not in extract.last_load()["error"]
    assert [change for change, *_ in extract.changes()[1:]] == ["column_ignored"]


def test_a_dropped_column_is_recorded_where_drift_is_ignored_and_read_when_it_returns(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(drift="ignore")
    extract.run("alter table t drop column name; update t set id = 10 where id = 1; insert into t values (6)")
    extract.load(drift="ignore")
    assert extract.raw() == Counter([*((str(n), f"name {n}") for n in range(2, 6)), ("6", None), ("10", None)])
    extract.run("alter table t add column name text default 'back'")
    for _ in range(2):
        extract.load(drift="ignore")
        extract.assert_same()
    assert [change for change, *_ in extract.changes()[1:]] == ["column_dropped", "column_returned"]


def test_another_key_is_followed_even_where_drift_is_ignored(extract: Extract) -> None:
    """Also where a column belongs to it that raw does not have yet."""
    extract.run(PEOPLE)
    extract.load(drift="ignore")
    extract.run("alter table t add part integer not null default 1, add extra integer default 2")
    extract.run("alter table t drop constraint t_pkey, add primary key (id, part); insert into t values (1, 'x', 2)")
    for _ in range(2):
        extract.load(drift="ignore", accept_deletions=True)
        extract.assert_same(without=("extra",))
        extract.run("update t set name = 'changed' where (id, part) = (1, 2)")
    assert sorted(extract.changes()[1:], key=str) == [
        ("column_added", "part", None, "integer"),
        ("column_ignored", "extra", None, "integer"),
        ("key_changed", None, "id", "id, part"),
    ]


@pytest.mark.parametrize("drift", ["evolve", "ignore"])
def test_a_column_that_is_excluded_later_is_dropped(extract: Extract, drift: str) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("delete from t where id = 1")
    extract.load()
    for _ in range(2):
        extract.load(exclude_columns=["na*"], drift=drift)
        assert list(extract.raw_types()) == ["id", "_loaded_at", "_load_id", "_deleted_at"]
        extract.run("update t set name = 'changed' where id = 2")
    assert extract.changes()[1:] == [("column_excluded", "name", "text", None)]
    # Taken back, all values come again.
    extract.load()
    extract.assert_same()
    assert extract.changes()[2:] == [("column_added", "name", None, "text")]


def test_a_column_that_is_excluded_after_the_source_dropped_it_goes_too(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t drop column name")
    extract.load()
    extract.load(exclude_everywhere=("t.name",))
    assert "name" not in extract.raw_types()
    assert extract.changes()[2:] == [("column_excluded", "name", "text", None)]
