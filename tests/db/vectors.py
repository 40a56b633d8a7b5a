"""Documents and vectors written by hand, as the transforms and the encoder would write them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from revops.embedding.encoder import Model
from revops.embedding.models import register_model
from revops.embedding.queries import QueryVectors
from revops.embedding.store import Loaded, load_vectors

SMALL = Model("small", "small:key", 8, 100)
INDEX_MEMORY = 256 << 20
OTHER = Model("other", "other:key", 12, 80)


def hash_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def dense_of(text: str, model: Model = SMALL) -> np.ndarray:
    """A unit vector that only this text and model have."""
    seed = int.from_bytes(hash_of(f"{model.key} {text}")[:4])
    vector = np.random.default_rng(seed).standard_normal(model.dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


def sparse_of(text: str, model: Model = SMALL) -> dict[int, float]:
    """A weight for each word of a text; its token is told by the word's hash."""
    words = {int.from_bytes(hash_of(word)[:4]) % model.sparse_dimensions for word in text.lower().split()}
    return {token: 0.25 + token / 200 for token in sorted(words)}


def query_of(text: str, model: Model = SMALL) -> QueryVectors:
    return QueryVectors([float(value) for value in dense_of(text, model)], sparse_of(text, model), model.key)


def add_documents(warehouse: psycopg.Connection, rows: Sequence[str | Mapping[str, Any]]) -> None:
    """Insert documents, given by text alone or by column, numbered from the first; commits."""
    for number, row in enumerate(rows, start=1):
        values = {"text": row} if isinstance(row, str) else dict(row)
        values = {
            "source_system": "odoo",
            "entity": "odoo_opportunity",
            "entity_id": str(number),
            "title": values["text"].splitlines()[0],
            "text_hash": hash_of(values["text"]),
            **values,
        }
        warehouse.execute(
            sql.SQL("insert into search.document ({}) values ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(sql.Placeholder() * len(values))
            ),
            list(values.values()),
        )
    warehouse.commit()


def write_vectors(folder: Path, texts: Sequence[str], model: Model = SMALL, *, name: str = "a", **changed: Any) -> Path:
    """Write one shard of the encoder; `changed` replaces columns (lists of values) or metadata (strings)."""
    folder.mkdir(parents=True, exist_ok=True)
    sparse = [sparse_of(text, model) for text in texts]
    columns = {
        "text_hash": [hash_of(text) for text in texts],
        "dense": [dense_of(text, model) for text in texts],
        "sparse_ids": [list(one) for one in sparse],
        "sparse_weights": [list(one.values()) for one in sparse],
        "tokens": [len(text.split()) for text in texts],
        "truncated": [False] * len(texts),
    }
    columns.update({name: value for name, value in changed.items() if name in columns})
    about = {"model_key": model.key, "dim": str(model.dimensions), "sparse_dim": str(model.sparse_dimensions)}
    about.update({name: value for name, value in changed.items() if name in about})
    width = len(columns["dense"][0]) if len(columns["dense"]) else model.dimensions
    dense = pa.array(np.array(columns["dense"], np.float16).ravel())
    table = pa.table(
        {
            "text_hash": pa.array(columns["text_hash"], pa.binary()),
            "dense": pa.FixedSizeListArray.from_arrays(dense, width),
            "sparse_ids": pa.array(columns["sparse_ids"], pa.list_(pa.int32())),
            "sparse_weights": pa.array(columns["sparse_weights"], pa.list_(pa.float32())),
            "tokens": pa.array(columns["tokens"], pa.int32()),
            "truncated": pa.array(columns["truncated"], pa.bool_()),
        }
    )
    path = folder / f"part-00000-{name}.parquet"
    pq.write_table(table.replace_schema_metadata(about), path)
    return path


def load_texts(warehouse: psycopg.Connection, folder: Path, texts: Sequence[str], model: Model = SMALL) -> Loaded:
    """Give texts their vectors of a model by way of the encoder's files; commits."""
    write_vectors(folder, texts, model)
    return load_vectors(warehouse, model_id=register_model(warehouse, model), folder=folder, index_memory=INDEX_MEMORY)


def stored(warehouse: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Every vector as (model key, text hash, dense, sparse, tokens' ids, tokens, is truncated), sorted; commits."""
    rows = warehouse.execute(
        "select model_key, text_hash, dense::text, sparse::text, token_ids, tokens, is_truncated "
        "from search.embedding join search.embedding_model using (model_id) order by 1, 2"
    ).fetchall()
    warehouse.commit()
    return rows


def wanted(texts: Sequence[str], model: Model = SMALL) -> list[tuple[Any, ...]]:
    """What `stored` returns where exactly these texts have vectors of the model."""
    rows = []
    for text in set(texts):
        dense = np.zeros(1024, np.float32)
        dense[: model.dimensions] = dense_of(text, model).astype(np.float16)
        sparse = sparse_of(text, model)
        weights = ",".join(f"{token + 1}:{_short(weight)}" for token, weight in sparse.items())
        rows.append(
            (
                model.key,
                hash_of(text),
                f"[{','.join(_short(value) for value in dense)}]",
                f"{{{weights}}}/250002",
                list(sparse),
                len(text.split()),
                False,
            )
        )
    return sorted(rows, key=lambda row: row[:2])


def _short(value: float) -> str:
    """A single as PostgreSQL prints it: the fewest digits that are this one."""
    text = np.format_float_positional(np.float32(value), unique=True, trim="-")
    return (
        text
        if abs(value) >= 1e-4 or value == 0
        else np.format_float_scientific(np.float32(value), trim="-", exp_digits=2)
    )
