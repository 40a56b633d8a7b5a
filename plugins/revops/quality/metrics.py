"""Measure tables: how many rows, how fresh, and of each column how empty, how varied and how large."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import sql

from revops.extract.catalog import METADATA_COLUMNS
from revops.naming import raw_table_name
from revops.quality.anomaly_config import AnomalyConfig, MetricName, fits, read_anomaly_config
from revops.quality.probes import Column, Probe, column_inputs, column_probes, read_columns

log = structlog.get_logger(__name__)

LAYERS = ("raw", "core")
# Every distinct count and every quantile is a sort of its own, all in one statement: wider tables take several.
COLUMNS_AT_ONCE = 40
SORT_MEMORY = "4MB"
# The same pages are sampled in every run, so that a number moves because the rows did.
SAMPLE_SEED = 0
# What is later is in the future, by type; a source's clock may be an hour ahead of the warehouse's.
LATEST = {
    "timestamptz": "now() + interval '1 hour'",
    "timestamp": "(now() + interval '1 hour') at time zone 'UTC'",
    "date": "((now() + interval '1 hour') at time zone 'UTC')::date",
}


@dataclass(frozen=True)
class Metric:
    """One number about a table, or about a column of it.

    dataset: schema.table. value: null where there was nothing to measure. rows_measured: the rows that a column's
    number was computed from; null for numbers of the table.
    """

    dataset: str
    metric: MetricName
    column: str | None
    value: float | None
    rows_measured: int | None = None


@dataclass(frozen=True)
class _Flow:
    """What the run did to a table, and how old its last load or transform is; null where there was none."""

    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    age_s: float | None = None


def measure_tables(
    warehouse: psycopg.Connection, *, source: str, run_id: str, tables: list[str], config: AnomalyConfig | None = None
) -> list[Metric]:
    """Measure tables and keep the numbers in ops.quality_metric, in place of those that the run has of them already.

    tables: as `raw.odoo_crm_lead`; of core tables the rows of the source only. config: include/anomaly.yaml unless
    given. Commits table by table; what the session has begun before is rolled back. A table that is absent counts as
    empty if it was ever measured, and is passed over if not. Returns the numbers in the order of tables and columns,
    those about a table before those about its columns. Raises ValueError for a table of another schema.
    """
    for table in tables:
        if table.partition(".")[0] not in LAYERS:
            raise ValueError(f"{table}: only tables of {' and '.join(LAYERS)} are measured, given as schema.table")
    config = config or read_anomaly_config()
    loaded = _names_of_loads(warehouse, source)
    measured: list[Metric] = []
    for table in tables:
        started = time.monotonic()
        flow = _read_flow(warehouse, source=source, run_id=run_id, dataset=table, loaded=loaded)
        metrics = _measure(warehouse, table, flow, source=source, config=config)
        _replace(warehouse, metrics, source=source, run_id=run_id, dataset=table)
        measured += metrics
        log.info("table measured", table=table, metrics=len(metrics), seconds=round(time.monotonic() - started, 3))
    return measured


def _names_of_loads(warehouse: psycopg.Connection, source: str) -> dict[str, str]:
    """Return the source's name of each table by its name in raw."""
    rows = warehouse.execute("select distinct table_name from ops.load where source = %s", (source,)).fetchall()
    warehouse.rollback()
    return {raw_table_name(source, name): name for (name,) in rows}


def _read_flow(
    warehouse: psycopg.Connection, *, source: str, run_id: str, dataset: str, loaded: dict[str, str]
) -> _Flow:
    """Read what the loads or transforms of the run did; a task that was cleared may have run twice."""
    layer, _, name = dataset.partition(".")
    table, finished, of_table, known = (
        ("ops.load", "finished_at", "table_name", loaded.get(name, ""))
        if layer == "raw"
        else ("ops.transform_run", "started_at + make_interval(secs => coalesce(seconds, 0))", "target", dataset)
    )
    row = warehouse.execute(
        f"select sum(inserted) filter (where run_id = %(run)s), sum(updated) filter (where run_id = %(run)s), "
        f"sum(deleted) filter (where run_id = %(run)s), extract(epoch from clock_timestamp() - max({finished})) "
        f"from {table} where source = %(source)s and {of_table} = %(table)s and status = 'succeeded'",
        {"run": run_id, "source": source, "table": known},
    ).fetchone()
    warehouse.rollback()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    inserted, updated, deleted = (None if number is None else int(number) for number in row[:3])
    return _Flow(inserted, updated, deleted, None if row[3] is None else max(0.0, float(row[3])))


def _measure(
    warehouse: psycopg.Connection, dataset: str, flow: _Flow, *, source: str, config: AnomalyConfig
) -> list[Metric]:
    schema, _, table = dataset.partition(".")
    with _snapshot(warehouse):
        catalogue = read_columns(warehouse, schema, table)
        if not catalogue:
            return [Metric(dataset, "rows", None, 0.0)] if _was_measured(warehouse, source, dataset) else []
        columns = [
            column
            for column in catalogue
            if column.name not in (*METADATA_COLUMNS, "deleted_at")
            and not fits(f"{table}.{column.name}", config.not_measured)
        ]
        relation = _Relation(sql.Identifier(schema, table), {column.name for column in catalogue}, source)
        rows, of_table = _measure_table(warehouse, dataset, relation, columns, flow, config=config)
        share = min(100.0, 100.0 * config.sample_rows / max(rows, 1))
        of_columns = [
            metric
            for first in range(0, len(columns), COLUMNS_AT_ONCE)
            for metric in _measure_columns(
                warehouse, dataset, relation, columns[first : first + COLUMNS_AT_ONCE], share=share, config=config
            )
        ]
    return of_table + of_columns


class _Relation:
    """A table with the conditions that choose its live rows, in core those of one source."""

    def __init__(self, identifier: sql.Identifier, names: set[str], source: str) -> None:
        self.identifier = identifier
        gone = next((name for name in ("_deleted_at", "deleted_at") if name in names), None)
        self.live = sql.SQL("{} is null").format(sql.Identifier(gone)) if gone else sql.SQL("true")
        # Of raw each table is one source's.
        is_shared = "_deleted_at" not in names and "source_system" in names
        self.own = sql.SQL("source_system = {}").format(sql.Literal(source)) if is_shared else sql.SQL("true")


@contextmanager
def _snapshot(warehouse: psycopg.Connection) -> Iterator[None]:
    """Read a table in one picture of it, with plans that suit wide aggregates."""
    warehouse.rollback()
    warehouse.execute("set transaction isolation level repeatable read, read only")
    # Compiling hundreds of expressions takes longer than they do. Sorting all rows by one of the columns that are
    # counted, as servers from version 16 on like to, moves the wide rows through temporary files.
    warehouse.execute(
        "select set_config(name, case name when 'work_mem' then %s else 'off' end, true) from pg_settings "
        "where name in ('jit', 'enable_presorted_aggregate', 'work_mem')",
        (SORT_MEMORY,),
    )
    try:
        yield
    finally:
        if not warehouse.closed:
            warehouse.rollback()


def _was_measured(warehouse: psycopg.Connection, source: str, dataset: str) -> bool:
    query = "select exists (select from ops.quality_metric where source = %s and dataset = %s)"
    return warehouse.execute(query, (source, dataset)).fetchone() == (True,)


def _measure_table(
    warehouse: psycopg.Connection,
    dataset: str,
    relation: _Relation,
    columns: Sequence[Column],
    flow: _Flow,
    *,
    config: AnomalyConfig,
) -> tuple[int, list[Metric]]:
    """Count the rows and find the newest timestamp in one scan, which needs no column but these two."""
    times = {column.name: column.type for column in columns if column.type in LATEST}
    freshness = config.freshness_column(dataset.partition(".")[2], list(times))
    newest = _newest(freshness, times[freshness], relation) if freshness else sql.SQL("null")
    row = warehouse.execute(
        sql.SQL("select count(*) filter (where {live}), count(*), {newest} from {table} where {own}").format(
            live=relation.live, newest=newest, table=relation.identifier, own=relation.own
        )
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    rows, all_rows = int(row[0]), int(row[1])
    numbers: list[tuple[MetricName, str | None, float | None]] = [
        ("rows", None, rows),
        ("rows_gone", None, all_rows - rows),
        ("inserted", None, flow.inserted),
        ("updated", None, flow.updated),
        ("deleted", None, flow.deleted),
        ("load_age_s", None, flow.age_s),
    ]
    if freshness:
        numbers.append(("data_age_s", freshness, None if row[2] is None else max(0.0, float(row[2]))))
    return rows, [
        Metric(dataset, metric, column, None if value is None else float(value)) for metric, column, value in numbers
    ]


def _newest(column: str, column_type: str, relation: _Relation) -> sql.Composable:
    """Return the aggregate for the age of the newest timestamp, naive ones in UTC.

    Neither an infinite one nor one in the future: a single such row would make the table fresh for ever.
    """
    newest: sql.Composable = sql.SQL(
        "max({moment}) filter (where {live} and {moment} > '-infinity' and {moment} <= {latest})"
    ).format(moment=sql.Identifier(column), live=relation.live, latest=sql.SQL(LATEST[column_type]))
    if column_type != "timestamptz":
        newest = sql.SQL("({})::timestamp at time zone 'UTC'").format(newest)
    return sql.SQL("extract(epoch from now() - ({}))").format(newest)


def _measure_columns(
    warehouse: psycopg.Connection,
    dataset: str,
    relation: _Relation,
    columns: Sequence[Column],
    *,
    share: float,
    config: AnomalyConfig,
) -> list[Metric]:
    """Measure some columns in one statement, on a sample of so many percent of the table's pages.

    One array of numbers comes back: a result has no room for the numbers of many columns side by side.
    """
    table = dataset.partition(".")[2]
    inputs: list[sql.Composable] = []
    probes: list[Probe] = []
    for number, column in enumerate(columns):
        is_full = not fits(f"{table}.{column.name}", config.null_share_only)
        inputs += column_inputs(column, number, is_full=is_full)
        probes += column_probes(column, number, is_full=is_full, least_values=config.least_values)
    if not probes:
        return []
    row = warehouse.execute(
        # OFFSET 0 keeps the expressions below the aggregates, so that each is computed once a row.
        sql.SQL(
            "select count(*), array[{numbers}]::float8[] from (select {inputs} from {table} "
            "tablesample system ({share}) repeatable ({seed}) where {own} and {live} offset 0) as s"
        ).format(
            numbers=sql.SQL(", ").join(probe.number for probe in probes),
            inputs=sql.SQL(", ").join(inputs),
            table=relation.identifier,
            share=sql.Literal(share),
            seed=sql.Literal(SAMPLE_SEED),
            own=relation.own,
            live=relation.live,
        )
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return [
        Metric(dataset, probe.metric, probe.column, value, row[0]) for probe, value in zip(probes, row[1], strict=True)
    ]


def _replace(
    warehouse: psycopg.Connection, metrics: Sequence[Metric], *, source: str, run_id: str, dataset: str
) -> None:
    """Keep a table's numbers in place of those that the run has of it already; commits."""
    lock_anomalies(warehouse, source)
    warehouse.execute(
        "delete from ops.quality_metric where source = %s and run_id = %s and dataset = %s", (source, run_id, dataset)
    )
    warehouse.execute(
        "insert into ops.quality_metric (run_id, source, dataset, metric, column_name, value, rows_measured) "
        "select %s, %s, %s, * from unnest(%s::text[], %s::text[], %s::float8[], %s::bigint[])",
        (
            run_id,
            source,
            dataset,
            [metric.metric for metric in metrics],
            [metric.column for metric in metrics],
            [metric.value for metric in metrics],
            [metric.rows_measured for metric in metrics],
        ),
    )
    warehouse.commit()


def lock_anomalies(warehouse: psycopg.Connection, source: str) -> None:
    """Let one transaction at a time write the numbers and anomalies of a source."""
    warehouse.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"anomaly:{source}",))
