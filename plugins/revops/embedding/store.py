"""Vectors handed back by the encoder: into search.embedding, into the live index or into one built anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from revops.embedding.encoder import Model
from revops.embedding.frequencies import count_changes
from revops.embedding.models import locked_for_load, read_model
from revops.embedding.rebuild import rebuild
from revops.embedding.shards import COLUMNS, COPY_END, COPY_HEADER, Shard, open_shards, read_copies

log = structlog.get_logger(__name__)

# A text costs 2.4 ms in the live index and 0.5 ms in one built anew, of all texts: they meet at a fifth.
REBUILD_SHARE = 0.2


@dataclass(frozen=True)
class Loaded:
    """What a load did. vectors: new ones; orphans: vectors removed since no document has their text.

    is_rebuilt: whether the index was built anew. seconds: wall time.
    """

    vectors: int
    orphans: int
    is_rebuilt: bool
    seconds: float


def load_vectors(warehouse: psycopg.Connection, *, model_id: int, folder: Path, index_memory: int) -> Loaded:
    """Load the encoder's shards into search.embedding and remove vectors whose text no document has; commits.

    Where more than a fifth changes, and the first time, the vectors are built aside and swapped in: all or nothing.
    Otherwise each shard is one transaction. Idempotent: vectors that are there already stay. Loads for one model wait
    for each other. index_memory: bytes that the server may use to build an index anew. Raises EncoderError where a
    shard is of another model or has vectors that may not be stored.
    """
    started = time.monotonic()
    model = read_model(warehouse, model_id)
    shards = open_shards(folder, model)
    warehouse.commit()
    with locked_for_load(warehouse, model_id):
        incoming = sum(shard.rows for shard in shards)
        stored, orphans = _count(warehouse, model_id)
        is_rebuilt = incoming + orphans > REBUILD_SHARE * stored
        if is_rebuilt:
            log.info("vectors are built anew", stored=stored, incoming=incoming, orphans=orphans)
            built = rebuild(warehouse, model, shards, model_id=model_id, index_memory=index_memory)
            vectors, orphans = built.vectors, built.orphans
            log.info("vectors are built", copy_seconds=built.copy_seconds, index_seconds=built.index_seconds)
        else:
            vectors = sum(_insert_shard(warehouse, shard, model, model_id=model_id) for shard in shards)
            orphans = _delete_orphans(warehouse, model_id) if orphans else 0
        count_changes(warehouse, model_id=model_id, changed=vectors + orphans)
    loaded = Loaded(vectors, orphans, is_rebuilt, time.monotonic() - started)
    log.info("vectors loaded", **vars(loaded))
    return loaded


def _count(warehouse: psycopg.Connection, model_id: int) -> tuple[int, int]:
    """Return how many vectors the model has, and for how many of them there is no document."""
    row = warehouse.execute(
        "select count(*), count(*) filter (where not exists "
        "(select from search.document d where d.text_hash = e.text_hash)) "
        "from search.embedding e where e.model_id = %s",
        (model_id,),
    ).fetchone()
    warehouse.commit()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _insert_shard(warehouse: psycopg.Connection, shard: Shard, model: Model, *, model_id: int) -> int:
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    with warehouse.transaction():
        warehouse.execute(
            sql.SQL("create temp table vectors on commit drop as select {} from search.embedding limit 0").format(
                columns
            )
        )
        with warehouse.cursor().copy(
            sql.SQL("copy pg_temp.vectors ({}) from stdin (format binary)").format(columns)
        ) as copy:
            copy.write(COPY_HEADER)
            for rows in read_copies(shard, model, model_id=model_id):
                copy.write(rows)
            copy.write(COPY_END)
        return warehouse.execute(
            sql.SQL(
                "insert into {} ({columns}) select {columns} from pg_temp.vectors "
                "on conflict (model_id, text_hash) do nothing"
            ).format(sql.Identifier("search", f"embedding_{model_id}"), columns=columns)
        ).rowcount


def _delete_orphans(warehouse: psycopg.Connection, model_id: int) -> int:
    """Delete vectors that no document needs, while no export is deciding which texts lack one."""
    with warehouse.transaction():
        warehouse.execute("select set_config('lock_timeout', '10min', true)")
        warehouse.execute("select pg_advisory_xact_lock(hashtextextended('search.embedding texts', 0))")
        return warehouse.execute(
            "delete from search.embedding e where e.model_id = %s "
            "and not exists (select from search.document d where d.text_hash = e.text_hash)",
            (model_id,),
        ).rowcount
