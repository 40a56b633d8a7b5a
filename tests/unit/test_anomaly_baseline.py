"""How far a value lies from its history: what is found, and how often clean histories raise a false alarm."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from revops.quality.anomaly_config import AnomalyConfig, MetricName, Rule, read_anomaly_config
from revops.quality.baseline import Assessment, Point, Series, assess

CONFIG = read_anomaly_config()
WEEK = (1.0, 1.1, 1.05, 1.0, 0.9, 0.1, 0.05)
CLEAN_HISTORIES = 400
LENGTHS = (7, 8, 10, 14, 20, 28, 40, 60)


def weekday(day: int) -> int:
    """The weekday of a day of a history that begins on a Monday."""
    return day % 7 + 1


def judged(
    values: Sequence[float],
    today: float,
    metric: MetricName,
    *,
    start: int = 0,
    accepted: Sequence[float] = (),
    spread: float = 0.0,
    rows: int | None = None,
    rule: Rule | None = None,
    config: AnomalyConfig = CONFIG,
) -> Assessment | None:
    points = [Point(value, weekday(start + day)) for day, value in enumerate(values)]
    return assess(
        today,
        weekday=weekday(start + len(values)),
        series=Series(points, accepted, spread, rows),
        rule=rule or config.metrics[metric],
        config=config,
        limit=config.warning,
    )


def score(values: Sequence[float], today: float, metric: MetricName, **others: object) -> float:
    assessment = judged(values, today, metric, **others)  # type: ignore[arg-type]
    assert assessment is not None
    assert (assessment.score < CONFIG.warning) == (
        (CONFIG.metrics[metric].sides == "high" and today <= assessment.high)
        or assessment.low <= today <= assessment.high
        or math.isclose(assessment.score, CONFIG.warning)
    ), assessment
    return assessment.score


# Clean histories: what the numbers of tables that nothing is wrong with look like.


def poisson(chance: random.Random, expected: float) -> int:
    if expected > 30:
        return max(0, round(chance.gauss(expected, math.sqrt(expected))))
    limit, number, product = math.exp(-expected), 0, chance.random()
    while product > limit:
        number, product = number + 1, product * chance.random()
    return number


def weekly_counts(chance: random.Random, days: int, start: int) -> list[float]:
    usual = 10 ** chance.uniform(0, 4)
    return [poisson(chance, usual * WEEK[(start + day) % 7] * math.exp(chance.gauss(0, 0.3))) for day in range(days)]


def growing(chance: random.Random, days: int, start: int) -> list[float]:
    total, values = 10 ** chance.uniform(0.5, 5), []
    for new in weekly_counts(chance, days, start):
        total += new
        values.append(float(round(total)))
    return values


def steady(chance: random.Random, days: int, _: int) -> list[float]:
    return [float(chance.choice([3, 12, 250, 5000]))] * days


def counts(chance: random.Random, days: int, _: int) -> list[float]:
    usual = 10 ** chance.uniform(0.5, 4)
    return [poisson(chance, usual) for _ in range(days)]


def shares(chance: random.Random, days: int, _: int) -> list[float]:
    usual, rows = chance.choice([0, 0.001, 0.02, 0.3, 0.9, 1]), 10 ** chance.uniform(2, 5)
    return [min(1.0, max(0.0, chance.gauss(usual, math.sqrt(usual * (1 - usual) / rows)))) for _ in range(days)]


def means(chance: random.Random, days: int, _: int) -> list[float]:
    usual, deviation = 10 ** chance.uniform(0, 5), chance.uniform(0.005, 0.2)
    return [usual * (1 + chance.gauss(0, deviation)) for _ in range(days)]


def heavy_tails(chance: random.Random, days: int, _: int) -> list[float]:
    usual = 10 ** chance.uniform(1, 4)
    return [usual * (1 + 0.05 * (chance.expovariate(1) - chance.expovariate(1))) for _ in range(days)]


def drifting(chance: random.Random, days: int, _: int) -> list[float]:
    level, values = 10 ** chance.uniform(1, 4), []
    for _ in range(days):
        level *= math.exp(chance.gauss(0, 0.005))
        values.append(level)
    return values


def weekly_means(chance: random.Random, days: int, start: int) -> list[float]:
    usual = 10 ** chance.uniform(1, 4)
    return [usual * (1 + 0.3 * ((start + day) % 7 >= 5)) * (1 + chance.gauss(0, 0.05)) for day in range(days)]


def ages(chance: random.Random, days: int, start: int) -> list[float]:
    return [chance.uniform(600, 20000) + 86400 * max(0, (start + day) % 7 - 4) for day in range(days)]


def growing_ages(chance: random.Random, days: int, _: int) -> list[float]:
    return [86400 * day + chance.gauss(3000, 300) for day in range(days)]


Generator = Callable[[random.Random, int, int], list[float]]
CLEAN: list[tuple[MetricName, Generator]] = [
    ("rows", growing),
    ("rows", steady),
    ("rows", counts),
    ("inserted", weekly_counts),
    ("updated", weekly_counts),
    ("deleted", weekly_counts),
    ("data_age_s", ages),
    ("data_age_s", growing_ages),
    ("load_age_s", ages),
    ("null_share", shares),
    ("unusable_share", shares),
    ("distinct_values", counts),
    ("distinct_values", growing),
    ("mean", means),
    ("mean", heavy_tails),
    ("mean", weekly_means),
    ("p05", means),
    ("p50", drifting),
    ("p95", means),
]


@pytest.mark.parametrize(("metric", "generate"), CLEAN, ids=lambda value: getattr(value, "__name__", value))
def test_clean_histories_raise_less_than_one_false_alarm_in_a_hundred(metric: MetricName, generate: Generator) -> None:
    chance = random.Random(f"{metric} {generate.__name__}")
    alarms: dict[int, int] = {}
    for length in LENGTHS:
        alarms[length] = 0
        for _ in range(CLEAN_HISTORIES):
            start = chance.randrange(7)
            *values, today = generate(chance, length + 1, start)
            alarms[length] += score(values, today, metric, start=start) >= CONFIG.warning
    assert sum(alarms.values()) < 0.01 * CLEAN_HISTORIES * len(LENGTHS), alarms
    assert max(alarms.values()) < 0.02 * CLEAN_HISTORIES, alarms


# Planted: a day that something is wrong with, after 20 to 60 days that it is not.


def history(length: int, usual: float, deviation: float, seed: int, *, weekly: bool = False) -> list[float]:
    chance = random.Random(seed)
    return [usual * (WEEK[day % 7] if weekly else 1.0) * math.exp(chance.gauss(0, deviation)) for day in range(length)]


PLANTED: list[tuple[MetricName, float, float, bool, float]] = [
    # metric, usual, deviation, by weekday, times what it would have been
    ("rows", 10_000, 0.005, False, 0.7),
    ("rows", 10_000, 0.005, False, 1.5),
    ("inserted", 2_000, 0.1, True, 12),
    ("inserted", 2_000, 0.1, True, 0.02),
    ("updated", 2_000, 0.1, True, 12),
    ("updated", 2_000, 0.1, True, 0.02),
    ("deleted", 2_000, 0.1, True, 12),
    ("data_age_s", 7_200, 0.2, False, 6),
    ("load_age_s", 600, 0.2, False, 144),
    ("null_share", 0.05, 0.05, False, 2),
    ("null_share", 0.3, 0.05, False, 0.3),
    ("unusable_share", 0.001, 0.1, False, 10),
    ("distinct_values", 200, 0.02, False, 0.6),
    ("distinct_values", 200, 0.02, False, 2),
    ("mean", 500, 0.05, False, 1.6),
    ("mean", 500, 0.05, False, 0.4),
    ("p05", 50, 0.05, False, 0.4),
    ("p50", 300, 0.05, False, 2),
    ("p95", 3_000, 0.05, False, 10),
]


@pytest.mark.parametrize("length", [21, 28, 41, 60])
@pytest.mark.parametrize(("metric", "usual", "deviation", "weekly", "factor"), PLANTED)
def test_a_planted_anomaly_is_found_and_its_clean_day_is_not(
    metric: MetricName, usual: float, deviation: float, weekly: bool, factor: float, length: int
) -> None:
    for seed in range(20):
        *values, today = history(length + 1, usual, deviation, seed, weekly=weekly)
        if WEEK[length % 7] < 0.5 and weekly and factor < 1:
            continue  # a weekend's few rows can't fall by much
        assert score(values, today * factor, metric) >= CONFIG.warning, (seed, today)
        assert score(values, today, metric) < CONFIG.warning, (seed, today)


@pytest.mark.parametrize("metric", ["deleted", "data_age_s", "load_age_s", "unusable_share"])
def test_what_can_be_wrong_on_one_side_only_is_never_too_low(metric: MetricName) -> None:
    values = history(30, 500_000 if metric != "unusable_share" else 0.5, 0.01, 1)
    assert score(values, 0.0, metric) == 0
    assert score(values, values[0] * 4, metric) > CONFIG.critical


def test_too_little_history_says_nothing() -> None:
    assert judged([5.0] * 6, 1e9, "rows") is None
    assert judged([], 1e9, "rows") is None
    longer = CONFIG.model_copy(update={"least_runs": 10})
    assert judged([5.0] * 9, 1e9, "rows", config=longer) is None
    assessment = judged([5.0] * 7, 1e9, "rows")
    assert assessment is not None
    assert assessment.score > CONFIG.critical


@pytest.mark.parametrize("length", [7, 30, 60])
@pytest.mark.parametrize("metric", ["rows", "inserted", "updated", "deleted", "distinct_values"])
def test_one_more_than_always_is_no_anomaly(metric: MetricName, length: int) -> None:
    for always in (0, 1, 2, 3, 5, 8, 50, 1000, 10**7):
        assert score([always] * length, always + 1, metric) < CONFIG.warning, always
        assert score([always] * length, max(0, always - 1), metric) < CONFIG.warning, always
        assert score([always] * length, 3 * always + 100, metric) >= CONFIG.warning, always


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_one_row_of_a_small_table_is_no_anomaly(rows: int) -> None:
    for metric in ("null_share", "unusable_share"):
        assert score([0.0] * 30, 1 / rows, metric, rows=rows) < CONFIG.warning
    assert score([0.0] * 30, 1.0, "null_share", rows=8) > CONFIG.critical


def test_a_median_that_stands_still_may_go_one_step() -> None:
    """Of stages 1 to 10 the middle one is 5 for months: then it is 6. Of amounts that move, as much is too much."""
    assert score([5.0] * 30, 6.0, "p50", spread=9.0) < CONFIG.warning
    assert score([5.0] * 30, 6.0, "p50", spread=0.0) > CONFIG.critical
    assert score([5.0] * 30, 9.5, "p50", spread=9.0) > CONFIG.warning
    moving = history(30, 5.0, 0.005, 1)
    assert score(moving, 6.0, "p50", spread=9.0) > CONFIG.critical


def test_weekends_are_weekends() -> None:
    values = history(42, 2_000, 0.1, 3, weekly=True)
    sunday = judged(values[:41], 0.0, "inserted", start=1)
    assert sunday is not None
    assert weekday(1 + 41) == 1
    # 42 days from a Monday on: the next is a Monday.
    assert score(values, 2_000, "inserted") < CONFIG.warning
    assert score(values, 100, "inserted") > CONFIG.warning
    saturday = values + history(47, 2_000, 0.1, 4, weekly=True)[42:47]
    assert weekday(len(saturday)) == 6
    assert score(saturday, 200, "inserted") < CONFIG.warning
    assert score(saturday, 2_000 * 2, "inserted") > CONFIG.warning


def test_the_first_weekends_are_no_alarm() -> None:
    values = history(27, 2_000, 0.05, 5, weekly=True)
    for day in range(8, 27):
        assert score(values[:day], values[day], "inserted") < CONFIG.warning, day
    # One Saturday is known: a number that is neither that day's nor the other days' is unusual all the same.
    assert weekday(12) == 6
    assert score(values[:12], 50_000, "inserted") > CONFIG.warning


def test_wild_days_of_the_past_do_not_blind() -> None:
    """The first load inserted everything, and one night somebody imported a file."""
    values = [2_000_000.0, *history(40, 50, 0.2, 6)]
    values[20] = 900_000.0
    assert score(values, 52, "inserted") < CONFIG.warning
    assert score(values, 100_000, "inserted") > CONFIG.critical


def test_a_growing_table_is_known_by_its_growth() -> None:
    values = [10_000 * 1.01**day for day in range(60)]
    today = values[-1]
    assert score(values, today * 1.01, "rows") < CONFIG.warning
    assert score(values, today * 0.85, "rows") > CONFIG.warning
    level_only = CONFIG.metrics["rows"].model_copy(update={"steps": False})
    assert score(values, today * 0.85, "rows", rule=level_only) < CONFIG.warning


def test_a_slow_leak_is_found_by_the_level() -> None:
    values = [10_000.0] * 50
    for day in range(30):
        today = values[-1] * 0.99
        if score(values, today, "rows") >= CONFIG.warning:
            assert day < 20
            return
        values.append(today)
    pytest.fail("a table that loses 1 % a day is never noticed")


def test_what_was_accepted_is_usual_from_then_on() -> None:
    values = history(40, 1_000, 0.01, 7)
    assert score(values, 5_000, "rows") > CONFIG.critical
    assert score(values, 5_200, "rows", accepted=[5_000]) < CONFIG.warning
    assert score(values, 1_000, "rows", accepted=[5_000]) < CONFIG.warning
    # Not so what lies between, or beyond.
    assert score(values, 2_200, "rows", accepted=[5_000]) > CONFIG.warning
    assert score(values, 50_000, "rows", accepted=[5_000]) > CONFIG.critical


def test_an_accepted_level_may_vary() -> None:
    """How much the share of nulls varies at its new level nobody knows yet."""
    assert score([0.0] * 40, 0.43, "null_share") > CONFIG.critical
    assert score([0.0] * 40, 0.43, "null_share", accepted=[0.4]) < CONFIG.warning
    assert score([0.0] * 40, 0.8, "null_share", accepted=[0.4]) > CONFIG.critical


def test_scores_are_numbers_whatever_comes() -> None:
    chance = random.Random(8)
    numbers = [0.0, 1.0, -1.0, 1e100, -1e100, 1e-100, 0.5, 86400.0, 1e15]
    for rule in CONFIG.metrics.values():
        for _ in range(300):
            values = [chance.choice(numbers) for _ in range(chance.randrange(7, 40))]
            assessment = judged(
                values, chance.choice(numbers), "mean", rule=rule, spread=chance.choice(numbers), rows=1
            )
            assert assessment is not None
            assert all(map(math.isfinite, (assessment.score, assessment.low, assessment.high))), (rule, values)
            assert assessment.score >= 0
            assert assessment.low <= assessment.high


def test_the_order_of_equal_weekdays_does_not_matter_for_levels() -> None:
    chance = random.Random(9)
    points = [Point(chance.gauss(100, 5), weekday(day)) for day in range(40)]
    shuffled = points[:]
    chance.shuffle(shuffled)
    rule = CONFIG.metrics["mean"]
    one, other = (
        assess(120, weekday=3, series=Series(some), rule=rule, config=CONFIG, limit=3.5) for some in (points, shuffled)
    )
    assert one == other
