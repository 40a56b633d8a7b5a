"""HTTP/1.1 on a stream, by h11: one request a connection, so that nothing can hide behind the first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

from docker_proxy.errors import RefusedError

CHUNK = 16384
# The description of a container has about 2 kB.
MOST_BODY = 65536
MOST_HEADERS = 8192


class BrokenError(Exception):
    """The other side went away, or does not speak HTTP."""


@dataclass(frozen=True)
class Request:
    """A client's request, whole. upgrades: it offers to leave HTTP behind."""

    method: str
    address: str
    body: bytes
    upgrades: bool


async def read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request:
    """Read the request with its body; raises RefusedError and BrokenError."""
    try:
        head = await _next(connection, reader)
        if not isinstance(head, h11.Request):
            raise BrokenError("no request came")
        headers = {bytes(name).lower(): bytes(value) for name, value in head.headers}
        if b"transfer-encoding" in headers:
            raise RefusedError("the body must come with its length", 411)
        if int(headers.get(b"content-length", b"0")) > MOST_BODY:
            raise RefusedError(f"the body has more than {MOST_BODY} bytes", 413)
        body = b""
        while isinstance(event := await _next(connection, reader), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            raise BrokenError("the request broke off")
    except h11.RemoteProtocolError as error:
        raise RefusedError(f"this is not HTTP/1.1 as it should be: {error}", 400) from error
    return Request(
        head.method.decode("ascii"),
        head.target.decode("ascii"),
        body,
        upgrades=connection.their_state is h11.MIGHT_SWITCH_PROTOCOL and headers.get(b"upgrade") == b"tcp",
    )


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | type[h11.PAUSED]:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(CHUNK))
    return event


@dataclass
class Answer:
    """The engine's answer; `body` comes as it comes. Of a switched connection, `rest` has come already."""

    connection: h11.Connection
    reader: asyncio.StreamReader
    status: int
    headers: list[tuple[bytes, bytes]]
    has_switched: bool

    @property
    def rest(self) -> bytes:
        return bytes(self.connection.trailing_data[0])

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body; raises BrokenError where it breaks off."""
        try:
            while isinstance(event := await _next(self.connection, self.reader), h11.Data):
                yield bytes(event.data)
        except h11.RemoteProtocolError as error:
            raise BrokenError(f"the engine's answer broke off: {error}") from error


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    method: str,
    address: str,
    body: bytes = b"",
    upgrades: bool = False,
) -> Answer:
    """Send one request to the engine and return its answer, whose body is still to be read."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", "docker"), ("Content-Length", str(len(body)))]
    headers += [("Content-Type", "application/json")] if body else []
    headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrades else [("Connection", "close")]
    writer.write(connection.send(h11.Request(method=method, target=address, headers=headers)) or b"")
    if body:
        writer.write(connection.send(h11.Data(body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    try:
        head = await _next(connection, reader)
    except h11.RemoteProtocolError as error:
        raise BrokenError(f"the engine does not speak HTTP: {error}") from error
    if not isinstance(head, h11.Response | h11.InformationalResponse):
        raise BrokenError("the engine gave no answer")
    return Answer(
        connection,
        reader,
        head.status_code,
        [(bytes(name), bytes(value)) for name, value in head.headers],
        has_switched=connection.their_state is h11.SWITCHED_PROTOCOL,
    )


def write_json(connection: h11.Connection, status: int, content: object) -> bytes:
    """Return a whole answer as bytes; its errors look like the engine's."""
    body = json.dumps(content).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    parts = (
        connection.send(h11.Response(status_code=status, headers=headers)),
        connection.send(h11.Data(body)),
        connection.send(h11.EndOfMessage()),
    )
    return b"".join(part or b"" for part in parts)
