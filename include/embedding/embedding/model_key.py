"""The identity of an embedding function: two vectors are comparable only under one model key."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embedding.checkpoint import REMEDY, Checkpoint
from embedding.errors import ModelError


def model_key(checkpoint: Checkpoint, *, max_length: int, dtype: str) -> str:
    """Return `<16 hex digits>:<max_length>:<dtype>`.

    The digits cover weights, heads, tokenizer, configuration, pooling and prompts byte by byte. Nothing is
    cached: the model is mounted read-only, and a stale key would mix the vectors of two models. Raises ModelError
    where a file can't be read.
    """
    # hashlib releases the GIL, so that several large files are hashed at once.
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: _digest(checkpoint.path / name), checkpoint.files))
    whole = hashlib.sha256()
    for name, digest in zip(checkpoint.files, digests, strict=True):
        whole.update(name.encode() + b"\0" + digest)
    return f"{whole.hexdigest()[:16]}:{max_length}:{dtype}"


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): let this account read it; or {REMEDY}") from error
