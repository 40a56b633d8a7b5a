"""One batch run: Parquet in, Parquet out, resumed shard by shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from embedding.checkpoint import Checkpoint, read_checkpoint
from embedding.collect import Embeddings
from embedding.device import name_device
from embedding.encoder import Encoder, Settings
from embedding.errors import InputError, UsageError
from embedding.inputs import list_inputs, read_chunks
from embedding.model_key import model_key
from embedding.progress import Emit, Progress
from embedding.shards import Shard, is_finished, name_shard, open_output, to_table, write_shard
from embedding.tokenizer import Tokenizer, Tokens

Item = TypeVar("Item")
# While one shard is encoded, the next is read and tokenized and another may wait.
AHEAD = 2
# One shard is written while the next waits for its last batch.
BEHIND = 2
SHARD_ROWS = 4_096


@dataclass(frozen=True)
class Job:
    """State what one run reads and writes; `prompt` is passage or query."""

    model: Path
    source: Path
    output: Path
    settings: Settings
    prompt: str = "passage"
    shard_rows: int = SHARD_ROWS


@dataclass(frozen=True)
class _Work:
    shard: Shard
    hashes: pa.ChunkedArray
    tokens: Tokens


def run(job: Job, emit: Emit, *, encoder: Encoder | None = None) -> None:
    """Encode every document that no finished shard holds, and report through `emit`.

    An encoder that is given must have the job's model and settings; else one is loaded where there is work.
    Raises an EmbeddingError naming place and remedy; finished shards stay, and the next run skips them.
    """
    if job.source.resolve() == job.output.resolve():
        raise UsageError(f"--input and --output are both {job.source}: the output would be read as input")
    progress = Progress(emit)
    checkpoint = read_checkpoint(job.model)
    about = describe(checkpoint, job.settings) | {"prompt": job.prompt}
    files = list_inputs(job.source)
    with open_output(job.output):
        shards = _plan(job, files, identity=_identity(about))
        todo = [shard for shard in shards if not is_finished(shard)]
        device = {"device": job.settings.device, "device_name": name_device(job.settings.device)}
        progress.start(shards, todo, about=device | about)
        if todo:
            encoder = encoder or Encoder(checkpoint, job.settings)
            progress.loaded()
            work = _tokenized(job, encoder.tokenizer, files=files, todo=todo, identity=_identity(about))
            _encode(encoder, work, progress=progress, metadata={name: str(value) for name, value in about.items()})
    progress.end()


def describe(checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """Return what identifies the vectors: name, key, dimensions, maximum length, precision."""
    return {
        "model_name": checkpoint.name,
        "model_key": model_key(checkpoint, max_length=settings.max_length, dtype=settings.dtype),
        "dim": checkpoint.dim,
        "sparse_dim": checkpoint.vocabulary,
        "max_length": settings.max_length,
        "dtype": settings.dtype,
    }


def _identity(about: Mapping[str, Any]) -> str:
    return f"{about['model_key']}:{about['prompt']}"


def _plan(job: Job, files: list[Path], *, identity: str) -> list[Shard]:
    return [
        name_shard(job.output, chunk.column("text_hash"), index=index, identity=identity)
        for index, chunk in enumerate(read_chunks(files, ["text_hash"], rows=job.shard_rows))
    ]


def _tokenized(
    job: Job, tokenizer: Tokenizer, *, files: list[Path], todo: Sequence[Shard], identity: str
) -> Iterator[_Work]:
    wanted = {shard.index: shard for shard in todo}
    for index, chunk in enumerate(read_chunks(files, ["text_hash", "text"], rows=job.shard_rows)):
        if index not in wanted:
            continue
        hashes = chunk.column("text_hash")
        if name_shard(job.output, hashes, index=index, identity=identity) != wanted[index]:
            raise InputError(f"{job.source} changed while it was read: start again once it is complete")
        yield _Work(wanted[index], hashes, tokenizer.tokenize(chunk.column("text").to_pylist(), prompt=job.prompt))


def _encode(encoder: Encoder, work: Iterator[_Work], *, progress: Progress, metadata: Mapping[str, str]) -> None:
    """Tokenize ahead, compute, and write behind, each in threads of its own."""

    def finish(item: _Work, encoded: Future[Embeddings]) -> None:
        embeddings = encoded.result()
        write_shard(item.shard, to_table(item.hashes, embeddings, metadata=metadata))
        progress.shard(item.shard, embeddings)

    with ThreadPoolExecutor(1, "tokenize") as reader, ThreadPoolExecutor(1, "write") as writer:
        writing: deque[Future[None]] = deque()
        tokenized = ((item, item.tokens) for item in _ahead(work, reader))
        for item, encoded in encoder.encode_stream(tokenized):
            if len(writing) == BEHIND:
                writing.popleft().result()
            writing.append(writer.submit(finish, item, encoded))
        for shard in writing:
            shard.result()


def _ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    # One worker thread, so that the iterator is never entered twice at a time.
    waiting = deque(pool.submit(next, items, None) for _ in range(AHEAD))
    while (item := waiting.popleft().result()) is not None:
        yield item
        waiting.append(pool.submit(next, items, None))
