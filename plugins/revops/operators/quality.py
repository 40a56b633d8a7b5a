"""Operator that checks the tables of one layer and stops the data where a critical check fails."""

from __future__ import annotations

from typing import Any

import structlog
from airflow.sdk import BaseOperator, Context

from revops.hooks.warehouse import connect_warehouse, warehouse_conninfo
from revops.operators.failure import failing_fast
from revops.quality.record import record_report, require_gate_open
from revops.quality.scan import scan_tables
from revops.sources import INCLUDE, load_source

log = structlog.get_logger(__name__)


class QualityOperator(BaseOperator):
    """Run the Soda checks of a layer's tables, keep the results in ops, and fail when the gate is shut.

    tables: names in the layer. Without them: all tables of the source that are in raw.
    """

    def __init__(self, *, source_name: str, layer: str, tables: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.layer = layer
        self.tables = tables

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            task = f"check_{self.layer}:{self.source_name}"
            with connect_warehouse("revops_quality", task=task) as warehouse:
                tables = self.tables or self._raw_tables(warehouse)
                report = scan_tables(
                    warehouse_conninfo("revops_quality", task=task),
                    layer=self.layer,
                    source=self.source_name,
                    tables=tables,
                    folder=INCLUDE / "soda" / self.layer,
                )
                record_report(warehouse, report, source=self.source_name, run_id=context["run_id"])
            for result in report.results:
                if result.outcome != "pass":
                    log.warning(
                        "check",
                        outcome=result.outcome,
                        table=f"{self.layer}.{result.check.table}",
                        check=result.check.name,
                        value=result.value,
                    )
            log.info(
                "checked",
                layer=self.layer,
                status=report.status,
                score=report.score,
                checks=len(report.results),
            )
            require_gate_open(report)
        return {"status": report.status, "score": report.score, "checks": len(report.results)}

    def _raw_tables(self, warehouse: Any) -> list[str]:
        config = load_source(self.source_name)
        wanted = [config.raw_table(table) for table in config.tables]
        rows = warehouse.execute(
            "select relname from pg_class where relnamespace = 'raw'::regnamespace and relname = any(%s)",
            (wanted,),
        ).fetchall()
        present = {name for (name,) in rows}
        return [name for name in wanted if name in present]
