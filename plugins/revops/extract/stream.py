"""Move rows from one server to another as a COPY stream, without touching a value."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

Format = Literal["binary", "text"]
# What is done to each message of the stream, such as encrypting columns of the row in it.
Rewrite = Callable[[bytes], bytes]
# Told the bytes and messages (one a row) sent since the last time, about every second.
Progress = Callable[[int, int], None]

# PostgreSQL sends one message a row; joined writes save system calls on the way out.
WRITE_BYTES = 256 * 1024
PROGRESS_S = 1.0
# A source that sends nothing for so long is waited for in turns, so that the process can be interrupted.
WAIT_MS = 1000


@dataclass(frozen=True)
class Streamed:
    """What went through: rows as the receiving server counted them, and bytes of COPY data."""

    rows: int
    bytes: int


# Both servers print and read values alike, whatever their defaults, as pg_dump sees to it; and a row-level policy
# that would hide rows is an error, or those rows would count as deleted.
_SETTINGS = "; ".join(
    f"set local {name} = {value}"
    for name, value in {
        "client_encoding": "'UTF8'",
        "datestyle": "'ISO, YMD'",
        "intervalstyle": "'postgres'",
        "extra_float_digits": "3",
        "lc_monetary": "'C'",
        "bytea_output": "'hex'",
        "timezone": "'UTC'",
        "xmloption": "'content'",
        "row_security": "off",
    }.items()
)


def agree_on_text(connection: psycopg.Connection) -> None:
    """Make the text of values the same on every server, until the transaction ends."""
    connection.execute(_SETTINGS.encode())


def stream_rows(
    source: psycopg.Connection,
    query: sql.Composed,
    warehouse: psycopg.Connection,
    target: sql.Composed,
    *,
    form: Format = "text",
    freeze: bool = False,
    rewrite: Rewrite | None = None,
    progress: Progress | None = None,
) -> Streamed:
    """Copy a query's rows into a table; `target` is `table (columns)` in the query's order.

    form: `text` passes values as PostgreSQL prints them, so infinity, NaN, BC dates and 24:00 survive; `binary` costs
    a third less, and is right only where both sides' types are the same (see formats.agreed_format). freeze:
    the rows are written as if long committed; the table must have been made in this transaction. Constant memory.
    Commits nothing; an error on either side leaves the target untouched after its rollback, and may leave the
    source's session in the middle of a stream: close it then.
    """
    options = "format binary" if form == "binary" else "format text"
    read = sql.SQL("copy ({}) to stdout ({})").format(query, sql.SQL(options))
    write = sql.SQL("copy {} from stdin ({})").format(target, sql.SQL(f"{options}, freeze" if freeze else options))
    sent = 0
    told = time.monotonic()
    with warehouse.cursor() as writer:
        with writer.copy(write) as sink:
            since_told = messages_since_told = 0
            for data, messages in _joined(_messages(source, read.as_bytes(source)), rewrite):
                sink.write(data)
                sent += len(data)
                since_told += len(data)
                messages_since_told += messages
                if progress is not None and time.monotonic() - told >= PROGRESS_S:
                    progress(since_told, messages_since_told)
                    told = time.monotonic()
                    since_told = messages_since_told = 0
        return Streamed(writer.rowcount, sent)


def _joined(messages: Iterator[memoryview], rewrite: Rewrite | None) -> Iterator[tuple[bytes, int]]:
    pending: list[bytes | memoryview] = []
    pending_bytes = 0
    for message in messages:
        data = message if rewrite is None else rewrite(bytes(message))
        pending.append(data)
        pending_bytes += len(data)
        if pending_bytes >= WRITE_BYTES:
            yield b"".join(pending), len(pending)
            pending.clear()
            pending_bytes = 0
    if pending:
        yield b"".join(pending), len(pending)


def _messages(source: psycopg.Connection, statement: bytes) -> Iterator[memoryview]:
    """Yield the messages of a COPY ... TO STDOUT, one a row.

    libpq is read directly: psycopg's own loop costs 40 % more processor time a row, which on a small machine is
    taken from both servers.
    """
    libpq = source.pgconn
    poll = select.poll()
    poll.register(libpq.socket, select.POLLIN)
    libpq.send_query(statement)
    while libpq.flush():
        poll.poll(WAIT_MS)
    result = _result(libpq, poll)
    if result is None or result.status != ExecStatus.COPY_OUT:
        _finish(source, libpq, poll, result)
        raise AssertionError("a COPY TO STDOUT answers with rows or with an error")
    read = libpq.get_copy_data
    while True:
        size, data = read(1)
        if size > 0:
            yield data
        elif size == 0:
            poll.poll(WAIT_MS)
            libpq.consume_input()
        else:
            break
    _finish(source, libpq, poll, None)


def _result(libpq: psycopg.pq.abc.PGconn, poll: select.poll) -> psycopg.pq.abc.PGresult | None:
    while libpq.is_busy():
        poll.poll(WAIT_MS)
        libpq.consume_input()
    return libpq.get_result()


def _finish(
    source: psycopg.Connection,
    libpq: psycopg.pq.abc.PGconn,
    poll: select.poll,
    result: psycopg.pq.abc.PGresult | None,
) -> None:
    """Read what follows the rows; raise the server's error if there is one."""
    failed = result
    while (result := _result(libpq, poll)) is not None:
        if result.status == ExecStatus.FATAL_ERROR:
            failed = result
    if failed is not None:
        raise error_from_result(failed, encoding=source.info.encoding)
