"""Health checks of Airflow's parts: what they take for healthy, and what becomes of a part that hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from revops.compose import health

HANG = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def ill_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ill-since"
    monkeypatch.setattr(health, "ILL_SINCE", path)
    return path


class Answering(BaseHTTPRequestHandler):
    status, body, late_s = 200, b"", 0.0

    def do_GET(self) -> None:
        time.sleep(self.late_s)
        # Whoever asked may have given up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answering]]:
    handler = type("Handler", (Answering,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{made.server_port}/health"
        monkeypatch.setattr(health, "API_SERVER", address)
        yield handler
        made.shutdown()
        thread.join()


def ask(part: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["health", part])
    return health.main()


def database(monkeypatch: pytest.MonkeyPatch, *, is_away: bool = False) -> None:
    """Have the metadata database answer, or not; tests/db/test_compose_programs.py asks a real one."""

    def ask_database(*_: object) -> None:
        if is_away:
            raise health.DependencyError("the metadata database does not answer")

    monkeypatch.setattr(health, "_ask_database", ask_database)


def says(state: str) -> bytes:
    return json.dumps({"metadatabase": {"status": state}, "scheduler": {"status": "unhealthy"}}).encode()


def test_an_api_server_is_not_asked_for_the_other_parts(
    server: type[Answering], monkeypatch: pytest.MonkeyPatch, ill_since: Path
) -> None:
    server.body = says("healthy")
    assert ask("api-server", monkeypatch) == 0
    assert not ill_since.exists()


# Airflow answers 200 where it has no database. Its sessions may wait for one until the question has timed out.
AILMENTS = {
    "says so": (200, says("unhealthy"), 0.0, "says that it is unhealthy"),
    "fails": (503, b"", 0.0, "answers 503"),
    "is late": (200, says("healthy"), 1.0, "timed out"),
    "says something else": (200, b"<html>", 0.0, "JSONDecodeError"),
}


@pytest.mark.parametrize("ailment", AILMENTS)
def test_an_api_server_is_ill_where_its_database_is_well(
    server: type[Answering],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ill_since: Path,
    ailment: str,
) -> None:
    server.status, server.body, server.late_s, said = AILMENTS[ailment]
    monkeypatch.setattr(health, "TIMEOUT_S", 0.3)
    database(monkeypatch)
    assert ask("api-server", monkeypatch) == 1
    assert said in capsys.readouterr().out
    assert ill_since.exists()


@pytest.mark.parametrize("ailment", AILMENTS)
def test_an_api_server_is_not_blamed_for_its_database(
    server: type[Answering],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ill_since: Path,
    ailment: str,
) -> None:
    """It is unhealthy, and is not ended, however long that takes."""
    server.status, server.body, server.late_s, _ = AILMENTS[ailment]
    monkeypatch.setattr(health, "TIMEOUT_S", 0.3)
    database(monkeypatch, is_away=True)
    ill_since.touch()
    os.utime(ill_since, (time.time(), time.time() - health.HUNG_S - 1))
    monkeypatch.setattr(health, "end_if_hung", lambda: pytest.fail("it would be ended"))
    assert ask("api-server", monkeypatch) == 1
    assert "the metadata database does not answer" in capsys.readouterr().out
    assert not ill_since.exists()


def test_a_database_that_hangs_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ill_since: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes connections and says nothing, and so the API server says nothing either."""
    monkeypatch.setattr(health, "SECRETS", tmp_path)
    monkeypatch.setattr(health, "TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        monkeypatch.setattr(health, "API_SERVER", f"http://127.0.0.1:{port}/health")
        (tmp_path / "sql_alchemy_conn").write_text(f"postgresql+psycopg2://a:b@127.0.0.1:{port}/c")
        assert ask("api-server", monkeypatch) == 1
    assert "the metadata database does not answer" in capsys.readouterr().out
    assert not ill_since.exists()


def test_what_does_not_answer_is_ill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ill_since: Path
) -> None:
    monkeypatch.setattr(health, "API_SERVER", "http://127.0.0.1:1/health")
    database(monkeypatch)
    assert ask("api-server", monkeypatch) == 1
    assert "refused" in capsys.readouterr().out
    assert ill_since.exists()


def test_a_part_that_there_is_not_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("webserver", monkeypatch) == 2


@pytest.fixture
def container() -> Iterator[subprocess.Popen[str]]:
    """A first process with a child that hangs, as dumb-init with Airflow; it ends as its child does."""
    first = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
        "print(child.pid, flush=True); sys.exit(child.wait() != 0)"
    )
    with subprocess.Popen([sys.executable, "-c", first, HANG], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        child = int(made.stdout.readline())
        yield made
        for pid in (made.pid, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_part_that_hangs_is_ended_after_a_while(container: subprocess.Popen[str], ill_since: Path) -> None:
    health.end_if_hung(parent=container.pid)
    health.end_if_hung(parent=container.pid)
    assert container.poll() is None
    os.utime(ill_since, (time.time(), time.time() - health.HUNG_S - 1))
    health.end_if_hung(parent=container.pid)
    assert container.wait(10) == 1


def test_the_age_of_a_process_is_known() -> None:
    with subprocess.Popen([sys.executable, "-c", HANG]) as young:
        try:
            time.sleep(0.3)
            assert 0.2 < health._age_s(process=young.pid) < 5
            assert health._age_s(process=os.getpid()) > health._age_s(process=young.pid)
        finally:
            young.kill()


def test_a_worker_is_not_blamed_for_its_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ill_since: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "celery_broker_url").write_text("redis://127.0.0.1:1/0")
    monkeypatch.setattr(health, "SECRETS", tmp_path)
    assert ask("worker", monkeypatch) == 1
    assert "the broker does not answer" in capsys.readouterr().out
    assert not ill_since.exists()


def test_a_good_moment_counts(server: type[Answering], monkeypatch: pytest.MonkeyPatch, ill_since: Path) -> None:
    database(monkeypatch)
    server.status = 503
    ask("api-server", monkeypatch)
    assert ill_since.exists()
    server.status, server.body = 200, says("healthy")
    ask("api-server", monkeypatch)
    assert not ill_since.exists()
