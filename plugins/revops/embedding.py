"""Texts to vectors: export what has none, run the encoder, load what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg import sql

from revops.settings import Settings
from revops.sources import INCLUDE

log = structlog.get_logger(__name__)

EXPORT_ROWS = 20_000
# Documents between two lines of progress, and what a killed encoder has to do again at the most.
SHARD_ROWS = 512
ENCODER = INCLUDE / "embedding"


class EncoderError(RuntimeError):
    """The encoder failed; the message holds what it said."""


@dataclass(frozen=True)
class Model:
    """An embedding model as the encoder describes it; vectors of different keys are never compared."""

    name: str
    key: str
    dimensions: int
    sparse_dimensions: int


@dataclass(frozen=True)
class Encoded:
    """What one encoder run did. seconds: wall time."""

    documents: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    device: str = "none"
    model_key: str = ""


def describe_model(settings: Settings) -> Model:
    """Ask the encoder for name, key and dimensions of the configured model; raises EncoderError when it is missing."""
    for event in _run_encoder(settings, ["describe", "--model", str(settings.embedding_model)]):
        if event["event"] == "model":
            return Model(event["model_name"], event["model_key"], event["dim"], event["sparse_dim"])
    raise EncoderError("the encoder described no model")


def register_model(warehouse: psycopg.Connection, model: Model) -> int:
    """Return the model's id in search.embedding_model, made where it is new; commits."""
    row = warehouse.execute(
        "insert into search.embedding_model (model_key, name, dimensions, sparse_dimensions) values (%s, %s, %s, %s) "
        "on conflict (model_key) do update set name = excluded.name returning model_id",
        (model.key, model.name, model.dimensions, model.sparse_dimensions),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    warehouse.commit()
    return int(row[0])


def switch_model(warehouse: psycopg.Connection, model_id: int) -> bool:
    """Search with a model from now on, once it has a vector for every document; return whether it is current. Commits.

    Until then searches go on with the model before; the very first model is current at once.
    """
    warehouse.execute("select pg_advisory_xact_lock(hashtextextended('switch model', 0))")
    row = warehouse.execute(
        "select m.is_current, not exists (select from search.embedding_model where is_current) or not exists ("
        " select from search.document d where not exists ("
        " select from search.embedding e where e.model_id = m.model_id and e.text_hash = d.text_hash)) "
        "from search.embedding_model m where m.model_id = %s",
        (model_id,),
    ).fetchone()
    is_current, is_complete = row or (False, False)
    if not is_current and is_complete:
        warehouse.execute("update search.embedding_model set is_current = false where is_current")
        warehouse.execute("update search.embedding_model set is_current = true where model_id = %s", (model_id,))
    warehouse.commit()
    return bool(is_current or is_complete)


def export_texts(warehouse: psycopg.Connection, *, model_id: int, source: str, folder: Path) -> int:
    """Write the texts of a source that lack a vector of the model as Parquet files; return how many.

    Columns: text_hash binary(32), text string. Equal texts are written once. Constant memory. An empty result
    makes an empty folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)  # texts of deals
    schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
    total = 0
    with warehouse.cursor("texts") as cursor:
        cursor.execute(
            "select distinct d.text_hash, d.text from search.document d where d.source_system = %s and not exists "
            "(select from search.embedding e where e.text_hash = d.text_hash and e.model_id = %s) order by d.text_hash",
            (source, model_id),
        )
        while rows := cursor.fetchmany(EXPORT_ROWS):
            table = pa.table({"text_hash": [row[0] for row in rows], "text": [row[1] for row in rows]}, schema=schema)
            pq.write_table(table, folder / f"texts-{total:010d}.parquet", compression="zstd")
            total += len(rows)
    warehouse.rollback()
    return total


def encode_texts(settings: Settings, *, source: Path, output: Path, prompt: str = "passage") -> Encoded:
    """Run the encoder over a folder of Parquet files; finished shards of an earlier try are kept.

    Its progress goes to the log. Raises EncoderError with the encoder's own last words.
    """
    arguments = [
        "batch",
        "--model",
        str(settings.embedding_model),
        "--input",
        str(source),
        "--output",
        str(output),
    ]
    device, model_key = "none", ""
    for event in _run_encoder(settings, [*arguments, "--prompt", prompt, "--shard-rows", str(SHARD_ROWS)]):
        kind = event.pop("event")
        log.info(f"encoder {kind}", **event)
        device = event.get("device", device)
        model_key = event.get("model_key", model_key)
        if kind == "end":
            return Encoded(event["documents"], event["tokens"], event["truncated"], event["seconds"], device, model_key)
    raise EncoderError("the encoder ended without saying that it was done")


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


def _run_encoder(settings: Settings, arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Run one encoder command and yield its events. It gets no credentials: only what is named here reaches it."""
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8", "PYTHONPATH": str(ENCODER)}
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [str(settings.embedding_python), "-m", "embedding", *arguments],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        )
        try:
            for line in process.stdout or ():
                yield json.loads(line)
            if process.wait() != 0:
                words.seek(0)
                tail = "\n".join(words.read().splitlines()[-15:])
                raise EncoderError(f"the encoder ended with code {process.returncode}:\n{tail}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
