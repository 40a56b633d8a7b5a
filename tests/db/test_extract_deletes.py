"""What is gone from the source is marked, and nothing else: by keys, whatever they are, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Extract, counts, query
from psycopg import sql

from revops.extract import compare
from revops.extract.errors import IncompleteLoadError, TooManyDeletionsError
from revops.extract.stream import Streamed, stream_rows

pytestmark = pytest.mark.db

MANY = 12_000


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys each comparison moved to the warehouse."""
    numbers: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Streamed:
        streamed = stream_rows(*arguments, **options)
        numbers.append(streamed.rows)
        return streamed

    monkeypatch.setattr(compare, "stream_rows", counted)
    return numbers


@pytest.fixture
def always_in_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the smallest table as a large one whose buckets differ here and there."""
    monkeypatch.setattr(compare, "FEW_ROWS", 0)
    monkeypatch.setattr(compare, "ROWS_A_BUCKET", 1)
    monkeypatch.setattr(compare, "MOST_DIFFERING", 2.0)


KEYS = {
    "integer": ("id integer primary key", "n"),
    "bigint": ("id bigint primary key", "n * 1000000007::bigint"),
    "uuid": ("id uuid primary key", "md5(n::text)::uuid"),
    "text": ("id text primary key", "'Ключ ' || n"),
    "numeric": ("id numeric(20,4) primary key", "n / 8.0"),
    "composite": ("id integer, lang text, primary key (lang, id)", "n / 3, 'lang ' || n % 3"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_scattered_deletions_are_found_by_a_few_of_the_keys(extract: Extract, moved: list[int], kind: str) -> None:
    columns, value = KEYS[kind]
    names = "id, lang" if kind == "composite" else "id"
    extract.run(f"create table t ({columns}, extra text)")
    extract.run(f"insert into t ({names}, extra) select {value}, 'x' || n from generate_series(1, {MANY}) n")
    assert counts(extract.load()) == (MANY, MANY, 0, 0, 0)
    assert moved == []
    extract.run("delete from t where ('x' || substr(extra, 2)::integer % 400) = 'x7'")
    extract.run("insert into t select * from t where false; update t set extra = 'changed' where extra = 'x12'")
    assert counts(extract.load()) == (1, 0, 1, 0, MANY // 400)
    extract.assert_same()
    (keys,) = moved
    assert 0 < keys < MANY / 4
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert len(moved) == 1


def test_where_most_buckets_differ_all_keys_are_moved_once(extract: Extract, moved: list[int]) -> None:
    extract.run(f"create table t (id integer primary key); insert into t select generate_series(1, {MANY})")
    extract.load()
    extract.run("delete from t where id % 10 = 1; insert into t select generate_series(50001, 50100)")
    result = extract.load()
    assert (result.inserted, result.deleted) == (100, MANY // 10)
    extract.assert_same()
    assert moved == [MANY - MANY // 10 + 100]


def test_few_rows_are_not_cut_into_buckets(extract: Extract, moved: list[int]) -> None:
    extract.run("create table t (id integer primary key); insert into t select generate_series(1, 500)")
    extract.load()
    extract.run("delete from t where id = 77")
    assert extract.load().deleted == 1
    assert moved == [499]
    extract.assert_same()


@pytest.mark.parametrize(
    ("rows", "buckets"), [(0, 1), (63, 1), (64, 1), (129, 2), (10_001, 256), (4_194_304, 65_536), (10**10, 65_536)]
)
def test_buckets_are_few_enough_for_memory(rows: int, buckets: int) -> None:
    assert compare._bucket_count(rows) == buckets


def test_rows_missing_in_raw_are_named_whichever_way_they_are_found(extract: Extract, moved: list[int]) -> None:
    extract.run(f"create table t (id integer primary key); insert into t select generate_series(1, {MANY})")
    extract.load()
    extract.ingest.execute("delete from raw.odoo_t where id in (7000, 5, 66, 1234, 9999, 11000)")
    extract.ingest.commit()
    extract.run("delete from t where id = 300")
    before = extract.everything()
    with pytest.raises(IncompleteLoadError, match=r"lacks 6 row\(s\) of the source by id: .*; \.\.\.\. The load was"):
        extract.load()
    assert 0 < moved[0] < MANY / 4
    assert extract.everything() == before


# type -> parts of keys. Some are equal but for what a careless comparison drops.
HOSTILE = {
    "text": ["a", "A", " a", "a\t", "\\N", "\\.", "é", "a'b", "(1)", "0", "a ", "", "a\\", "\\\\N", "e\u0301", 'a"b',
             "a,b", "a\nb", "🚀", "x" * 2000],
    "varchar(10)": ["NULL", "null", "{}", "%s"],
    "char(4)": ["a", "ab", "b", "abcd"],
    '"char"': ["a", "b"],
    "name": ["n" * 63, "n" * 62],
    "integer": ["0", "-1", "2147483647", "-2147483648"],
    "bigint": ["9223372036854775807", "0", "-9223372036854775808", "4294967296"],
    "numeric": ["NaN", "1.0", "-1", "Infinity", "-Infinity", "1.10", "1e30", "1e-30"],
    "real": ["NaN", "0.1", "-0", "Infinity"],
    "double precision": ["0.1", "NaN", "0.30000000000000004", "0.3"],
    "boolean": ["true", "false"],
    "date": ["infinity", "0001-12-31 BC", "-infinity", "10000-01-01"],
    "timestamp": ["infinity", "2026-01-01 00:00:00.000001", "2026-01-01", "0044-03-15 BC"],
    "timestamptz": ["2026-01-01 00:00+00", "infinity", "2026-01-01 00:00+01", "-infinity"],
    "interval": ["1 mon", "24:00:00", "29 days", "1 year"],
    "time": ["24:00", "00:00"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "bytea": ["\\x", "\\x00", "\\x0000", "\\x5c4e"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "10.0.0.2"],
    "jsonb": ['"a"', "1.0", "null", "{}"],
    "text[]": ["{a,b}", '{"a,b"}', "{NULL}", '{"NULL"}'],
    "int4range": ["empty", "[1,5)", "(,)", "[1,6)"],
    "mood": ["so so", "ok,then"],
    "short": ["a", "b c"],
    "pair": ["(1,a)", '(1,"a,b")'],
    "money": ["1.00", "-0.01"],
    "oid": ["4294967295", "0"],
    "bit(3)": ["101", "010"],
}  # fmt: skip


def test_hostile_keys(extract: Extract, always_in_buckets: None, moved: list[int]) -> None:
    """One key of all types: were one of them hashed in two ways, no row would be in the same bucket on both sides."""
    extract.run(
        "create type mood as enum ('so so', 'ok,then'); create type pair as (n integer, t text);"
        "create domain short as text check (length(value) < 5)"
    )
    names = [f"c{number}" for number in range(len(HOSTILE))]
    columns = ", ".join(f"{name} {declared}" for name, declared in zip(names, HOSTILE, strict=True))
    extract.run(f"create table t (n integer, {columns}, primary key ({', '.join(names)}))")
    rows = len(HOSTILE["text"])
    insert = f"insert into t values ({', '.join(['%s'] * (1 + len(HOSTILE)))})"
    for row in range(rows):
        extract.source.execute(insert, (row, *(part[row % len(part)] for part in HOSTILE.values())))
    extract.load()
    extract.assert_same()
    extract.run("create table gone as select * from t where n % 4 = 1; delete from t where n % 4 = 1")
    assert counts(extract.load()) == (0, 0, 0, 0, rows // 4)
    assert moved.pop() < rows / 2
    extract.assert_same()
    extract.run("insert into t select * from gone")
    assert counts(extract.load()) == (rows // 4, 0, rows // 4, 0, 0)
    # A single part of a key becomes another: that row is gone, and there is a new one.
    for number, (declared, parts) in enumerate(HOSTILE.items()):
        row = number % rows
        then = parts[(row + 1) % len(parts)]
        extract.source.execute(f"update t set {names[number]} = %s::{declared} where n = %s", (then, row))
    result = extract.load(accept_deletions=True)
    assert (result.inserted, result.deleted) == (rows, rows)
    extract.assert_same()


PAIRS = [("a,b", "c"), ("a", "b,c"), ("", "a"), ("a", ""), ("a)", "(b"), ("b", "a"), ('"', '"'), ("\\", "\\\\")]


def test_parts_of_a_key_do_not_run_into_each_other(extract: Extract, always_in_buckets: None) -> None:
    extract.run("create table t (a text, b text, n serial, primary key (a, b))")
    for a, b in PAIRS:
        extract.source.execute("insert into t (a, b) values (%s, %s)", (a, b))
    extract.load()
    for a, b in PAIRS[:4]:
        # The same two texts, exchanged or shifted: a key that is gone beside one that is new.
        extract.source.execute("delete from t where (a, b) = (%s, %s)", (a, b))
        extract.load(accept_deletions=True)
        extract.assert_same()
        extract.source.execute("insert into t (a, b) values (%s, %s)", (a, b))
    extract.load()
    extract.assert_same()
    # As many keys as before, of which one part has stayed, or both in another order.
    for change in ("a = 'other' where a = 'b'", "b = 'other' where b = 'c'", "a = b, b = a where a = 'other'"):
        extract.run(f"update t set {change}")
        result = extract.load()
        assert result.inserted == result.deleted > 0
        extract.assert_same()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("integer", "bigint"),
        ("bigint", "integer"),
        ("integer", "numeric"),
        ("numeric", "integer"),
        ("integer", "text"),
        ("text", "integer using id::integer"),
        ("text", "varchar(5)"),
        ("text", "uuid using id::uuid"),
        ("date", "timestamp"),
        ("timestamp", "date"),
    ],
)
def test_keys_whose_type_is_another_in_raw(extract: Extract, always_in_buckets: None, first: str, then: str) -> None:
    values = {
        "uuid": "md5(n::text)::uuid",
        "date": "date '2026-01-01' + n",
        "timestamp": "date '2026-01-01' + n",
    }.get(first, "n")
    if "uuid" in then:
        values = "md5(n::text)::uuid::text"
    extract.run(f"create table t (id {first} primary key, n integer); insert into t select {values}, n "
                "from generate_series(1, 40) n")  # fmt: skip
    extract.load()
    extract.run(f"alter table t alter id type {then}; delete from t where n in (3, 17)")
    result = extract.load()
    assert (result.inserted, result.deleted) == (0, 2)
    extract.run("delete from t where n in (4, 18); update t set n = 100 where n = 5")
    assert counts(extract.load()) == (1, 0, 1, 0, 2)
    assert {n for _, n in extract.raw()} == {n for _, n in extract.in_source()}
    assert extract.raw().total() == 36


def test_a_source_without_common_hashes_has_all_its_keys_moved(latin1: Extract, moved: list[int]) -> None:
    latin1.run("create table t (id text primary key, n integer)")
    latin1.run("insert into t select 'é' || n, n from generate_series(1, 3000) n")
    latin1.load()
    latin1.assert_same()
    latin1.run("delete from t where n % 10 = 1; insert into t values ('ñ', 1); update t set n = 0 where n = 2")
    assert counts(latin1.load()) == (2, 1, 1, 0, 300)
    latin1.assert_same()
    assert moved[-1] == 2701
    latin1.run("create table u as select id from t; insert into u select id from t where n = 0")
    latin1.load("u")
    latin1.run("delete from u where id = 'ñ'")
    assert latin1.load("u").deleted == 1
    latin1.assert_same("u")


class TestCircuitBreaker:
    """More deletions than a share of the table, and than anybody would look at by hand, are not believed unasked."""

    HUNDRED = (
        "create table t (id integer primary key, n integer); insert into t select n, n from generate_series(1, 100) n"
    )

    @pytest.mark.parametrize("change", ["truncate t", "delete from t where id > 69"])
    @pytest.mark.parametrize("mode", ["xid", "full"])
    def test_a_loss_stops_the_load_and_changes_nothing(self, extract: Extract, change: str, mode: str) -> None:
        extract.run(self.HUNDRED)
        extract.load(mode=mode)
        before, watermark = extract.everything(), extract.watermark()
        extract.run("update t set n = 0 where id = 1; alter table t add column more integer")
        extract.run(change)
        lost = 100 if change.startswith("truncate") else 31
        with pytest.raises(
            TooManyDeletionsError,
            match=rf"raw\.odoo_t: {lost} of 100 rows \({lost} %\) are gone from the source, more than 30 %\. "
            r"Nothing was changed\. Remedy: .*`accept_deletions`",
        ):
            extract.load(mode=mode)
        assert (extract.everything(), extract.watermark()) == (before, watermark)
        assert "more" not in extract.raw_types()
        load = extract.last_load()
        assert (load["status"], load["deletions_accepted"]) == ("failed", False)
        assert extract.load(mode=mode, accept_deletions=True).deleted == lost
        extract.assert_same()
        assert extract.last_load()["deletions_accepted"] is True

    @pytest.mark.parametrize(
        ("settings", "gone", "is_believed"),
        [
            ({}, 30, True),
            ({"max_deleted_share": 0.5}, 51, False),
            ({"max_deleted_share": 1}, 100, True),
            ({"max_deleted_share": 0}, 20, True),
            ({"max_deleted_share": 0}, 21, False),
            ({"of_source": {"max_deleted_share": 0.5}}, 51, False),
            ({"of_source": {"max_deleted_share": 0.9}, "max_deleted_share": 0.1}, 25, False),
            ({"of_source": {"max_deleted_share": 0.0}, "max_deleted_share": 0.4}, 40, True),
        ],
    )
    def test_shares(self, extract: Extract, settings: dict[str, Any], gone: int, is_believed: bool) -> None:
        extract.run(self.HUNDRED)
        extract.load()
        before = extract.everything()
        extract.run(f"delete from t where id <= {gone}")
        if is_believed:
            assert extract.load(**settings).deleted == gone
            extract.assert_same()
        else:
            with pytest.raises(TooManyDeletionsError):
                extract.load(**settings)
            assert extract.everything() == before

    def test_rows_that_were_marked_before_do_not_count(self, extract: Extract) -> None:
        extract.run(self.HUNDRED)
        extract.load()
        for end in (30, 51, 71):
            extract.run(f"delete from t where id <= {end}")
            extract.load()
        extract.assert_same()
        extract.run("delete from t where id <= 92")
        with pytest.raises(TooManyDeletionsError, match=r"21 of 29 rows \(72 %\)"):
            extract.load()

    def test_a_table_without_key_too(self, extract: Extract) -> None:
        extract.run("create table t as select n % 7 as n from generate_series(1, 100) n")
        extract.load()
        before = extract.everything()
        extract.run("create table kept as select * from t; truncate t; insert into t select * from kept limit 60")
        with pytest.raises(TooManyDeletionsError, match=r"40 of 100 rows"):
            extract.load()
        assert extract.everything() == before
        assert extract.load(accept_deletions=True).deleted == 40
        extract.assert_same()

    def test_a_table_without_key_whose_rows_all_changed_lost_none(self, extract: Extract) -> None:
        extract.run("create table t as select n from generate_series(1, 100) n")
        extract.load()
        extract.run("update t set n = n + 1000")
        assert counts(extract.load()) == (100, 100, 0, 0, 100)
        extract.assert_same()

    def test_in_mode_cursor_when_it_compares(self, extract: Extract) -> None:
        settings: dict[str, Any] = {"mode": "cursor", "cursor": "at"}
        extract.run(self.HUNDRED + "; alter table t add column at timestamptz default now()")
        extract.load(**settings)
        before = extract.everything()
        extract.run("truncate t")
        extract.load(**settings)
        assert extract.everything() == before
        with pytest.raises(TooManyDeletionsError, match=r"100 of 100 rows"):
            extract.load(compare_every_h=0, **settings)
        assert extract.load(compare_every_h=0, accept_deletions=True, **settings).deleted == 100
        assert extract.raw().total() == 0


def test_the_keys_that_were_moved_are_gone_with_the_load(extract: Extract, always_in_buckets: None) -> None:
    extract.run("create table t (id integer primary key); insert into t select generate_series(1, 10)")
    extract.load()
    extract.run("delete from t where id = 1")
    extract.load()
    assert (
        query(extract.warehouse, "select relname from pg_class where relname in ('source_keys', 'staging', 'pairing')")
        == []
    )
    assert extract.warehouse.execute(sql.SQL("select count(*) from raw.odoo_t")).fetchone() == (10,)
