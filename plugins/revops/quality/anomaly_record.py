"""ops.anomaly: what is unusual, one open row a number, beside the numbers of the run in ops.quality_metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg

from revops.quality.anomaly_config import AnomalyConfig, MetricName
from revops.quality.baseline import Assessment
from revops.quality.history import Key

COUNTS = frozenset({"rows", "rows_gone", "inserted", "updated", "deleted", "distinct_values"})
SHARES = frozenset({"null_share", "unusable_share"})
AGES = frozenset({"data_age_s", "load_age_s"})
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Anomaly:
    """A number unlike its history, as ops.anomaly holds it.

    score: null where the table was emptied, which no history is needed for. is_new: no earlier run has seen it.
    """

    anomaly_id: int
    dataset: str
    metric: MetricName
    column: str | None
    value: float
    expected_low: float
    expected_high: float
    score: float | None
    severity: Literal["warning", "critical"]
    is_new: bool

    @property
    def is_emptied(self) -> bool:
        return self.score is None

    @property
    def reason(self) -> str:
        """Say in words what is unusual; numbers about the table, never values of a row."""
        subject = f"{self.dataset}{f'.{self.column}' if self.column else ''}"
        if self.is_emptied:
            return f"{subject} had {self.expected_high:,.0f} rows and has none"
        low, high = (_in_words(self.metric, number) for number in (self.expected_low, self.expected_high))
        return f"{subject}: {self.metric} is {_in_words(self.metric, self.value)}, usual are {low} to {high}"


_FORGET = """
update ops.quality_metric set expected_low = null, expected_high = null, score = null, anomaly_id = null
where source = %(source)s and run_id = %(run)s and dataset = any(%(tables)s)
    and num_nonnulls(expected_low, expected_high, score, anomaly_id) > 0
"""
_EXPECT = """
update ops.quality_metric as m set expected_low = j.low, expected_high = j.high, score = j.score
from unnest(%(datasets)s::text[], %(metrics)s::text[], %(columns)s::text[], %(lows)s::float8[], %(highs)s::float8[],
    %(scores)s::float8[]) as j (dataset, metric, column_name, low, high, score)
where m.source = %(source)s and m.run_id = %(run)s and m.dataset = j.dataset and m.metric = j.metric
    and m.column_name is not distinct from j.column_name
"""
_KEEP = """
insert into ops.anomaly (
    run_id, source, dataset, metric, column_name, value, expected_low, expected_high, score, severity, reason,
    first_seen_run
)
values (
    %(run)s, %(source)s, %(dataset)s, %(metric)s, %(column)s, %(value)s, %(low)s, %(high)s, %(score)s, %(severity)s,
    %(reason)s, %(run)s
)
on conflict (source, dataset, metric, column_name) where state = 'open' do update set
    run_id = excluded.run_id, value = excluded.value, expected_low = excluded.expected_low,
    expected_high = excluded.expected_high, score = excluded.score, severity = excluded.severity,
    reason = excluded.reason, last_seen_at = clock_timestamp()
returning anomaly_id, first_seen_run = run_id
"""
_SEE = """
update ops.quality_metric
set anomaly_id = %(anomaly)s, expected_low = %(low)s, expected_high = %(high)s, score = %(score)s
where source = %(source)s and run_id = %(run)s and dataset = %(dataset)s and metric = %(metric)s
    and column_name is not distinct from %(column)s
"""
# What is left of anomalies that this run took for its own before and does not see any more: where they were seen last.
_UNSEEN = """
select a.anomaly_id, a.dataset, a.metric, a.column_name, s.run_id, s.value, s.expected_low, s.expected_high, s.score,
    s.measured_at, a.reviewed_by is not null
from ops.anomaly as a
left join lateral (
    select m.* from ops.quality_metric as m where m.anomaly_id = a.anomaly_id order by m.measured_at desc limit 1
) as s on true
where a.source = %(source)s and a.run_id = %(run)s and a.state = 'open' and a.anomaly_id <> all(%(kept)s)
    and a.dataset = any(%(tables)s)
"""


def write_expected(warehouse: psycopg.Connection, scope: dict[str, Any], judged: dict[Key, Assessment | None]) -> None:
    """Write beside each number of the run what was usual, in place of what an earlier try found."""
    warehouse.execute(_FORGET, scope)
    told = [(key, assessment) for key, assessment in judged.items() if assessment is not None]
    warehouse.execute(
        _EXPECT,
        {
            **scope,
            "datasets": [key[0] for key, _ in told],
            "metrics": [key[1] for key, _ in told],
            "columns": [key[2] for key, _ in told],
            "lows": [assessment.low for _, assessment in told],
            "highs": [assessment.high for _, assessment in told],
            "scores": [assessment.score for _, assessment in told],
        },
    )


def keep(warehouse: psycopg.Connection, scope: dict[str, Any], anomaly: Anomaly) -> Anomaly:
    """Write an anomaly, or bring the open one of the same number up to date, and tie the run's number to it."""
    facts = {
        **scope,
        "dataset": anomaly.dataset,
        "metric": anomaly.metric,
        "column": anomaly.column,
        "value": anomaly.value,
        "low": anomaly.expected_low,
        "high": anomaly.expected_high,
        "score": anomaly.score,
        "severity": anomaly.severity,
        "reason": anomaly.reason,
    }
    row = warehouse.execute(_KEEP, facts).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    warehouse.execute(_SEE, {**facts, "anomaly": row[0]})
    return replace(anomaly, anomaly_id=row[0], is_new=row[1])


def withdraw(
    warehouse: psycopg.Connection, scope: dict[str, Any], kept: Sequence[Anomaly], config: AnomalyConfig
) -> None:
    """Take back what an earlier try of this run found and this one does not.

    An anomaly that earlier runs have seen is again as the last of them left it.
    """
    rows = warehouse.execute(_UNSEEN, {**scope, "kept": [anomaly.anomaly_id for anomaly in kept]}).fetchall()
    for anomaly_id, dataset, metric, column, run, value, low, high, score, seen_at, is_reviewed in rows:
        if run is None:
            if not is_reviewed:
                warehouse.execute("delete from ops.anomaly where anomaly_id = %s", (anomaly_id,))
            continue
        severity: Literal["warning", "critical"] = (
            "critical" if score is None or score >= config.limits(metric)[1] else "warning"
        )
        was = Anomaly(anomaly_id, dataset, metric, column, value, low, high, score, severity, is_new=False)
        warehouse.execute(
            "update ops.anomaly set run_id = %s, value = %s, expected_low = %s, expected_high = %s, score = %s, "
            "severity = %s, reason = %s, last_seen_at = %s where anomaly_id = %s",
            (run, value, low, high, score, severity, was.reason, seen_at, anomaly_id),
        )


def _in_words(metric: MetricName, number: float) -> str:
    if metric in SHARES:
        return f"{number:.2%}"
    if metric in AGES:
        return f"{number / SECONDS_AN_HOUR:,.1f} h"
    return f"{number:,.0f}" if metric in COUNTS else f"{number:,.6g}"
