"""How far a value lies from its own history: robust statistics of one series of numbers, without a database."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist, median

from revops.quality.anomaly_config import AnomalyConfig, Rule

# Makes the median absolute deviation of normal numbers their standard deviation.
MAD_TO_DEVIATION = 1.4826
# A spread that few numbers tell is uncertain, as is their middle: of normal numbers 7 % lie more than 3.5 spreads from
# the middle of 7 others. So it is widened, by as much as keeps clean random histories quiet, which
# tests/unit/test_anomaly_baseline.py measures: times LONG_RUN + FEW_RUNS / n^2 of all n runs, LONG_RUN + FEW_AROUND /
# n^2 of all around their weekdays, 1 + FEW_SAME / n of one weekday. The tenth in LONG_RUN is for tails heavier than the
# normal distribution's.
LONG_RUN = 1.1
FEW_RUNS = 90.0
FEW_AROUND = 30.0
FEW_SAME = 3.0
# One weekday is given at most so many times the spread of all: four wild Sundays would hide anything on the fifth.
MOST_OWN = 2.0
# A history that moves by no more stands still: sums of the same numbers in another order differ in their last digits.
STILL = 1e-9
# Of an accepted value only one is known, not how it varies: a tenth of its distance from what was usual before.
ACCEPTED_SPREAD = 0.1
# Beyond it, exp() has no number.
LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Point:
    """An earlier value that counts as usual, with the day of its run: 1 is Monday, 7 Sunday."""

    value: float
    weekday: int


@dataclass(frozen=True)
class Series:
    """What a value is compared with.

    points: oldest first. accepted: values that people declared right or the new usual. spread: the column's usual
    distance from p05 to p95, 0 where it has none. rows: how many rows the value was computed from, None where it is no
    number of rows.
    """

    points: Sequence[Point]
    accepted: Sequence[float] = ()
    spread: float = 0.0
    rows: int | None = None


@dataclass(frozen=True)
class Assessment:
    """How unusual a value is.

    score: distance from what is usual in units of the usual spread, 0 on a side where the metric can't be wrong.
    low and high: the values between which nothing is said.
    """

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class _Usual:
    """What is usual on the rule's scale: a middle, and its spread."""

    middle: float
    spread: float

    def distance(self, number: float, sides: str) -> float:
        away = (number - self.middle) / self.spread
        return {"both": abs(away), "high": max(0.0, away), "low": max(0.0, -away)}[sides]


def assess(
    value: float, *, weekday: int, series: Series, rule: Rule, config: AnomalyConfig, limit: float
) -> Assessment | None:
    """Compare a value with its history; None where that has fewer than `least_runs` values.

    limit: the score from which on something is said; low and high are where it begins.
    """
    if len(series.points) < config.least_runs:
        return None
    number = _scaled(value, rule)
    points = [Point(_scaled(point.value, rule), point.weekday) for point in series.points]
    level = _usual(points, number, weekday, series, rule, config)
    worst = level
    if rule.steps and len(points) > config.least_runs:
        last = points[-1].value
        steps = [Point(b.value - a.value, b.weekday) for a, b in pairwise(points)]
        step = _usual(steps, number - last, weekday, series, rule, config)
        worst = max(level, _Usual(last + step.middle, step.spread), key=lambda u: u.distance(number, rule.sides))
    # Near one of the accepted values is as usual as near the middle.
    accepted = [_accepted(_scaled(other, rule), level) for other in series.accepted]
    usual = min([worst, *accepted], key=lambda u: u.distance(number, rule.sides))
    low, high = usual.middle - limit * usual.spread, usual.middle + limit * usual.spread
    return Assessment(usual.distance(number, rule.sides), _unscaled(low, rule), _unscaled(high, rule))


def _usual(
    points: Sequence[Point], number: float, weekday: int, series: Series, rule: Rule, config: AnomalyConfig
) -> _Usual:
    """Return what is usual on a weekday: by runs on that weekday where there are enough, else by all of them."""
    groups: dict[int, list[float]] = {}
    for point in points:
        groups.setdefault(point.weekday, []).append(point.value)
    same = groups.get(weekday, [])
    if len(same) < config.least_same_weekday:
        numbers = [point.value for point in points]
        middle = median(numbers)
        spread = _median_deviation(numbers) * (LONG_RUN + FEW_RUNS / len(numbers) ** 2)
        spread = max(spread, _floor(middle, spread, series, rule))
        # The first Sundays are compared with Mondays: to be like an earlier Sunday is usual, too.
        return min((_Usual(near, spread) for near in (middle, *same)), key=lambda u: u.distance(number, "both"))
    # A handful of Sundays tells their middle, but hardly how they vary: that, all weekdays tell together, each around
    # its own middle. Only where Sundays vary more than the others their own spread counts.
    enough = [group for group in groups.values() if len(group) >= config.least_same_weekday]
    around = [value - usual for group in enough for usual in (median(group),) for value in group]
    together = _deviation(around) * (LONG_RUN + FEW_AROUND / len(around) ** 2)
    own = _deviation(same) * (1 + FEW_SAME / len(same))
    spread = max(together, min(own, MOST_OWN * together)) if together else own
    middle = median(same)
    return _Usual(middle, max(spread, _floor(middle, spread, series, rule)))


def _median_deviation(numbers: Sequence[float]) -> float:
    middle = median(numbers)
    return MAD_TO_DEVIATION * median([abs(number - middle) for number in numbers])


def _deviation(numbers: Sequence[float]) -> float:
    """Return a standard deviation that a tenth of wild numbers, at least one, does not move.

    The larger of two: by the median absolute deviation, and by the distance between the outermost numbers that are left
    without that tenth on either side. The first alone takes heavy tails for outliers.
    """
    ordered = sorted(numbers)
    left_out = max(1, len(ordered) // 10)
    inner = (ordered[-1 - left_out] - ordered[left_out]) / _normal_distance(len(ordered), left_out)
    return max(_median_deviation(ordered), inner)


@lru_cache(maxsize=4096)
def _normal_distance(count: int, left_out: int) -> float:
    """Return how far apart those two of so many normal numbers are, in standard deviations (Blom's approximation)."""
    return 2 * NormalDist().inv_cdf((count - left_out - 0.375) / (count + 0.25))


def _floor(middle: float, spread: float, series: Series, rule: Rule) -> float:
    """Return the least spread that a history is given, on the rule's scale."""
    floors = [rule.floor, rule.relative_floor * abs(middle)]
    if spread <= STILL * max(1.0, abs(middle)):
        floors.append(rule.still_floor * series.spread)
    if rule.row_floor and series.rows:
        floors.append(rule.row_floor / series.rows)
    return max(floors)


def _accepted(number: float, level: _Usual) -> _Usual:
    return _Usual(number, max(level.spread, ACCEPTED_SPREAD * abs(number - level.middle)))


def _scaled(value: float, rule: Rule) -> float:
    return value if rule.scale == "linear" else math.log(max(0.0, value) + rule.offset)


def _unscaled(number: float, rule: Rule) -> float:
    return number if rule.scale == "linear" else max(0.0, math.exp(min(number, LARGEST_EXPONENT)) - rule.offset)
