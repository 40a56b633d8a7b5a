"""What runs that ended early leave in the hand-off folder: their finished vectors are loaded, their texts removed."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import psycopg
import structlog

from revops.embedding.encoder import Model
from revops.embedding.handoff import remove_folder
from revops.embedding.shards import ShardError, open_shard
from revops.embedding.store import load_vectors

log = structlog.get_logger(__name__)


def recover_vectors(
    warehouse: psycopg.Connection,
    model: Model,
    *,
    model_id: int,
    own: Path,
    abandoned_after: timedelta,
    index_memory: int,
) -> int:
    """Load the shards that the run of a hand-off folder, and runs before it, did not; return how many vectors. Commits.

    own: the run's folder, beside those of the source's other runs; one of them that nothing has touched for
    `abandoned_after` belongs to no run any more. All these folders are removed. Shards of another model, or damaged
    ones, are left out: their texts are encoded again. Raises what loading raises.
    """
    total = 0
    for folder in sorted(own.parent.glob("*/")):
        if folder == own or _idle_s(folder) > abandoned_after.total_seconds():
            total += _load(warehouse, model, model_id, folder / "out", index_memory)
            remove_folder(folder)
    return total


def _load(warehouse: psycopg.Connection, model: Model, model_id: int, shards: Path, index_memory: int) -> int:
    found = 0
    for path in sorted(shards.glob("part-*.parquet")):
        try:
            open_shard(path, model)
            found += 1
        except ShardError as error:
            log.warning("vectors of an earlier try are left out", reason=str(error))
            path.unlink()
    if not found:
        return 0
    try:
        loaded = load_vectors(warehouse, model_id=model_id, folder=shards, index_memory=index_memory)
    except ShardError as error:
        warehouse.rollback()
        log.warning("vectors of an earlier try are left out", reason=str(error))
        return 0
    log.info("vectors of an earlier try are loaded", folder=str(shards), vectors=loaded.vectors)
    return loaded.vectors


def _idle_s(folder: Path) -> float:
    """Return for how long nothing was made or finished in a run's folder."""
    touched = [path.stat().st_mtime for path in (folder, folder / "in", folder / "out") if path.exists()]
    return time.time() - max(touched)
