"""The checks that the quality step makes by itself: tables against the records of their runs, and core against raw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import psycopg

from revops.quality.accounting import check_accounting
from revops.quality.asking import Asking
from revops.quality.freshness import check_loads, check_transforms
from revops.quality.own_config import OwnChecks
from revops.quality.results import ScanReport
from revops.quality.source_rows import check_source_rows, read_last_loads
from revops.quality.totals import check_totals


def check_raw(warehouse: psycopg.Connection, *, source: str, tables: Mapping[str, str], own: OwnChecks) -> ScanReport:
    """Check that raw has every row of the source and was loaded in time; ends the session's transaction.

    tables: the source's name by the name in raw. A check that can't be made is `not_evaluated`.
    """

    def ask(asking: Asking) -> None:
        loads = read_last_loads(warehouse, source=source, tables=tables)
        check_source_rows(asking, tables=tables, loads=loads)
        check_loads(asking, tables=tables, loads=loads, own=own)

    return _round(warehouse, "raw", ask)


def check_core(warehouse: psycopg.Connection, *, source: str, tables: Sequence[str], own: OwnChecks) -> ScanReport:
    """Check that core accounts for every row of raw, has its sums and was computed in time; ends the transaction.

    A check that can't be made is `not_evaluated`.
    """

    def ask(asking: Asking) -> None:
        check_accounting(asking, source=source, tables=tables, own=own)
        check_totals(asking, source=source, tables=tables, own=own)
        check_transforms(asking, source=source, tables=tables, own=own)

    return _round(warehouse, "core", ask)


def _round(warehouse: psycopg.Connection, layer: str, ask: Callable[[Asking], None]) -> ScanReport:
    """Ask in one picture of the warehouse: rows and the records of their loads are committed together."""
    started = time.monotonic()
    warehouse.rollback()
    before = warehouse.isolation_level
    warehouse.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    asking = Asking(warehouse)
    try:
        with warehouse.transaction():
            ask(asking)
    finally:
        warehouse.isolation_level = before
    return ScanReport(
        layer,
        tuple(asking.results),
        "\n".join(asking.errors),
        time.monotonic() - started,
        tuple(asking.totals),
    )
