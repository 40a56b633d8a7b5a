"""The encoders, each with the settings that suit it best."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.encoders import MAX_LENGTH
from embedding.batch import Job, run
from embedding.checkpoint import Checkpoint
from embedding.encoder import Encoder, Settings
from embedding.weights import Weights

# What FlagEmbedding and sentence-transformers are tuned over besides their default.
BATCH_SIZES = {"cpu": (8, 32), "cuda": (64, 128)}


@dataclass(frozen=True)
class Spent:
    """Seconds of one call. padded: tokens computed, 0 where the contender does not tell."""

    wall: float
    cpu: float
    tokens: int = 0
    padded: int = 0


@dataclass(frozen=True)
class Contender:
    """A way to encode documents in a batch, and one query."""

    name: str
    batch: Callable[[Sequence[str]], Spent]
    query: Callable[[str], Any]


def timed(work: Callable[[], Any]) -> Spent:
    """Measure a call: wall time, and processor time of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def revops(encoder: Encoder, *, home: Path) -> Contender:
    """Return our batch path: Parquet in, shards on disk; and a query as the service encodes it."""
    settings = encoder.settings
    return Contender(
        f"Revops, {settings.dtype}",
        lambda texts: run_job(encoder, texts, home=home),
        lambda text: encoder.encode([text], prompt="query"),
    )


def run_job(encoder: Encoder, texts: Sequence[str], *, home: Path) -> Spent:
    """Run a whole job with an encoder that is loaded; measured from its first event to its last."""
    times: list[tuple[float, float, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(dir=home) as folder:
        source = Path(folder, "in")
        source.mkdir()
        hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
        table = pa.table({"text_hash": pa.array(hashes, pa.binary(32)), "text": pa.array(texts, pa.string())})
        pq.write_table(table, source / "texts.parquet")
        job = Job(model=encoder.checkpoint.path, source=source, output=Path(folder, "out"), settings=encoder.settings)
        run(
            job,
            lambda event: times.append((time.perf_counter(), time.process_time(), event)),
            encoder=encoder,
        )
    (wall, cpu, _), (wall_end, cpu_end, end) = times[0], times[-1]
    return Spent(wall_end - wall, cpu_end - cpu, end["tokens"], round(end["tokens"] * end["padding_ratio"]))


def load_revops(checkpoint: Checkpoint, weights: Weights, *, device: str, dtype: str, max_length: int) -> Encoder:
    """Return our encoder over weights that are loaded."""
    return Encoder(checkpoint, Settings.choose(device=device, dtype=dtype, max_length=max_length), weights=weights)


def load_flag_embedding(checkpoint: Checkpoint, *, device: str) -> Any:
    """Load BGE-M3's reference implementation: in half precision on a GPU; on a CPU it knows float32 only."""
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(
        str(checkpoint.path),
        use_fp16=device != "cpu",
        devices=device,
        pooling_method=checkpoint.pooling,
    )


def flag_embedding(model: Any, *, name: str, batch_size: int, prompts: Any, max_length: int = MAX_LENGTH) -> Contender:
    """Return its encode with dense and sparse results."""

    def encode(texts: Sequence[str], prompt: str) -> Any:
        with quiet():
            return model.encode(
                [prompt + text for text in texts],
                batch_size=batch_size,
                max_length=max_length,
                return_dense=True,
                return_sparse=True,
            )

    return Contender(
        f"FlagEmbedding{name}",
        lambda texts: timed(lambda: encode(texts, prompts.get("passage", ""))),
        lambda text: encode([text], prompts.get("query", "")),
    )


def load_sentence_transformers(checkpoint: Checkpoint, *, device: str, dtype: str) -> Any:
    """Load it with the same pooling; it gives dense vectors only."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(
        str(checkpoint.path), model_kwargs={"dtype": dtype, "add_pooling_layer": False}, max_seq_length=MAX_LENGTH
    )
    pooling = Pooling(checkpoint.dim, pooling_mode=checkpoint.pooling)
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device=device)


def sentence_transformers(model: Any, *, name: str, batch_size: int, prompts: Any, max_length: int) -> Contender:
    """Return its encode."""
    model.max_seq_length = max_length

    def encode(texts: Sequence[str], prompt: str) -> Any:
        return model.encode(
            [prompt + text for text in texts], batch_size=batch_size, show_progress_bar=False, normalize_embeddings=True
        )

    return Contender(
        f"sentence-transformers{name}",
        lambda texts: timed(lambda: encode(texts, prompts.get("passage", ""))),
        lambda text: encode([text], prompts.get("query", "")),
    )


class quiet:  # noqa: N801 - reads as a statement
    """Send a library's progress bars nowhere."""

    def __enter__(self) -> None:
        self._stderr, sys.stderr = sys.stderr, Path(os.devnull).open("w")

    def __exit__(self, *_: object) -> None:
        sys.stderr.close()
        sys.stderr = self._stderr
