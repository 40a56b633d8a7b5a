"""Queries as the model sees them."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from revops.embedding.encoder import encode_texts
from revops.settings import Settings


@dataclass(frozen=True)
class QueryVectors:
    """A query as the model sees it: a dense vector and pairs of token id and weight."""

    dense: list[float]
    sparse: dict[int, float]
    model_key: str


def encode_queries(settings: Settings, queries: list[str]) -> list[QueryVectors]:
    """Encode queries with the configured model, in their order; one start of the encoder for all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    hashes = [hashlib.sha256(query.encode()).digest() for query in queries]
    with tempfile.TemporaryDirectory(prefix="revops-queries-") as scratch:
        folder = Path(scratch)
        (folder / "in").mkdir()
        schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
        pq.write_table(
            pa.table({"text_hash": hashes, "text": queries}, schema=schema), folder / "in" / "queries.parquet"
        )
        encoded = encode_texts(settings, source=folder / "in", output=folder / "out", prompt="query")
        rows = [row for path in sorted((folder / "out").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [
        QueryVectors(
            [float(value) for value in row["dense"]],
            dict(zip(row["sparse_ids"], row["sparse_weights"], strict=True)),
            encoded.model_key,
        )
        for row in rows
    ]
