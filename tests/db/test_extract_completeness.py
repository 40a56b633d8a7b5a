"""After every load raw is compared with the source: what differs is found and named, and the load rolled back."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Extract, counts, query
from psycopg import sql

from revops.extract import compare, completeness
from revops.extract.errors import IncompleteLoadError
from revops.keyring import Keyring

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, amount numeric, note text);"
    "insert into t select n, 'name ' || n, n * 1.50, case when n % 2 = 0 then '' end from generate_series(1, 20) n"
)


def tamper(extract: Extract, statement: str) -> None:
    """Somebody else writes to raw."""
    extract.ingest.execute(statement)  # type: ignore[arg-type]
    extract.ingest.commit()


TAMPERED = [
    ("update raw.odoo_t set name = 'x' where id = 7", r"differs from the source in column\(s\) name by id: 7\."),
    ("update raw.odoo_t set name = null where id = 7", r"differs from the source in column\(s\) name by id: 7\."),
    ("update raw.odoo_t set note = null where id = 8", r"differs from the source in column\(s\) note by id: 8\."),
    ("update raw.odoo_t set note = '' where id = 9", r"differs from the source in column\(s\) note by id: 9\."),
    (
        "update raw.odoo_t set amount = 3.0 where id = 2",
        r"differs from the source in column\(s\) amount by id: 2\.",
    ),
    (
        "update raw.odoo_t set name = name || ' ', note = 'x' where id in (3, 4)",
        r"differs from the source in column\(s\) name, note by id: 3; 4\.",
    ),
    (
        "update raw.odoo_t set amount = -amount",
        r"differs from the source in column\(s\) amount by id: 1; 10; 11; 12; 13; \.\.\.",
    ),
    # The same values in other rows: their sum does not change.
    (
        "update raw.odoo_t set name = case id when 3 then 'name 4' else 'name 3' end where id in (3, 4)",
        r"differs from the source in column\(s\) name by id: 3; 4\.",
    ),
    (
        "update raw.odoo_t as t set name = o.name from raw.odoo_t as o where o.id = 21 - t.id",
        r"differs from the source in column\(s\) name by id: 1; 10; 11; 12; 13; \.\.\.",
    ),
    ("delete from raw.odoo_t where id = 7", r"lacks 1 row\(s\) of the source by id: 7\."),
    ("update raw.odoo_t set _deleted_at = now() where id = 7", r"lacks 1 row\(s\) of the source by id: 7\."),
    ("update raw.odoo_t set id = 99 where id = 7", r"lacks 1 row\(s\) of the source by id: 7\."),
    ("truncate raw.odoo_t", r"lacks 19 row\(s\) of the source by id: 1; 10; 11; 12; 13; \.\.\."),
]


@pytest.mark.parametrize(("statement", "message"), TAMPERED)
def test_what_somebody_else_did_to_raw_is_found(extract: Extract, statement: str, message: str) -> None:
    """In the first load after it, of which most read nothing else."""
    extract.run(PEOPLE)
    extract.load()
    tamper(extract, statement)
    before, watermark = extract.everything(), extract.watermark()
    if statement in (TAMPERED[0][0], TAMPERED[-1][0]):
        extract.run("update t set name = 'changed' where id = 20; insert into t values (21)")
    with pytest.raises(IncompleteLoadError, match=rf"raw\.odoo_t {message}.*rolled back.*Remedy: .*`full_refresh`"):
        extract.load()
    assert (extract.everything(), extract.watermark()) == (before, watermark)
    assert extract.last_load()["status"] == "failed"
    extract.load(full_refresh=True)
    extract.assert_same()


def test_rows_that_the_source_does_not_have_are_marked(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("delete from t where id = 1")
    extract.load()
    tamper(extract, "insert into raw.odoo_t (id, name, _load_id) values (50, 'planted', 1)")
    tamper(extract, "update raw.odoo_t set _deleted_at = null where id = 1")
    assert counts(extract.load()) == (0, 0, 0, 0, 2)
    extract.assert_same()


# type -> value in the source, another in raw; several pairs count as equal to their own type.
VALUES: list[tuple[str, str, str | None]] = [
    ("smallint", "1", "2"),
    ("integer", "1", None),
    ("bigint", "9007199254740993", "9007199254740992"),
    ("numeric", "1.0", "1.00"),
    ("numeric(12,2)", "0.10", "0.11"),
    ("real", "0.1", "0.10000002"),
    ("double precision", "0.3", "0.30000000000000004"),
    ("double precision", "0", "-0"),
    ("boolean", "true", "false"),
    ("text", "a", "a "),
    ("text", "é", "e\u0301"),
    ("varchar(5)", "a", "A"),
    ("char(4)", "a", "b"),
    ('"char"', "a", "b"),
    ("name", "a", "b"),
    ("bytea", "\\x00", "\\x0000"),
    ("date", "infinity", "-infinity"),
    ("timestamp", "2026-01-01", "2026-01-01 00:00:00.000001"),
    ("timestamptz", "2026-01-01 00:00+00", "2026-01-01 00:00+01"),
    ("time", "24:00", "00:00"),
    ("timetz", "12:00+00", "13:00+01"),
    ("interval", "1 mon", "30 days"),
    ("uuid", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"),
    ("json", '{"a":1}', '{"a": 1}'),
    ("jsonb", "1.0", "1.00"),
    ("xml", "<a/>", "<a></a>"),
    ("inet", "10.0.0.1", "10.0.0.1/8"),
    ("money", "1.00", "1.01"),
    ("bit(3)", "101", "100"),
    ("point", "(1,2)", "(1,3)"),
    ("box", "(2,2),(0,0)", "(4,1),(0,0)"),
    ("tsvector", "'a':1", "'a':2"),
    ("text[]", "{a,b}", '{"a,b"}'),
    ("int[]", "{1,2}", "[0:1]={1,2}"),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("int4range", "[1,5)", "[1,6)"),
    ("oid", "1", "2"),
    ("mood", "so so", "ok,then"),
    ("mood[]", '{"so so"}', '{"so so",NULL}'),
    ("pair", '(1,"a,b")', '(1,"a,c")'),
    # A record of nothing but nulls is not null, and not `is not null` either.
    ("pair", "(,)", None),
    ("short", "a", "b"),
    ("vector(3)", "[1,2,3]", "[1,2,4]"),
]


def test_no_type_hides_a_difference(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "NAMED_KEYS", len(VALUES))
    extract.run(
        "create extension vector; create type mood as enum ('so so', 'ok,then');"
        "create type pair as (n integer, t text); create domain short as text"
    )
    names = [f"c{number}" for number in range(len(VALUES))]
    columns = ", ".join(f"{name} {declared}" for name, (declared, *_) in zip(names, VALUES, strict=True))
    extract.run(f"create table t (id integer primary key, {columns})")
    row = [value for _, value, _ in VALUES]
    for number in range(len(VALUES)):
        extract.source.execute(f"insert into t values ({', '.join(['%s'] * (1 + len(VALUES)))})", (number, *row))
    extract.load()
    extract.assert_same()
    # The same on both sides in every type, or this load would say so.
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    kinds = extract.raw_types()
    for number, (name, (_, _, other)) in enumerate(zip(names, VALUES, strict=True)):
        extract.ingest.execute(f"update raw.odoo_t set {name} = %s::{kinds[name]} where id = %s", (other, number))
    extract.ingest.commit()
    with pytest.raises(IncompleteLoadError) as caught:
        extract.load()
    expected = f"column(s) {', '.join(names)} by id: {'; '.join(sorted(map(str, range(len(VALUES)))))}."
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"mode": "full"}, {"mode": "cursor", "cursor": "at"}, {"mode": "replace_period", "period": ["month"]}],
    ids=lambda settings: settings.get("mode", "xid"),
)
def test_a_write_that_raw_itself_distorts_is_found_in_every_mode(extract: Extract, settings: dict[str, Any]) -> None:
    extract.run(PEOPLE + "; alter table t add at timestamptz default now(), add month date default current_date")
    extract.load(**settings)
    tamper(
        extract,
        "create or replace function raw.distort() returns trigger language plpgsql as "
        "$$ begin new.name := upper(new.name); return new; end $$;"
        "create trigger distort before insert or update on raw.odoo_t for each row execute function raw.distort()",
    )
    before = extract.everything()
    extract.run("update t set name = 'small', at = now() where id = 5")
    with pytest.raises(IncompleteLoadError, match=r"differs from the source in column\(s\) name by id: (5|1; 10)"):
        extract.load(**settings)
    assert extract.everything() == before
    tamper(extract, "drop trigger distort on raw.odoo_t; drop function raw.distort()")
    extract.load(**settings)
    extract.assert_same()


def test_a_table_without_key_is_compared_as_a_whole(extract: Extract) -> None:
    extract.run("create table t as select n % 5 as n, 'name ' || n % 3 as name from generate_series(1, 30) n")
    extract.load()
    tamper(extract, "update raw.odoo_t set name = 'x' where ctid = (select min(ctid) from raw.odoo_t)")
    before = extract.everything()
    with pytest.raises(IncompleteLoadError, match=r"raw\.odoo_t holds other rows than the source\. The load was"):
        extract.load()
    assert extract.everything() == before
    extract.load(full_refresh=True)
    extract.assert_same()


def test_the_key_is_named_in_its_parts(extract: Extract) -> None:
    extract.run("create table t (b text, a integer, v text, primary key (a, b)); insert into t values ('x', 1, 'v')")
    extract.load()
    tamper(extract, "update raw.odoo_t set v = 'w'")
    with pytest.raises(IncompleteLoadError, match=r"column\(s\) v by a, b: 1, x\."):
        extract.load()
    for part in ("a = 2", "b = 'y'"):
        extract.load(full_refresh=True)
        tamper(extract, f"update raw.odoo_t set {part}")
        with pytest.raises(IncompleteLoadError, match=r"lacks 1 row\(s\) of the source by a, b: 1, x\."):
            extract.load()


def test_the_sample_goes_round_until_every_row_has_been_compared(
    extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "SAMPLE_ROWS", 10)
    extract.run("create table t (id integer primary key, name text)")
    extract.run("insert into t select n, 'name ' || n from generate_series(1, 40) n")
    extract.load()
    for number in (3, 17, 25, 31, 40):
        tamper(extract, f"update raw.odoo_t set name = 'x' where id = {number}")
        with pytest.raises(IncompleteLoadError, match=rf"name by id: {number}\."):
            _load_times(extract, 4)
        tamper(extract, f"update raw.odoo_t set name = 'name {number}' where id = {number}")
    _load_times(extract, 4)
    extract.assert_same()


def _load_times(extract: Extract, times: int) -> None:
    for _ in range(times):
        extract.load()


@pytest.mark.parametrize("settings", [{}, {"mode": "cursor", "cursor": "at"}], ids=["by pages", "by keys"])
@pytest.mark.parametrize("key", ["integer", "text", "uuid"])
def test_samples_cut_the_table_into_parts(
    extract: Extract, monkeypatch: pytest.MonkeyPatch, key: str, settings: dict[str, Any]
) -> None:
    choose, conditions = completeness.sample_condition, []

    def recorded(*args: Any, **options: Any) -> sql.Composable:
        conditions.append(choose(*args, **options))
        return conditions[-1]

    monkeypatch.setattr(completeness, "SAMPLE_ROWS", 100)
    monkeypatch.setattr(completeness, "sample_condition", recorded)
    number = "n" if key == "integer" else f"md5(n::text)::{key}"
    extract.run(
        f"create table t (id {key} primary key, at timestamptz, note text);"
        f"insert into t select {number}, now(), repeat('x', 90) from generate_series(1, 1000) n"
    )
    extract.load(**settings)
    for _ in range(10):
        if settings:
            extract.run("update t set at = now()")
        extract.load(**settings)
    shares = [query(extract.source, sql.SQL("select id from t where {}").format(chosen)) for chosen in conditions[1:]]
    assert len(shares) == 10
    assert sum(map(len, shares)) == len(set().union(*shares)) == 1000
    assert 50 < min(map(len, shares)) <= max(map(len, shares)) < 150


def test_the_time_of_comparing_is_told_apart(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = compare.digest

    def slow(connection: Any, side: Any, **options: Any) -> Any:
        connection.execute("select pg_sleep(0.2)")
        return digest(connection, side, **options)

    extract.run(PEOPLE)
    result = extract.load()
    assert 0 < result.check_seconds < result.seconds
    monkeypatch.setattr(compare, "digest", slow)
    extract.run("update t set note = 'x' where id = 1")
    result = extract.load()
    load = extract.last_load()
    assert 0.2 <= result.check_seconds < result.seconds
    assert (load["check_seconds"], load["seconds"]) == (result.check_seconds, result.seconds)


def test_encrypted_columns_are_left_to_their_tokens(extract: Extract) -> None:
    """There is nothing to compare them with; the rest of the row is compared all the same."""
    keyring = Keyring.generate()
    extract.run(PEOPLE)
    extract.load(encrypt=["note"], keyring=keyring)
    extract.load(encrypt=["note"], keyring=keyring)
    tamper(extract, "update raw.odoo_t set name = 'x' where id = 7")
    with pytest.raises(IncompleteLoadError, match=r"column\(s\) name by id: 7\."):
        extract.load(encrypt=["note"], keyring=keyring)
    assert query(extract.warehouse, "select name from raw.odoo_t where id = 7") == [("x",)]
