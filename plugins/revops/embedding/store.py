"""Vectors handed back by the encoder: into search.embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from revops.embedding.encoder import EncoderError


def load_vectors(warehouse: psycopg.Connection, *, model_id: int, folder: Path) -> int:
    """Load the encoder's shards into search.embedding, one transaction each; return how many vectors are new.

    Idempotent: vectors that are there already stay. Raises EncoderError when a shard was made with another model.
    """
    import pyarrow.parquet as pq
    from pgvector.psycopg import register_vector

    register_vector(warehouse)
    model = warehouse.execute(
        "select model_key, dimensions, sparse_dimensions from search.embedding_model where model_id = %s",
        (model_id,),
    ).fetchone()
    if model is None:
        raise EncoderError(f"search.embedding_model has no model {model_id}")
    key, _, sparse_dimensions = model
    loaded = 0
    for path in sorted(folder.glob("part-*.parquet")):
        file = pq.ParquetFile(path)
        made_with = (file.schema_arrow.metadata or {}).get(b"model_key", b"").decode()
        if made_with != key:
            raise EncoderError(
                f"{path} was made with model {made_with}, expected {key}. "
                "Remedy: the model changed during the run; clear the task `embed.export` and those after it."
            )
        loaded += _load_shard(warehouse, file, model_id=model_id, sparse_dimensions=sparse_dimensions)
    return loaded


def _load_shard(warehouse: psycopg.Connection, file: Any, *, model_id: int, sparse_dimensions: int) -> int:
    from pgvector import HalfVector, SparseVector

    warehouse.execute(
        "create temp table vectors (text_hash bytea, dense halfvec, sparse sparsevec, tokens integer, "
        "is_truncated boolean) on commit drop"
    )
    with warehouse.cursor().copy("copy pg_temp.vectors from stdin (format binary)") as copy:
        copy.set_types(["bytea", "halfvec", "sparsevec", "int4", "bool"])
        for batch in file.iter_batches(batch_size=2048):
            dense = batch["dense"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
            for index, (text_hash, ids, weights, tokens, truncated) in enumerate(
                zip(
                    *(
                        batch[name].to_pylist()
                        for name in ("text_hash", "sparse_ids", "sparse_weights", "tokens", "truncated")
                    ),
                    strict=True,
                )
            ):
                sparse = SparseVector(dict(zip(ids, weights, strict=True)), sparse_dimensions)
                copy.write_row((text_hash, HalfVector(dense[index]), sparse, tokens, truncated))
    loaded = warehouse.execute(
        sql.SQL(
            "insert into search.embedding (text_hash, model_id, dense, sparse, tokens, is_truncated) "
            "select text_hash, {}, dense, sparse, tokens, is_truncated from pg_temp.vectors "
            "on conflict (model_id, text_hash) do nothing"
        ).format(sql.Literal(model_id))
    ).rowcount
    warehouse.commit()
    return loaded
