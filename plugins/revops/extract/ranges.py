"""Load a large table for the first time in ranges of pages that commit one by one, and go on after a crash."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg
import structlog
from psycopg import sql
from psycopg.types.json import Jsonb

from revops.extract.catalog import Relation, require_unchanged
from revops.extract.ledger import Ledger, require_own
from revops.extract.merge import Pipe, fill_table
from revops.extract.pages import BLOCK_BYTES, has_pages, in_pages
from revops.extract.raw_table import create_raw_table, read_raw_columns
from revops.extract.sessions import Route
from revops.extract.stream import Streamed, agree_on_text
from revops.extract.window import XID_SPAN, Horizon, written_since
from revops.rotation.registry import loading_name

log = structlog.get_logger(__name__)

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Ranged:
    """What all ranges brought, and the oldest horizon among them where an earlier try has read some, else None."""

    streamed: Streamed
    ranges: int
    since: Horizon | None


@dataclass(frozen=True)
class RangeReader:
    """What each range is read with: begins a transaction of the run's snapshot, with its time-outs."""

    route: Route
    begin: Callable[[psycopg.Connection], None]
    template: Pipe
    ledger: Ledger


def wants_ranges(source: psycopg.Connection, relation: Relation, *, above_mb: int) -> bool:
    """Tell whether a first load should be cut: the table is large, and the server finds pages by number."""
    return has_pages(source, relation) and relation.pages * BLOCK_BYTES >= above_mb * MEBIBYTE


def loading_table(ledger: Ledger) -> sql.Identifier:
    """Return the table that ranges go to until all are there; nobody else reads it."""
    return sql.Identifier("raw", _loading_name(ledger))


def load_ranges(reader: RangeReader, *, horizon: Horizon, file: int, workers: int, range_mb: int) -> Ranged:
    """Copy all ranges that are not committed yet into the loading table; each is a transaction of its own.

    Rows are cut by their physical place (ctid), which needs no order among keys. A try that goes on after another
    reads in a later snapshot; it leaves out the rows that are younger than the first try's horizon, wherever they are:
    those are merged by key at the end. What it reads has not moved since, so no row comes twice and none is missing. A
    table that was rewritten in between, or has no key to merge by, is begun anew.
    horizon and file (see read_file): of the snapshot that all ranges are read in. Raises what reading and writing
    raise; committed ranges stay.
    """
    template, ledger = reader.template, reader.ledger
    with closing(reader.route.warehouse()) as warehouse:
        identity = f"{horizon.identity}/{file}"
        since, known = _resume(warehouse, reader, identity, horizon)
        warehouse.commit()
    width = max(1, range_mb * MEBIBYTE // BLOCK_BYTES)
    todo: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    count = len(known)
    for first, last in _missing(known, template.relation.pages, width):
        todo.put((first, last))
        count += 1
    stop = threading.Event()
    state = {"identity": identity, "horizon": asdict(since or horizon)}
    with ThreadPoolExecutor(workers, thread_name_prefix=f"range:{ledger.table.name}") as pool:
        futures = [pool.submit(_work, reader, todo, stop, state, since) for _ in range(workers)]
        try:
            for future in futures:
                future.result()
        finally:
            # Also where this thread is told to end: the pool waits for its workers.
            stop.set()
    row = template.warehouse.execute(
        "select sum(rows), sum(bytes) from ops.load_range where source = %s and table_name = %s",
        (ledger.config.source, ledger.table.name),
    ).fetchone()
    rows, moved = (int(row[0]), int(row[1])) if row else (0, 0)
    return Ranged(Streamed(rows, moved), count, since)


def read_file(source: psycopg.Connection, relation: Relation) -> int:
    """Return the number of the file that holds the table's rows: a rewritten table has another."""
    row = source.execute("select pg_relation_filenode(%s::oid)", (relation.oid,)).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def finish_ranges(warehouse: psycopg.Connection, ledger: Ledger) -> None:
    """Give the loading table its name in raw and forget the ranges. Does not commit."""
    name = sql.Identifier(ledger.config.raw_table(ledger.table))
    warehouse.execute(sql.SQL("alter table {} rename to {}").format(loading_table(ledger), name))
    _forget_ranges(warehouse, ledger)


def forget(warehouse: psycopg.Connection, ledger: Ledger) -> None:
    """Drop what an unfinished load in ranges has left behind. Does not commit."""
    _forget_ranges(warehouse, ledger)
    warehouse.execute(sql.SQL("drop table if exists {}").format(loading_table(ledger)))


def _loading_name(ledger: Ledger) -> str:
    return loading_name(ledger.config.raw_table(ledger.table))


def _resume(
    warehouse: psycopg.Connection, reader: RangeReader, identity: str, now: Horizon
) -> tuple[Horizon | None, list[tuple[int, int]]]:
    """Return the horizon of the tries before this one and their ranges; begin anew where they can't be used."""
    ledger, relation = reader.ledger, reader.template.relation
    require_own(warehouse, ledger)
    rows = warehouse.execute(
        "select first_page, last_page, identity, horizon from ops.load_range "
        "where source = %s and table_name = %s order by first_page",
        (ledger.config.source, ledger.table.name),
    ).fetchall()
    name = _loading_name(ledger)
    columns = read_raw_columns(warehouse, name)
    wanted = {column.name: column.type for column in relation.columns}
    if rows and columns == wanted and relation.key and all(row[2] == identity for row in rows):
        since = Horizon(**rows[0][3])
        if 0 <= now.next - since.oldest_running < XID_SPAN:
            log.info("going on with a first load", table=ledger.table.name, ranges=len(rows))
            return since, [(int(first), int(last)) for first, last, *_ in rows]
    if rows:
        log.warning(
            "a first load begins anew",
            table=ledger.table.name,
            why="the table was altered or rewritten since, or has no key",
            ranges=len(rows),
        )
    forget(warehouse, ledger)
    create_raw_table(warehouse, loading_table(ledger), relation)
    return None, []


def _forget_ranges(warehouse: psycopg.Connection, ledger: Ledger) -> None:
    warehouse.execute(
        "delete from ops.load_range where source = %s and table_name = %s", (ledger.config.source, ledger.table.name)
    )


def _missing(known: list[tuple[int, int]], pages: int, width: int) -> list[tuple[int, int]]:
    """Return the ranges [first, last) that are not known; pages appended after the first try are among them."""
    missing: list[tuple[int, int]] = []
    at = 0
    for first, last in [*known, (pages, pages)]:
        missing += [(start, min(start + width, first)) for start in range(at, first, width)]
        at = max(at, last)
    return missing


def _work(
    reader: RangeReader,
    todo: queue.SimpleQueue[tuple[int, int]],
    stop: threading.Event,
    state: dict[str, Any],
    since: Horizon | None,
) -> None:
    """Take ranges from the queue until it is empty, or another worker has failed."""
    try:
        with closing(reader.route.source()) as source, closing(reader.route.warehouse()) as warehouse:
            pipe = replace(reader.template, source=source, warehouse=warehouse)
            while not stop.is_set():
                try:
                    first, last = todo.get_nowait()
                except queue.Empty:
                    return
                _load_range(reader, pipe, first, last, state, since)
    except BaseException:
        stop.set()
        raise


def _load_range(
    reader: RangeReader, pipe: Pipe, first: int, last: int, state: dict[str, Any], since: Horizon | None
) -> None:
    ledger = reader.ledger
    reader.begin(pipe.source)
    # The lock of the range before is gone, so that an ALTER TABLE can come in between.
    require_unchanged(pipe.source, pipe.relation)
    require_own(pipe.warehouse, ledger, shared=True)
    agree_on_text(pipe.warehouse)
    condition = in_pages(first, last)
    if since is not None:
        condition += sql.SQL(" and not ") + written_since(since.oldest_running)
    moved = fill_table(pipe, loading_table(ledger), condition=condition, freeze=False)
    pipe.source.commit()
    pipe.warehouse.execute(
        "insert into ops.load_range "
        "(source, table_name, first_page, last_page, load_id, identity, horizon, rows, bytes) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            ledger.config.source,
            ledger.table.name,
            first,
            last,
            ledger.load_id,
            state["identity"],
            Jsonb(state["horizon"]),
            moved.rows,
            moved.bytes,
        ),
    )
    pipe.warehouse.commit()
