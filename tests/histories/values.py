"""Types that a source may have, and texts of their values: extremes, and pairs that are equal but print differently."""

from __future__ import annotations

from psycopg import sql

_TEXTS = (
    "",
    "plain",
    "tab\there",
    "line\nbreak",
    "cr\r\n",
    "back\\slash",
    "\\N",
    "\\.",
    "it's",
    '"quoted"',
    "é漢🙂",
    " pad ",
)

# By what format_type() prints, without length or precision unless the modifier limits the values.
POOLS: dict[str, tuple[str, ...]] = {
    "smallint": ("0", "1", "-1", "32767", "-32768"),
    "integer": ("0", "1", "-1", "2147483647", "-2147483648", "303"),
    "bigint": ("0", "1", "-1", "9223372036854775807", "-9223372036854775808", "303"),
    "numeric": ("0", "1", "1.0", "1.00", "-0.5", "1e-20", "NaN", "Infinity", "-Infinity", "12345678901234567890.125"),
    "numeric(12,2)": ("0", "1", "1.25", "-9999999999.99", "NaN"),
    "real": ("0", "-0", "0.1", "1.5", "16777216", "3.4e38", "NaN", "Infinity", "-Infinity"),
    "double precision": ("0", "-0", "0.1", "0.30000000000000004", "16777216", "1e300", "NaN", "Infinity", "-Infinity"),
    "boolean": ("true", "false"),
    "text": _TEXTS,
    "character varying": _TEXTS,
    "character": ("", "a", "ab", "é"),
    "bytea": ("\\x", "\\x00ff", "\\x5c4e", "\\x5c2e0a"),
    "date": ("2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"),
    "timestamp without time zone": (
        "2024-02-29 12:00:00.123456",
        "2024-02-29",
        "infinity",
        "-infinity",
        "0044-03-15 BC",
    ),
    "timestamp with time zone": (
        "2024-02-29 12:00:00.123456+05:45",
        "infinity",
        "-infinity",
        "0044-03-15 00:00:00+00 BC",
    ),
    "time without time zone": ("00:00:00", "24:00:00", "12:34:56.789"),
    "time with time zone": ("00:00:00+14", "24:00:00-12", "12:34:56.789+05:45"),
    "interval": ("0", "1 mon", "30 days", "720:00:00", "1 year 2 mons -3 days", "-00:00:01.5"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "json": ("null", '{"a": 1, "a": 2}', '{"a":1}', '"\\u0000"', "[1.0, 1.00]"),
    "jsonb": ("null", '{"a": 1.0}', '{"a": 1.00}', "[]", '"line\\nbreak"', '{"en_US": "Won"}'),
    "text[]": ("{}", "{NULL}", '{"NULL"}', '{"a,b","c\\\\d",""}', "{{a,b},{c,d}}", "[0:1]={x,y}"),
    "integer[]": ("{}", "{1,2,NULL}", "{{1},{2}}"),
    "numeric[]": ("{1.0}", "{1.00}", "{NaN}"),
    "int4range": ("empty", "[1,5)", "(,5)", "(,)"),
    "numrange": ("empty", "[1.0,2]", "[1.00,2]", "(,1]"),
    "tstzrange": ("empty", '["2024-01-01 00:00:00+00",infinity)', '(,"2024-02-29 12:00:00+00"]'),
    "int4multirange": ("{}", "{[1,5),[7,9)}"),
    "inet": ("10.0.0.1", "10.0.0.1/8", "::1"),
    "cidr": ("10.0.0.0/8", "10.0.0.1/32", "::/0"),
    "macaddr": ("08:00:2b:01:02:03",),
    "bit(8)": ("00000000", "10101010"),
    "bit varying": ("", "101"),
    "money": ("0", "12.34", "-92233720368547758.08"),
    "point": ("(0,0)", "(-0,1e-300)", "(NaN,Infinity)"),
    "tsvector": ("", "'a':1 'b':2A"),
    "mood": ("sad", "it's", "ok, fine"),
    "mood[]": ("{}", '{sad,"ok, fine",NULL}'),
    "share": ("0", "0.5", "0.50", "100"),
    "share[]": ("{}", "{0.5,0.50}"),
    "place": ("(1,a)", '(,"b ""c"" d")', "(,)"),
    "place[]": ("{}", '{"(1,a)",NULL}'),
}

# Types of the source's own: the warehouse has none of them.
OWN_TYPES = """
    create type mood as enum ('sad', 'it''s', 'ok, fine');
    create domain share as numeric check (value between 0 and 100 or value = 'NaN');
    create type place as (number integer, name text);
"""

# How a new column is declared; several spellings of one type where they load differently.
DECLARATIONS = (
    *(name for name in POOLS if name not in ("character varying", "character", "bit varying")),
    *("character varying", "character varying(12)", "character(3)", "timestamp(0) without time zone", "bit varying(5)"),
    *("text", "integer", "numeric", "boolean", "jsonb", "character varying", "timestamp without time zone"),
)


def pool_of(declared: str) -> tuple[str, ...]:
    """Return texts of values of a type as format_type() prints it."""
    if declared in POOLS:
        return POOLS[declared]
    bare, _, rest = declared.partition("(")
    return POOLS[(bare + rest.partition(")")[2]).replace("  ", " ").strip()]


def any_value(declared: str, *, salt: int, row: sql.Composable, is_required: bool) -> sql.Composed:
    """Return an expression: one of the type's values, chosen by the salt and the text of `row`; null now and then."""
    texts: list[str | None] = list(pool_of(declared))
    if not is_required:
        texts.append(None)
    return sql.SQL("(array[{values}]::text[])[1 + abs(hashtext({row} || {salt})::bigint) % {size}]::{declared}").format(
        values=sql.SQL(", ").join(map(sql.Literal, texts)),
        row=row,
        salt=sql.Literal(f"/{salt}"),
        size=sql.Literal(len(texts)),
        declared=sql.SQL(declared),
    )
