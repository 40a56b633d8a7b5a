"""Money by month in raw and core: the same to the cent, with what is in quarantine listed apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from psycopg import sql

from revops.quality.accounting import OPEN_QUARANTINE
from revops.quality.asking import Asking
from revops.quality.checks import Check
from revops.quality.own_config import OwnChecks, Total
from revops.quality.results import CheckResult, PeriodTotal, judge
from revops.quality.tables import read_tables

NAME = "sums by month are those of raw, to the cent"

# NaN and infinity are no money: no sum could be compared with them. The checks on values find that they are there.
_SUMS = sql.SQL(
    "with raw_rows as not materialized (select {key}::text as key, {raw_amount}::numeric as amount, "
    "{raw_date}::timestamp as at from {raw} where {raw_live}), "
    "quarantined as materialized ({quarantine}), "
    "raw_sums as (select {period} as period, count(*) filter (where q.key is null) as rows, "
    "coalesce(sum(amount) filter (where q.key is null and {is_money}), 0) as amount, "
    "count(q.key) as held_rows, "
    "coalesce(sum(amount) filter (where q.key is not null and {is_money}), 0) as held_amount "
    "from raw_rows left join quarantined q using (key) group by 1), "
    "core_sums as (select {period} as period, count(*) as rows, "
    "coalesce(sum(amount) filter (where {is_money}), 0) as amount "
    "from (select {core_amount}::numeric as amount, {core_date}::timestamp as at from {core} where {core_live}) as c "
    "group by 1) "
    "select period, coalesce(r.rows, 0) + coalesce(r.held_rows, 0), "
    "coalesce(r.amount, 0) + coalesce(r.held_amount, 0), coalesce(c.rows, 0), coalesce(c.amount, 0), "
    "coalesce(r.held_rows, 0), coalesce(r.held_amount, 0) "
    "from raw_sums r full join core_sums c using (period) order by 1"
)
_PERIOD = sql.SQL("coalesce(case when isfinite(at) then to_char(at, 'YYYY-MM') end, 'none')")
_IS_MONEY = sql.SQL("amount not in ('NaN', 'Infinity', '-Infinity')")


def check_totals(asking: Asking, *, source: str, tables: Sequence[str], own: OwnChecks) -> None:
    """Compare the sums of each amount that own.yaml names; every month is kept, those that differ are the keys."""
    for entry in own.totals:
        if entry.source != source or entry.core not in tables:
            continue
        check = Check(
            entry.core,
            NAME,
            f"sum({entry.raw_amount}) of raw.{entry.raw} by {entry.raw_date} = sum({entry.core_amount}) by "
            f"{entry.core_date} + quarantined",
            dimension="consistency",
            severity="critical",
            weight=3.0,
            remedy="Compare the months in ops.quality_total; run the DAG with `full_refresh` to compute "
            f"core.{entry.core} anew.",
        )
        asking.ask(check, partial(_compare, asking, check, entry))


def _compare(asking: Asking, check: Check, entry: Total) -> CheckResult:
    raw = read_tables(asking.warehouse, layer="raw", names=[entry.raw]).get(entry.raw)
    if raw is None:
        return CheckResult(check, "not_applicable")
    core = read_tables(asking.warehouse, layer="core", names=[entry.core])[entry.core]
    rows: list[Any] = asking.warehouse.execute(
        _SUMS.format(
            key=sql.Identifier(entry.key),
            raw_amount=sql.Identifier(entry.raw_amount),
            raw_date=sql.Identifier(entry.raw_date),
            raw=sql.Identifier("raw", raw.name),
            raw_live=raw.live_rows(entry.source),
            quarantine=OPEN_QUARANTINE.format(
                target=sql.Literal(f"core.{entry.core}"), source=sql.Literal(entry.source)
            ),
            core_amount=sql.Identifier(entry.core_amount),
            core_date=sql.Identifier(entry.core_date),
            core=sql.Identifier("core", core.name),
            core_live=core.live_rows(entry.source),
            period=_PERIOD,
            is_money=_IS_MONEY,
        )
    ).fetchall()
    totals = [PeriodTotal(entry.core, *facts) for facts in rows]
    asking.totals += totals
    differing = [
        total.period
        for total in totals
        if round(total.raw_amount - total.core_amount - total.quarantined_amount, 2) != 0
    ]
    return judge(
        check,
        is_passed=not differing,
        value=len(differing),
        rows_total=len(totals),
        rows_failed=len(differing),
        keys=differing,
    )
