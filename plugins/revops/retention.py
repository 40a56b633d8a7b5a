"""Delete records of ops that nobody reads any more, in batches; include/retention.yaml says after how many days."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
import yaml
from psycopg import sql

from revops.hooks.warehouse import Role
from revops.quality.anomaly_config import read_anomaly_config

log = structlog.get_logger(__name__)

# A batch is a transaction: readers wait for none, and a kill loses nothing that was done.
BATCH_ROWS = 10_000


class RetentionError(ValueError):
    """include/retention.yaml is not right; the message says what and how to mend it."""


@dataclass(frozen=True)
class Rule:
    """What of ops has an end: rows of a relation that a condition over `t` and `%(before)s` names.

    role: the one that writes the relation, and deletes from it. judged: baselines read it.
    """

    name: str
    relation: str
    role: Role
    condition: str
    judged: bool = False


RULES = (
    Rule(
        "quality_metric",
        "quality_metric",
        "revops_quality",
        # Whether a table was emptied is told by the last run in which it had rows, however long ago.
        "t.measured_at < %(before)s and exists (select from ops.quality_metric as n where n.source = t.source "
        "and n.dataset = t.dataset and n.metric = 'rows' and n.value > 0 and n.measured_at > t.measured_at)",
        judged=True,
    ),
    Rule(
        "quality_failed_key",
        "quality_failed_key",
        "revops_quality",
        "t.quality_run_id in (select q.quality_run_id from ops.quality_run as q where q.finished_at < %(before)s)",
    ),
    Rule("quality_run", "quality_run", "revops_quality", "t.finished_at < %(before)s", judged=True),
    Rule("released_quarantine", "quarantine", "revops_transform", "t.released_at < %(before)s"),
    Rule(
        "rule_result",
        "rule_result",
        "revops_transform",
        "t.transform_run_id in (select r.transform_run_id from ops.transform_run as r where r.started_at < %(before)s)",
    ),
    Rule(
        "period_restatement",
        "period_restatement",
        "revops_ingest",
        "t.load_id in (select l.load_id from ops.load as l where l.started_at < %(before)s)",
    ),
)


def read_retention(path: Path, *, anomaly: Path) -> dict[str, int]:
    """Return the days by rule; anomaly: include/anomaly.yaml. Raises RetentionError with every fault."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RetentionError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict):
        raise RetentionError(f"{path}: must give a number of days for each of {', '.join(rule.name for rule in RULES)}")
    least = read_anomaly_config(anomaly).history_days
    faults = [f"{name!r} is no record with an end" for name in content if name not in {rule.name for rule in RULES}]
    for rule in RULES:
        days = content.get(rule.name)
        if type(days) is not int or days < 1:
            faults.append(f"{rule.name} must be a whole number of days, 1 or more")
        elif rule.judged and days < least:
            faults.append(
                f"{rule.name} is {days}, but baselines read {least} days back (history_days in {anomaly.name})"
            )
    if faults:
        raise RetentionError(f"{path}: " + "; ".join(faults))
    return {rule.name: content[rule.name] for rule in RULES}


def prune(connect: Callable[[Role], psycopg.Connection], kept_days: dict[str, int], *, run_id: str) -> dict[str, int]:
    """Delete what is older; return how many rows by rule, those with any. Commits batch by batch.

    connect: opens a session with the rights of a role.
    """
    pruned = {}
    for rule in RULES:
        with closing(connect(rule.role)) as warehouse:
            if rows := _prune(warehouse, rule, kept_days[rule.name], run_id):
                pruned[rule.name] = rows
                log.info("pruned", relation=f"ops.{rule.relation}", rule=rule.name, rows=rows)
    return pruned


def _prune(warehouse: psycopg.Connection, rule: Rule, days: int, run_id: str) -> int:
    # One moment for all batches.
    row = warehouse.execute("select now() - make_interval(days => %s)", (days,)).fetchone()
    parameters = {"before": row[0] if row else None}
    relation = sql.Identifier("ops", rule.relation)
    statement = sql.SQL(
        "delete from {0} as d where d.ctid = any(array(select t.ctid from {0} as t where {1} limit {2}))"
    ).format(relation, sql.SQL(rule.condition), BATCH_ROWS)
    total = 0
    while rows := warehouse.execute(statement, parameters).rowcount:
        total += rows
        warehouse.commit()
    if total:
        warehouse.execute(
            "insert into ops.pruning (run_id, relation, kept_days, rows) values (%s, %s, %s, %s)",
            (run_id, f"ops.{rule.relation}", days, total),
        )
    warehouse.commit()
    return total
