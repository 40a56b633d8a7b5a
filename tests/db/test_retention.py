"""Pruning of ops: what is older than its days goes, by the role that writes it; what baselines read stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query

from revops import retention
from revops.retention import RULES, RetentionError, prune, read_retention
from revops.sources import INCLUDE

pytestmark = pytest.mark.db

ANOMALY = INCLUDE / "anomaly.yaml"
DAYS = read_retention(INCLUDE / "retention.yaml", anomaly=ANOMALY)
# For each rule a statement that writes a record of so many days ago; the run is named after it.
RECORDS = {
    "quality_metric": (
        (
            "insert into ops.quality_metric (run_id, source, dataset, metric, value, measured_at) "
            "values (%(run)s, 'odoo', 'raw.odoo_t', 'rows', 5, now() - %(days)s * interval '1 day'), "
            "(%(run)s, 'odoo', 'raw.odoo_t', 'inserted', 1, now() - %(days)s * interval '1 day')"
        ),
        "select run_id from ops.quality_metric",
    ),
    "quality_run": (
        (
            "insert into ops.quality_run (run_id, source, layer, status, gate, expected, evaluated, seconds, engine, "
            "finished_at) values (%(run)s, 'odoo', 'raw', 'failed', 'shut', 1, 1, 0, 'test', "
            "now() - %(days)s * interval '1 day')"
        ),
        "select run_id from ops.quality_run",
    ),
    "quality_failed_key": (
        (
            "with r as (insert into ops.quality_run (run_id, source, layer, status, gate, expected, evaluated, "
            "seconds, engine, finished_at) values (%(run)s, 'odoo', 'raw', 'failed', 'shut', 1, 1, 0, 'test', "
            "now() - %(days)s * interval '1 day') returning quality_run_id), s as (insert into ops.quality_result "
            "(quality_run_id, table_name, check_name, dimension, severity, weight, outcome, definition) "
            "select quality_run_id, 't', 'c', 'validity', 'critical', 1, 'fail', '-' from r returning quality_run_id) "
            "insert into ops.quality_failed_key select quality_run_id, 't', 'c', %(run)s from s"
        ),
        "select key from ops.quality_failed_key",
    ),
    "released_quarantine": (
        (
            "insert into ops.quarantine "
            "(target, source, source_key, rule, reason, first_run_id, last_run_id, released_at) "
            "values ('core.contact', 'odoo', %(run)s, 'r', 'why', 'a', 'b', now() - %(days)s * interval '1 day'), "
            "('core.contact', 'odoo', 'kept ' || %(run)s, 'r', 'why', 'a', 'b', null)"
        ),
        "select source_key from ops.quarantine where released_at is not null",
    ),
    "rule_result": (
        (
            "with r as (insert into ops.transform_run (run_id, source, target, status, started_at) values "
            "(%(run)s, 'odoo', 'core.contact', 'failed', now() - %(days)s * interval '1 day') "
            "returning transform_run_id) insert into ops.rule_result select transform_run_id, %(run)s, 'warn', 1 from r"
        ),
        "select rule from ops.rule_result",
    ),
    "period_restatement": (
        (
            "with l as (insert into ops.load (source, table_name, run_id, mode, status, started_at) values "
            "('odoo', 't', %(run)s, 'full', 'failed', now() - %(days)s * interval '1 day') returning load_id) "
            "insert into ops.period_restatement select 'odoo', 't', load_id, to_jsonb(%(run)s::text), 1, 1 from l"
        ),
        "select period #>> '{}' from ops.period_restatement",
    ),
}


@pytest.fixture
def care(warehouse_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_dsn, options="-c role=revops_quality") as session:
        yield session


def test_every_rule_is_tried_here() -> None:
    assert {rule.name for rule in RULES} == set(RECORDS) == set(DAYS)


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_older_goes_and_the_rest_stays(
    warehouse_dsn: str, care: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    insert, select = RECORDS[name]
    with psycopg.connect(warehouse_dsn, autocommit=True) as owner:
        for run, days in (("old 1", 1), ("old 2", 2), ("old 3", 900), ("new", -1)):
            owner.execute(insert, {"run": run, "days": DAYS[name] + days})
        pruned = prune(care, DAYS, run_id="care")
        rows = 6 if name == "quality_metric" else 3
        assert {row for (row,) in query(owner, select)} == {"new"}
        assert pruned[name] == rows
        relation = next(rule.relation for rule in RULES if rule.name == name)
        told = "select run_id, relation, kept_days, rows from ops.pruning where relation = %s"
        assert ("care", relation, DAYS[name], rows) in query(owner, told, relation)
        # Rows still in quarantine have no age.
        kept = query(owner, "select count(*) from ops.quarantine where released_at is null")
        assert kept == [(4 if name == "released_quarantine" else 0,)]
        assert name not in prune(care, DAYS, run_id="again")


def test_the_last_run_in_which_a_table_had_rows_stays(warehouse_dsn: str, care: psycopg.Connection) -> None:
    """By it a table that is empty now is known to have been emptied."""
    with psycopg.connect(warehouse_dsn, autocommit=True) as owner:
        for run, days, rows in (("first", 900, 7), ("last with rows", 800, 5), ("empty", 700, 0), ("today", 0, 0)):
            owner.execute(
                "insert into ops.quality_metric (run_id, source, dataset, metric, value, measured_at) "
                "values (%s, 'odoo', 'raw.odoo_t', 'rows', %s, now() - %s * interval '1 day')",
                (run, rows, days),
            )
        assert prune(care, DAYS, run_id="care") == {"quality_metric": 1}
        left = query(owner, "select run_id from ops.quality_metric order by measured_at")
        assert left == [("last with rows",), ("empty",), ("today",)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quality_metric": 30}, "quality_metric is 30, but baselines read 180 days back"),
        ({"quality_run": 179}, "quality_run is 179, but baselines read 180 days back"),
        ({"rule_result": 29}, "rule_result must be a whole number of days, 30 or more"),
        ({"rule_result": "a year"}, "rule_result must be a whole number of days"),
        ({"rule_result": True}, "rule_result must be a whole number of days"),
        ({"rule_result": None}, "rule_result must be a whole number of days"),
        ({"loads": 3}, "'loads' is no record with an end"),
    ],
)
def test_a_wrong_setting_is_told(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "retention.yaml"
    path.write_text("\n".join(f"{name}: {days}" for name, days in {**DAYS, **change}.items() if days is not None))
    with pytest.raises(RetentionError, match=reason):
        read_retention(path, anomaly=ANOMALY)


@pytest.mark.parametrize(("text", "reason"), [("[", "can't be read"), ("- 3", "must give a number of days")])
def test_what_is_no_mapping_is_told(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "retention.yaml"
    path.write_text(text)
    with pytest.raises(RetentionError, match=reason):
        read_retention(path, anomaly=ANOMALY)


def test_nobody_deletes_what_is_young(care: psycopg.Connection) -> None:
    for days in (29, 0, -1, None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="records are kept for 30 days at least"):
            care.execute("select ops.prune('rule_result', %s, 1)", (days,))
        care.rollback()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="there is no record load with an end"):
        care.execute("select ops.prune('load', 30, 1)")
    care.rollback()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        care.execute("delete from ops.quality_run")


@pytest.mark.parametrize("role", ["revops_ingest", "revops_transform", "revops_embed", "revops_api", "revops_audit"])
def test_other_roles_prune_nothing(warehouse_dsn: str, role: str) -> None:
    session = psycopg.connect(warehouse_dsn, options=f"-c role={role}")
    with session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("select ops.prune('rule_result', 30, 1)")
