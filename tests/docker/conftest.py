"""The real image on a real Docker engine, a small real model in a volume, and tasks as processes that can be killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from docker import APIClient
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from revops.embedding.container import INSTALLATION
from revops.embedding.encoder import SHARD_ROWS, encode_texts
from revops.embedding.process import ProcessRunner
from revops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TAG = "revops-embedding:test"
PYTHON = ROOT / ".venv-embedding" / "bin" / "python"
MODEL = Path("/models/tiny")
SHARDS = 6
WORDS = (
    "migration",
    "base datos",
    "Oracle",
    "Bank",
    "Kunde",
    "analytics",
    "fraude",
    "réseau",
    "生成",
    "SAP",
    "data lake",
)


@pytest.fixture(scope="session")
def engine() -> APIClient:
    """A client of the Docker engine that the environment names."""
    try:
        return APIClient(**kwargs_from_env())
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")


@pytest.fixture(scope="session")
def image(engine: APIClient) -> str:
    """The image of include/embedding; TORCH_INDEX names the index that torch comes from."""
    arguments = ["--build-arg", f"TORCH_INDEX_URL={index}"] if (index := os.environ.get("TORCH_INDEX")) else []
    return build_image(ROOT / "include" / "embedding", TAG, *arguments)


def build_image(context: Path, tag: str, *arguments: str) -> str:
    """Build an image; return its tag."""
    built = subprocess.run(
        ["docker", "build", "-q", "-t", tag, *arguments, str(context)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return tag


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of BGE-M3's shape, slow enough that a kill comes between two shards."""
    folder = tmp_path_factory.mktemp("models") / MODEL.name
    make = "import sys, pathlib, tiny; tiny.make_tiny_model(pathlib.Path(sys.argv[1]), hidden=128)"
    made = subprocess.run(
        [str(PYTHON), "-c", make, str(folder)],
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT / "tests" / "embedding")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def model_volume(engine: APIClient, image: str, model_folder: Path) -> Iterator[str]:
    """A named volume that holds the same model."""
    name = f"revops-test-models-{uuid.uuid4().hex[:8]}"
    engine.create_volume(name)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(model_folder, arcname=MODEL.name, filter=_readable)
    config = engine.create_host_config(binds=[f"{name}:{MODEL.parent}"])
    container = engine.create_container(image, host_config=config)["Id"]
    engine.put_archive(container, str(MODEL.parent), packed.getvalue())
    engine.remove_container(container)
    yield name
    engine.remove_volume(name, force=True)


def _readable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    # safetensors writes files that only their owner may read.
    info.mode |= 0o444
    return info


def write_texts(folder: Path, shards: int = SHARDS) -> int:
    """Write texts for so many shards; return how many."""
    count = SHARD_ROWS * shards
    texts = [" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(2 + i % 5)) + f" {i}" for i in range(count)]
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text_hash": hashes, "text": texts}, schema=schema), folder / "texts.parquet")
    return count


def read_shards(folder: Path) -> dict[str, pa.Table]:
    """Return the shards by name, with their metadata."""
    return {path.name: pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))}


def assert_equal(left: dict[str, pa.Table], right: dict[str, pa.Table]) -> None:
    """Equal to the bit: names, rows, metadata."""
    assert left.keys() == right.keys()
    assert len(left) == SHARDS
    for name, table in left.items():
        assert table.equals(right[name], check_metadata=True), name


@dataclass
class Task:
    """A task in a process of its own; its log as it comes."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _grew: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                with self._grew:
                    self.lines.append(line)
                    self._grew.notify_all()
        with self._grew:
            self._grew.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until the log has a line with the text."""
        with self._grew:
            found = self._grew.wait_for(
                lambda: any(text in line for line in self.lines) or not self._reader.is_alive(), timeout=180
            )
        assert found, self.log
        assert any(text in line for line in self.lines), self.log

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def finish(self) -> int:
        code = self.process.wait(timeout=180)
        self._reader.join(timeout=30)
        return code

    @property
    def xcom(self) -> dict[str, Any]:
        assert self.finish() == 0, self.log
        last = next(line for line in reversed(self.lines) if line.startswith("XCOM "))
        found: dict[str, Any] = json.loads(last.removeprefix("XCOM "))
        return found


@dataclass
class Desk:
    """Settings of one installation, its hand-off, and the tasks that run on it."""

    engine: APIClient
    environment: dict[str, str]
    tasks: list[Task] = field(default_factory=list)

    @property
    def handoff(self) -> Path:
        return Path(self.environment["REVOPS_EMBEDDING_HANDOFF"])

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def run_folder(self, run_id: str) -> Path:
        return self.handoff / "odoo" / run_id

    def start(self, run_id: str, *, command: str = "batch", attempt: int = 1, texts: int = 1, **changes: str) -> Task:
        """Start the task; changes: of its environment."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.docker.one_task", command, run_id, str(attempt), command, str(texts)],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "REVOPS_"))},
                "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"],
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
                "PYTHONWARNINGS": "ignore",
                **self.environment,
                **changes,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        task = Task(process)
        self.tasks.append(task)
        return task

    def containers(self) -> list[dict[str, Any]]:
        """The containers of this installation, in any state."""
        label = f"{INSTALLATION}={self.environment.get('REVOPS_EMBEDDING_HANDOFF_VOLUME') or self.handoff}"
        found: list[dict[str, Any]] = self.engine.containers(all=True, filters={"label": [label]})
        return found


@pytest.fixture
def desk(engine: APIClient, image: str, model_volume: str, tmp_path: Path) -> Iterator[Desk]:
    """An installation of the test's own: the model in a volume, the hand-off in a folder."""
    made = Desk(
        engine,
        {
            "AIRFLOW_CONN_ODOO_SOURCE": "postgresql://reader:hunter2@odoo.example.com/odoo",
            "AIRFLOW_CONN_ACE_SOURCE": "postgresql://reader:hunter2@ace.example.com/ace",
            "AIRFLOW_CONN_REVOPS_CORE": "postgresql://revops:hunter2@core.example.com/revops_core",
            "AIRFLOW_CONN_SMTP_DEFAULT": "smtp://user:hunter2@smtp.example.com:587/?disable_ssl=true",
            "REVOPS_ALERT_EMAIL": "data-team@example.com",
            "REVOPS_EMBEDDING_IMAGE": image,
            "REVOPS_EMBEDDING_MODEL": str(MODEL),
            "REVOPS_EMBEDDING_MODEL_VOLUME": model_volume,
            "REVOPS_EMBEDDING_HANDOFF": str(tmp_path / "handoff"),
        },
    )
    yield made
    for task in made.tasks:
        task.process.kill()
        task.finish()
    for container in made.containers():
        engine.remove_container(container["Id"], force=True)


@pytest.fixture(scope="session")
def expected(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """What the encoder makes of the texts as a process of this machine, uninterrupted."""
    folder = tmp_path_factory.mktemp("expected")
    write_texts(folder / "in")
    settings = Settings.from_environment(
        {
            "AIRFLOW__SECRETS__BACKEND": "elsewhere",
            "REVOPS_ALERT_EMAIL": "data-team@example.com",
            "REVOPS_EMBEDDING_PYTHON": str(PYTHON),
            "REVOPS_EMBEDDING_MODEL": str(model_folder),
            "REVOPS_EMBEDDING_HANDOFF": str(folder),
        }
    )
    encode_texts(settings, source=folder / "in", output=folder / "out", runner=ProcessRunner(settings))
    return read_shards(folder / "out")


@pytest.fixture
def interrupted(desk: Desk) -> Callable[[str], tuple[Task, str]]:
    """A function that starts a run and returns its task, and the container that has finished a shard of it."""

    def begin(run_id: str, **changes: str) -> tuple[Task, str]:
        texts = write_texts(desk.run_folder(run_id) / "in")
        task = desk.start(run_id, texts=texts, **changes)
        task.wait_for("encoder shard")
        (container,) = desk.containers()
        return task, container["Id"]

    return begin


@pytest.fixture(scope="session", autouse=True)
def _docker_command(engine: APIClient) -> None:
    if shutil.which("docker") is None:
        pytest.skip("the docker command, which builds the image, is missing")
