"""What a run did, from the records in ops: for the report task, the mails and the shell."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from revops.access_log import describe_audit_mode
from revops.extract.source_login import REMEDY, describe_rights
from revops.quality.results import describe_result

Row = dict[str, Any]
# Of what is in quarantine, the first keys of each rule; ops.quarantine has them all.
QUARANTINE_KEYS = 20
MOST_ANOMALIES = 200


@dataclass(frozen=True)
class RunReport:
    """The records of one run of one source, each list in the order of the work.

    findings: checks that did not pass, with the first keys. scores: of each layer by table and dimension, null for all
    of them. quarantine: what rules keep out of core now, by rule. rules: how many rows of this run broke which rule.
    anomalies: those of the source's tables that nobody has judged yet. source_login: what the login of the source may
    do there besides reading. access_log: how the warehouse's server logs sessions.
    """

    source: str
    run_id: str
    loads: list[Row] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    schema_changes: list[Row] = field(default_factory=list)
    transforms: list[Row] = field(default_factory=list)
    quality: list[Row] = field(default_factory=list)
    findings: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    totals: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    rules: list[Row] = field(default_factory=list)
    anomalies: list[Row] = field(default_factory=list)
    embedding: list[Row] = field(default_factory=list)
    source_login: Row | None = None
    access_log: Row | None = None

    @property
    def rows_read(self) -> int:
        return sum(load["rows_read"] or 0 for load in self.loads)

    @property
    def rows_changed(self) -> int:
        return sum((load[kind] or 0) for load in self.loads for kind in ("inserted", "updated", "deleted"))

    @property
    def warnings(self) -> list[str]:
        """What somebody should know although the run went on."""
        lines = [f"{self.source}: optional table {name} is absent in the source" for name in self.absent]
        lines += [
            f"{change['table_name']}: {change['change'].replace('_', ' ')} {change['column_name'] or ''} "
            f"{change['type_before'] or ''}{' -> ' if change['type_before'] and change['type_after'] else ''}"
            f"{change['type_after'] or ''}".strip()
            for change in self.schema_changes
            if change["change"] not in ("table_created", "table_absent")
        ]
        return [*lines, *self.access_warnings]

    @property
    def access_warnings(self) -> list[str]:
        """What should be otherwise with the source's login and the warehouse's access log."""
        lines = []
        if (login := self.source_login) and login["write_rights"]:
            lines.append(f"{describe_rights(self.source, login['login'], login['write_rights'])} {REMEDY}")
        if self.access_log and (told := describe_audit_mode(self.access_log["mode"], self.access_log["faults"])):
            lines.append(told)
        return lines

    @property
    def has_news_of_access(self) -> bool:
        """Whether this run is the first to see what access_warnings say."""
        return bool(
            (self.source_login and self.source_login["is_new"] and self.source_login["write_rights"])
            or (
                self.access_log
                and self.access_log["is_new"]
                and describe_audit_mode(self.access_log["mode"], self.access_log["faults"])
            )
        )


_LOADS = """
    select distinct on (table_name) table_name, status, mode, full_read_reason, rows_read, inserted, updated, unchanged,
           deleted, bytes, seconds, rows_per_second, error, is_final
    from ops.load where run_id = %(run_id)s and source = %(source)s order by table_name, load_id desc
"""
_SCHEMA_CHANGES = """
    select table_name, column_name, change, type_before, type_after
    from ops.schema_change where run_id = %(run_id)s and source = %(source)s order by schema_change_id
"""
_TRANSFORMS = """
    select distinct on (target)
           target, status, rows_read, inserted, updated, unchanged, quarantined, deleted, seconds, error
    from ops.transform_run where run_id = %(run_id)s and source = %(source)s order by target, transform_run_id desc
"""
_QUALITY = """
    select distinct on (layer) quality_run_id, layer, status, gate, expected, evaluated, score, seconds, error
    from ops.quality_run where run_id = %(run_id)s and source = %(source)s order by layer desc, quality_run_id desc
"""
_FINDINGS = """
    select q.layer, r.table_name, r.check_name, r.definition, r.dimension, r.severity, r.outcome, r.value, r.rows_total,
           r.rows_failed, r.remedy, coalesce((
               select array_agg(k.key order by length(k.key), k.key) from ops.quality_failed_key k
               where k.quality_run_id = r.quality_run_id and k.table_name = r.table_name and k.check_name = r.check_name
           ), '{}') as keys
    from ops.quality_result r join ops.quality_run q using (quality_run_id)
    where r.quality_run_id = any(%(quality_runs)s) and r.outcome not in ('pass', 'not_applicable')
    order by r.outcome, q.layer desc, r.table_name, r.check_name
"""
_SCORES = """
    select q.layer, s.table_name, s.dimension, s.score, s.checks, s.evaluated
    from ops.quality_score s join ops.quality_run q using (quality_run_id)
    where s.quality_run_id = any(%(quality_runs)s)
    order by q.layer desc, s.table_name nulls first, s.dimension nulls first
"""
_TOTALS = """
    select table_name, period, raw_rows, raw_amount, core_rows, core_amount, quarantined_rows, quarantined_amount,
           round(raw_amount - core_amount - quarantined_amount, 2) as difference
    from ops.quality_total where quality_run_id = any(%(quality_runs)s) order by table_name, period
"""
_QUARANTINE = """
    select target, rule, min(reason) as reason, count(*) as rows,
           count(*) filter (where first_run_id = %(run_id)s) as new_rows, min(first_seen_at) as first_seen_at,
           (array_agg(source_key order by first_seen_at desc, length(source_key), source_key))[1:%(most_keys)s] as keys
    from ops.quarantine where source = %(source)s and released_at is null group by target, rule order by target, rule
"""
_RULES = """
    select t.target, r.rule, r.action, r.rows
    from ops.rule_result r join (
        select distinct on (target) target, transform_run_id from ops.transform_run
        where run_id = %(run_id)s and source = %(source)s order by target, transform_run_id desc
    ) t using (transform_run_id)
    where r.rows > 0 order by t.target, r.action, r.rule
"""
_ANOMALIES = """
    select anomaly_id, run_id, dataset, metric, column_name, value, expected_low, expected_high, score, severity,
           reason, seen_at
    from ops.anomaly where state = 'open' and source = %(source)s
    order by severity, seen_at desc, anomaly_id desc limit %(most_anomalies)s
"""
_EMBEDDING = """
    select e.model_key, m.name as model_name, e.device, e.documents, e.encoded, e.loaded, e.tokens, e.truncated,
           e.seconds
    from ops.embedding_run e join search.embedding_model m using (model_key)
    where e.run_id = %(run_id)s and e.source = %(source)s order by e.embedding_run_id
"""
_SOURCE_LOGIN = """
    select login, write_rights, first_run_id = %(run_id)s as is_new from ops.source_login
    where source = %(source)s and last_run_id = %(run_id)s order by source_login_id desc limit 1
"""
_ACCESS_LOG = """
    select mode, faults, coalesce(first_run_id = %(run_id)s, false) as is_new from ops.access_audit_mode
    order by access_audit_mode_id desc limit 1
"""


def read_report(warehouse: psycopg.Connection, *, source: str, run_id: str) -> RunReport:
    """Read the records of a run; parts that the run did not reach are empty. Ends its transaction."""
    parameters: dict[str, Any] = {
        "source": source,
        "run_id": run_id,
        "most_keys": QUARANTINE_KEYS,
        "most_anomalies": MOST_ANOMALIES,
    }
    with warehouse.cursor(row_factory=dict_row) as cursor:
        loads = cursor.execute(_LOADS, parameters).fetchall()
        quality = cursor.execute(_QUALITY, parameters).fetchall()
        parameters["quality_runs"] = [row["quality_run_id"] for row in quality]
        report = RunReport(
            source,
            run_id,
            loads=[load for load in loads if load["status"] != "absent"],
            absent=[load["table_name"] for load in loads if load["status"] == "absent"],
            schema_changes=cursor.execute(_SCHEMA_CHANGES, parameters).fetchall(),
            transforms=cursor.execute(_TRANSFORMS, parameters).fetchall(),
            quality=quality,
            findings=cursor.execute(_FINDINGS, parameters).fetchall(),
            scores=cursor.execute(_SCORES, parameters).fetchall(),
            totals=cursor.execute(_TOTALS, parameters).fetchall(),
            quarantine=cursor.execute(_QUARANTINE, parameters).fetchall(),
            rules=cursor.execute(_RULES, parameters).fetchall(),
            anomalies=cursor.execute(_ANOMALIES, parameters).fetchall(),
            embedding=cursor.execute(_EMBEDDING, parameters).fetchall(),
            source_login=cursor.execute(_SOURCE_LOGIN, parameters).fetchone(),
            access_log=cursor.execute(_ACCESS_LOG, parameters).fetchone(),
        )
    warehouse.rollback()
    return report


def show_score(score: Decimal | None) -> str:
    """Return a score as a percentage, rounded down: only where everything passed it says 100."""
    if score is None:
        return "unknown"
    return f"{(score * 100).quantize(Decimal('0.1'), rounding=ROUND_FLOOR):f}".removesuffix(".0") + " %"


def show_found(finding: Row) -> str:
    """Return what a check that did not pass has measured, in words."""
    return describe_result(finding["outcome"], finding["value"], finding["rows_failed"], finding["rows_total"])


def stopping(report: RunReport) -> list[Row]:
    """Return the findings that keep a gate shut."""
    return [finding for finding in report.findings if finding["outcome"] in ("fail", "not_evaluated")]


def emptied(report: RunReport) -> list[Row]:
    """Return the anomalies of tables that had rows before this run and have none: they stop it."""
    return [one for one in report.anomalies if one["run_id"] == report.run_id and one["score"] is None]
