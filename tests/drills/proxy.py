"""A TCP proxy that understands nothing of what passes through it, and can lose, hold up or cut it off."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

CHUNK = 65536
# An answer that never comes is not waited for longer.
LINGER_ON = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to another; the state holds for all connections.

    lose_answers: the next bytes from the server are dropped and both sides cut off. lose_requests: the same for bytes
    from the client, which the server then never sees. is_frozen: nothing is forwarded in either direction; the
    connections stay, and TCP itself goes on. bytes_per_second: a slow line from the server to the client.
    """

    target: int
    lose_answers: bool = False
    lose_requests: bool = False
    is_frozen: bool = False
    bytes_per_second: int | None = None
    lost: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> Proxy:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Reset every connection on both sides, as a firewall that has lost its table does."""
        for pair in self._pairs:
            _reset(pair)
        self._pairs.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            while True:
                if self.is_frozen:
                    time.sleep(0.02)
                    continue
                readable, _, _ = select.select([client, server], [], [], 0.05)
                for side in readable:
                    if self.is_frozen or not self._pass_on(side, other[side], is_answer=side is server):
                        break
                if any(side.fileno() < 0 for side in other):
                    return
        except (OSError, ValueError):
            _reset((client, server))

    def _pass_on(self, side: socket.socket, other: socket.socket, *, is_answer: bool) -> bool:
        limit = self.bytes_per_second if is_answer else None
        data = side.recv(min(CHUNK, max(1, limit // 20)) if limit else CHUNK)
        if (self.lose_answers and is_answer) or (self.lose_requests and not is_answer and data):
            self.lost += 1
            # The answer was on its way, so what it answers has happened.
            raise OSError("lost")
        if not data:
            raise OSError("closed")
        if limit:
            time.sleep(len(data) / limit)
        other.sendall(data)
        return True


def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
    for side in pair:
        with contextlib.suppress(OSError):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ON)
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
        side.close()
