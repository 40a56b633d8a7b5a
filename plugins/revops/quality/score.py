"""Scores between 0 and 1: how much of what was checked is as it should be, never better than what is known.

A check has a share p. Where it looks at rows, p = 1 - rows_failed / rows_total; where it is about the table as a whole,
p is 1 if it passed, else 0. A score is the mean of the shares, weighted with the checks' weights:
sum(weight * p) / sum(weight), over the checks of a table, a dimension, both or neither.

Three things keep it honest:

- It is unknown (null) where a check was not evaluated, or where a table that must have rows has none: on an empty
  table nothing can fail.
- A failed check only ever lowers it. In a plain mean a failure of few rows would lift a score that is lower than its
  own share; such a failure is left out. (Failed checks are counted from the worst on, as long as they lower the mean.)
- It is rounded down, so that 1 means that everything passed. What must not go further is not decided by it, but by the
  gate (ops.quality_run.gate): a mean hides what is fatal.

The form of the share is that of ISO/IEC 25024's measures: X = A / B, items that meet a requirement over the items that
it applies to. The dimensions are those that DAMA-DMBOK lists and that can be measured from within a warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

DECIMALS = 12


@dataclass(frozen=True)
class Scored:
    """An applicable check as scores see it. lacks_rows: the table must have rows and has none."""

    table: str
    dimension: str
    weight: float
    is_evaluated: bool
    is_passed: bool
    rows_total: int | None = None
    rows_failed: int | None = None
    lacks_rows: bool = False


@dataclass(frozen=True)
class Score:
    """The score of a table and dimension, null for all of them, and how many checks it is made of."""

    table: str | None
    dimension: str | None
    score: Decimal | None
    checks: int
    evaluated: int
    weight: float


def mean_score(checks: Sequence[Scored]) -> Decimal | None:
    """Return the score of some checks, rounded down; None where there are none or it can't be known."""
    if not checks or any(not check.is_evaluated or check.lacks_rows for check in checks):
        return None
    credit = weight = Fraction(0)
    for check in checks:
        if check.is_passed:
            credit += Fraction(check.weight) * share(check)
            weight += Fraction(check.weight)
    for p, own in sorted((share(check), Fraction(check.weight)) for check in checks if not check.is_passed):
        if weight and p * weight >= credit:
            break
        credit += own * p
        weight += own
    return Decimal(int(credit / weight * 10**DECIMALS)).scaleb(-DECIMALS)


def share(check: Scored) -> Fraction:
    """Return p of an evaluated check, 0 to 1; 1 only if it passed."""
    if check.rows_total and check.rows_failed is not None and (check.is_passed or check.rows_failed > 0):
        return 1 - min(Fraction(1), Fraction(check.rows_failed, check.rows_total))
    return Fraction(int(check.is_passed))


def scores(checks: Sequence[Scored]) -> list[Score]:
    """Return the scores of all, of each dimension, of each table, and of each dimension of each table."""
    # What is true of rows that are not there is not known, in whatever dimension.
    lacking = {check.table for check in checks if check.lacks_rows}
    checks = [replace(check, lacks_rows=check.table in lacking) for check in checks]
    tables = [None, *dict.fromkeys(check.table for check in checks)]
    dimensions = [None, *dict.fromkeys(check.dimension for check in checks)]
    found = []
    for table in tables:
        for dimension in dimensions:
            part = [check for check in checks if table in (None, check.table) and dimension in (None, check.dimension)]
            if part:
                found.append(_score(table, dimension, part))
    return found


def _score(table: str | None, dimension: str | None, part: Sequence[Scored]) -> Score:
    return Score(
        table,
        dimension,
        mean_score(part),
        checks=len(part),
        evaluated=sum(check.is_evaluated for check in part),
        weight=sum(check.weight for check in part),
    )
