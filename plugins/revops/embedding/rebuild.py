"""Build a model's vectors aside, with their indexes, while searches go on with those that are there."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import errors, sql

from revops.embedding.encoder import Model
from revops.embedding.models import swap_in
from revops.embedding.shards import COLUMNS, COPY_END, COPY_HEADER, Shard, read_copies

log = structlog.get_logger(__name__)

# What the graph of a vector takes while an index is built, with room.
GRAPH_BYTES_A_ROW = 3_200
LEAST_MEMORY = 64 << 20
# Processes beside the first; each costs a core, and together they need maintenance_work_mem in /dev/shm.
WORKERS = 2


@dataclass(frozen=True)
class Rebuilt:
    """What was built. vectors: new ones; orphans: vectors left out for want of a document; the rest is wall time."""

    vectors: int
    orphans: int
    copy_seconds: float
    index_seconds: float


def rebuild(
    warehouse: psycopg.Connection, model: Model, shards: list[Shard], *, model_id: int, index_memory: int
) -> Rebuilt:
    """Replace a model's vectors by those that documents need, of the stored and the new; commits.

    The index is built within index_memory bytes of the server; what does not fit is built on disk, which is slower. A
    load that is killed leaves search.embedding_<model_id>_next, which the next one removes. Call it with the model
    locked (`locked_for_load`).
    """
    aside = sql.Identifier("search", f"embedding_{model_id}_next")
    started = time.monotonic()
    warehouse.execute("select search.begin_load(%s)", (model_id,))
    warehouse.commit()
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(aside, columns)
    with warehouse.transaction(), warehouse.cursor().copy(statement) as copy:
        copy.write(COPY_HEADER)
        for shard in shards:
            for rows in read_copies(shard, model, model_id=model_id):
                copy.write(rows)
        copy.write(COPY_END)
    copied = time.monotonic()
    vectors, orphans = _merge(warehouse, aside, model_id)
    merged = time.monotonic()
    _index(warehouse, aside, model_id, index_memory)
    indexed = time.monotonic()
    orphans -= swap_in(warehouse, model_id)
    return Rebuilt(vectors, orphans, copied - started, indexed - merged)


def _merge(warehouse: psycopg.Connection, aside: sql.Identifier, model_id: int) -> tuple[int, int]:
    """Leave aside what is stored already or has no document, and bring along what stays; return new and left out."""
    statement = sql.SQL
    of_model = sql.Literal(model_id)
    with warehouse.transaction():
        warehouse.execute("select search.analyze_load(%s)", (model_id,))
        warehouse.execute(
            statement(
                "delete from {aside} n using (select ctid as place, row_number() over (partition by text_hash order by "
                "ctid) as number from {aside}) z where n.ctid = z.place and (z.number > 1 or exists (select from "
                "search.embedding e where e.model_id = {model} and e.text_hash = n.text_hash))"
            ).format(aside=aside, model=of_model)
        )
        useless = warehouse.execute(
            statement(
                "delete from {} n where not exists (select from search.document d where d.text_hash = n.text_hash)"
            ).format(aside)
        ).rowcount
        new = _count(warehouse, statement("select count(*) from {}").format(aside))
        kept = warehouse.execute(
            statement(
                "insert into {} select e.* from search.embedding e where e.model_id = {} "
                "and exists (select from search.document d where d.text_hash = e.text_hash)"
            ).format(aside, of_model)
        ).rowcount
        stored = _count(
            warehouse, statement("select count(*) from search.embedding where model_id = {}").format(of_model)
        )
    return new, useless + stored - kept


def _index(warehouse: psycopg.Connection, aside: sql.Identifier, model_id: int, most: int) -> None:
    rows = _count(warehouse, sql.SQL("select count(*) from {}").format(aside))
    warehouse.commit()
    needed = LEAST_MEMORY + rows * GRAPH_BYTES_A_ROW
    memory = min(most, needed) >> 10
    if needed > most:
        log.warning(
            "the index's graph does not fit into its memory, so that the rest of it is built on disk, which is slower",
            needed_mb=needed >> 20,
            memory_mb=most >> 20,
            remedy="raise REVOPS_EMBEDDING_INDEX_MEMORY, where the warehouse has that much to spare",
        )
    for workers in (WORKERS, 0):
        try:
            with warehouse.transaction():
                warehouse.execute(
                    "select set_config('maintenance_work_mem', %s, true), set_config('statement_timeout', '0', true), "
                    "set_config('max_parallel_maintenance_workers', %s, true)",
                    (f"{memory}kB", str(workers)),
                )
                warehouse.execute("select search.index_load(%s)", (model_id,))
        except errors.DiskFull as error:
            if workers == 0 or "shared memory" not in str(error):
                raise
            # Docker gives a container 64 MB of it by default.
            log.warning(
                "the server has too little shared memory to build an index in parallel, so one process builds it",
                needed_mb=memory >> 10,
                remedy="set REVOPS_POSTGRES_SHM, or else the shm_size of the server's container, to more than that",
            )
        else:
            log.info("vectors are indexed", vectors=rows, memory_mb=memory >> 10, workers=workers)
            return


def _count(warehouse: psycopg.Connection, statement: sql.Composed) -> int:
    row = warehouse.execute(statement).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return int(row[0])
