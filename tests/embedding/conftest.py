from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import CORPUS, make_tiny_model

from embedding.batch import Job
from embedding.encoder import Encoder, Settings

PACKAGE = Path(__file__).parents[2] / "include" / "embedding"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings.choose(device="cpu", dtype="float32", max_length=64)


@pytest.fixture(scope="session")
def encoder(tiny_model, settings) -> Encoder:
    return Encoder.load(tiny_model, settings)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    random = np.random.default_rng(0)
    words = " ".join(CORPUS).split()
    made = [" ".join(random.choice(words, size)) for size in random.integers(1, 30, 60)]
    return [*CORPUS, *made, "", " ", "\n", "<mask> </s> <pad> literal", "unknown ☃ ☄", "a\0b"]


@pytest.fixture
def job(tmp_path, tiny_model, settings) -> Job:
    (tmp_path / "in").mkdir()
    return Job(model=tiny_model, source=tmp_path / "in", output=tmp_path / "out", settings=settings, shard_rows=20)


def write_input(path: Path, texts: list[str]) -> None:
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    pq.write_table(pa.table({"text_hash": pa.array(hashes, pa.binary(32)), "text": pa.array(texts, pa.string())}), path)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "embedding", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE)}


def run_cli(*arguments: object) -> tuple[int, list[dict], str]:
    """Return exit code, the events of stdout and the text of stderr."""
    done = subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr
