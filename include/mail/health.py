"""Healthy: the SMTP server greets, and the page answers. On sockets alone, for it is asked every few seconds."""

import socket
import sys


def first_line(port: int, question: bytes) -> bytes:
    """Return how a server of this container begins its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        connection.sendall(question)
        return connection.recv(64)


if __name__ == "__main__":
    well = first_line(1025, b"").startswith(b"220 ") and b" 200 " in first_line(8025, b"HEAD / HTTP/1.0\r\n\r\n")
    sys.exit(not well)
