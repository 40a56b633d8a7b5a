"""What the records of the loads must say once all faults are over."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tests.histories.compare import RawDiffersError


def check_ledger(warehouse: psycopg.Connection, *, table: str, raw: str) -> None:
    """Raise RawDiffersError unless ops.load and ops.watermark agree with each other and with raw."""
    loads = "select {} from ops.load where source = 'odoo' and table_name = %s and {}"
    checks = {
        "loads still say that they run": "status = 'running'",
        "loads failed without an error or an end": "status = 'failed' and (error is null or finished_at is null)",
        "loads succeeded with an error or without an end": (
            "status = 'succeeded' and (error is not null or finished_at is null)"
        ),
        "loads have counts that do not add up": (
            "status = 'succeeded' and rows_read is distinct from inserted + updated + unchanged + quarantined"
        ),
    }
    for what, condition in checks.items():
        query = loads.format("coalesce(array_agg(load_id), '{}')", condition)
        row = warehouse.execute(query.encode(), (table,)).fetchone()
        if row and row[0]:
            raise RawDiffersError(f"{what}: {row[0]}")
    query = loads.format("max(load_id)", "status = 'succeeded'")
    last = warehouse.execute(query.encode(), (table,)).fetchone()
    saved = warehouse.execute(
        "select max(load_id) from ops.watermark where source = 'odoo' and table_name = %s", (table,)
    ).fetchone()
    if last != saved:
        raise RawDiffersError(f"the watermark is of load {saved}, the last load that succeeded is {last}")
    _check_inserted(warehouse, table=table, raw=raw)


def _check_inserted(warehouse: psycopg.Connection, *, table: str, raw: str) -> None:
    # A new key empties raw: what loads had inserted before is gone.
    inserted = warehouse.execute(
        "select coalesce(sum(inserted), 0) from ops.load where source = 'odoo' and table_name = %s "
        "and status = 'succeeded' and load_id >= (select coalesce(max(c.load_id), 0) from ops.schema_change as c "
        "join ops.load as l using (load_id) where c.table_name = %s and l.status = 'succeeded' "
        "and c.change in ('table_created', 'key_changed'))",
        (table, raw),
    ).fetchone()
    rows = warehouse.execute(sql.SQL("select count(*) from raw.{}").format(sql.Identifier(raw))).fetchone()
    if rows != inserted:
        raise RawDiffersError(f"raw.{raw} has {rows} rows, its loads say that they inserted {inserted}")
