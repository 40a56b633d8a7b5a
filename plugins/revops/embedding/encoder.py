"""Run the encoder as a process without credentials and read its events."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from revops.settings import Settings
from revops.sources import INCLUDE

log = structlog.get_logger(__name__)

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
