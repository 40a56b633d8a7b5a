"""The encoder's shards as PostgreSQL takes them: read, checked, and laid out for a binary COPY."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revops.embedding.encoder import EncoderError, Model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# What the columns of search.embedding hold; vectors of fewer dimensions are filled with zeros.
DENSE_DIMENSIONS = 1024
SPARSE_DIMENSIONS = 250_002
COLUMNS = ("model_id", "text_hash", "dense", "sparse", "token_ids", "tokens", "is_truncated")
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
# Half precision rounds a unit vector's length by less than a thousandth.
LENGTH_TOLERANCE = 0.01
BATCH_ROWS = 2_048
_INTEGER_OID = 23
_REMEDY = "Remedy: clear the task `embed.export` and those after it, so that the texts are encoded again."


class ShardError(EncoderError):
    """A file of the encoder may not be loaded: it is damaged, or made with another model."""


@dataclass(frozen=True)
class Shard:
    """One Parquet file of the encoder, made with the model that is wanted. rows: how many vectors it holds."""

    path: Path
    rows: int


def open_shards(folder: Path, model: Model) -> list[Shard]:
    """Return the shards of a folder, by name; raises ShardError where one is damaged or made with another model."""
    return [open_shard(path, model) for path in sorted(folder.glob("part-*.parquet"))]


def open_shard(path: Path, model: Model) -> Shard:
    """Return one shard; raises ShardError where it is damaged or made with another model."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{path} is no Parquet file or damaged ({type(error).__name__}). {_REMEDY}") from error
    with file:
        about = file.schema_arrow.metadata or {}
        made_with = {name: about.get(name.encode(), b"").decode() for name in ("model_key", "dim", "sparse_dim")}
        wanted = {"model_key": model.key, "dim": str(model.dimensions), "sparse_dim": str(model.sparse_dimensions)}
        for name, value in wanted.items():
            if made_with[name] != value:
                raise ShardError(
                    f"{path} was made with {name} {made_with[name] or 'unknown'}, expected {value}. Remedy: the "
                    "model changed during the run; clear the task `embed.model` and those after it."
                )
        return Shard(path, file.metadata.num_rows)


def read_copies(shard: Shard, model: Model, *, model_id: int) -> Iterator[bytes]:
    """Yield the rows of a shard for COPY (format binary) with COLUMNS, without its header and end.

    Raises ShardError, naming file and remedy, at the first batch with a vector that may not be stored.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(shard.path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield _lay_out(_check(shard.path, batch, model), model_id)


@dataclass(frozen=True)
class _Vectors:
    hashes: npt.NDArray[np.void]
    dense: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]


def _check(path: Path, batch: Any, model: Model) -> _Vectors:
    """Return a batch as arrays, once every value in it may be stored."""
    import numpy as np

    def require(is_right: bool, what: str) -> None:
        if not is_right:
            raise ShardError(f"{path} has {what}; nothing of it was loaded. {_REMEDY}")

    require(all(batch[name].null_count == 0 for name in batch.schema.names), "rows without a value")
    hashes = batch["text_hash"].to_pylist()
    require(all(len(value) == 32 for value in hashes), "text hashes that are not of 32 bytes")
    width = getattr(batch["dense"].type, "list_size", -1)
    require(width == model.dimensions, f"dense vectors of {width} dimensions, not {model.dimensions}")
    dense = batch["dense"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), width)
    require(bool(np.isfinite(dense).all()), "dense vectors that are not finite")
    lengths = np.linalg.norm(dense.astype(np.float32), axis=1)
    require(bool((np.abs(lengths - 1) <= LENGTH_TOLERANCE).all()), "dense vectors that are not of unit length")
    offsets, ids = _lists(batch["sparse_ids"])
    weight_offsets, weights = _lists(batch["sparse_weights"])
    require(bool((offsets == weight_offsets).all()), "sparse vectors with more tokens than weights, or fewer")
    in_range = len(ids) == 0 or (ids.min() >= 0 and ids.max() < model.sparse_dimensions)
    require(bool(in_range), f"tokens outside of 0 to {model.sparse_dimensions - 1}")
    rows = np.repeat(np.arange(len(batch)), np.diff(offsets))
    require(bool(((np.diff(ids) > 0) | (np.diff(rows) > 0)).all()), "tokens that do not ascend within a text")
    require(bool((np.isfinite(weights) & (weights > 0)).all()), "sparse weights that are not positive numbers")
    return _Vectors(
        np.frombuffer(b"".join(hashes), dtype="V32"),
        dense,
        offsets,
        ids,
        weights,
        batch["tokens"].to_numpy(),
        batch["truncated"].to_numpy(zero_copy_only=False),
    )


def _lists(column: Any) -> tuple[Any, Any]:
    """Return the offsets of a list column, from 0, and its values."""
    import numpy as np

    offsets = column.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], column.flatten().to_numpy()


def _lay_out(vectors: _Vectors, model_id: int) -> bytes:
    """Return rows as COPY's binary format has them: each field behind its length, everything big-endian."""
    import numpy as np

    count, width = vectors.dense.shape
    terms = np.diff(vectors.offsets)
    # Fields of fixed size stand before and behind the lists of a row; the lists themselves are slices of one buffer.
    head = np.zeros(
        count,
        [
            *(("fields", ">i2"), ("l1", ">i4"), ("model_id", ">i4"), ("l2", ">i4"), ("text_hash", "V32")),
            *(("l3", ">i4"), ("dimensions", ">i2"), ("unused3", ">i2"), ("dense", ">f2", DENSE_DIMENSIONS)),
            *(("l4", ">i4"), ("sparse_dimensions", ">i4"), ("terms", ">i4"), ("unused4", ">i4")),
        ],
    )
    head["fields"], head["l1"], head["model_id"] = len(COLUMNS), 4, model_id
    head["l2"], head["text_hash"] = 32, vectors.hashes
    head["l3"], head["dimensions"] = 4 + 2 * DENSE_DIMENSIONS, DENSE_DIMENSIONS
    head["dense"][:, :width] = vectors.dense
    head["l4"], head["sparse_dimensions"], head["terms"] = 12 + 8 * terms, SPARSE_DIMENSIONS, terms
    array = np.zeros(
        count,
        [("l5", ">i4"), ("depth", ">i4"), ("nulls", ">i4"), ("oid", ">i4"), ("items", ">i4"), ("first", ">i4")],
    )
    array["l5"], array["depth"], array["oid"] = 20 + 8 * terms, 1, _INTEGER_OID
    array["items"], array["first"] = terms, 1
    items = np.empty(len(vectors.ids), [("length", ">i4"), ("value", ">i4")])
    items["length"], items["value"] = 4, vectors.ids
    tail = np.empty(count, [("l6", ">i4"), ("tokens", ">i4"), ("l7", ">i4"), ("truncated", "u1")])
    tail["l6"], tail["tokens"], tail["l7"], tail["truncated"] = 4, vectors.tokens, 1, vectors.truncated
    pieces = [(part.itemsize, memoryview(part.tobytes())) for part in (head, array, tail)]
    (head_size, heads), (array_size, arrays), (tail_size, tails) = pieces
    ids, weights = (memoryview(part.tobytes()) for part in (vectors.ids.astype(">i4"), vectors.weights.astype(">f4")))
    entries = memoryview(items.tobytes())
    bounds = vectors.offsets.tolist()
    rows: list[memoryview] = []
    for row, (start, end) in enumerate(pairwise(bounds)):
        rows += (
            heads[row * head_size : (row + 1) * head_size],
            ids[4 * start : 4 * end],
            weights[4 * start : 4 * end],
            arrays[row * array_size : (row + 1) * array_size],
            entries[8 * start : 8 * end],
            tails[row * tail_size : (row + 1) * tail_size],
        )
    return b"".join(rows)
