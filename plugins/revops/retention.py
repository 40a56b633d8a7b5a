"""Delete records of ops that nobody reads any more, in batches; include/retention.yaml says after how many days."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
import yaml

from revops.quality.anomaly_config import read_anomaly_config

log = structlog.get_logger(__name__)

# A batch is a transaction: readers wait for none, and a kill loses nothing that was done.
BATCH_ROWS = 10_000


class RetentionError(ValueError):
    """include/retention.yaml is not right; the message says what and how to mend it."""


@dataclass(frozen=True)
class Rule:
    """A record of ops that has an end, as `ops.prune` knows it. judged: baselines read it."""

    name: str
    relation: str
    judged: bool = False


RULES = (
    Rule("quality_metric", "ops.quality_metric", judged=True),
    Rule("quality_failed_key", "ops.quality_failed_key"),
    Rule("quality_run", "ops.quality_run", judged=True),
    Rule("released_quarantine", "ops.quarantine"),
    Rule("rule_result", "ops.rule_result"),
    Rule("period_restatement", "ops.period_restatement"),
)
# What `ops.prune` deletes is never younger.
LEAST_DAYS = 30


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
        if type(days) is not int or days < LEAST_DAYS:
            faults.append(f"{rule.name} must be a whole number of days, {LEAST_DAYS} or more")
        elif rule.judged and days < least:
            faults.append(
                f"{rule.name} is {days}, but baselines read {least} days back (history_days in {anomaly.name})"
            )
    if faults:
        raise RetentionError(f"{path}: " + "; ".join(faults))
    return {rule.name: content[rule.name] for rule in RULES}


def prune(warehouse: psycopg.Connection, kept_days: dict[str, int], *, run_id: str) -> dict[str, int]:
    """Delete what is older; return how many rows by rule, those with any. Commits batch by batch.

    warehouse: with the rights of revops_quality.
    """
    pruned = {}
    for rule in RULES:
        if rows := _prune(warehouse, rule, kept_days[rule.name], run_id):
            pruned[rule.name] = rows
            log.info("pruned", relation=rule.relation, rule=rule.name, rows=rows)
    return pruned


def _prune(warehouse: psycopg.Connection, rule: Rule, days: int, run_id: str) -> int:
    total = 0
    while True:
        row = warehouse.execute("select ops.prune(%s, %s, %s)", (rule.name, days, BATCH_ROWS)).fetchone()
        warehouse.commit()
        if row is None or not row[0]:
            break
        total += int(row[0])
    if total:
        warehouse.execute(
            "insert into ops.pruning (run_id, relation, kept_days, rows) values (%s, %s, %s, %s)",
            (run_id, rule.relation, days, total),
        )
        warehouse.commit()
    return total
