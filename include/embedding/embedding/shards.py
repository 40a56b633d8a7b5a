"""Finished work on disk: Parquet shards that appear whole or not at all, named after what they hold."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedding.collect import Embeddings
from embedding.errors import OutputError
from embedding.stopping import WRITING


@dataclass(frozen=True)
class Shard:
    """Name one output file: its place in the run and the number of its documents."""

    index: int
    path: Path
    documents: int


def name_shard(directory: Path, hashes: pa.ChunkedArray, *, index: int, identity: str) -> Shard:
    """Derive a shard's name from the model's identity and the text hashes: other work never looks done."""
    digest = hashlib.sha256(identity.encode())
    for value in hashes.to_pylist():
        digest.update(len(value).to_bytes(4) + value)
    path = directory / f"part-{index:05d}-{digest.hexdigest()[:16]}.parquet"
    return Shard(index=index, path=path, documents=len(hashes))


def is_finished(shard: Shard) -> bool:
    """Tell whether the shard is on disk, whole and readable."""
    try:
        return bool(pq.read_metadata(shard.path).num_rows == shard.documents)
    except (pa.ArrowException, OSError):
        return False


@contextmanager
def open_output(directory: Path) -> Iterator[None]:
    """Create the directory, lock out other runs, and remove what an interrupted run left half-written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        _lock(directory, handle)
        for stale in directory.glob("part-*.tmp"):
            stale.unlink()
        yield
    finally:
        os.close(handle)


def _lock(directory: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"another run is writing {directory}: wait for it, or use another --output") from error


def write_shard(shard: Shard, table: pa.Table) -> None:
    """Write aside, flush to disk, then rename: a reader sees the whole file or none; raises OutputError."""
    aside = shard.path.with_suffix(".tmp")
    with WRITING:
        try:
            with aside.open("wb") as file:
                # Vectors have no repeated values: dictionaries and statistics of them would cost time and say nothing.
                pq.write_table(
                    table, file, compression="zstd", use_dictionary=False, write_statistics=["text_hash", "tokens"]
                )
                file.flush()
                os.fsync(file.fileno())
            aside.replace(shard.path)
            _flush_directory(shard.path.parent)
        except (OSError, pa.ArrowException) as error:
            # On a full disk its half is the room that the remedy needs.
            aside.unlink(missing_ok=True)
            raise _unwritable(shard.path.parent, error) from error


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_table(hashes: pa.ChunkedArray, embeddings: Embeddings, *, metadata: Mapping[str, str]) -> pa.Table:
    """Lay out one shard; dense is halved to float16, as halfvec stores it."""
    sparse = embeddings.sparse
    dense = pa.array(embeddings.dense.astype(np.float16).ravel())
    columns = {
        "text_hash": hashes,
        "dense": pa.FixedSizeListArray.from_arrays(dense, embeddings.dense.shape[1]),
        "sparse_ids": pa.ListArray.from_arrays(sparse.offsets, sparse.ids),
        "sparse_weights": pa.ListArray.from_arrays(sparse.offsets, sparse.weights),
        "tokens": pa.array(embeddings.tokens, pa.int32()),
        "truncated": pa.array(embeddings.truncated),
    }
    return pa.table(columns).replace_schema_metadata(dict(metadata))


def _unwritable(directory: Path, error: Exception) -> OutputError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"no room to write in {directory} ({os.strerror(number)}): make room there and start again; "
            "finished shards stay and are not encoded again"
        )
    reason = os.strerror(number) if number else error
    return OutputError(f"cannot write to {directory} ({reason}): check its owner, rights and free space")
