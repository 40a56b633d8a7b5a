"""Completeness of a load: raw's live rows against the source's own count in the snapshot that was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from revops.naming import raw_table_name
from revops.quality.asking import Asking
from revops.quality.checks import Check
from revops.quality.results import CheckResult, judge
from revops.sources import Source

NAME = "every row of the source is here"

_LAST_LOADS = """
    select distinct on (l.table_name)
           l.table_name, l.load_id, l.mode, l.source_rows,
           (extract(epoch from clock_timestamp() - l.finished_at) / 3600)::float8 as age_h,
           coalesce((
               select max(a.load_id) from ops.load a
               where a.source = l.source and a.table_name = l.table_name and a.status = 'absent'
           ) > l.load_id, false) as is_absent
    from ops.load l
    where l.source = %s and l.status = 'succeeded' and l.table_name = any(%s)
    order by l.table_name, l.load_id desc
"""


@dataclass(frozen=True)
class LastLoad:
    """The last load of a table that succeeded; is_absent: the source has been without the table since."""

    load_id: int
    mode: str
    source_rows: int | None
    age_h: float
    is_absent: bool


def raw_tables(warehouse: psycopg.Connection, config: Source) -> dict[str, str]:
    """Return the source's name of each of its tables by the name in raw, in the order of the source's file.

    Those of patterns as far as they were loaded. Without the optional ones that raw does not have; a table that must be
    there is listed even so, that its absence be found. Ends no transaction.
    """
    loaded = [
        name
        for (name,) in warehouse.execute(
            "select distinct table_name from ops.load where source = %s and status in ('succeeded', 'absent') "
            "order by 1",
            (config.source,),
        )
    ]
    fitting = [name for pattern in config.patterns for name in config.fitting(pattern, loaded)]
    names = {raw_table_name(config.source, name): name for name in (*(t.name for t in config.tables), *fitting)}
    demanded = {config.raw_table(table) for table in config.tables if not table.optional}
    rows = warehouse.execute(
        "select relname from pg_class where relnamespace = 'raw'::regnamespace and relname = any(%s)", (list(names),)
    )
    present = {name for (name,) in rows}
    return {raw: name for raw, name in names.items() if raw in present or raw in demanded}


def read_last_loads(warehouse: psycopg.Connection, *, source: str, tables: Mapping[str, str]) -> dict[str, LastLoad]:
    """Return the last successful load of each table, by its name in raw; without those that have none."""
    raw_names = {name: raw for raw, name in tables.items()}
    rows: list[Any] = warehouse.execute(_LAST_LOADS, (source, list(raw_names))).fetchall()
    return {raw_names[name]: LastLoad(*facts) for name, *facts in rows}


def check_source_rows(asking: Asking, *, tables: Mapping[str, str], loads: Mapping[str, LastLoad]) -> None:
    """Compare the live rows of each raw table with the count that its last load took in the source."""
    for table in tables:
        check = Check(
            table,
            NAME,
            "live rows = ops.load.source_rows of the last load",
            dimension="completeness",
            severity="critical",
            weight=3.0,
            remedy="Run the load again with `full_refresh`; it compares and mends every row. What lies in raw and is "
            "not the source's was written by somebody else.",
        )
        asking.ask(check, partial(_compare, asking.warehouse, check, loads.get(table)))


def _compare(warehouse: psycopg.Connection, check: Check, load: LastLoad | None) -> CheckResult:
    if load is not None and (load.is_absent or (load.source_rows is None and load.mode == "cursor")):
        # Mode cursor counts the source's rows only when it compares them, every few days.
        return CheckResult(check, "not_applicable")
    if load is None or load.source_rows is None:
        # Rows without a load that was completed: nobody can say whether they are all.
        return CheckResult(check, "not_evaluated")
    row = warehouse.execute(
        sql.SQL("select count(*) from {} where _deleted_at is null").format(sql.Identifier("raw", check.table))
    ).fetchone()
    live = int(row[0]) if row else 0
    return judge(
        check,
        is_passed=live == load.source_rows,
        value=live - load.source_rows,
        rows_total=load.source_rows,
        rows_failed=abs(live - load.source_rows),
    )
