"""The proxy's work on one connection: read, judge, ask the engine, hand its answer over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

from docker_proxy.errors import RefusedError
from docker_proxy.policy import Policy
from docker_proxy.routes import Call, find_call
from docker_proxy.wire import CHUNK, MOST_HEADERS, Answer, BrokenError, Request, ask, read_request, write_json

# For a client to say what it wants, and for the engine to begin to answer. What follows may be silent for hours.
REQUEST_S = 10
ENGINE_S = 120
LINGER_S = 2
MOST_CONNECTIONS = 128
# What the engine says of itself and of its answer; its framing is ours.
_HEADERS = (b"content-type", b"api-version", b"docker-experimental", b"ostype", b"server")
# A client whose machine is gone closes nothing: after a minute without a sign of life the connection ends.
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


@dataclass
class Proxy:
    """Lets one policy's requests through to the engine behind a socket."""

    policy: Policy
    engine: Path
    _open: int = field(default=0, init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's one request and close it."""
        _keep_alive(writer)
        self._open += 1
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADERS)
        request: Request | None = None
        try:
            if self._open > MOST_CONNECTIONS:
                raise RefusedError("too many connections at a time", 503)
            async with asyncio.timeout(REQUEST_S):
                request = await read_request(connection, reader)
            await self._answer(request, connection, reader, writer)
        except RefusedError as error:
            _log("refused", request, reason=str(error), status=error.status)
            await _tell(connection, reader, writer, error.status, f"docker-proxy: {error}")
        except (BrokenError, TimeoutError, OSError) as error:
            _log("broken", request, reason=str(error) or type(error).__name__)
            await _tell(connection, reader, writer, 502, f"docker-proxy: the engine can't be asked: {error}")
        finally:
            self._open -= 1
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

    async def _answer(
        self,
        request: Request,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        call = find_call(self.policy, request.method, request.address)
        if request.body and not call.creates:
            raise RefusedError(f"{call.method} {call.path} has a body")
        if call.attaches and not request.upgrades:
            raise RefusedError("a container is attached by `Upgrade: tcp`", 400)
        body = self.policy.rewrite(request.body) if call.creates else b""
        if call.container is not None and not await self._is_ours(call, connection, writer):
            return
        if call.method != "GET":
            _log("passed", request)
        async with self._asked(call, body) as (answer, to_engine):
            if answer.has_switched:
                await _tunnel(answer, connection, reader, writer, to_engine)
            elif call.tells is not None:
                content = json.loads(await _whole(answer))
                shown = {key: content[key] for key in call.tells if key in content}
                writer.write(write_json(connection, answer.status, shown))
            else:
                await _relay(answer, connection, reader, writer)

    async def _is_ours(self, call: Call, connection: h11.Connection, writer: asyncio.StreamWriter) -> bool:
        """Look at whose container it is; hand over what the engine says where there is none. Raises RefusedError."""
        look = Call("GET", call.version, f"/containers/{call.container}/json")
        async with self._asked(look) as (answer, _):
            content = json.loads(await _whole(answer))
        if answer.status != 200:
            writer.write(write_json(connection, answer.status, content))
            return False
        if not self.policy.owns(content):
            raise RefusedError(f"container {call.container} is no encoder of this installation")
        return True

    @contextlib.asynccontextmanager
    async def _asked(self, call: Call, body: bytes = b"") -> AsyncIterator[tuple[Answer, asyncio.StreamWriter]]:
        async with asyncio.timeout(ENGINE_S) as patience:
            reader, writer = await asyncio.open_unix_connection(str(self.engine))
            try:
                answer = await ask(
                    reader, writer, method=call.method, address=call.address, body=body, upgrades=call.attaches
                )
                patience.reschedule(None)
                yield answer, writer
            finally:
                # With it ends a container's input.
                writer.close()


async def _relay(
    answer: Answer, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Hand an answer over as it comes; a client that goes away ends it."""
    headers = [(name, value) for name, value in answer.headers if name in _HEADERS]
    writer.write(
        connection.send(h11.Response(status_code=answer.status, headers=[*headers, (b"Connection", b"close")])) or b""
    )

    async def hand_over() -> None:
        async for chunk in answer.body():
            writer.write(connection.send(h11.Data(chunk)) or b"")
            await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()) or b"")

    await _until_one_ends(hand_over(), reader.read(1))


async def _tunnel(
    answer: Answer,
    connection: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    to_engine: asyncio.StreamWriter,
) -> None:
    """Hand bytes over both ways until either side goes away: a task that dies ends its container's input."""
    headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"tcp")]
    headers += [(name, value) for name, value in answer.headers if name in _HEADERS]
    writer.write(connection.send(h11.InformationalResponse(status_code=101, headers=headers)) or b"")
    writer.write(answer.rest)
    to_engine.write(bytes(connection.trailing_data[0]))
    await _until_one_ends(_pump(answer.reader, writer), _pump(reader, to_engine))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()


async def _until_one_ends(*works: Any) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(OSError):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _whole(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.body()])


async def _tell(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, message: str
) -> None:
    """Answer with an error, where an answer has not begun."""
    with contextlib.suppress(h11.LocalProtocolError, OSError, TimeoutError):
        writer.write(write_json(connection, status, {"message": message}))
        writer.write_eof()
        # To close on what was sent and not read would take the answer back from a client that is still sending.
        async with asyncio.timeout(LINGER_S):
            while await reader.read(CHUNK):
                pass


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    client: socket.socket = writer.get_extra_info("socket")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE.items():
        client.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _log(event: str, request: Request | None, **facts: object) -> None:
    # An address may hold what a client likes: JSON keeps it on its line.
    asked = f"{request.method} {request.address[:300]}" if request else None
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, "request": asked, **facts}
    print(json.dumps(line), file=sys.stdout, flush=True)
