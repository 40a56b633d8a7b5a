"""Values that a column of a source should not hold, and one day does."""

from __future__ import annotations

import random

from psycopg import sql

from tests.histories.shape import Field

_TEXTS = (
    "", " ", "\u00a0", "\u3000 \u2003", "\t\r\n", "/", "O'Brien \\ Söhne", "台灣公司", "É", "E\u0301", "Acme",
    "ACME, Inc.", "The Acme GmbH", "x" * 1100, "<p>&nbsp;</p>", "<p>Hello&amp;</p>", "jane@acme.example",
    "acme.example", "https://www.acme.example/about?x=1", "http://", "gmail.com", "https://linkedin.com/company/acme",
    "us", "USA", "de", "123456789", "12-345-6789", "12345", " 123456789012 ", "000123456789", "1234567890123", "O123",
    "opportunity", "lead", "DE123456789", "100%", "a:b", "1", "0",
)  # fmt: skip
_NUMBERS = ("NaN", "Infinity", "-Infinity", "0", "0.00", "-1.50", "-1.5", "1e-20", "12345678901234567890.125", "100")
_DATES = ("infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "1989-12-31", "2026-02-28", "2026-03-01")
_TIMES = ("infinity", "-infinity", "2026-11-22 23:59:59.999999", "1969-12-31")
_LISTS = (
    "[]", "{}", "null", '"text"', "[1, null]", '[{"Amount": "12.50", "CurrencyCode": "usd"}]', '[{"Amount": "NaN"}]',
    '[{"Amount": "7", "TargetCompany": "Other"}, {"Amount": "8", "TargetCompany": "AWS", "Frequency": "Monthly"}]',
    '[{"Amount": "9", "Frequency": "Annual"}]', '{"en_US": "Acme"}', '{"en_US": " "}', '{"fr_FR": "x"}',
)  # fmt: skip
_ARRAYS = ("{}", "{NULL}", '{"",a,a}', '{" SaaS or PaaS ",Other}')

POOLS: dict[str, tuple[str, ...]] = {
    "text": _TEXTS,
    "character varying": _TEXTS,
    "numeric": _NUMBERS,
    "double precision": _NUMBERS,
    "boolean": ("true", "false"),
    "integer": ("0", "-1", "2147483647"),
    "bigint": ("0", "-1", "9223372036854775807"),
    "smallint": ("0", "-1"),
    "date": _DATES,
    "timestamp without time zone": _TIMES,
    "timestamp with time zone": _TIMES,
    "jsonb": _LISTS,
    "text[]": _ARRAYS,
}


def hostile_value(rng: random.Random, column: Field) -> sql.Composed:
    """Return the expression for null or a hostile value of the column's type; null where the type has none."""
    bare, _, rest = column.declared.partition("(")
    texts = POOLS.get(bare + rest.partition(")")[2], ())
    chosen = rng.choice((None, *texts))
    # Cut as PostgreSQL itself cuts what is cast: silently, to the column's length.
    return sql.SQL("{}::text::{}").format(sql.Literal(chosen), sql.SQL(column.declared))


def disguised(rng: random.Random, column: Field) -> sql.Composed:
    """Return the expression for the row's own text in other letters or with blanks around, any other value as it is."""
    if not column.declared.startswith(("text", "character varying")) or column.declared.endswith("]"):
        return sql.Composed([column.identifier])
    form = rng.choice(("upper({})", "lower({})", "' ' || {} || e'\\u00a0'", "initcap({})"))
    value = sql.SQL(form).format(column.identifier)
    return sql.SQL("({})::{}").format(value, sql.SQL(column.declared))
