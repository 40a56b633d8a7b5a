"""The lattice of types: a raw column only ever widens, and text holds everything."""

from __future__ import annotations

import itertools

import pytest

from revops.extract.drift import Change, wider_type

TYPES = (
    "smallint", "integer", "bigint", "numeric", "numeric(10,2)", "numeric(12,4)", "real", "double precision",
    "date", "timestamp without time zone", "timestamp(3) without time zone", "timestamp with time zone",
    "time without time zone", "interval", "boolean", "uuid", "bytea", "json", "jsonb", "character varying(10)",
    "character varying(20)", "character varying", "text", "integer[]", "text[]", "numeric(10,2)[]", "jsonb[]",
)  # fmt: skip
PAIRS = list(itertools.product(TYPES, TYPES))


@pytest.mark.parametrize("name", TYPES)
def test_a_type_that_did_not_change_stays(name: str) -> None:
    assert wider_type(name, name) == name


def test_it_does_not_matter_which_of_two_types_is_in_raw() -> None:
    for raw, source in PAIRS:
        assert wider_type(raw, source) == wider_type(source, raw), (raw, source)


def test_widening_reaches_an_end() -> None:
    # The next night meets the same source: a column that went on changing would rewrite its table every time.
    for raw, source in PAIRS:
        wider = wider_type(raw, source)
        assert wider_type(wider, source) == wider, (raw, source)
        assert wider_type(wider, raw) == wider, (raw, source)


@pytest.mark.parametrize("name", TYPES)
def test_text_is_the_top(name: str) -> None:
    assert wider_type("text", name) == "text"


def test_an_array_never_becomes_a_single_number() -> None:
    for array, other in PAIRS:
        if array.endswith("[]") and other != array:
            assert wider_type(array, other) in ("text", "text[]"), (array, other)


def test_the_order_in_which_types_appear_does_not_matter() -> None:
    for first, second, third in itertools.product(TYPES, TYPES, TYPES):
        left = wider_type(wider_type(first, second), third)
        right = wider_type(first, wider_type(second, third))
        # `text` and an array of text hold the same values; anything else must agree.
        assert left == right or {left, right} == {"text", "text[]"}, (first, second, third)


@pytest.mark.parametrize(
    ("raw", "source", "wider"),
    [
        ("smallint", "bigint", "bigint"),
        ("bigint", "integer", "bigint"),
        ("bigint", "numeric", "numeric"),
        ("integer", "numeric(10,2)", "numeric"),
        ("numeric(10,2)", "numeric(12,4)", "numeric"),
        ("real", "double precision", "double precision"),
        ("numeric", "double precision", "text"),
        ("date", "timestamp without time zone", "timestamp without time zone"),
        ("date", "timestamp with time zone", "text"),
        ("character varying(10)", "character varying(20)", "text"),
        ("boolean", "integer", "text"),
        ("integer[]", "text[]", "text[]"),
        ("integer[]", "integer", "text"),
        ("numeric(10,2)[]", "numeric(12,4)[]", "text[]"),
        ("numeric(10,2)[]", "integer", "text"),
    ],
)
def test_examples(raw: str, source: str, wider: str) -> None:
    assert wider_type(raw, source) == wider


@pytest.mark.parametrize(
    ("change", "needs_full_read"),
    [
        ("column_added", True),
        ("column_returned", True),
        ("column_encrypted", True),
        ("key_changed", True),
        ("type_widened", True),
        ("column_dropped", False),
        ("column_excluded", False),
        ("column_ignored", False),
        ("table_created", False),
    ],
)
def test_what_rewrites_rows_unseen_asks_for_a_full_read(change: str, needs_full_read: bool) -> None:
    assert Change(change).needs_full_read is needs_full_read
