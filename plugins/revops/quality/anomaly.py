"""Judge what a run measured by the history of each number, and keep what is unusual for people to review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psycopg

from revops.quality.anomaly_config import AnomalyConfig
from revops.quality.anomaly_record import AGES, SHARES, Anomaly, keep, withdraw, write_expected
from revops.quality.baseline import Assessment, Series, assess
from revops.quality.history import History, Measured, find_emptied, measured_tables, read_history, read_measured
from revops.quality.metrics import lock_anomalies
from revops.quality.record import QualityGateError


class TableEmptiedError(QualityGateError):
    """A table that had rows has none: the data must not go further."""


def judge(
    warehouse: psycopg.Connection,
    *,
    source: str,
    run_id: str,
    config: AnomalyConfig,
    tables: Sequence[str] | None = None,
) -> list[Anomaly]:
    """Compare what a run measured with earlier runs and write what is unusual to ops.anomaly; commits.

    tables: as `raw.odoo_crm_lead`; all that the run measured unless given. Earlier runs count unless their checks
    failed or one of their tables was emptied; of their numbers count those that were usual or that people accepted.
    Judging again replaces what this run has found before: an anomaly that no run sees any more and that nobody has
    reviewed vanishes. Returns what this run sees, emptied tables first, then by score.
    """
    lock_anomalies(warehouse, source)
    if tables is None:
        tables = measured_tables(warehouse, source=source, run_id=run_id)
    scope = {"source": source, "run": run_id, "tables": list(tables)}
    measured = read_measured(warehouse, scope)
    history = read_history(warehouse, scope, config)
    emptied = find_emptied(warehouse, scope, measured, history)
    judged = {number.key: _judge(number, history, config) for number in measured if number.key[0] not in emptied}
    found = [
        _anomaly(number, assessment, config)
        for number in measured
        if (assessment := judged.get(number.key)) is not None and assessment.score >= config.limits(number.key[1])[0]
    ]
    found += [_emptied(dataset, before) for dataset, before in emptied.items()]
    write_expected(warehouse, scope, judged)
    kept = [keep(warehouse, scope, anomaly) for anomaly in found]
    withdraw(warehouse, scope, kept, config)
    warehouse.commit()
    return sorted(kept, key=lambda a: (not a.is_emptied, -(a.score or 0.0), a.dataset, a.metric, a.column or ""))


def require_rows(anomalies: Sequence[Anomaly]) -> None:
    """Raise TableEmptiedError, naming tables, numbers and remedy, when a table that had rows has none."""
    emptied = [anomaly for anomaly in anomalies if anomaly.is_emptied]
    if not emptied:
        return
    lines = [f"  anomaly {anomaly.anomaly_id}: {anomaly.reason}" for anomaly in emptied]
    raise TableEmptiedError(
        f"{len(emptied)} table(s) that had rows have none; the run stops here:\n"
        + "\n".join(lines)
        + "\nRemedy: find out why there are no rows (another database, revoked rights, a source that was emptied), "
        "mend it and run again. If a table really is empty now, accept that and clear this task: "
        f"select * from ops.review_anomaly({emptied[0].anomaly_id}, 'accepted', '<your name>', '<why>'). "
        "The parameter accept_deletions does not do it."
    )


def _judge(number: Measured, history: History, config: AnomalyConfig) -> Assessment | None:
    dataset, metric, column = number.key
    rule = config.rule(dataset, metric, column)
    if rule is None:
        return None
    series = Series(
        history.points.get(number.key, []),
        history.accepted.get(number.key, []),
        history.spread(dataset, column),
        number.rows,
    )
    assessment = assess(
        number.value, weekday=number.weekday, series=series, rule=rule, config=config, limit=config.limits(metric)[0]
    )
    if assessment is None or metric not in SHARES | AGES:
        return assessment
    high = min(1.0, assessment.high) if metric in SHARES else assessment.high
    return replace(assessment, low=max(0.0, assessment.low), high=high)


def _anomaly(number: Measured, assessment: Assessment, config: AnomalyConfig) -> Anomaly:
    dataset, metric, column = number.key
    critical = assessment.score >= config.limits(metric)[1]
    return Anomaly(
        0,
        dataset,
        metric,
        column,
        number.value,
        assessment.low,
        assessment.high,
        assessment.score,
        "critical" if critical else "warning",
        is_new=True,
    )


def _emptied(dataset: str, before: float) -> Anomaly:
    return Anomaly(0, dataset, "rows", None, 0.0, 1.0, before, None, "critical", is_new=True)
