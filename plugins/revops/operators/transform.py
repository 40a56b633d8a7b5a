"""Operator that brings one table of core or search to the state that its SQL file describes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from revops.hooks.warehouse import Role, connect_warehouse
from revops.operators.failure import failing_fast
from revops.sources import INCLUDE
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS

ROLES: dict[str, Role] = {"core": "revops_transform", "search": "revops_embed"}


class TransformOperator(BaseOperator):
    """Run include/sql/<schema>/<target>.sql for one source; returns the counts, also as extra of the task's asset.

    With the DAG's parameter full_refresh every row is computed anew, else those that changes of raw concern.
    """

    def __init__(self, *, source_name: str, target: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.target = target

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
        for asset in self.outlets:
            context["outlet_events"][asset].extra = vars(result)
        return vars(result)
