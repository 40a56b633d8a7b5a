"""Every value of a hostile source arrives as it is, and every change of one is noticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from builders import Extract, counts, query
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.extract.sessions import Route

pytestmark = pytest.mark.db

# type -> literals; each becomes a row of its own, beside one that is null.
VALUES = {
    "timestamptz": ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00",
                    "2026-06-01 12:00:00.123456+05:45"],
    "timestamp": ["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999",
                  "0001-01-01 00:00:00"],
    "timestamp(0)": ["2026-11-22 10:11:12"],
    "timestamp(3) with time zone": ["2026-11-22 10:11:12.345+00"],
    "date": ["infinity", "-infinity", "0001-12-31 BC", "10000-01-01", "5874897-12-31"],
    "time": ["24:00", "00:00", "23:59:59.999999"],
    "timetz": ["24:00+00", "12:00-15:59", "12:00+05:30"],
    "interval": ["1 year 2 mons", "-1 days +02:03:04", "178000000 years", "0", "1 mon -1 days", "infinity",
                 "24:00:00", "1 day"],
    "numeric": ["NaN", "Infinity", "-Infinity", "1.0", "1.00", "1e-30", "123456789012345678901234567890.123456789",
                "0.00"],
    "numeric(12,2)": ["NaN", "1234567890.12", "-0.01"],
    "smallint": ["-32768", "32767"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["NaN", "Infinity", "-0", "1e-45", "3.4028235e38", "0.1"],
    "double precision": ["NaN", "-Infinity", "-0", "5e-324", "0.1", "0.30000000000000004"],
    "boolean": ["true", "false"],
    "text": ["", " ", "\t", "a\tb", "a\nb", "a\r\nb", "\\", "\\N", "\\.", "\\\\N", "a\\tb",
             "🚀 ‮ é é 中文", "\u00a0x\u00a0",
             "'", '"', "$$", "%s", "{}", ",", "null", "NULL", "\x01\x1f\x7f", "\ufeff", "\u2028", "x" * 100_000],
    "varchar(5)": ["", "abcde", "é中🚀 "],
    "char(4)": ["a", "", "abcd"],
    '"char"': ["x", ""],
    "name": ["n" * 63],
    "json": ['{"a": 1, "a": 2}', '{"b":1,   "a":2}', "null", '"\\u0000"', '"\\ud800"', " [1 ] "],
    "jsonb": ['{"a": 1, "a": 2}', "null", '"tab\\there"', "[]", "1.00", "1.0", '{"en_US": "x"}'],
    "bytea": ["\\x", "\\x00ff5c5c0a", "\\x" + "00" * 5000],
    "uuid": ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "money": ["1,234.56", "-0.01", "92233720368547758.07"],
    "bit(3)": ["101"],
    "bit varying": ["", "10101"],
    "xml": ["<a b='1'>x</a>", "no root", "<a/><b/>"],
    "point": ["(1,2)", "(NaN,Infinity)", "(-0,0.1)"],
    "box": ["(2,2),(0,0)"],
    "path": ["[(0,0),(1,1)]"],
    "polygon": ["((0,0),(1,0),(1,1))"],
    "circle": ["<(0,0),1>"],
    "tsvector": ["'a':1A 'b c':2"],
    "tsquery": ["'a' & !'b'"],
    "int4range": ["empty", "[1,5)", "(,)"],
    "tstzrange": ["[infinity,infinity]", "[2026-01-01 00:00:00+00,)"],
    "numrange": ["[1.0,2.00)"],
    "int4multirange": ["{}", "{[1,3),[5,7)}"],
    "text[]": ["{}", "{NULL}", '{"NULL","null",NULL}', '{"a,b","c\\"d","e\\\\f","","\\t"}', "{{a,b},{c,d}}",
               "[0:1]={a,b}"],
    "int[]": ["{1,NULL,3}", "[2:3]={1,2}"],
    "numeric[]": ["{1.0,NaN}", "{1.00}"],
    "timestamptz[]": ["{infinity,NULL}"],
    "json[]": ['{"{\\"a\\": 1, \\"a\\": 2}"}'],
    "pg_lsn": ["16/B374D848"],
    "oid": ["4294967295"],
    "regclass": ["pg_class"],
    "mood": ["so so", "ok,then"],
    "mood[]": ['{"so so",NULL}'],
    "short": ["abc"],
    "pair": ['(1,"a,b")', "(,)", '(2,"q""uote")'],
    "pair[]": ['{"(1,\\"a,b\\")",NULL}'],
    "floats": ["[0.5,1.5)"],
    "vector(3)": ["[1,2.5,-3]", "[0,0,1e-10]"],
    "halfvec(2)": ["[0.5,65504]"],
    "sparsevec(5)": ["{1:0.5,5:-1}/5"],
}  # fmt: skip

TYPES = (
    "create extension vector;"
    "create type mood as enum ('so so', 'ok,then');"
    "create domain short as text check (length(value) < 5);"
    "create type pair as (n integer, t text);"
    "create type floats as range (subtype = float8)"
)


def test_every_value_arrives_unchanged(extract: Extract) -> None:
    extract.run(TYPES)
    columns = [(f"c{number}", declared) for number, declared in enumerate(VALUES)]
    extract.run(f"create table t (id serial primary key, {', '.join(f'{name} {type_}' for name, type_ in columns)})")
    extract.run("insert into t default values")
    for name, declared in columns:
        for literal in VALUES[declared]:
            extract.source.execute(
                sql.SQL("insert into t ({}) values ({})").format(sql.Identifier(name), sql.Literal(literal))
            )
    extract.load()
    extract.assert_same()
    # Types that every server has stay what they are; types of the source's own become text.
    kinds = extract.raw_types()
    own = {"regclass", "mood", "short", "pair", "floats", "vector(3)", "halfvec(2)", "sparsevec(5)"}
    source_types = dict(
        query(
            extract.source,
            "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 't'::regclass",
        )
    )
    for name, declared in columns:
        expected = source_types[name]
        if declared.removesuffix("[]") in own:
            expected = "text[]" if declared.endswith("[]") else "text"
        assert kinds[name] == expected, declared
    # A second reading of the same values finds no difference in any type.
    rows = sum(map(len, VALUES.values())) + 1
    assert counts(extract.load(full_refresh=True)) == (rows, 0, 0, rows, 0)
    # Empty text is not null, and the text \N is not either.
    texts = f"c{list(VALUES).index('text')}"
    assert query(
        extract.warehouse, f"select count(*) filter (where {texts} = ''), count(*) filter (where {texts} = '\\N'), "
        f"count({texts}) from raw.odoo_t"
    ) == [(1, 1, len(VALUES["text"]))]  # fmt: skip


# Each pair differs in the text that PostgreSQL prints; several count as equal to it, or can't be compared at all.
CHANGES = [
    ("json", '{"a":1}', '{"a": 1}'),
    ("json", '{"a": 1, "a": 2}', '{"a": 2}'),
    ("xml", "<a/>", "<a></a>"),
    ("point", "(1,2)", "(1,3)"),
    ("line", "{1,2,3}", "{2,4,6}"),
    ("box", "(2,2),(0,0)", "(4,1),(0,0)"),
    ("path", "[(0,0),(1,1)]", "[(0,0),(2,2)]"),
    ("polygon", "((0,0),(1,0),(1,1))", "((0,0),(1,0),(1,2))"),
    ("circle", "<(0,0),1>", "<(5,5),1>"),
    ("json[]", '{"1"}', '{"2"}'),
    ("numeric", "1.0", "1.00"),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("numrange", "[1.0,2)", "[1.00,2)"),
    ("jsonb", "1.0", "1.00"),
    ("interval", "1 mon", "30 days"),
    ("interval", "24:00:00", "1 day"),
    ("double precision", "0", "-0"),
    ("real", "0", "-0"),
    ("char(4)", "a", "b"),
    ("text", "a", "a "),
    ("text", "", None),
    ("text", None, ""),
    ("numeric", "NaN", "Infinity"),
    ("timestamptz", "infinity", "-infinity"),
    ("timetz", "12:00+00", "13:00+01"),
    ("mood", "so so", "ok,then"),
    ("bytea", "\\x00", "\\x0000"),
    ("tsvector", "'a':1", "'a':2"),
    ("vector(3)", "[1,2,3]", "[1,2,4]"),
    ("int[]", "{1,2}", "[0:1]={1,2}"),
]


def test_every_change_of_a_value_is_noticed(extract: Extract) -> None:
    extract.run(TYPES)
    columns = ", ".join(f"c{number} {declared}" for number, (declared, _, _) in enumerate(CHANGES))
    extract.run(f"create table t (id integer primary key, {columns})")
    for number, (_, before, _) in enumerate(CHANGES):
        extract.source.execute(
            sql.SQL("insert into t (id, {}) values ({}, {})").format(
                sql.Identifier(f"c{number}"), number, sql.Literal(before)
            )
        )
    extract.load()
    extract.assert_same()
    for number, (_, _, after) in enumerate(CHANGES):
        extract.source.execute(
            sql.SQL("update t set {} = {} where id = {}").format(
                sql.Identifier(f"c{number}"), sql.Literal(after), number
            )
        )
    assert counts(extract.load()) == (len(CHANGES), 0, len(CHANGES), 0, 0)
    extract.assert_same()


def test_generated_and_identity_columns(extract: Extract) -> None:
    extract.run(
        "create table t (id integer generated always as identity primary key, n integer default 5,"
        " twice integer generated always as (n * 2) stored, thrice integer generated always as (n * 3) virtual);"
        "insert into t (n) values (1), (2)"
    )
    extract.load()
    extract.assert_same()
    extract.run("update t set n = 7 where id = 1; insert into t (n) values (9)")
    assert counts(extract.load()) == (2, 1, 1, 0, 0)
    extract.assert_same()


def test_partitioned_table(extract: Extract) -> None:
    extract.run(
        "create table t (id integer, month date, n integer, primary key (id, month)) partition by range (month);"
        "create table t_1 partition of t for values from ('2026-01-01') to ('2026-02-01');"
        "create table t_2 partition of t for values from ('2026-02-01') to ('2026-03-01');"
        "insert into t select n, date '2026-01-01' + n % 50, n from generate_series(1, 100) n"
    )
    extract.load()
    extract.assert_same()
    # An update that moves a row to another partition, and a row of each kind.
    extract.run(
        "update t set month = '2026-02-20' where id = 2; delete from t where id = 3; update t set n = 0 where id = 4"
    )
    result = extract.load()
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 2)
    extract.assert_same()
    extract.run("alter table t detach partition t_1")
    extract.load(accept_deletions=True)
    extract.assert_same()


def test_a_partition_filled_before_it_is_attached(extract: Extract) -> None:
    """Its rows were written before the last load, but in another table: their transactions tell nothing."""
    extract.run(
        "create table t (id integer primary key, n text) partition by range (id);"
        "create table t_1 partition of t for values from (0) to (100);"
        "insert into t select n, 'old' from generate_series(1, 50) n;"
        "create table t_new (like t_1 including all); insert into t_new select id, 'new' from t_1"
    )
    extract.load()
    extract.run("alter table t detach partition t_1; alter table t attach partition t_new for values from (0) to (100)")
    extract.load()
    extract.assert_same()


def test_inheritance_parent_without_the_rows_of_its_children(extract: Extract) -> None:
    extract.run(
        "create table t (id integer primary key, n integer); create table child (extra text) inherits (t);"
        "insert into t values (1, 1), (2, 2); insert into child values (1, 100, 'x'), (3, 3, 'y')"
    )
    extract.load()
    assert extract.raw() == Counter([("1", "1"), ("2", "2")])
    extract.assert_same()
    extract.run("update t set n = n + 1")
    extract.load()
    extract.assert_same()
    assert query(extract.warehouse, "select count(*) from raw.odoo_t where _deleted_at is not null") == [(0,)]


@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_views_are_read_in_full(extract: Extract, kind: str) -> None:
    extract.run(
        "create table base (id integer primary key, n text); insert into base values (1, 'a'), (2, 'b'), (3, 'b');"
        f"create {kind} t as select n, count(*) as many from base group by n"
    )
    extract.load()
    extract.assert_same()
    extract.run("delete from base where id = 1; insert into base values (4, 'c')")
    if kind == "materialized view":
        extract.run("refresh materialized view t")
    extract.load()
    extract.assert_same()
    assert extract.last_load()["full_read_reason"] == "a view has no transaction ids"


SETTINGS = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "timezone": "Asia/Kathmandu",
    "xmloption": "document",
    "default_transaction_isolation": "serializable",
}
STYLED = (
    "create table t (id integer primary key, d date, ts timestamp, tz timestamptz, i interval, f float8, b bytea);"
    "insert into t values (1, '2026-02-01', '2026-02-01 13:00', '2026-02-01 13:00+00', '-1 days +02:03:04', pi(), "
    "'\\x00ff5c'), (2, '2026-11-30', '0044-03-15 BC', 'infinity', '1 year -2 mons', 0.1, '')"
)


@pytest.mark.parametrize("side", ["source", "warehouse"])
def test_servers_that_print_values_in_other_ways(
    extract: Extract, passwords: dict[str, str], side: str, empty_database: Callable[[], str]
) -> None:
    """A database or login may have its own date style, time zone and float digits: dates must not turn round."""
    extract.run(STYLED)
    dsn = extract.source_dsn if side == "source" else extract.warehouse_dsn
    settings = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items())
    role = "" if side == "source" else " -c role=revops_ingest"

    def styled() -> psycopg.Connection:
        connection = psycopg.connect(make_conninfo(dsn, options=settings + role))
        assert query(connection, "show datestyle") == [("SQL, DMY",)]
        connection.rollback()
        return connection

    route = Route(styled, extract.connect_ingest) if side == "source" else Route(extract.connect_reader, styled)
    extract.load(route=route)
    extract.assert_same()
    extract.run("update t set i = '1 mon -1 days', f = 1.0 / 3 where id = 1")
    assert counts(extract.load(route=route)) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_source_in_another_encoding(latin1: Extract) -> None:
    latin1.run('create table t (id integer primary key, "größe" text)')
    latin1.run("insert into t values (1, 'café à ñ')")
    latin1.load()
    assert latin1.raw() == Counter([("1", "café à ñ")])
    assert "größe" in latin1.raw_types()
