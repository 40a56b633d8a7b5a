"""A score can't lie: it is between 0 and 1, never better than what is known, and 1 only if all is well."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from revops.quality.checks import DIMENSIONS
from revops.quality.score import Scored, mean_score, scores, share

RUNS = 400


def check(
    p: str | None = None, *, passed: bool = True, weight: float = 1.0, table: str = "t", dimension: str = "validity"
) -> Scored:
    """A check; p: "failed/total" of its rows, without it one about the whole table."""
    failed, total = map(int, p.split("/")) if p else (None, None)
    return Scored(table, dimension, weight, is_evaluated=True, is_passed=passed, rows_total=total, rows_failed=failed)


def random_check(rng: random.Random, *, passed: bool | None = None) -> Scored:
    total = rng.choice((None, 0, 1, 7, 1000, 10**9))
    is_passed = rng.random() < 0.5 if passed is None else passed
    failed = None if total is None else 0 if is_passed else rng.randint(0, total + 2)
    return Scored(
        rng.choice("abc"),
        rng.choice(DIMENSIONS),
        rng.choice((0.1, 1.0, 2.0, 3.0, 1e6)),
        is_evaluated=True,
        is_passed=is_passed,
        rows_total=total,
        rows_failed=failed,
    )


def samples() -> Iterator[tuple[random.Random, list[Scored]]]:
    for seed in range(RUNS):
        rng = random.Random(seed)
        yield rng, [random_check(rng) for _ in range(rng.randint(1, 12))]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([check()], "1.000000000000"),
        ([check(passed=False)], "0.000000000000"),
        ([check(), check(passed=False)], "0.500000000000"),
        ([check(weight=3), check(passed=False)], "0.750000000000"),
        # One row of four failed, beside a check that passed.
        ([check("0/4"), check("1/4", passed=False)], "0.875000000000"),
        # A third failed: rounded down, not to the nearest.
        ([check("1/3", passed=False)], "0.666666666666"),
        ([check("2/3", passed=False)], "0.333333333333"),
        # A check that passes although some rows failed has a limit of its own.
        ([check("1/4", passed=True)], "0.750000000000"),
        # More failures than rows, as when raw has rows that the source has not.
        ([check("9/4", passed=False)], "0.000000000000"),
        # It failed, but not by rows.
        ([check("0/4", passed=False)], "0.000000000000"),
        ([check("0/0", passed=True)], "1.000000000000"),
        ([check("0/0", passed=False)], "0.000000000000"),
        # One row in a thousand million still shows.
        ([check("1/1000000000", passed=False)], "0.999999999000"),
        # A failure of few rows does not lift what is worse: the mean of the three would be 0.6666.
        ([check(passed=False), check("1/1000", passed=False), check()], "0.500000000000"),
        ([check(passed=False), check("1/1000", passed=False)], "0.000000000000"),
    ],
)
def test_examples(checks: list[Scored], expected: str) -> None:
    assert f"{mean_score(checks):f}" == expected


def test_nothing_checked_has_no_score() -> None:
    assert mean_score([]) is None
    assert scores([]) == []


def test_a_score_is_between_0_and_1() -> None:
    for _, checks in samples():
        found = mean_score(checks)
        assert found is not None
        assert 0 <= found <= 1


def test_it_is_the_weighted_mean_unless_a_failure_would_lift_it() -> None:
    compared = 0
    for _, checks in samples():
        weight = sum(Fraction(one.weight) for one in checks)
        mean = sum(Fraction(one.weight) * share(one) for one in checks) / weight
        found = mean_score(checks)
        assert found is not None
        assert Fraction(found) <= mean
        if all(share(one) <= mean for one in checks if not one.is_passed):
            compared += 1
            assert mean - Fraction(found) < Fraction(1, 10**12)
    assert compared > RUNS / 4


def test_adding_a_failing_check_never_raises_it() -> None:
    for rng, checks in samples():
        before = mean_score(checks)
        after = mean_score([*checks, random_check(rng, passed=False)])
        assert before is not None
        assert after is not None
        assert after <= before


def test_making_a_check_worse_never_raises_it() -> None:
    for rng, checks in samples():
        at = rng.randrange(len(checks))
        one = checks[at]
        failed = None if one.rows_total is None else max(one.rows_failed or 0, rng.randint(0, one.rows_total))
        worse = replace(one, is_passed=False, rows_failed=failed)
        if share(worse) > share(one):
            continue  # it failed for another reason than its rows
        before, after = mean_score(checks), mean_score([*checks[:at], worse, *checks[at + 1 :]])
        assert before is not None
        assert after is not None
        assert after <= before


def test_it_is_1_only_if_everything_passed() -> None:
    ones = 0
    for _, checks in samples():
        if mean_score(checks) == 1:
            ones += 1
            assert all(one.is_passed for one in checks)
        for table_or_dimension in scores(checks):
            if table_or_dimension.score == 1:
                part = [
                    one
                    for one in checks
                    if table_or_dimension.table in (None, one.table)
                    and table_or_dimension.dimension in (None, one.dimension)
                ]
                assert all(one.is_passed for one in part)
    assert ones > 0
    # However light the one that failed, and however few its rows.
    light = check(f"1/{10**15}", passed=False, weight=1e-9)
    assert mean_score([*(check(weight=1e9) for _ in range(50)), light]) == Decimal("0.999999999999")


def test_what_was_not_evaluated_leaves_no_score_where_it_counts() -> None:
    for rng, checks in samples():
        at = rng.randrange(len(checks))
        unknown = replace(checks[at], is_evaluated=False, is_passed=False, rows_total=None, rows_failed=None)
        changed = [*checks[:at], unknown, *checks[at + 1 :]]
        for score in scores(changed):
            counts = score.table in (None, unknown.table) and score.dimension in (None, unknown.dimension)
            assert (score.score is None) is counts
            assert (score.checks - score.evaluated) == int(counts)


def test_an_empty_table_that_must_have_rows_leaves_no_score() -> None:
    """All checks on rows pass on an empty table."""
    empty = replace(check(passed=False, table="empty", dimension="completeness"), lacks_rows=True)
    found = {
        (score.table, score.dimension): score.score
        for score in scores(
            [empty, check("0/0", table="empty"), check(table="full"), check(table="full", passed=False)]
        )
    }
    assert found == {
        (None, None): None,
        (None, "completeness"): None,
        (None, "validity"): None,
        ("empty", None): None,
        ("empty", "completeness"): None,
        ("empty", "validity"): None,
        ("full", None): Decimal("0.5"),
        ("full", "validity"): Decimal("0.5"),
    }


def test_scores_of_each_table_and_dimension() -> None:
    found = scores(
        [
            check(table="a", dimension="validity", weight=2),
            check("1/2", table="a", dimension="uniqueness", passed=False),
            check(table="b", dimension="validity", passed=False),
        ]
    )
    assert [(one.table, one.dimension, f"{one.score:f}"[:6], one.checks, one.weight) for one in found] == [
        (None, None, "0.6250", 3, 4.0),
        (None, "validity", "0.6666", 2, 3.0),
        (None, "uniqueness", "0.5000", 1, 1.0),
        ("a", None, "0.8333", 2, 3.0),
        ("a", "validity", "1.0000", 1, 2.0),
        ("a", "uniqueness", "0.5000", 1, 1.0),
        ("b", None, "0.0000", 1, 1.0),
        ("b", "validity", "0.0000", 1, 1.0),
    ]
