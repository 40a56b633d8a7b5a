"""What a run did, from the records in ops: for the report task, the mails and the shell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]


@dataclass(frozen=True)
class RunReport:
    """The records of one run of one source, each list in the order of the work."""

    source: str
    run_id: str
    loads: list[Row] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    schema_changes: list[Row] = field(default_factory=list)
    transforms: list[Row] = field(default_factory=list)
    quality: list[Row] = field(default_factory=list)
    findings: list[Row] = field(default_factory=list)
    embedding: list[Row] = field(default_factory=list)

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
        return lines


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
    select distinct on (layer) quality_run_id, layer, status, expected, evaluated, score, seconds
    from ops.quality_run where run_id = %(run_id)s and source = %(source)s order by layer desc, quality_run_id desc
"""
_FINDINGS = """
    select table_name, check_name, dimension, severity, outcome, value
    from ops.quality_result where quality_run_id = any(%(quality_runs)s) and outcome <> 'pass'
    order by outcome, table_name, check_name
"""
_EMBEDDING = """
    select e.model_key, m.name as model_name, e.device, e.documents, e.encoded, e.loaded, e.tokens, e.truncated,
           e.seconds
    from ops.embedding_run e join search.embedding_model m using (model_key)
    where e.run_id = %(run_id)s and e.source = %(source)s order by e.embedding_run_id
"""


def read_report(warehouse: psycopg.Connection, *, source: str, run_id: str) -> RunReport:
    """Read the records of a run; parts that the run did not reach are empty. Ends its transaction."""
    parameters: dict[str, Any] = {"source": source, "run_id": run_id}
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
            embedding=cursor.execute(_EMBEDDING, parameters).fetchall(),
        )
    warehouse.rollback()
    return report
