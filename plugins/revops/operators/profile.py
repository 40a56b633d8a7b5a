"""Operator that measures the tables of one layer and judges the numbers by the tables' own history."""

from __future__ import annotations

from typing import Any

import psycopg
import structlog
from airflow.sdk import BaseOperator, Context

from revops.hooks.warehouse import connect_warehouse
from revops.naming import raw_table_name
from revops.operators.failure import failing_fast
from revops.quality.anomaly import judge, require_rows
from revops.quality.anomaly_config import read_anomaly_config
from revops.quality.metrics import measure_tables
from revops.sources import load_source

log = structlog.get_logger(__name__)


class ProfileOperator(BaseOperator):
    """Measure tables, keep what is unlike their history in ops.anomaly, and fail when one that had rows has none.

    layer: raw or core. tables: names in the layer. Without them: of raw the tables that the source lists and those that
    the run has loaded, of core those that the source's transforms have ever written.
    """

    def __init__(self, *, source_name: str, layer: str, tables: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.layer = layer
        self.tables = tables

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            run_id = context["run_id"]
            config = read_anomaly_config()
            with connect_warehouse("revops_quality", task=f"profile_{self.layer}:{self.source_name}") as warehouse:
                tables = [f"{self.layer}.{name}" for name in self.tables or self._known_tables(warehouse, run_id)]
                metrics = measure_tables(
                    warehouse, source=self.source_name, run_id=run_id, tables=tables, config=config
                )
                anomalies = judge(warehouse, source=self.source_name, run_id=run_id, config=config, tables=tables)
            for anomaly in anomalies:
                log.warning(
                    "anomaly",
                    anomaly_id=anomaly.anomaly_id,
                    severity=anomaly.severity,
                    reason=anomaly.reason,
                    score=None if anomaly.score is None else round(anomaly.score, 1),
                    is_new=anomaly.is_new,
                )
            log.info("profiled", layer=self.layer, tables=len(tables), metrics=len(metrics), anomalies=len(anomalies))
            require_rows(anomalies)
        return {"tables": len(tables), "metrics": len(metrics), "anomalies": len(anomalies)}

    def _known_tables(self, warehouse: psycopg.Connection, run_id: str) -> list[str]:
        if self.layer == "core":
            rows = warehouse.execute(
                "select distinct split_part(target, '.', 2) from ops.transform_run "
                "where source = %s and target like 'core.%%' and status = 'succeeded' order by 1",
                (self.source_name,),
            ).fetchall()
            return [name for (name,) in rows]
        config = load_source(self.source_name)
        rows = warehouse.execute(
            "select distinct table_name from ops.load where source = %s and run_id = %s and status = 'succeeded' "
            "order by 1",
            (self.source_name, run_id),
        ).fetchall()
        listed = [config.raw_table(table) for table in config.tables]
        # Those that fit a pattern are known when they are loaded.
        return list(dict.fromkeys([*listed, *(raw_table_name(self.source_name, name) for (name,) in rows)]))
