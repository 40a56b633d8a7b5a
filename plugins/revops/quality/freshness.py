"""Timeliness: how long ago a table was last loaded, or computed, with success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import psycopg

from revops.quality.asking import Asking
from revops.quality.checks import Check
from revops.quality.own_config import OwnChecks
from revops.quality.results import CheckResult, judge
from revops.quality.source_rows import LastLoad

LOADED = "loaded in time"
COMPUTED = "computed in time"


def check_loads(asking: Asking, *, tables: Mapping[str, str], loads: Mapping[str, LastLoad], own: OwnChecks) -> None:
    """Hold the age of each raw table's last load against its limit; a table that the source has lost is left out."""
    for table in tables:
        load = loads.get(table)
        check = _check(table, LOADED, "load", own)
        if load is not None and load.is_absent:
            asking.results.append(CheckResult(check, "not_applicable"))
        else:
            asking.results.append(_judge(check, None if load is None else load.age_h, own))


def check_transforms(asking: Asking, *, source: str, tables: Sequence[str], own: OwnChecks) -> None:
    """Hold the age of each core table's last transform in the source's runs against its limit."""
    for table in tables:
        check = _check(table, COMPUTED, "transform", own)
        asking.ask(check, partial(_transform_age, asking.warehouse, check, source, own))


def _transform_age(warehouse: psycopg.Connection, check: Check, source: str, own: OwnChecks) -> CheckResult:
    row = warehouse.execute(
        "select (extract(epoch from clock_timestamp() - max(started_at)) / 3600)::float8 from ops.transform_run "
        "where source = %s and target = %s and status = 'succeeded'",
        (source, f"core.{check.table}"),
    ).fetchone()
    return _judge(check, row[0] if row else None, own)


def _check(table: str, name: str, work: str, own: OwnChecks) -> Check:
    return Check(
        table,
        name,
        f"last {work} that succeeded < {own.limit_h(table):g} h ago",
        dimension="timeliness",
        severity="critical",
        weight=2.0,
        remedy=f"Look in ops.{'load' if work == 'load' else 'transform_run'} for why the {work} failed or did not run, "
        "and run it again. The limit stands in include/soda/own.yaml.",
    )


def _judge(check: Check, age_h: float | None, own: OwnChecks) -> CheckResult:
    # Never done is not "not evaluated": it is known, and too late.
    return judge(
        check,
        is_passed=age_h is not None and age_h < own.limit_h(check.table),
        value=None if age_h is None else round(age_h, 3),
    )
