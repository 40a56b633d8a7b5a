"""Load one table: source to raw in one transaction with its records, or not at all."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass

import psycopg
import structlog
from psycopg import sql

from revops.errors import is_transient
from revops.extract.drift import Change
from revops.extract.durability import read_written
from revops.extract.errors import ExtractError, TableMissingError
from revops.extract.first_load import first_load
from revops.extract.giving_way import giving_way
from revops.extract.job import Job, Order
from revops.extract.ledger import Ledger, close_load, open_load, record_schema, require_own, was_absent
from revops.extract.next_load import next_load
from revops.extract.ranges import forget
from revops.extract.raw_table import read_raw_columns
from revops.extract.reading import begin_reading
from revops.extract.sessions import Route
from revops.extract.shape import shape_relation
from revops.extract.snapshot import SharedSnapshot
from revops.extract.stream import agree_on_text
from revops.keyring import Keyring
from revops.rotation.registry import admit
from revops.sources import Source, Table

log = structlog.get_logger(__name__)

# The share of changed rows from which on autovacuum, too, would analyze a table.
CHANGED_SHARE = 0.1
# A quarter of the usual sample: good estimates for joins by keys, at 0.2 s for a table of 40 columns.
STATISTICS = 25


@dataclass(frozen=True)
class LoadResult:
    """What one load did; `is_absent` when the source has no such table and need not have it.

    relation: schema and name of the table that was read, in the source; empty when it is absent.
    seconds: wall time; check_seconds: how much of it went into comparing raw with the source.
    """

    source: str
    table: str
    load_id: int
    is_absent: bool = False
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    repaired: int = 0
    bytes: int = 0
    seconds: float = 0.0
    check_seconds: float = 0.0
    relation: str = ""


def load_table(
    route: Route,
    *,
    config: Source,
    table: Table,
    run_id: str,
    snapshot: SharedSnapshot | None = None,
    full_refresh: bool = False,
    accept_deletions: bool = False,
    keyring: Keyring | None = None,
) -> LoadResult:
    """Bring one source table into raw and commit; on any failure raw is as before and ops.load says why.

    snapshot: the one to read in; without it, or when it can't show the table, the table is read in one of its own.
    full_refresh reads every row whatever the watermark says. accept_deletions: mark as many rows deleted as are gone.
    keyring: needed where columns are encrypted. The sessions are opened and closed here.
    Raises TryAgainError for what passes by itself, ExtractError and KeyringError for what does not, or psycopg.Error.
    A first load in ranges keeps the ranges that are committed, and the next try goes on from there.
    """
    order = Order(config, table, snapshot, full_refresh, accept_deletions, keyring)
    with closing(route.warehouse()) as record, closing(route.warehouse()) as warehouse:
        # Not what the database may have as default: it must see what the ledger's session writes meanwhile.
        warehouse.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        name = snapshot.name if snapshot else None
        ledger = open_load(record, config, table, holder=warehouse, run_id=run_id, snapshot=name)
        result = None
        try:
            with closing(warehouse), closing(route.source()) as source:
                job = Job(order, route, source, warehouse, ledger, snapshot)
                with giving_way(route.source, source, table=order.name):
                    result = _run(job)
                warehouse.commit()
        except BaseException as error:
            if result is None or not _was_committed(ledger, error):
                _record_failure(ledger, error)
                raise
            log.warning("the answer of COMMIT was lost, but the load is committed", table=order.name)
        _analyze(record, sql.Identifier("raw", config.raw_table(table)), result)
    log.info(
        "table loaded",
        **asdict(result),
        rows_per_second=round(result.read / result.seconds) if result.seconds else None,
        full_read_reason=job.window.reason,
    )
    return result


def _run(job: Job) -> LoadResult:
    """Do everything but commit."""
    order = job.order
    require_own(job.warehouse, job.ledger)
    agree_on_text(job.warehouse)
    found = begin_reading(job)
    if found is None:
        job.source.rollback()
        return _close_absent(job)
    job.written = read_written(job.source)
    relation = shape_relation(found, order.config, order.table)
    if relation.sensitive and order.keyring is None:
        raise ExtractError(
            f"{order.name}: {', '.join(relation.sensitive)} must be encrypted, but there is no key. "
            "Remedy: set REVOPS_DATA_KEYS and REVOPS_INDEX_KEY (see .env.example)."
        )
    if relation.sensitive and order.keyring is not None:
        job.has_old_tokens = admit(
            job.ledger.connection,
            order.keyring,
            source=order.config.source,
            table_name=order.table.name,
            raw_table=order.config.raw_table(order.table),
            columns=relation.sensitive,
        )
    job.ledger.expected_rows = relation.rows
    is_known = bool(read_raw_columns(job.warehouse, order.config.raw_table(order.table)))
    outcome = next_load(job, relation) if is_known else first_load(job, relation)
    job.source.commit()
    merged = outcome.merged
    result = LoadResult(
        order.config.source,
        order.table.name,
        job.ledger.load_id,
        read=merged.read,
        inserted=merged.inserted,
        updated=merged.updated,
        unchanged=merged.unchanged,
        deleted=outcome.deleted,
        repaired=job.repaired,
        bytes=merged.bytes,
        seconds=job.ledger.seconds,
        check_seconds=job.check_seconds,
        relation=f"{relation.schema}.{relation.name}",
    )
    close_load(
        job.warehouse,
        job.ledger,
        status="succeeded",
        full_read_reason=job.window.reason,
        rows_read=result.read,
        inserted=result.inserted,
        updated=result.updated,
        unchanged=result.unchanged,
        deleted=result.deleted,
        repaired=result.repaired,
        quarantined=0,
        source_rows=outcome.source_rows,
        bytes=result.bytes,
        seconds=result.seconds,
        check_seconds=result.check_seconds,
        deletions_accepted=order.accept_deletions,
    )
    return result


def _analyze(warehouse: psycopg.Connection, target: sql.Identifier, result: LoadResult) -> None:
    """Let the planner look at a table that is new or has changed much: transforms read it before autovacuum comes."""
    changed = result.inserted + result.updated + result.deleted
    try:
        row = warehouse.execute(
            "select reltuples from pg_class where oid = to_regclass(%s)", (target.as_string(),)
        ).fetchone()
        if row is not None and changed > CHANGED_SHARE * row[0]:
            warehouse.execute(sql.SQL("set default_statistics_target = {}").format(sql.Literal(STATISTICS)))
            warehouse.execute(sql.SQL("analyze {}").format(target))
    except psycopg.Error:
        # The load is committed; autovacuum will do it.
        log.warning("the table was loaded, but not analyzed", load_id=result.load_id, exc_info=True)


def _close_absent(job: Job) -> LoadResult:
    config, table = job.order.config, job.order.table
    names = " or ".join(f"{config.schema_name}.{name}" for name in table.candidates)
    if not table.optional:
        raise TableMissingError(
            f"the source {config.source} has no table {names}. Remedy: correct the name or add it to `alternatives` in "
            f"include/sources/{config.source}.yaml, or mark the table `optional: true`."
        )
    if not was_absent(job.warehouse, job.ledger):
        record_schema(job.warehouse, job.ledger, [Change("table_absent")])
    forget(job.warehouse, job.ledger)
    close_load(job.warehouse, job.ledger, status="absent")
    log.warning("optional table is absent in the source", source=config.source, table=table.name, looked_for=names)
    return LoadResult(config.source, table.name, job.ledger.load_id, is_absent=True)


def _was_committed(ledger: Ledger, error: BaseException) -> bool:
    """Tell whether the load is in raw although its COMMIT was not answered."""
    if not is_transient(error):
        return False
    try:
        return ledger.is_committed()
    except psycopg.Error:
        # Nobody can tell now. The next try finds the rows there, or reads them again: both are right.
        log.warning("whether the load was committed is not known", load_id=ledger.load_id, exc_info=True)
        return False


def _record_failure(ledger: Ledger, error: BaseException) -> None:
    """Say in ops.load why the load failed; where the warehouse is gone, the next load will."""
    try:
        ledger.fail(error)
    except psycopg.Error:
        log.warning("the failure could not be recorded in ops.load", load_id=ledger.load_id, exc_info=True)
