"""The stack's own embedding service: a real one, with a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from revops.embedding.queries import encode_queries, rerank
from revops.embedding.service import ServiceError
from revops.local.embedding_server import EmbeddingServer
from revops.local.processes import carries
from revops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-embedding" / "bin" / "python"
# It is meant to outlive who starts it.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
BUILD = "import pathlib, sys, tiny; tiny.make_tiny_model(pathlib.Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "tests" / "embedding")}
    subprocess.run([PYTHON, "-c", BUILD, path], env=environment, check=True, capture_output=True)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddingServer]:
    made = EmbeddingServer(tmp_path / "service")
    yield made
    made.stop()


def settings(model: Path) -> Settings:
    return Settings.model_validate(
        {
            "REVOPS_ALERT_EMAIL": "a@example.com",
            "REVOPS_EMBEDDING_PYTHON": str(PYTHON),
            "REVOPS_EMBEDDING_MODEL": str(model),
            "REVOPS_EMBEDDING_HANDOFF": str(model.parent),
        }
    )


def test_it_is_started_once_answers_and_is_ended(server: EmbeddingServer, model: Path) -> None:
    own = settings(model)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: server.start(own), range(2)))
    assert sorted(serving.is_new for serving in both) == [False, True]
    assert len({(serving.pid, serving.url) for serving in both}) == 1
    here = own.model_copy(update={"embedding_urls": (both[0].url,)})
    first, second = encode_queries(here, ["Oracle database", "生成AIチャットボット"])
    assert len(first.dense) == 64
    assert sum(value**2 for value in first.dense) == pytest.approx(1, abs=1e-4)
    assert first.sparse
    assert first.sparse != second.sparse
    assert first.model_key == second.model_key
    scores = rerank(here, "Oracle database", ["Oracle database", "unlike " * 600], first.model_key)
    assert len(scores) == 2
    assert scores[0] > scores[1]
    with pytest.raises(ServiceError, match="wanted is other"):
        encode_queries(here, ["x"], model_key="other")
    (model / "touched").touch()  # another model, as far as names, sizes and times tell
    again = server.start(own)
    assert again.is_new
    assert not carries(both[0].pid, server._mark.encode())
    assert server.stop()
    assert not carries(again.pid, server._mark.encode())
    assert not server.stop()


def test_what_keeps_it_from_starting_is_said(server: EmbeddingServer, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"ended with code 3(.|\n)*no model directory at (.|\n)*make model"):
        server.start(settings(tmp_path / "nowhere"))
    assert server.running() is None


def test_a_number_that_another_process_has_now_is_left_alone(server: EmbeddingServer) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        server.home.mkdir()
        (server.home / "running.json").write_text(f'{{"pid": {stranger.pid}, "url": "x", "digest": "x"}}')
        assert server.running() is None
        assert not server.stop()
        assert stranger.poll() is None
        stranger.kill()
