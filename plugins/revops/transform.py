"""Raw to core, core to search: bring a table to the state that its SQL file describes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
import structlog
import yaml
from psycopg import sql

from revops.errors import describe
from revops.extract.catalog import METADATA_COLUMNS, without_modifier
from revops.extract.raw_table import read_raw_columns

log = structlog.get_logger(__name__)

DESIRED = sql.Identifier("pg_temp", "desired")
REJECTED = sql.Identifier("pg_temp", "rejected")
REJECT_COLUMN = "_reject"
NAIVE_TIME = "timestamp without time zone"


class TransformError(RuntimeError):
    """A table can't be transformed for a reason that a retry does not mend."""


@dataclass(frozen=True)
class Input:
    """A raw table as the SQL files see it: type by column; a type that ends in `?` may be missing in the source."""

    table: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Target:
    """A table that one SQL file describes.

    key: the columns that tell rows apart, source_system first. missing: what happens to rows that are no
    longer described; `mark` sets deleted_at, `delete` removes them. role: who may write it.
    """

    schema: Literal["core", "search"]
    name: str
    key: tuple[str, ...]
    missing: Literal["mark", "delete"]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class TransformResult:
    """Rows by what became of them; read = inserted + updated + unchanged + quarantined."""

    target: str
    read: int
    inserted: int
    updated: int
    unchanged: int
    quarantined: int
    deleted: int
    seconds: float


TARGETS = {
    "account": Target("core", "account", ("source_system", "source_id"), "mark"),
    "odoo_opportunities": Target("core", "odoo_opportunities", ("source_system", "source_id"), "mark"),
    "ace_opportunities": Target("core", "ace_opportunities", ("source_system", "source_id"), "mark"),
    "document": Target("search", "document", ("source_system", "entity", "entity_id"), "delete"),
}


def read_inputs(path: Path) -> list[Input]:
    """Read include/sql/core/inputs.yaml."""
    content = yaml.safe_load(path.read_text())
    return [Input(table, dict(columns)) for table, columns in content.items()]


def transform_table(
    warehouse: psycopg.Connection,
    *,
    target: Target,
    statement: str,
    inputs: list[Input],
    source: str,
    run_id: str,
) -> TransformResult:
    """Run one SQL file for one source and bring its target into the state described; commits.

    The file is a single select whose columns are the target's, plus `_reject`: null, or why the row stays out
    of the table and goes to
    ops.quarantine, where it is tried again each run. Only rows that differ are written. One transaction under
    an advisory lock:
    a failure leaves the table as it was and the reason in ops.transform_run. Raises TransformError or psycopg.Error.
    """
    started = time.monotonic()
    row = warehouse.execute(
        "insert into ops.transform_run (run_id, source, target, status) values (%s, %s, %s, 'running') "
        "returning transform_run_id",
        (run_id, source, target.qualified),
    ).fetchone()
    warehouse.commit()
    transform_run_id = row[0] if row else None
    try:
        warehouse.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"transform:{target.qualified}",))
        _create_inputs(warehouse, inputs, statement)
        read, quarantined = _create_desired(warehouse, target, statement, source=source, run_id=run_id)
        inserted, updated, unchanged, deleted = _merge(warehouse, target, source=source)
        result = TransformResult(
            target.qualified,
            read,
            inserted,
            updated,
            unchanged,
            quarantined,
            deleted,
            time.monotonic() - started,
        )
        if read != inserted + updated + unchanged + quarantined:
            raise TransformError(f"{target.qualified}: rows do not add up: {result}; the transaction was rolled back")
        warehouse.execute(
            "update ops.transform_run set status = 'succeeded', rows_read = %s, inserted = %s, updated = %s, "
            "unchanged = %s, quarantined = %s, deleted = %s, seconds = %s where transform_run_id = %s",
            (read, inserted, updated, unchanged, quarantined, deleted, result.seconds, transform_run_id),
        )
        warehouse.commit()
    except BaseException as error:
        if not warehouse.closed:
            warehouse.rollback()
            warehouse.execute(
                "update ops.transform_run set status = 'failed', error = %s, seconds = %s where transform_run_id = %s",
                (describe(error), time.monotonic() - started, transform_run_id),
            )
            warehouse.commit()
        raise
    # Never a key `target`, `level` or `msg`: Airflow's supervisor takes them for its own arguments and kills the task.
    log.info(
        "table transformed",
        table=result.target,
        rows_read=read,
        inserted=inserted,
        updated=updated,
        unchanged=unchanged,
        quarantined=quarantined,
        deleted=deleted,
        seconds=round(result.seconds, 2),
    )
    return result


def _create_inputs(warehouse: psycopg.Connection, inputs: list[Input], statement: str) -> None:
    for item in inputs:
        if re.search(rf"\b{re.escape(item.table)}\b", statement) is None:
            continue
        actual = read_raw_columns(warehouse, item.table)
        metadata = {"_load_id": "bigint", "_deleted_at": "timestamptz"}
        if not actual:
            columns = [_null(name, declared) for name, declared in {**item.columns, **metadata}.items()]
            body = sql.SQL("select {} where false").format(sql.SQL(", ").join(columns))
        else:
            columns = [_convert(item.table, name, declared, actual) for name, declared in item.columns.items()]
            columns += [sql.Identifier(name) for name in METADATA_COLUMNS if name in metadata]
            body = sql.SQL("select {} from {}").format(sql.SQL(", ").join(columns), sql.Identifier("raw", item.table))
        warehouse.execute(sql.SQL("create or replace temp view {} as {}").format(sql.Identifier(item.table), body))


def _null(name: str, declared: str) -> sql.Composable:
    return sql.SQL("null::{} as {}").format(_type(declared), sql.Identifier(name))


def _convert(table: str, name: str, declared: str, actual: dict[str, str]) -> sql.Composable:
    if name not in actual:
        if declared.endswith("?"):
            return _null(name, declared)
        raise TransformError(
            f"raw.{table} has no column {name!r}, which core needs. Remedy: if the source really has none, mark it "
            f"`{declared}?` in include/sql/core/inputs.yaml; if it was renamed, "
            "change the name there and in the SQL files."
        )
    column = sql.Identifier(name)
    wanted = declared.rstrip("?")
    if wanted == "text" and actual[name] == "jsonb":
        # Translated text (Odoo 16 and later): {"en_US": ..., "fr_FR": ...}; en_US is always there.
        expression: sql.Composable = sql.SQL(
            "case when jsonb_typeof({0}) = 'object' then {0} ->> 'en_US' else {0} #>> '{{}}' end"
        ).format(column)
    elif wanted == "timestamptz" and without_modifier(actual[name]) == NAIVE_TIME:
        expression = sql.SQL("{} at time zone 'UTC'").format(column)
    elif wanted != "text" and actual[name] == "text":
        expression = sql.SQL("nullif({}, '')::{}").format(column, _type(declared))
    else:
        expression = sql.SQL("{}::{}").format(column, _type(declared))
    return sql.SQL("{} as {}").format(expression, column)


def _type(declared: str) -> sql.SQL:
    # From inputs.yaml, a file of the project.
    return sql.SQL(declared.rstrip("?"))


def _create_desired(
    warehouse: psycopg.Connection, target: Target, statement: str, *, source: str, run_id: str
) -> tuple[int, int]:
    """Compute the wanted rows, move rejected ones to quarantine; return (rows read, rows quarantined)."""
    cursor = psycopg.ClientCursor(warehouse)  # a utility statement takes no server-side parameters
    read = cursor.execute(f"create temp table desired on commit drop as {statement}", {"source": source}).rowcount
    table = f"{target.qualified}:{source}"
    key_text = sql.SQL(" || ':' || ").join(sql.Identifier(name) for name in target.key[1:])
    warehouse.execute(
        sql.SQL(
            "insert into ops.quarantine as q (source_table, source_key, rule, reason, first_run_id, last_run_id) "
            "select {table}, {key}, 'reject', _reject, {run}, {run} from {desired} where _reject is not null "
            "on conflict (source_table, source_key, rule) do update "
            "set reason = excluded.reason, last_seen_at = now(), last_run_id = excluded.last_run_id, released_at = null"
        ).format(table=sql.Literal(table), key=key_text, run=sql.Literal(run_id), desired=DESIRED)
    ) if target.schema == "core" else None
    warehouse.execute(
        sql.SQL("create temp table rejected on commit drop as select {} from {} where _reject is not null").format(
            sql.SQL(", ").join(map(sql.Identifier, target.key)), DESIRED
        )
    )
    quarantined = warehouse.execute(sql.SQL("delete from {} where _reject is not null").format(DESIRED)).rowcount
    if target.schema == "core":
        warehouse.execute(
            "update ops.quarantine set released_at = now() "
            "where source_table = %s and last_seen_at <> now() and released_at is null",
            (table,),
        )
    warehouse.execute(sql.SQL("analyze {}").format(DESIRED))
    return read, quarantined


def _merge(warehouse: psycopg.Connection, target: Target, *, source: str) -> tuple[int, int, int, int]:
    names = [
        name
        for (name,) in warehouse.execute(
            "select attname from pg_attribute where attrelid = 'pg_temp.desired'::regclass and attnum > 0 "
            "and attname <> %s order by attnum",
            (REJECT_COLUMN,),
        ).fetchall()
    ]
    table = sql.Identifier(target.schema, target.name)
    data = [name for name in names if name not in target.key]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    key = sql.SQL(", ").join(map(sql.Identifier, target.key))
    row = warehouse.execute(
        sql.SQL(
            "with merged as ("
            " insert into {table} as t ({columns}) select {columns} from {desired}"
            " on conflict ({key}) do update set {assignments} where {differences}"
            " returning xmax = 0 as is_new)"
            " select count(*) filter (where is_new), count(*) filter (where not is_new) from merged"
        ).format(
            table=table,
            columns=columns,
            desired=DESIRED,
            key=key,
            assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in data),
            differences=sql.SQL(" or ").join(
                sql.SQL("t.{0} is distinct from excluded.{0}").format(sql.Identifier(name)) for name in data
            ),
        )
    ).fetchone()
    total = warehouse.execute(sql.SQL("select count(*) from {}").format(DESIRED)).fetchone()
    if row is None or total is None:
        raise AssertionError("an aggregate returns a row")
    same = sql.SQL(" and ").join(sql.SQL("d.{0} = t.{0}").format(sql.Identifier(name)) for name in target.key)
    # A rejected row is still there in the source: its last good state stays until it is mended.
    gone = sql.SQL(
        "t.source_system = {0} and not exists (select from {1} as d where {3}) "
        "and not exists (select from {2} as d where {3})"
    ).format(sql.Literal(source), DESIRED, REJECTED, same)
    if target.missing == "delete":
        removal = sql.SQL("delete from {} as t where {}").format(table, gone)
    else:
        removal = sql.SQL("update {} as t set deleted_at = now() where t.deleted_at is null and {}").format(table, gone)
    deleted = warehouse.execute(removal).rowcount
    return int(row[0]), int(row[1]), int(total[0]) - int(row[0]) - int(row[1]), deleted
