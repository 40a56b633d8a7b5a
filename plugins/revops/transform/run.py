"""Run one table's SQL file for one source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg import DataError, IsolationLevel, sql

from revops.errors import describe
from revops.lineage.edges import read_edges
from revops.lineage.grain import GRAINS
from revops.lineage.record import read_columns, record_lineage
from revops.seeds import load_seeds, seeds_checksum
from revops.transform.definition import Definition, read_definition, read_inputs
from revops.transform.errors import TransformError
from revops.transform.merge import DESIRED, RUN_COLUMN, Merged, merge, read_column_types
from revops.transform.misfits import find_misfits
from revops.transform.quarantine import quarantine, record_rules
from revops.transform.rules import ISSUES, REJECTED, apply_rules
from revops.transform.scope import create_scope, in_scope
from revops.transform.state import State, digest_of, read_index_keys, read_state, save_state, why_full
from revops.transform.targets import Target
from revops.transform.views import InputViews

log = structlog.get_logger(__name__)

SETTINGS = {
    # For the sorts and hashes of one statement; the rest of a large table goes to disk.
    "work_mem": "128MB",
    # A changed key is looked up by index, as is right on disks without a moving head.
    "random_page_cost": "1.1",
    "timezone": "UTC",
}
LOST = "the worker was lost; nothing was committed"


@dataclass(frozen=True)
class TransformResult:
    """Rows by what became of them; read = inserted + updated + unchanged + quarantined.

    full_reason: why everything was computed anew, None for an incremental run; scope: keys that such a run computed.
    """

    transform_run_id: int
    target: str
    read: int
    inserted: int
    updated: int
    unchanged: int
    quarantined: int
    deleted: int
    fixed: int
    warned: int
    full_reason: str | None
    scope: int | None
    seconds: float


def transform_table(
    warehouse: psycopg.Connection,
    *,
    target: Target,
    source: str,
    run_id: str,
    include: Path,
    full_refresh: bool = False,
) -> TransformResult:
    """Bring one table to the state that its SQL file describes for one source; commits.

    The select is narrowed to the keys that changes of raw since the last run concern, unless all must be computed
    (`why_full`). One transaction in one snapshot, under a lock of the table: a failure leaves everything as it was and
    the reason in ops.transform_run. Rejected rows leave the table for ops.quarantine (include/sql/core/*.rules.yaml).
    include: the folder that holds sql and seeds. Raises TransformError or psycopg.Error.
    """
    started = time.monotonic()
    if target.schema == "core":
        load_seeds(warehouse, include / "seeds")
    with _locked(warehouse, target):
        # Whoever holds the lock is the only one at work: a run that is still `running` is one whose worker was killed.
        warehouse.execute(
            "update ops.transform_run set status = 'failed', error = %s where target = %s and status = 'running'",
            (LOST, target.qualified),
        )
        row = warehouse.execute(
            "insert into ops.transform_run (run_id, source, target, status) values (%s, %s, %s, 'running') "
            "returning transform_run_id",
            (run_id, source, target.qualified),
        ).fetchone()
        warehouse.commit()
        if row is None:
            raise AssertionError("insert ... returning returns a row")
        transform_run_id = int(row[0])
        try:
            warehouse.isolation_level = IsolationLevel.REPEATABLE_READ
            result = _transform(warehouse, target, source, run_id, include, full_refresh, transform_run_id, started)
            warehouse.commit()
        except BaseException as error:
            if warehouse.closed:
                raise
            warehouse.rollback()
            _record_failure(warehouse, error, transform_run_id, started)
            misfit = _explain_misfit(warehouse, target, source, include) if isinstance(error, DataError) else None
            if misfit is not None:
                _record_failure(warehouse, misfit, transform_run_id, started)
                # The database's own message quotes the value.
                raise misfit from None
            raise
        finally:
            if not warehouse.closed:
                warehouse.isolation_level = None
    # Never a key `target`, `level` or `msg`: Airflow's supervisor takes them for its own arguments and kills the task.
    shown = {name: value for name, value in vars(result).items() if name not in ("target", "seconds", "read")}
    log.info("table transformed", table=result.target, rows_read=result.read, seconds=round(result.seconds, 2), **shown)
    return result


def _record_failure(warehouse: psycopg.Connection, error: BaseException, transform_run_id: int, started: float) -> None:
    warehouse.execute(
        "update ops.transform_run set status = 'failed', error = %s, seconds = %s where transform_run_id = %s",
        (describe(error), time.monotonic() - started, transform_run_id),
    )
    warehouse.commit()


def _explain_misfit(warehouse: psycopg.Connection, target: Target, source: str, include: Path) -> TransformError | None:
    """Return an error that names what does not fit its type; None where everything does."""
    lines = find_misfits(warehouse, read_definition(target, include / "sql"), source)
    if not lines:
        return None
    return TransformError(
        f"{target.qualified}: {'; '.join(lines)}. Remedy: correct the values in the source and load them; or, if the "
        "column has another meaning now, change it in include/sql/core/inputs.yaml and the SQL files that read it."
    )


def _transform(
    warehouse: psycopg.Connection,
    target: Target,
    source: str,
    run_id: str,
    include: Path,
    full_refresh: bool,
    transform_run_id: int,
    started: float,
) -> TransformResult:
    """The transaction of a transform; does not commit."""
    definition = read_definition(target, include / "sql")
    for name, value in SETTINGS.items():
        warehouse.execute("select set_config(%s, %s, true)", (name, value))
    views = InputViews(warehouse, definition, source)
    index_keys = read_index_keys(warehouse, definition, source)
    digest = digest_of(definition, views.actual, seeds_checksum(include / "seeds"), *index_keys)
    previous = read_state(warehouse, target, source)
    full_reason = why_full(warehouse, target, previous, digest=digest, full_refresh=full_refresh)
    read_up_to = previous.read_up_to if previous is not None and full_reason is None else {}
    views.create()
    scope: int | None = None
    if full_reason is None:
        views.create_changed(read_up_to)
        scope = create_scope(warehouse, definition, source)
    views.create_scoped(is_full=full_reason is not None)
    columns, rows, read = _create_desired(warehouse, definition, source)
    quarantined, counts = 0, {}
    if has_rules := target.schema == "core":
        quarantined = quarantine(warehouse, target, definition.rules, source=source, run_id=run_id)
        counts = record_rules(warehouse, definition.rules, transform_run_id=transform_run_id)
    merged = merge(
        warehouse,
        target,
        columns,
        wanted=read - quarantined,
        within=_within(definition, source, is_full=full_reason is not None),
        is_full=full_reason is not None,
        transform_run_id=transform_run_id if has_rules else None,
    )
    _record_lineage(warehouse, definition, source, include, rows, transform_run_id)
    result = _result(
        transform_run_id, target, read, quarantined, merged, definition, counts, full_reason, scope, started
    )
    state = State(digest, views.last_loads(read_up_to))
    save_state(warehouse, target, source, state, transform_run_id=transform_run_id)
    views.drop()
    _record(warehouse, result)
    return result


@contextmanager
def _locked(warehouse: psycopg.Connection, target: Target) -> Iterator[None]:
    """Hold the table's lock over several transactions: the snapshot of the work must begin after the lock is had."""
    key = f"transform:{target.qualified}"
    warehouse.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    warehouse.commit()
    try:
        yield
    finally:
        if not warehouse.closed:
            warehouse.rollback()
            warehouse.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
            warehouse.commit()


def _within(definition: Definition, source: str, *, is_full: bool) -> sql.Composable:
    if definition.target.is_shared:
        return sql.SQL("true")
    of_source = sql.SQL("t.source_system = {}").format(sql.Literal(source))
    if is_full:
        return of_source
    return sql.SQL("{} and {}").format(of_source, in_scope(definition, source))


def _create_desired(
    warehouse: psycopg.Connection, definition: Definition, source: str
) -> tuple[list[str], sql.Composable, int]:
    """Compute the wanted and the rejected rows into pg_temp.desired.

    Return the columns to write, the select with the rules in it, and how many rows it gave.
    """
    target = definition.target
    cursor = psycopg.ClientCursor(warehouse)  # a utility statement takes no server-side parameters
    statement = sql.SQL(definition.statement)
    parameters = {"source": source}
    described = cursor.execute(sql.SQL("select * from ({}) as s limit 0").format(statement), parameters).description
    columns = [column.name for column in described or ()]
    types = read_column_types(warehouse, target)
    wanted = [name for name in types if name not in (ISSUES, RUN_COLUMN)]
    if sorted(columns) != sorted(wanted):
        raise TransformError(
            f"include/sql/{target.schema}/{target.name}.sql does not give the columns of {target.qualified}: "
            f"missing {sorted(set(wanted) - set(columns)) or 'none'}, "
            f"unknown {sorted(set(columns) - set(wanted)) or 'none'}. "
            "Remedy: correct the file, or add a migration."
        )
    rows = apply_rules(statement, definition.rules, columns, types)
    cursor.execute(sql.SQL("create temp table desired on commit drop as {}").format(rows), parameters)
    read = cursor.rowcount
    warehouse.execute(sql.SQL("analyze {}").format(DESIRED))
    return [*columns, *([ISSUES] if ISSUES in types else [])], rows, read


def _result(
    transform_run_id: int,
    target: Target,
    read: int,
    quarantined: int,
    merged: Merged,
    definition: Definition,
    counts: dict[str, int],
    full_reason: str | None,
    scope: int | None,
    started: float,
) -> TransformResult:
    of_action = {
        action: sum(counts.get(rule.name, 0) for rule in definition.rules if rule.action == action)
        for action in ("fix", "warn")
    }
    if read != merged.inserted + merged.updated + merged.unchanged + quarantined:
        raise TransformError(
            f"{target.qualified}: {read} rows read, but {merged} and {quarantined} quarantined; nothing was changed"
        )
    return TransformResult(
        transform_run_id,
        target.qualified,
        read,
        merged.inserted,
        merged.updated,
        merged.unchanged,
        quarantined,
        merged.deleted,
        of_action["fix"],
        of_action["warn"],
        full_reason,
        scope,
        time.monotonic() - started,
    )


def _record_lineage(
    warehouse: psycopg.Connection,
    definition: Definition,
    source: str,
    include: Path,
    rows: sql.Composable,
    transform_run_id: int,
) -> None:
    target = definition.target
    raw = {item.table: tuple(item.columns) for item in read_inputs(include / "sql" / "core" / "inputs.yaml")}
    edges = read_edges(
        rows.as_string(warehouse),
        target=target.qualified,
        inputs={**raw, **read_columns(warehouse)},
        name=f"include/sql/{target.schema}/{target.name}.sql",
        parameters={"source": source},
        rejected=REJECTED,
    )
    record_lineage(
        warehouse,
        transform_run_id=transform_run_id,
        target=target.qualified,
        source=source,
        edges=edges,
        grains=GRAINS[target.qualified],
    )


def _record(warehouse: psycopg.Connection, result: TransformResult) -> None:
    warehouse.execute(
        "update ops.transform_run set status = 'succeeded', rows_read = %(read)s, inserted = %(inserted)s, "
        "updated = %(updated)s, unchanged = %(unchanged)s, quarantined = %(quarantined)s, deleted = %(deleted)s, "
        "fixed = %(fixed)s, warned = %(warned)s, full_reason = %(full_reason)s, scope = %(scope)s, "
        "seconds = %(seconds)s where transform_run_id = %(transform_run_id)s",
        vars(result),
    )
