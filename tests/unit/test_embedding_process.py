"""The encoder as a process: events, errors, and an end with whoever started it. With a tiny model of BGE-M3's shape."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException

from revops.embedding import encoder
from revops.embedding.encoder import EncoderError, EncoderInterruptedError, describe_model, encode_texts
from revops.embedding.process import ProcessRunner
from revops.operators.embed import EmbedOperator
from revops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-embedding" / "bin" / "python"
SHARD_ROWS = 60
SHARDS = 12


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    made = subprocess.run(
        [str(PYTHON), "-c", "import sys, pathlib, tiny; tiny.make_tiny_model(pathlib.Path(sys.argv[1]))", str(folder)],
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT / "tests" / "embedding")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


@pytest.fixture
def variables(model: Path, tmp_path: Path) -> dict[str, str]:
    return of_installation(model, tmp_path)


def of_installation(model: Path, handoff: Path) -> dict[str, str]:
    return {
        "AIRFLOW__SECRETS__BACKEND": "elsewhere",
        "REVOPS_ALERT_EMAIL": "data-team@example.com",
        "REVOPS_EMBEDDING_PYTHON": str(PYTHON),
        "REVOPS_EMBEDDING_MODEL": str(model),
        "REVOPS_EMBEDDING_HANDOFF": str(handoff),
        "REVOPS_EMBEDDING_MAX_LENGTH": "64",
        "REVOPS_EMBEDDING_GPU": "off",
    }


@pytest.fixture
def settings(variables: dict[str, str]) -> Settings:
    return Settings.from_environment(variables)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts for many small shards, so that a kill after the first comes before the last."""
    monkeypatch.setattr(encoder, "SHARD_ROWS", SHARD_ROWS)
    folder = tmp_path / "in"
    write_texts(folder)
    return folder


def write_texts(folder: Path) -> None:
    # Of one length each: a processor that computes bfloat16 prepares itself anew for every shape of a batch.
    texts = [f"Bank {number:04}" for number in range(SHARD_ROWS * SHARDS)]
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    folder.mkdir()
    schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
    pq.write_table(pa.table({"text_hash": hashes, "text": texts}, schema=schema), folder / "texts.parquet")


@pytest.fixture(scope="session")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    write_texts(folder / "in")
    settings = Settings.from_environment(of_installation(model, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "SHARD_ROWS", SHARD_ROWS)
        encoded = encode_texts(settings, source=folder / "in", output=folder / "out")
    assert (encoded.documents, encoded.device) == (SHARD_ROWS * SHARDS, "cpu")
    return contents(folder / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def has_ended(pid: int) -> Callable[[], bool]:
    """Return a function that waits for a process which is no child of this one."""
    handle = os.pidfd_open(pid)

    def wait() -> bool:
        try:
            return bool(select.select([handle], [], [], 60)[0])
        finally:
            os.close(handle)

    return wait


PARENT = """
import json, os, pathlib, sys
from revops.embedding import encoder
from revops.embedding.process import ProcessRunner
from revops.settings import Settings

class Told(ProcessRunner):
    def run(self, arguments):
        for event in super().run(arguments):
            if event["event"] == "shard":
                print(self._process.pid, flush=True)
            yield event

encoder.SHARD_ROWS = int(sys.argv[1])
settings = Settings.from_environment()
folder = settings.embedding_handoff
encoder.encode_texts(settings, source=folder / "in", output=folder / "out", runner=Told(settings))
"""


@pytest.mark.long
def test_an_encoder_dies_with_its_parent_and_the_next_goes_on(
    settings: Settings, variables: dict[str, str], source: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(SHARD_ROWS)],
        env={**variables, "PATH": os.defpath, "PYTHONPATH": str(ROOT / "plugins"), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = next(line for line in parent.stdout if line.strip().isdigit())
        ended = has_ended(int(pid))
        environment = Path(f"/proc/{int(pid)}/environ").read_bytes().decode().split("\0")
        parent.kill()
    assert ended()
    # Nothing of its caller's environment reached it.
    assert {line.partition("=")[0] for line in environment if line} == {"PATH", "HOME", "LANG", "PYTHONPATH"}
    done = contents(tmp_path / "out")
    assert 0 < len(done) < SHARDS
    described = describe_model(settings)
    encoded = encode_texts(settings, source=source, output=tmp_path / "out", model_key=described.key)
    assert (encoded.documents, encoded.model_key) == (SHARD_ROWS * (SHARDS - len(done)), described.key)
    assert contents(tmp_path / "out") == whole


class Killed(ProcessRunner):
    """Ends the encoder after its first shard, as the end of a task does."""

    def run(self, arguments: Any) -> Any:
        for event in super().run(arguments):
            if event["event"] == "shard":
                self.kill()
            yield event


@pytest.mark.long
def test_a_killed_encoder_is_tried_again(
    settings: Settings, source: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    with pytest.raises(EncoderInterruptedError, match=r"ended with code 137 \(killed\)"):
        encode_texts(settings, source=source, output=tmp_path / "out", runner=Killed(settings))
    done = contents(tmp_path / "out")
    assert 0 < len(done) < SHARDS
    assert done.items() <= whole.items()


def test_a_task_that_was_ended_starts_no_encoder(settings: Settings) -> None:
    runner = ProcessRunner(settings)
    runner.kill()
    with pytest.raises(EncoderInterruptedError, match="ended before its encoder began"):
        describe_model(settings, runner=runner)


@pytest.mark.long
def test_another_encoder_at_the_same_output_is_waited_for_by_a_retry(
    settings: Settings, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(EncoderInterruptedError, match=r"(?s)code 6 .*another run is writing"):
            encode_texts(settings, source=source, output=tmp_path / "out")
    finally:
        os.close(handle)


def test_another_model_than_the_one_described_is_refused(settings: Settings, source: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"and other:64:float32 was described: .*`embed\.model`"):
        encode_texts(settings, source=source, output=tmp_path / "out", model_key="other:64:float32")
    assert contents(tmp_path / "out") == {}


def test_what_runs_there_may_be_no_encoder(variables: dict[str, str]) -> None:
    settings = Settings.from_environment({**variables, "REVOPS_EMBEDDING_PYTHON": "/bin/echo"})
    with pytest.raises(EncoderError, match="no event of its own"):
        describe_model(settings)


def context() -> Any:
    ti = SimpleNamespace(dag_id="odoo", task_id="embed.model", map_index=-1, run_id="r", try_number=1)
    return {"ti": ti, "run_id": "r"}


def operator(command: str, **arguments: Any) -> EmbedOperator:
    return EmbedOperator(task_id=command, source_name="odoo", command=command, **arguments)  # type: ignore[arg-type]


def test_the_operator_returns_the_model(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    described = operator("describe").execute(context())
    assert described.keys() == {"name", "key", "dimensions", "sparse_dimensions"}
    assert (described["name"], described["dimensions"]) == ("tiny", 64)
    assert json.loads(json.dumps(described)) == described


def test_a_missing_model_fails_without_a_retry(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**variables, "REVOPS_EMBEDDING_MODEL": str(tmp_path / "nowhere")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AirflowFailException, match=r"(?s)code 3 .*no model directory at .*nowhere"):
        operator("describe").execute(context())


@pytest.mark.parametrize("texts", [0, "0"])
def test_no_texts_start_no_encoder(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, texts: Any) -> None:
    for name, value in {**variables, "REVOPS_EMBEDDING_PYTHON": "/bin/false"}.items():
        monkeypatch.setenv(name, value)
    encoded = operator("batch", texts=texts).execute(context())
    assert encoded == {
        "documents": 0, "tokens": 0, "truncated": 0, "seconds": 0.0, "device": "none", "model_key": "",
    }  # fmt: skip


def test_wrong_settings_fail_without_a_retry() -> None:
    with pytest.raises(AirflowFailException, match="REVOPS_EMBEDDING_IMAGE is missing, and so is"):
        operator("describe").execute(context())


def test_what_a_container_may_do_is_not_a_dags_to_say() -> None:
    with pytest.raises(ValueError, match="mounts, privileged: what the encoder's container may do is fixed"):
        operator("describe", privileged=True, mounts=[])
    made = operator("describe", docker_url="tcp://docker-proxy:2375", timeout=5)
    assert made.docker_url == "tcp://docker-proxy:2375"
    made.on_kill()
