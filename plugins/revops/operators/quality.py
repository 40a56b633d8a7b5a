"""Operator that checks the tables of one layer and stops the data where a critical check fails."""

from __future__ import annotations

from typing import Any, Literal

import psycopg
import structlog
from airflow.sdk import BaseOperator, Context

from revops.hooks.warehouse import connect_warehouse, warehouse_conninfo
from revops.operators.failure import failing_fast
from revops.quality.own_checks import check_core, check_raw
from revops.quality.own_config import read_own_checks
from revops.quality.record import record_report, require_gate_open
from revops.quality.results import ScanReport, describe_result
from revops.quality.scan import scan_tables
from revops.quality.source_rows import raw_tables
from revops.sources import INCLUDE, load_source

log = structlog.get_logger(__name__)


class QualityOperator(BaseOperator):
    """Run the checks of a layer's tables, keep the results in ops, and fail when the gate is shut.

    tables: names in core. raw needs none: all tables of the source are checked.
    """

    def __init__(
        self, *, source_name: str, layer: Literal["raw", "core"], tables: list[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.layer = layer
        self.tables = tables

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            with connect_warehouse("revops_quality", task=self._task) as warehouse:
                report = self._check(warehouse)
                record_report(warehouse, report, source=self.source_name, run_id=context["run_id"])
            for result in report.results:
                if result.outcome not in ("pass", "not_applicable"):
                    log.warning(
                        "check",
                        outcome=result.outcome,
                        table=f"{self.layer}.{result.check.table}",
                        check=result.check.name,
                        found=describe_result(result.outcome, result.value, result.rows_failed, result.rows_total),
                    )
            facts = {
                "status": report.status,
                "gate": report.gate,
                "score": None if report.score is None else float(report.score),
                "checks": len(report.applicable),
                "evaluated": report.evaluated,
            }
            log.info("checked", layer=self.layer, **facts, seconds=round(report.seconds, 2))
            require_gate_open(report)
        return facts

    @property
    def _task(self) -> str:
        return f"check_{self.layer}:{self.source_name}"

    def _check(self, warehouse: psycopg.Connection) -> ScanReport:
        own = read_own_checks(INCLUDE / "soda" / "own.yaml")
        if self.layer == "raw":
            tables = raw_tables(warehouse, load_source(self.source_name))
            # Soda takes its time: no transaction is kept open meanwhile.
            warehouse.rollback()
            return self._scan(list(tables)).joined(
                check_raw(warehouse, source=self.source_name, tables=tables, own=own)
            )
        if not self.tables:
            raise ValueError("the tables of core to check are not named")
        return self._scan(self.tables).joined(
            check_core(warehouse, source=self.source_name, tables=self.tables, own=own)
        )

    def _scan(self, tables: list[str]) -> ScanReport:
        return scan_tables(
            warehouse_conninfo("revops_quality", task=self._task),
            layer=self.layer,
            source=self.source_name,
            tables=tables,
            folder=INCLUDE / "soda" / self.layer,
        )
