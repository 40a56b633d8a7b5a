"""Row accounting of core: each live row of raw is in core or in quarantine, and nothing else is in core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import psycopg
from psycopg import sql

from revops.quality.asking import Asking
from revops.quality.checks import Check
from revops.quality.own_config import Accounting, OwnChecks
from revops.quality.results import KEPT_KEYS, CheckResult, judge
from revops.quality.tables import CheckedTable, read_tables

NAME = "each row of raw is here or in quarantine"

# Keys of open quarantine whose rows are live in raw; a row may break several rules.
OPEN_QUARANTINE = sql.SQL(
    "select distinct q.source_key as key from ops.quarantine q "
    "where q.target = {target} and q.source = {source} and q.released_at is null "
    "and exists (select from raw_rows r where r.key = q.source_key)"
)
# Counts and an order-free digest of the keys: two passes over the tables, no join of them.
_COMPARE = sql.SQL(
    "with raw_rows as not materialized ({raw}), core_rows as not materialized ({core}), quarantined as ({quarantine}) "
    "select r.rows, r.digest, c.rows, c.digest, q.rows, q.digest from "
    "(select count(*) as rows, coalesce(sum(hashtextextended(key, 0)), 0) as digest from raw_rows) as r, "
    "(select count(*) as rows, coalesce(sum(hashtextextended(key, 0)), 0) as digest from core_rows) as c, "
    "(select count(*) as rows, coalesce(sum(hashtextextended(key, 0)), 0) as digest from quarantined) as q"
)
_DIFFERENCES = sql.SQL(
    "with raw_rows as not materialized ({raw}), "
    "core_rows as (select key, count(*) as rows from ({core}) as c group by 1), "
    "quarantined as ({quarantine}) "
    "select coalesce(r.key, c.key), count(*) over () from raw_rows r full join core_rows c using (key) "
    "left join quarantined q on q.key = coalesce(r.key, c.key) "
    "where r.key is null or (c.key is null) = (q.key is null) or c.rows > 1 order by 1 limit {most}"
)


def check_accounting(asking: Asking, *, source: str, tables: Sequence[str], own: OwnChecks) -> None:
    """Account for the rows of each table of core that has one row for each row of a raw table."""
    for entry in own.accounting:
        if entry.source != source or entry.core not in tables:
            continue
        check = Check(
            entry.core,
            NAME,
            f"live rows of raw.{entry.raw} = rows of core.{entry.core} + quarantined keys",
            dimension="completeness",
            severity="critical",
            weight=3.0,
            remedy=f"Run the DAG with `full_refresh`: core.{entry.core} is computed anew from all of raw.{entry.raw}. "
            f"If it stays, the statement in include/sql/core/{entry.core}.sql loses or doubles rows.",
        )
        asking.ask(check, partial(_account, asking.warehouse, check, entry))


def raw_keys(entry: Accounting, raw: CheckedTable) -> sql.Composed:
    """Return the select of the live raw rows' keys as text."""
    narrowed = sql.SQL(f" and ({entry.raw_where})") if entry.raw_where else sql.SQL("")
    return sql.SQL("select {}::text as key from {} where {}{}").format(
        sql.Identifier(entry.key), sql.Identifier("raw", raw.name), raw.live_rows(entry.source), narrowed
    )


def _account(warehouse: psycopg.Connection, check: Check, entry: Accounting) -> CheckResult:
    raw = read_tables(warehouse, layer="raw", names=[entry.raw]).get(entry.raw)
    if raw is None:
        # A source without the table: its absence is told by the load.
        return CheckResult(check, "not_applicable")
    core = read_tables(warehouse, layer="core", names=[entry.core])[entry.core]
    narrowed = sql.SQL(f" and ({entry.core_where})") if entry.core_where else sql.SQL("")
    parts = {
        "raw": raw_keys(entry, raw),
        "core": sql.SQL("select source_id as key from {} where {}{}").format(
            sql.Identifier("core", core.name), core.live_rows(entry.source), narrowed
        ),
        "quarantine": OPEN_QUARANTINE.format(
            target=sql.Literal(f"core.{entry.core}"), source=sql.Literal(entry.source)
        ),
    }
    row = warehouse.execute(_COMPARE.format(**parts)).fetchone()
    if row is None:
        raise AssertionError("an aggregate has a row")
    raw_rows, raw_digest, core_rows, core_digest, held_rows, held_digest = row
    is_passed = raw_rows == core_rows + held_rows and raw_digest == core_digest + held_digest
    if is_passed:
        return judge(check, is_passed=True, value=0, rows_total=raw_rows, rows_failed=0)
    found = warehouse.execute(_DIFFERENCES.format(**parts, most=sql.Literal(KEPT_KEYS))).fetchall()
    failed = found[0][1] if found else 1
    return judge(
        check,
        is_passed=False,
        value=failed,
        rows_total=max(raw_rows, core_rows),
        rows_failed=failed,
        keys=[key for key, _ in found],
    )
