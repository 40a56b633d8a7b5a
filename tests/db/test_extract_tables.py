"""Tables of every shape: any key or none, hostile names, columns that stay away, absent or forbidden tables."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest
from builders import PEOPLE, Extract, counts, query
from psycopg.conninfo import make_conninfo

from revops.extract.errors import ExtractError, TableMissingError
from revops.extract.sessions import Route

pytestmark = pytest.mark.db


def test_composite_key(extract: Extract) -> None:
    # The key's order is not the columns' order, and one column has no other data.
    extract.run(
        "create table t (tag integer, lead integer, primary key (lead, tag));"
        "insert into t select tag, lead from generate_series(1, 5) lead, generate_series(1, 4) tag"
    )
    extract.load()
    extract.run("delete from t where lead = 2 and tag > 1; insert into t values (9, 1), (9, 2), (9, 3)")
    assert counts(extract.load()) == (3, 3, 0, 0, 3)
    extract.assert_same()
    extract.run("insert into t values (2, 2)")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_text_key(extract: Extract) -> None:
    extract.run(
        "create table t (id text primary key, n integer);"
        "insert into t values ('O1', 1), ('O10', 2), ('', 3), (E'tab\\tkey', 4), ('Ω', 5), ('\\N', 6)"
    )
    extract.load()
    extract.assert_same()
    extract.run("update t set id = 'O2' where id = 'O1'; delete from t where id = ''; update t set n = 0 where n = 6")
    assert counts(extract.load()) == (2, 1, 1, 0, 2)
    extract.assert_same()


NAMES = (
    "Mixed Case",
    "select",
    'a"b',
    "a%sb",
    "a%b",
    "{}",
    "a'b",
    "t",
    "k",
    "excluded",
    "staging",
    "ctid_",
    "é",
    " ",
    "n" * 63,
)


def test_hostile_names(extract: Extract) -> None:
    table = 'Order "Lines" %s'
    quoted = table.replace('"', '""')
    columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" text' for name in NAMES)
    extract.run(f'create table "{quoted}" ("Order" integer, "User" integer, {columns}, primary key ("User", "Order"))')
    values = ", ".join(f"'{number}'" for number in range(len(NAMES)))
    extract.run(f'insert into "{quoted}" select n, n, {values} from generate_series(1, 3) n')
    extract.load(table)
    extract.assert_same(table)
    extract.run(f'update "{quoted}" set "select" = \'new\' where "Order" = 1; delete from "{quoted}" where "User" = 2')
    assert counts(extract.load(table)) == (1, 0, 1, 0, 1)
    extract.assert_same(table)
    assert [name for name in extract.raw_types(table) if not name.startswith("_")] == ["Order", "User", *NAMES]


def test_table_names_too_long_for_raw_stay_apart(extract: Extract) -> None:
    names = ["a" * 62 + end for end in "xy"]
    for name in names:
        extract.run(f"create table {name} (id integer primary key); insert into {name} values ({ord(name[-1])})")
        extract.load(name)
    assert query(extract.warehouse, "select count(*) from pg_tables where schemaname = 'raw'") == [(2,)]


def test_rows_of_a_table_without_key_are_matched_by_content(extract: Extract) -> None:
    extract.run("create table t (n integer, name text); insert into t values (1, 'a'), (1, 'a'), (null, null)")
    extract.load()
    extract.assert_same()
    extract.run("delete from t where ctid = (select min(ctid) from t where n = 1); insert into t values (2, 'b')")
    result = extract.load()
    assert counts(result) == (3, 1, 0, 2, 1)
    extract.assert_same()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.raw(where="_deleted_at is not null") == Counter([("1", "a")])
    extract.run("truncate t")
    extract.load()
    assert extract.raw() == Counter()


def test_empty_source_table(extract: Extract) -> None:
    extract.run("create table t (id integer primary key, name text)")
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert list(extract.raw_types()) == ["id", "name", "_loaded_at", "_load_id", "_deleted_at"]
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    extract.run("insert into t values (1, 'a')")
    assert counts(extract.load()) == (1, 1, 0, 0, 0)
    extract.assert_same()


def test_excluded_columns_never_arrive(extract: Extract) -> None:
    extract.run(
        "create table t (id integer primary key, Name text, password text, Access_Token text, note text);"
        "insert into t values (1, 'a', 'secret-1', 'secret-2', 'secret-3')"
    )
    settings = {"exclude_everywhere": ("*.password", "*.access_token"), "exclude_columns": ["not*"]}
    extract.load(**settings)
    assert list(extract.raw_types()) == ["id", "name", "_loaded_at", "_load_id", "_deleted_at"]
    extract.run("insert into t values (2, 'b', 'secret-4', 'secret-5', 'secret-6')")
    extract.load(**settings)
    extract.assert_same(without=("password", "access_token", "note"))
    # Nor are they mentioned anywhere else in the warehouse.
    assert "secret" not in str(query(extract.warehouse, "select to_jsonb(l)::text from ops.load l"))


def test_an_excluded_key_column_is_refused(extract: Extract) -> None:
    extract.run(PEOPLE)
    with pytest.raises(ExtractError, match=r"odoo\.t: exclude_columns names the key column.*id.*include/sources/odoo"):
        extract.load(exclude_columns=["i?"])
    assert extract.last_load()["status"] == "failed"
    assert extract.raw_types() == {}


def test_a_table_whose_columns_are_all_excluded_is_refused(extract: Extract) -> None:
    extract.run("create table t (a text, b text); insert into t values ('secret', 'secret')")
    with pytest.raises(ExtractError, match=r"odoo\.t: no column is left.*include/sources/odoo\.yaml"):
        extract.load(exclude_columns=["*"])


@pytest.mark.parametrize("name", ["_load_id", "_loaded_at", "_deleted_at"])
def test_a_column_with_a_name_that_revops_needs(extract: Extract, name: str) -> None:
    extract.run(f"create table t (id integer primary key, {name} integer); insert into t values (1, 2)")
    with pytest.raises(ExtractError, match=rf"column\(s\) \['{name}'\].*exclude_columns"):
        extract.load()
    assert extract.last_load()["status"] == "failed"
    # The remedy that the message names is one.
    extract.load(exclude_columns=[name])
    extract.assert_same(without=(name,))


def test_an_optional_table_is_absent_and_recorded_once(extract: Extract) -> None:
    for _ in range(2):
        result = extract.load(optional=True)
        assert result.is_absent
        assert counts(result) == (0, 0, 0, 0, 0)
        assert extract.last_load()["status"] == "absent"
    assert extract.changes() == [("table_absent", None, None, None)]
    extract.run(PEOPLE)
    extract.load(optional=True)
    extract.assert_same()
    assert [change for change, *_ in extract.changes()] == ["table_absent", "table_created"]


def test_a_table_that_goes_away_keeps_its_rows_in_raw_and_is_recorded_when_it_returns(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(optional=True)
    before = extract.everything()
    extract.run("alter table t rename to away")
    assert extract.load(optional=True).is_absent
    assert extract.everything() == before
    extract.run("alter table away rename to t; delete from t where id = 1; update t set name = 'x' where id = 2")
    assert counts(extract.load(optional=True)) == (1, 0, 1, 0, 1)
    extract.assert_same()
    assert [change for change, *_ in extract.changes()] == ["table_created", "table_absent", "table_returned"]


def test_a_missing_table_that_is_not_optional(extract: Extract) -> None:
    with pytest.raises(TableMissingError, match=r"no table public\.t or public\.u.*alternatives.*optional: true"):
        extract.load(alternatives=["u"])
    load = extract.last_load()
    assert load["status"] == "failed"
    assert "public.t or public.u" in load["error"]


def test_alternatives_are_tried_in_their_order(extract: Extract) -> None:
    for number, name in enumerate(("third", "second")):
        extract.run(f"create table {name} (id integer primary key); insert into {name} values ({number})")
    settings = {"alternatives": ["second", "third"]}
    extract.load("first", **settings)
    assert extract.raw("first") == extract.in_source("second")
    # The better name appears: another table, so every row is read again.
    extract.run("create table first (id integer primary key); insert into first values (7), (8)")
    extract.load("first", **settings)
    assert extract.raw("first") == extract.in_source("first")
    assert extract.last_load()["full_read_reason"] == "the source table was re-created, restored or altered"


def test_no_right_to_select(extract: Extract, passwords: dict[str, str]) -> None:
    extract.run(PEOPLE + "; grant usage on schema public to odoo_reader")
    dsn = make_conninfo(extract.source_dsn, user="odoo_reader", password=passwords["odoo_reader"])
    route = Route(lambda: psycopg.connect(dsn), extract.connect_ingest)
    with pytest.raises(ExtractError, match=r'may not read public\.t.*GRANT SELECT ON public\."t"'):
        extract.load(route=route)
    assert extract.last_load()["status"] == "failed"
    extract.run("grant select on t to odoo_reader")
    extract.load(route=route)
    extract.assert_same()


def test_rows_hidden_by_a_policy_are_not_taken_for_deleted(extract: Extract, passwords: dict[str, str]) -> None:
    extract.run(PEOPLE + "; grant usage on schema public to odoo_reader; grant select on t to odoo_reader")
    dsn = make_conninfo(extract.source_dsn, user="odoo_reader", password=passwords["odoo_reader"])
    route = Route(lambda: psycopg.connect(dsn), extract.connect_ingest)
    extract.load(route=route)
    before = extract.everything()
    extract.run("alter table t enable row level security; create policy half on t using (id > 5)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        extract.load(route=route)
    assert extract.everything() == before
