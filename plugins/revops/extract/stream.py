"""Move rows from one server to another as a COPY stream, without touching a value."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

# PostgreSQL sends one message a row; joined writes save system calls on the way out.
WRITE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Streamed:
    """What went through: rows as the receiving server counted them, and bytes of COPY text."""

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
        "extra_float_digits": "1",
        "lc_monetary": "'C'",
        "timezone": "'UTC'",
        "xmloption": "'content'",
        "row_security": "off",
    }.items()
)


def agree_on_text(connection: psycopg.Connection) -> None:
    """Make the text of values the same on every server, until the transaction ends."""
    connection.execute(_SETTINGS.encode())


def stream_rows(
    source: psycopg.Connection, query: sql.Composed, warehouse: psycopg.Connection, target: sql.Composed
) -> Streamed:
    """Copy a query's rows into a table; `target` is `table (columns)` in the query's order.

    Text format: values pass as PostgreSQL prints them, so infinity, NaN, BC dates and 24:00 survive. Constant memory.
    Commits nothing; an error on either side leaves the target untouched after its rollback.
    """
    read = sql.SQL("copy ({}) to stdout").format(query)
    write = sql.SQL("copy {} from stdin").format(target)
    sent = 0
    pending: list[bytes] = []
    pending_bytes = 0
    with source.cursor() as reader, warehouse.cursor() as writer:
        with reader.copy(read) as rows, writer.copy(write) as sink:
            for row in rows:
                data = bytes(row)
                pending.append(data)
                pending_bytes += len(data)
                if pending_bytes >= WRITE_BYTES:
                    sink.write(b"".join(pending))
                    sent += pending_bytes
                    pending, pending_bytes = [], 0
            sink.write(b"".join(pending))
            sent += pending_bytes
        return Streamed(writer.rowcount, sent)
