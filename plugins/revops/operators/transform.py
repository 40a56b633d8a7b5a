"""Operator that brings one table of core or search to the state that its SQL file describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from revops.hooks.warehouse import Role, connect_warehouse, warehouse_conninfo
from revops.lineage.openlineage import Database, openlineage_facets
from revops.lineage.record import read_run_edges
from revops.operators.failure import failing_fast
from revops.sources import INCLUDE
from revops.transform.run import TransformResult, transform_table
from revops.transform.targets import TARGETS

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

ROLES: dict[str, Role] = {"core": "revops_transform", "search": "revops_embed"}


class TransformOperator(BaseOperator):
    """Run include/sql/<schema>/<target>.sql for one source; returns the counts, also as extra of the task's asset.

    With the DAG's parameter full_refresh every row is computed anew, else those that changes of raw concern.
    """

    def __init__(self, *, source_name: str, target: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.target = target
        self._result: TransformResult | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            target = TARGETS[self.target]
            with connect_warehouse(ROLES[target.schema], task=f"transform:{self.target}") as warehouse:
                result = transform_table(
                    warehouse,
                    target=target,
                    source=self.source_name,
                    run_id=context["run_id"],
                    include=INCLUDE,
                    full_refresh=bool((context.get("params") or {}).get("full_refresh")),
                )
        self._result = result
        for asset in self.outlets:
            context["outlet_events"][asset].extra = vars(result)
        return vars(result)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Return what the run read and wrote, for OpenLineage's listener; null where the task had no result."""
        done = self._result
        if done is None:
            return None
        role, task = ROLES[TARGETS[self.target].schema], f"lineage:{self.target}"
        with connect_warehouse(role, task=task) as warehouse:
            edges = read_run_edges(warehouse, done.transform_run_id)
        return openlineage_facets(
            edges,
            target=done.target,
            warehouse=Database.of(warehouse_conninfo(role, task=task)),
            written=done.inserted + done.updated,
        )
