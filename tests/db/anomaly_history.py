"""What the tests of anomalies build on: numbers that earlier runs have measured, and whole tables of ops to compare."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from revops.quality.anomaly import judge
from revops.quality.anomaly_config import AnomalyConfig, read_anomaly_config
from revops.quality.anomaly_record import Anomaly

CONFIG = read_anomaly_config()
TODAY = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
WEEK = (1.0, 1.1, 1.05, 1.0, 0.9, 0.1, 0.05)

Numbers = dict[tuple[str, str | None], float]

# What a night's numbers of a table are about; the noise of each and whether it follows the week.
USUAL: dict[tuple[str, str | None], tuple[float, float, bool]] = {
    ("rows", None): (10_000, 0.002, False),
    ("inserted", None): (2_000, 0.1, True),
    ("updated", None): (900, 0.1, True),
    ("deleted", None): (300, 0.1, True),
    ("data_age_s", "write_date"): (7_200, 0.1, False),
    ("load_age_s", None): (300, 0.1, False),
    ("null_share", "stage"): (0.05, 0.02, False),
    ("unusable_share", "amount"): (0.001, 0.05, False),
    ("distinct_values", "stage"): (40, 0.01, False),
    ("mean", "amount"): (500, 0.03, False),
    ("p05", "amount"): (20, 0.03, False),
    ("p50", "amount"): (300, 0.03, False),
    ("p95", "amount"): (2_500, 0.03, False),
}


def usual_numbers(chance: random.Random, moment: datetime) -> Numbers:
    """The numbers of one clean night."""
    return {
        key: usual * (WEEK[moment.weekday()] if weekly else 1) * math.exp(chance.gauss(0, noise))
        for key, (usual, noise, weekly) in USUAL.items()
    }


def remember(
    owner: psycopg.Connection,
    numbers: Numbers,
    *,
    days: float,
    run: str | None = None,
    source: str = "odoo",
    dataset: str = "raw.odoo_t",
    rows_measured: int = 10_000,
) -> str:
    """Keep the numbers that a run measured so many days from today; returns the run, by default one of that day."""
    run = run or f"day {days:g}"
    owner.cursor().executemany(
        "insert into ops.quality_metric "
        "(run_id, source, dataset, metric, column_name, value, rows_measured, measured_at) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            (
                run,
                source,
                dataset,
                metric,
                column,
                value,
                rows_measured if column else None,
                TODAY + timedelta(days=days),
            )
            for (metric, column), value in numbers.items()
        ],
    )
    return run


def remember_usual(owner: psycopg.Connection, nights: int, *, seed: int = 1, **where: Any) -> Numbers:
    """Keep so many clean nights, the last of them yesterday; returns what a clean night of today measures."""
    chance = random.Random(seed)
    for day in range(-nights, 0):
        remember(owner, usual_numbers(chance, TODAY + timedelta(days=day)), days=day, **where)
    return usual_numbers(chance, TODAY)


def remember_rows(owner: psycopg.Connection, rows: list[float], **where: Any) -> None:
    """Keep the numbers of rows of so many nights, the last of them yesterday."""
    for day, number in enumerate(rows, start=-len(rows)):
        remember(owner, {("rows", None): number}, days=day, **where)


def judge_run(
    connection: psycopg.Connection,
    run: str = "day 0",
    *,
    source: str = "odoo",
    config: AnomalyConfig = CONFIG,
    **scope: Any,
) -> list[Anomaly]:
    return judge(connection, source=source, run_id=run, config=config, **scope)


def night(
    owner: psycopg.Connection, quality: psycopg.Connection, numbers: Numbers | float, *, days: float, **where: Any
) -> list[Anomaly]:
    """Measure, which is to remember, and judge one night; a number alone is that of the rows."""
    given = {("rows", None): float(numbers)} if isinstance(numbers, int | float) else numbers
    run = remember(owner, given, days=days, **where)
    return judge_run(quality, run, source=where.get("source", "odoo"))


def forget(owner: psycopg.Connection, run: str) -> None:
    """Take back what a run measured, as measuring it again does first."""
    owner.execute("delete from ops.quality_metric where run_id = %s", (run,))


def review(connection: psycopg.Connection, anomaly_id: int, state: str, *, note: str | None = None) -> None:
    connection.execute("select ops.review_anomaly(%s, %s, 'Ada', %s)", (anomaly_id, state, note))
    connection.commit()
