"""Binary COPY checks nothing: only where both sides' types are surely the same may rows go that way."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Extract, counts, query

from revops.extract.catalog import Column, Relation
from revops.extract.formats import agreed_format

pytestmark = pytest.mark.db

NUMERIC_20 = "numeric(20,10)"
TIMESTAMP, TIMESTAMPTZ = "timestamp without time zone", "timestamp with time zone"
# Type in the source and type in raw between which binary COPY changes values without a word.
SILENT = [
    ("text", "integer"),
    ("text", "bigint"),
    ("double precision", "bigint"),
    ("bigint", "double precision"),
    ("real", "integer"),
    ("date", "integer"),
    ("integer", "date"),
    (TIMESTAMP, TIMESTAMPTZ),
    (TIMESTAMPTZ, TIMESTAMP),
    (TIMESTAMPTZ, "bigint"),
    ("time without time zone", "bigint"),
    ("money", "bigint"),
    ("oid", "integer"),
    ("boolean", '"char"'),
    ("jsonb", "text"),
    (NUMERIC_20, "numeric(12,2)"),
]
# Between these it fails, or is right only by luck.
REFUSED = [
    ("integer", "bigint"),
    ("bigint", "integer"),
    ("smallint", "integer"),
    ("numeric", "text"),
    ("numeric(12,2)", "numeric(10,2)"),
    ("real", "double precision"),
    ("json", "jsonb"),
    ("jsonb", "json"),
    ("uuid", "text"),
    ("text", "uuid"),
    ("integer[]", "bigint[]"),
    ("integer[]", "text[]"),
    ("integer", "integer[]"),
    ("character varying(20)", "character varying(10)"),
    ("text", "character varying"),
    ("character(4)", "text"),
    ("character(4)", "character(5)"),
    ("timestamp(0) without time zone", "timestamp(3) without time zone"),
    ("date", TIMESTAMP),
    ("xml", "text"),
    ("bytea", "text"),
    ("text", "bytea"),
]
# The same on both sides, but in numbers of one server, by settings of one server, or not of PostgreSQL itself.
OWN = [
    *("money", "xml", "oid", "regclass", "name", '"char"', "xid", "pg_lsn", "tsquery", "jsonpath", "int4multirange"),
    *("bpchar", "interval day to second", "vector(3)", "public.mood", "xml[]", "oid[]"),
]
SAME = [
    ("smallint", "smallint"),
    ("numeric(12,2)", "numeric(12,2)"),
    ("numeric(12,2)", "numeric"),
    ("character varying(20)", "character varying(20)"),
    ("character varying(20)", "character varying"),
    ("character varying(20)", "text"),
    ("character varying", "text"),
    ("timestamp(0) without time zone", TIMESTAMP),
    ("timestamp(0) without time zone", "timestamp(0) without time zone"),
    ("integer[]", "integer[]"),
    ("numeric(10,2)[]", "numeric(10,2)[]"),
    ("bit(3)", "bit(3)"),
    ("interval", "interval"),
    ("interval(0)", "interval(0)"),
]


def form(*columns: tuple[str, str]) -> str:
    """The format of a table whose columns have these types in the source and in raw."""
    made = tuple(Column(f"c{number}", raw, source) for number, (source, raw) in enumerate(columns))
    relation = Relation(1, "public", "t", "r", made, (), "here", rows=0, pages=0)
    return agreed_format(relation, {column.name: column.type for column in made})


@pytest.mark.parametrize(
    ("source", "raw"), [*SILENT, *REFUSED, *((own, own) for own in OWN), *((own, "text") for own in OWN)]
)
def test_types_that_differ_or_may_differ_go_as_text(source: str, raw: str) -> None:
    assert form((source, raw)) == "text"
    # One such column is enough, wherever it stands.
    assert form(("integer", "integer"), (source, raw), ("text", "text")) == "text"


@pytest.mark.parametrize(("source", "raw"), SAME)
def test_types_that_are_the_same_go_as_they_are(source: str, raw: str) -> None:
    assert form((source, raw)) == "binary"


def test_encrypted_columns_are_bytes() -> None:
    secret = (Column("email", "bytea", "public.mood", "token", "email"), Column("e", "bytea", "text", "blind_index"))
    relation = Relation(1, "public", "t", "r", secret, (), "here", rows=0, pages=0)
    assert agreed_format(relation, {"email": "bytea", "e": "bytea"}) == "binary"
    assert agreed_format(relation, {"email": "text", "e": "bytea"}) == "text"


# Every type that may go in binary, with values at its edges.
BINARY = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["NaN", "Infinity", "-Infinity", "1.0", "1.00", "1e-30", "0",
                "123456789012345678901234567890.123456789"],
    "numeric(12,2)": ["NaN", "1234567890.12", "-0.01"],
    "numeric(10,-2)": ["12300"],
    "real": ["NaN", "-Infinity", "-0", "1e-45"],
    "double precision": ["NaN", "Infinity", "-0", "5e-324", "0.1"],
    "boolean": ["true", "false"],
    "text": ["", " ", "\\N", "\\.", "a\tb\nc\r\\d", "🚀 é", "\x01\x7f", "x" * 100_000],
    "varchar": ["", "abc"],
    "varchar(5)": ["", "abcde"],
    "char(4)": ["", "a", "abcd"],
    "char": ["a", ""],
    "bytea": ["\\x", "\\x00ff5c0a"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "json": ['{"a": 1, "a":  2}', '"\\u0000"'],
    "jsonb": ['{"a": 1, "b": [null, 1.00]}', "1.0"],
    "date": ["infinity", "-infinity", "0001-12-31 BC", "5874897-12-31"],
    "interval": ["1 year 2 mons", "-1 days +02:03:04", "infinity", "24:00:00", "178000000 years"],
    "timestamp": ["infinity", "4713-01-01 BC", "294276-12-31 23:59:59.999999"],
    "timestamp(0)": ["2026-11-22 10:11:12"],
    "timestamptz": ["-infinity", "2026-06-01 12:00:00.123456+05:45", "0044-03-15 BC"],
    "timestamptz(3)": ["2026-11-22 10:11:12.345+00"],
    "time": ["24:00", "00:00", "23:59:59.999999"],
    "timetz": ["24:00+00", "12:00-15:59"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit": ["1"],
    "bit(3)": ["101"],
    "bit varying": ["", "10101"],
    "bit varying(9)": ["101010101"],
    "tsvector": ["'a':1A 'b c':2", ""],
    "point": ["(1,2)", "(NaN,Infinity)", "(-0,0.1)"],
    "line": ["{1,2,3}", "{2,4,6}"],
    "lseg": ["[(0,0),(1,0.1)]"],
    "box": ["(2,2),(0,0)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,0),(1,1))"],
    "circle": ["<(0,0),1>"],
    "int4range": ["empty", "[1,5)", "(,)"],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["[1.0,2.00)"],
    "tsrange": ["[2026-01-01,infinity]"],
    "tstzrange": ["[infinity,infinity]", "[2026-01-01 00:00:00+00,)"],
    "daterange": ["[2026-01-01,2026-02-01)"],
    "text[]": ["{}", "{NULL}", '{"NULL","a,b",""}', "{{a,b},{c,d}}", "[0:1]={a,b}"],
    "int[]": ["[2:3]={1,NULL}"],
    "numeric(10,2)[]": ["{1.00,NaN}"],
    "json[]": ['{"{\\"a\\": 1, \\"a\\": 2}"}'],
    "timestamptz[]": ["{infinity,NULL}"],
}  # fmt: skip


def insert_values(extract: Extract, values: dict[str, list[str]]) -> int:
    """Create t with a column a type, insert each value in a row of its own and one row of nulls; return how many."""
    names = [f"c{number}" for number in range(len(values))]
    columns = ", ".join(f"{name} {declared}" for name, declared in zip(names, values, strict=True))
    extract.run(f"create table t (id serial primary key, {columns}); insert into t default values")
    for name, literals in zip(names, values.values(), strict=True):
        for literal in literals:
            extract.source.execute(f"insert into t ({name}) values (%s)", (literal,))
    return 1 + sum(map(len, values.values()))


def test_every_type_that_goes_in_binary_arrives(extract: Extract) -> None:
    rows = insert_values(extract, BINARY)
    extract.load()
    assert extract.last_load()["format"] == "binary"
    extract.assert_same()
    # And once more through the staging table, of every row.
    extract.run("update t set id = id")
    assert counts(extract.load()) == (rows, 0, 0, rows, 0)
    assert extract.last_load()["format"] == "binary"
    extract.run("update t set c0 = 7")
    assert counts(extract.load()) == (rows, 0, rows, 0, 0)
    extract.assert_same()


def test_domains_go_as_what_lies_below_them(extract: Extract) -> None:
    extract.run(
        "create domain positive as integer check (value > 0); create domain very as positive check (value < 100);"
        "create domain cents as numeric(10,2); create domain short as varchar(5); create domain list as integer[]"
    )
    insert_values(
        extract, {"positive": ["1"], "very": ["99"], "cents": ["1.50", "NaN"], "short": ["é"], "list": ["{1}"]}
    )
    extract.load()
    assert extract.last_load()["format"] == "binary"
    extract.assert_same()
    types = list(extract.raw_types().values())[1:6]
    assert types == ["integer", "integer", "numeric(10,2)", "character varying(5)", "integer[]"]
    extract.run("alter domain cents drop not null; update t set c2 = 9.99 where c2 = 1.5")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


@pytest.mark.parametrize("domain", ["mood", "pair", "money", "positive[]"])
def test_domains_over_what_does_not_go_in_binary(extract: Extract, domain: str) -> None:
    extract.run(
        "create type mood as enum ('so so'); create type pair as (n integer, t text);"
        f"create domain positive as integer; create domain own as {domain}"
    )
    sample = {"mood": "so so", "pair": '(1,"a b")', "money": "1.00", "positive[]": "{1,2}"}[domain]
    insert_values(extract, {"own": [sample]})
    extract.load()
    assert extract.last_load()["format"] == "text"
    extract.assert_same()


@pytest.mark.parametrize(
    ("first", "then", "values"),
    [
        ("bigint", "integer", ["7", "-2147483648"]),
        ("text", "integer using v::integer", ["1234", "12345678"]),
        ("text", "bigint using v::bigint", ["1234", "12345678"]),
        ("text", "jsonb using v::jsonb", ["{}", "[1]"]),
        ("timestamp", "timestamptz", ["2026-06-01 12:00"]),
        ("timestamptz", "timestamp", ["2026-06-01 12:00+02"]),
        ("bigint", "double precision", ["1", "4607182418800017408"]),
        ("double precision", "bigint", ["1", "4607182418800017408"]),
        ("numeric(12,2)", "numeric(20,10)", ["1.25"]),
        ("numeric(20,10)", "numeric(12,2)", ["1.2500000000"]),
        ("date", "integer using v - date '2000-01-01'", ["2026-01-01"]),
        ("varchar(5)", "varchar(9)", ["abcde"]),
    ],
)
def test_a_column_whose_type_changed_is_not_reinterpreted(
    extract: Extract, first: str, then: str, values: list[str]
) -> None:
    extract.run(f"set timezone = 'UTC'; create table t (id serial primary key, v {first})")
    for value in values:
        extract.source.execute("insert into t (v) values (%s)", (value,))
    extract.load()
    extract.assert_same()
    extract.run(f"alter table t alter v type {then}; insert into t (v) select v from t")
    extract.load()
    # Raw may hold a wider type, that prints more or fewer zeros; read as the source's own it is the same.
    declared = query(extract.source, "select format_type(atttypid, atttypmod) from pg_attribute "
                     "where attrelid = 't'::regclass and attname = 'v'")[0][0]  # fmt: skip
    extract.warehouse.execute("set timezone = 'UTC'")
    found: Any = query(extract.warehouse, f"select id, v::{declared}::text from raw.odoo_t order by id")
    assert found == query(extract.source, "select id, v::text from t order by id")
    extract.load(full_refresh=True)
