"""Key values from a running number, so that writers that know nothing of each other never choose the same."""

from __future__ import annotations

from psycopg import sql

from tests.histories.shape import Field

# Kind -> the key's columns as (name, type); the last one alone is unique.
KEY_KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "integer": (("id", "integer"),),
    "bigint": (("id", "bigint"),),
    "uuid": (("id", "uuid"),),
    "text": (("Id", "text"),),
    "varchar": (("id", "character varying(20)"),),
    "composite": (("lead", "integer"), ("tag", "text")),
    "dated": (("day", "date"), ("number", "integer")),
    "none": (),
}

NUMBERS = sql.Identifier("key_numbers")
NEXT_NUMBER = sql.SQL("nextval('key_numbers')")

# {n} is the number. Texts end in what loaders trip over: blanks, tabs, backslashes, capitals, other scripts.
_UNIQUE = {
    "integer": "({n})::integer",
    "bigint": "({n}) * 4294967311",
    "numeric": "({n})::numeric",
    "uuid": "md5(({n})::text)::uuid",
    "text": "({n}) || (array['', ' ', E'\\t', '\\', 'é', 'O', '\\N'])[1 + ({n}) % 7]",
    "character varying": "({n}) || (array['', ' ', E'\\t', '\\', 'é', 'O', '\\N'])[1 + ({n}) % 7]",
    "date": "date '2000-01-01' + ({n})::integer",
    "timestamp without time zone": "timestamp '2000-01-01' + ({n}) * interval '1 microsecond'",
    "timestamp with time zone": "timestamptz '2000-01-01 00:00+00' + ({n}) * interval '1 microsecond'",
}
_COARSE = {
    "integer": "(({n}) % 5)::integer",
    "date": "date '2024-01-01' + (({n}) % 60)::integer",
    "text": "'group ' || ({n}) % 5",
}


def key_value(field: Field, *, is_last: bool, number: sql.Composable) -> sql.Composed:
    """Return an expression for one column of the key of row `number`."""
    bare = field.declared.partition("(")[0]
    expression = None if is_last else _COARSE.get(bare)
    return sql.SQL(expression or _UNIQUE[bare]).format(n=number)


def key_values(key: tuple[Field, ...], number: sql.Composable) -> list[sql.Composed]:
    """Return the expressions of a whole key."""
    return [key_value(field, is_last=field is key[-1], number=number) for field in key]
