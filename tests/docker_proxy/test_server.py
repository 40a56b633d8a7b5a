"""The proxy on real sockets, before an engine that writes down every byte that reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from docker_proxy import server
from docker_proxy.policy import Policy
from docker_proxy.server import Proxy
from tests.docker_proxy.conftest import body_of_the_operator

OURS, THEIRS, NOBODYS = "a" * 64, "b" * 64, "c" * 64
ATTACH = f"/v1.41/containers/{OURS}/attach?stdin=1&stdout=1&stderr=1&stream=1"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


@dataclass
class Engine:
    """Speaks as much of the engine's language as is asked here. attached: the containers' inputs and outputs."""

    socket: Path
    asked: list[bytes] = field(default_factory=list)
    attached: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    waiting: list[asyncio.StreamReader] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
        body = await reader.readexactly(length)
        self.asked.append(head + body)
        line = head.split(b"\r\n")[0].decode()
        if "/attach" in line:
            writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst")
            self.attached.append((reader, writer))
            return
        if "/wait" in line:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.waiting.append(reader)
            return
        status, content = self._answer(line)
        text = json.dumps(content).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nSet-Cookie: x\r\n\r\n".encode() + text)
        writer.close()

    def _answer(self, line: str) -> tuple[str, object]:
        labels = {"revops.handoff": "revops_handoff"}
        if f"/containers/{OURS}/json" in line:
            return "200 OK", {"Config": {"Image": "revops-embedding:latest", "Labels": labels}}
        if f"/containers/{THEIRS}/json" in line:
            return "200 OK", {"Config": {"Image": "revops-postgres:latest", "Labels": {}, "Env": ["SECRET=1"]}}
        if NOBODYS in line:
            return "404 Not Found", {"message": "No such container"}
        if "/info" in line:
            return "200 OK", {"Runtimes": {"runc": {}}, "HttpProxy": "http://user:password@proxy", "Name": "host"}
        return "201 Created" if "/create" in line else "200 OK", {"Id": OURS}

    @property
    def lines(self) -> list[str]:
        return [request.split(b"\r\n")[0].decode() for request in self.asked]


@dataclass
class Running:
    """A proxy on a port, with its engine and the loop of both."""

    port: int
    engine: Engine
    loop: asyncio.AbstractEventLoop

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, object], http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = json.loads(answer.read() or b"{}")
        connection.close()
        return answer.status, content, answer.headers

    def send(self, data: bytes) -> bytes:
        """Send bytes and return all that comes until the proxy closes."""
        with self.connect(data) as connection:
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def connect(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection

    def on_loop(self, work: Callable[[], object]) -> None:
        self.loop.call_soon_threadsafe(work)


@pytest.fixture
def proxy(policy: Policy, tmp_path: Path) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engine = Engine(tmp_path / "engine.sock")

    servers: list[asyncio.Server] = []

    async def begin() -> int:
        servers.append(await asyncio.start_unix_server(engine.serve, str(engine.socket)))
        servers.append(await asyncio.start_server(Proxy(policy, engine.socket).serve, "127.0.0.1", 0))
        port: int = servers[1].sockets[0].getsockname()[1]
        return port

    port = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    yield Running(port, engine, loop)

    async def end() -> None:
        for listening in servers:
            listening.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in engine.writers:
            writer.close()
        await asyncio.sleep(0.05)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_container_is_created_by_our_own_text(proxy: Running) -> None:
    body = body_of_the_operator()
    spaced = body.replace(b"{", b"{ \n", 1)
    status, content, headers = proxy.ask(
        "POST", "/v1.41/containers/create", spaced, {"X-Registry-Auth": "x", "Host": "evil"}
    )
    assert (status, content) == (201, {"Id": OURS})
    assert headers["Set-Cookie"] is None
    (asked,) = proxy.engine.asked
    head, _, sent = asked.partition(b"\r\n\r\n")
    assert sent == json.dumps(json.loads(body)).encode()
    # Nothing of the client's own headers.
    assert sorted(line.split(b":")[0].decode() for line in head.split(b"\r\n")[1:]) == [
        *("Connection", "Content-Length", "Content-Type", "Host")
    ]


def test_a_refusal_says_why_and_nothing_reaches_the_engine(proxy: Running, capsys: pytest.CaptureFixture[str]) -> None:
    body = body_of_the_operator().replace(b'"Init": true', b'"Init": true, "Privileged": true')
    status, content, _ = proxy.ask("POST", "/v1.41/containers/create", body)
    assert (status, content) == (403, {"message": "docker-proxy: HostConfig.'Privileged' is not allowed"})
    status, content, _ = proxy.ask("GET", "/v1.41/images/json")
    assert (status, content) == (403, {"message": "docker-proxy: GET /images/json is not let through"})
    assert proxy.engine.asked == []
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in logged] == ["refused", "refused"]


@pytest.mark.parametrize(("method", "rest"), [("POST", "/start"), ("POST", "/wait"), ("GET", "/json"), ("DELETE", "")])
def test_another_container_is_not_touched(proxy: Running, method: str, rest: str) -> None:
    status, content, _ = proxy.ask(method, f"/v1.41/containers/{THEIRS}{rest}")
    assert status == 403
    assert "no encoder of this installation" in str(content["message"])
    assert proxy.engine.lines == [f"GET /v1.41/containers/{THEIRS}/json HTTP/1.1"]


def test_of_a_container_that_is_not_there_the_engine_tells(proxy: Running) -> None:
    status, content, _ = proxy.ask("DELETE", f"/v1.41/containers/{NOBODYS}?force=True")
    assert (status, content) == (404, {"message": "No such container"})


def test_its_own_container_is_started_and_removed(proxy: Running) -> None:
    assert proxy.ask("POST", f"/v1.41/containers/{OURS}/start")[0] == 200
    assert proxy.ask("DELETE", f"/v1.41/containers/{OURS}?v=False&link=False&force=True")[0] == 200
    assert proxy.engine.lines[1::2] == [
        f"POST /v1.41/containers/{OURS}/start HTTP/1.1",
        f"DELETE /v1.41/containers/{OURS}?v=False&link=False&force=True HTTP/1.1",
    ]


def test_of_the_machine_only_its_gpus_are_told(proxy: Running) -> None:
    status, content, _ = proxy.ask("GET", "/v1.41/info")
    assert (status, content) == (200, {"Runtimes": {"runc": {}}})


CREATE = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CREATE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (CREATE + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", 411),
        (CREATE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
        (CREATE + b"Content-Length: 65537\r\n\r\n", 413),
        (CREATE + b"Content-Length: -1\r\n\r\n", 400),
        (CREATE + b"Content-Length: 2\r\n\r\n[]", 400),
        (CREATE + b"\r\n", 400),
        (
            b"POST /v1.41/containers/" + OURS.encode() + b"/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
            403,
        ),
        (f"POST {ATTACH} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (f"POST {ATTACH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode(), 400),
        (b"GET /_ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /_ping\tx HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(proxy: Running, sent: bytes, status: int) -> None:
    with proxy.connect(sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] == str(status).encode(), answer
    assert proxy.engine.asked == []


def test_a_second_request_on_the_same_connection_is_not_read(proxy: Running) -> None:
    answer = proxy.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert proxy.engine.lines == ["GET /_ping HTTP/1.1"]


def test_who_says_nothing_is_let_go(proxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    assert b" 502 " in proxy.send(b"POST /v1.41/containers/create HTTP/1.1\r\n")
    assert proxy.engine.asked == []


def test_an_engine_that_is_away_is_said_to_be(proxy: Running) -> None:
    proxy.engine.socket.unlink()
    status, content, _ = proxy.ask("GET", "/_ping")
    assert status == 502
    assert "the engine can't be asked" in str(content["message"])


@contextlib.contextmanager
def attached(proxy: Running) -> Iterator[socket.socket]:
    request = f"POST {ATTACH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n".encode() + UPGRADE + b"\r\n"
    with proxy.connect(request) as connection:
        answer = chunk = connection.recv(65536)
        while chunk and not answer.endswith(b"first"):
            chunk = connection.recv(65536)
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.endswith(b"first")
        yield connection


def test_input_and_output_go_through_in_both_directions(proxy: Running) -> None:
    with attached(proxy) as connection:
        reader, writer = proxy.engine.attached[0]
        connection.sendall(b"to the container")
        read = asyncio.run_coroutine_threadsafe(reader.readexactly(16), proxy.loop).result(10)
        assert read == b"to the container"
        proxy.on_loop(lambda: writer.write(b"x" * 1_000_000))
        received = 0
        while received < 1_000_000:
            received += len(connection.recv(65536))
        # Its end is the container's.
        proxy.on_loop(writer.close)
        assert connection.recv(1) == b""


def test_silence_is_no_end(proxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    monkeypatch.setattr(server, "ENGINE_S", 0.2)
    with attached(proxy) as connection:
        time.sleep(1)
        writer = proxy.engine.attached[0][1]
        proxy.on_loop(lambda: writer.write(b"after all"))
        assert connection.recv(100) == b"after all"


def test_a_client_that_goes_away_ends_the_containers_input(proxy: Running) -> None:
    with attached(proxy):
        reader = proxy.engine.attached[0][0]
        assert not reader.at_eof()
    assert asyncio.run_coroutine_threadsafe(reader.read(), proxy.loop).result(10) == b""


def test_a_client_that_goes_away_ends_its_waiting(proxy: Running) -> None:
    with proxy.connect(f"POST /v1.41/containers/{OURS}/wait HTTP/1.1\r\nHost: x\r\n\r\n".encode()):
        until(lambda: proxy.engine.waiting)
    reader = proxy.engine.waiting[0]
    assert asyncio.run_coroutine_threadsafe(reader.read(), proxy.loop).result(10) == b""


def test_too_many_at_a_time_are_told(proxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    with proxy.connect(b""), proxy.connect(b""):
        until(lambda: b" 503 " in proxy.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"))
    until(lambda: b" 200 " in proxy.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"))
