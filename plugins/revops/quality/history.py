"""The history that a run's numbers are judged by: what earlier runs measured, as far as it counts as usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from revops.quality.anomaly_config import AnomalyConfig, MetricName
from revops.quality.baseline import Point

Key = tuple[str, MetricName, str | None]


@dataclass(frozen=True)
class Measured:
    """A number of the run that is judged."""

    key: Key
    value: float
    rows: int | None
    weekday: int


@dataclass(frozen=True)
class History:
    """What the earlier runs that count have measured, oldest first, and what people have accepted."""

    points: dict[Key, list[Point]]
    accepted: dict[Key, list[float]]
    rows_before: dict[str, float]

    def spread(self, dataset: str, column: str | None) -> float:
        """Return the usual distance from p05 to p95 of a column; 0 where it has none."""
        low, high = (self.points.get((dataset, name, column), []) for name in ("p05", "p95"))
        if not low or not high:
            return 0.0
        return median(point.value for point in high) - median(point.value for point in low)


# Earlier runs of the run's tables, without those that failed: by the last verdict of their checks, or because one of
# their tables was emptied and nobody has accepted that.
_COUNTED = """
with failed as (
    select q.run_id, q.layer
    from (
        select distinct on (run_id, layer) run_id, layer, status
        from ops.quality_run where source = %(source)s order by run_id, layer, quality_run_id desc
    ) as q
    where q.status in ('failed', 'error')
    union
    select m.run_id, split_part(m.dataset, '.', 1)
    from ops.quality_metric as m inner join ops.anomaly as a using (anomaly_id)
    where m.source = %(source)s and m.metric = 'rows' and m.value = 0 and a.state <> 'accepted'
),
counted as (
    select m.dataset, m.run_id, m.measured_at, m.value as rows, this.measured_at as now
    from ops.quality_metric as m
    inner join ops.quality_metric as this
        on this.source = m.source and this.dataset = m.dataset and this.run_id = %(run)s and this.metric = 'rows'
    where m.source = %(source)s and m.metric = 'rows' and m.run_id <> %(run)s and m.measured_at < this.measured_at
        and m.dataset = any(%(tables)s)
        and (m.run_id, split_part(m.dataset, '.', 1)) not in (select f.run_id, f.layer from failed as f)
)
"""
_POINTS = (
    _COUNTED
    + """
, runs as (
    select c.dataset, c.run_id, c.measured_at
    from (select *, row_number() over (partition by dataset order by measured_at desc) as age from counted) as c
    where c.age <= %(runs)s and c.measured_at > c.now - make_interval(days => %(days)s)
)
select m.dataset, m.metric, m.column_name, array_agg(m.value order by r.measured_at),
    array_agg(extract(isodow from r.measured_at at time zone 'UTC')::int order by r.measured_at)
from runs as r
inner join ops.quality_metric as m on m.source = %(source)s and m.dataset = r.dataset and m.run_id = r.run_id
left join ops.anomaly as a using (anomaly_id)
where m.value is not null and coalesce(a.state, 'accepted') = 'accepted'
group by m.dataset, m.metric, m.column_name
"""
)
_ROWS_BEFORE = _COUNTED + "select distinct on (dataset) dataset, rows from counted order by dataset, measured_at desc"
_ACCEPTED = """
select dataset, metric, column_name, array_agg(value) from ops.anomaly
where source = %(source)s and state = 'accepted' and last_seen_at > now() - make_interval(days => %(days)s)
group by dataset, metric, column_name
"""
_ACCEPTED_EMPTY = (
    _COUNTED
    + """
select a.dataset from ops.anomaly as a
where a.source = %(source)s and a.dataset = any(%(empty)s)
    and a.metric = 'rows' and a.state = 'accepted' and a.value = 0
    and a.last_seen_at > coalesce(
        (select max(c.measured_at) from counted as c where c.dataset = a.dataset and c.rows > 0), '-infinity'
    )
"""
)
# For tables of which no run counts: rows that are marked as deleted, rows that a run measured although it failed, rows
# that earlier transforms wrote.
_ROWS_EVER = """
select e.dataset, coalesce(
    (
        select nullif(m.value, 0) from ops.quality_metric as m
        where m.source = %(source)s and m.dataset = e.dataset and m.run_id = %(run)s and m.metric = 'rows_gone'
    ),
    (
        select m.value from ops.quality_metric as m
        where m.source = %(source)s and m.dataset = e.dataset and m.run_id <> %(run)s
            and m.metric = 'rows' and m.value > 0
        order by m.measured_at desc limit 1
    ),
    (
        select sum(t.inserted)::float8 from ops.transform_run as t
        where t.source = %(source)s and t.target = e.dataset and t.run_id <> %(run)s and t.status = 'succeeded'
    ),
    0
)
from unnest(%(empty)s::text[]) as e (dataset)
"""
_MEASURED = """
select dataset, metric, column_name, value, rows_measured, extract(isodow from measured_at at time zone 'UTC')::int
from ops.quality_metric
where source = %(source)s and run_id = %(run)s and value is not null
    and dataset = any(%(tables)s)
order by dataset, column_name nulls first, metric
"""


def measured_tables(warehouse: psycopg.Connection, *, source: str, run_id: str) -> list[str]:
    """Return all tables that a run has measured, as schema.table."""
    statement = "select distinct dataset from ops.quality_metric where source = %s and run_id = %s order by 1"
    return [dataset for (dataset,) in warehouse.execute(statement, (source, run_id)).fetchall()]


def read_measured(warehouse: psycopg.Connection, scope: dict[str, Any]) -> list[Measured]:
    """Return the numbers of a run, without those that are null, by table and column.

    scope: source, run, and tables as schema.table.
    """
    rows = warehouse.execute(_MEASURED, scope).fetchall()
    return [Measured((dataset, metric, column), *others) for dataset, metric, column, *others in rows]


def read_history(warehouse: psycopg.Connection, scope: dict[str, Any], config: AnomalyConfig) -> History:
    """Read what the numbers of a run are compared with, in one query for all of them."""
    limits = {**scope, "runs": config.history_runs, "days": config.history_days}
    points = {
        (dataset, metric, column): [Point(*point) for point in zip(values, weekdays, strict=True)]
        for dataset, metric, column, values, weekdays in warehouse.execute(_POINTS, limits).fetchall()
    }
    accepted = {
        (dataset, metric, column): values
        for dataset, metric, column, values in warehouse.execute(_ACCEPTED, limits).fetchall()
    }
    return History(points, accepted, dict(warehouse.execute(_ROWS_BEFORE, scope).fetchall()))


def find_emptied(
    warehouse: psycopg.Connection, scope: dict[str, Any], measured: Sequence[Measured], history: History
) -> dict[str, float]:
    """Return how many rows each table had that has none now and whose emptiness nobody has accepted since."""
    empty = [number.key[0] for number in measured if number.key[1] == "rows" and number.value == 0]
    if not empty:
        return {}
    before = dict(warehouse.execute(_ROWS_EVER, {**scope, "empty": empty}).fetchall()) | history.rows_before
    accepted = {dataset for (dataset,) in warehouse.execute(_ACCEPTED_EMPTY, {**scope, "empty": empty}).fetchall()}
    return {dataset: before[dataset] for dataset in empty if before.get(dataset, 0) > 0 and dataset not in accepted}
