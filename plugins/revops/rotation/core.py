"""Bring the blind indexes that core has copied from raw to a new index key."""

from __future__ import annotations

from pathlib import Path

import psycopg
import structlog

from revops.sources import Source
from revops.transform.definition import read_definition
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, Target

log = structlog.get_logger(__name__)

# Core takes nothing of raw that was not checked after it was loaded: such a source's next run brings it.
_IS_CHECKED = """
select coalesce(q.gate = 'open', false)
    and not exists (select from ops.load as l where l.source = %(source)s and l.started_at > q.started_at)
from (
    select gate, finished_at - make_interval(secs => seconds) as started_at
    from ops.quality_run where source = %(source)s and layer = 'raw' order by quality_run_id desc limit 1
) as q
"""


def copies(source: str, include: Path) -> list[Target]:
    """Return the tables of core that copy blind indexes from a source's raw."""
    return [
        target
        for target in TARGETS.values()
        if target.schema == "core"
        and source in target.sources
        and "blind_index" in read_definition(target, include / "sql").statement
    ]


def refresh_core(warehouse: psycopg.Connection, source: Source, *, run_id: str, include: Path) -> bool:
    """Compute the tables that copy a source's blind indexes anew; return whether that was done; commits.

    warehouse: with the rights of revops_transform. Not where raw holds what no check has seen: the source's next run
    does it then, since what a table is made of includes the index key (see transform.state).
    """
    row = warehouse.execute(_IS_CHECKED, {"source": source.source}).fetchone()
    warehouse.rollback()
    if row != (True,):
        log.warning(
            "core gets the new blind indexes with the next run of the source: raw was not checked since it was loaded",
            source=source.source,
        )
        return False
    for target in copies(source.source, include):
        transform_table(warehouse, target=target, source=source.source, run_id=run_id, include=include)
    return True
