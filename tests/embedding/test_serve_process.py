"""The service as a process: its events, its end, and what it says when it cannot start."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import command, environment, run_cli

from embedding.errors import ExitCode, UsageError
from embedding.serve import _listen

OPTIONS = ("--device", "cpu", "--dtype", "float32", "--max-length", 64, "--threads", 1)
POISONED = Path(__file__).with_name("poisoned.py")


@contextmanager
def process(model, *options, program: Path | None = None) -> Iterator[tuple[subprocess.Popen, dict]]:
    """Start the service, or another program that serves, on a free port; yield it with its first event."""
    arguments = command("serve", "--model", model, "--port", 0, *OPTIONS, *options)
    if program:
        arguments = [sys.executable, str(program), *arguments[arguments.index("serve") :]]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(arguments, env=environment(), text=True, **pipes) as started:
        try:
            yield started, json.loads(started.stdout.readline())
        finally:
            started.kill()


def ask(port: int, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body and json.dumps(body).encode())
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def test_ready_says_what_it_is_and_a_stop_finishes_what_is_under_way(tiny_model, encoder):
    with process(tiny_model) as (started, ready), ThreadPoolExecutor(8) as pool:
        assert ready["event"] == "ready"
        assert ready["url"] == f"http://127.0.0.1:{ready['port']}"
        assert (ready["device"], ready["dtype"]) == ("cpu", "float32")
        assert (ready["model_name"], ready["model_key"]) == ("tiny", encoder.model_key())
        status, health = ask(ready["port"], "GET", "/health")
        assert (status, health["status"], health["model_key"]) == (200, "ok", encoder.model_key())
        many = [
            pool.submit(ask, ready["port"], "POST", "/embed", {"inputs": [f"{part} {n}" for n in range(400)]})
            for part in range(4)
        ]
        while "embedding_queue_texts 0.0" in _metrics(ready["port"]):
            pass
        started.send_signal(signal.SIGTERM)
        assert {request.result()[0] for request in many} <= {200, 429}
        assert 200 in {request.result()[0] for request in many}
        last = started.stdout.read().splitlines()
        assert started.wait(timeout=60) == ExitCode.OK
        assert json.loads(last[-1])["event"] == "end"
        assert json.loads(last[-1])["reason"] == "signal"


def _metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    said = connection.getresponse().read().decode()
    connection.close()
    return said


def test_it_ends_when_nobody_asks(tiny_model):
    with process(tiny_model, "--idle-exit", 0.5) as (started, ready):
        assert ask(ready["port"], "POST", "/embed", {"inputs": ["once"]})[0] == 200
        end = json.loads(started.stdout.readline())
        assert (end["event"], end["reason"], end["requests"]) == ("end", "idle", 1)
        assert started.wait(timeout=60) == ExitCode.OK


def test_a_lost_gpu_ends_the_process_once_all_that_waits_is_told(tiny_model):
    def embed(text: str) -> tuple[int, dict]:
        return ask(ready["port"], "POST", "/embed", {"inputs": [text], "truncate": True})

    with process(tiny_model, program=POISONED) as (started, ready), ThreadPoolExecutor(8) as pool:
        assert embed("before")[0] == 200
        asked = [pool.submit(embed, "word " * 200)]
        _wait_for(ready["port"], "embedding_queue_texts 1.0")
        asked += [pool.submit(embed, f"text {number}") for number in range(3)]
        _wait_for(ready["port"], "embedding_queue_texts 4.0")
        with closing(http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=60)) as slow:
            slow.request("POST", "/embed", b'{"inputs"', {"Content-Length": "17"})
            print(file=started.stdin, flush=True)
            answers = [request.result() for request in asked]
            assert [(status, answer["error"]["code"]) for status, answer in answers] == [(503, "gpu_lost")] * 4
            with pytest.raises(subprocess.TimeoutExpired):
                started.wait(timeout=1)
            slow.send(b': ["x"]}')
            assert slow.getresponse().status == 503
        assert started.wait(timeout=20) == ExitCode.GPU
        (said,) = started.stderr.read().splitlines()
        assert said.startswith("embedding: the GPU fails at whatever it is given (CUDA error: an illegal memory access")


def _wait_for(port: int, line: str) -> None:
    pause = threading.Event()
    for _ in range(1_000):
        if line in _metrics(port):
            return
        pause.wait(0.01)
    raise AssertionError(f"{line} is not among the metrics")


def test_what_keeps_it_from_starting_is_said(tiny_model, tmp_path):
    code, events, said = run_cli("serve", "--model", tmp_path / "nowhere", "--port", 0)
    assert (code, events) == (ExitCode.MODEL, [])
    assert "make model" in said


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}.*--port"),
            _listen("127.0.0.1", port),
        ):
            pass


def test_answers_are_sent_at_once():
    # asyncio sets TCP_NODELAY only on sockets that name their protocol.
    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
