"""Read-only sessions in a source system."""

from __future__ import annotations

import psycopg

from revops.hooks.postgres import connect, conninfo


def connect_source(connection_id: str, *, task: str) -> psycopg.Connection:
    """Open a session whose transactions are read-only; the caller ends them and closes.

    The login itself should be read-only too: this setting guards against mistakes, not against malice.
    """
    options = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=5min"
    dsn = conninfo(connection_id, application_name=f"revops:{task}", options=options)
    return connect(connection_id, dsn)
