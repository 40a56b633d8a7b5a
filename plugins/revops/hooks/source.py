"""Read-only sessions in a source system."""

from __future__ import annotations

import psycopg

from revops.hooks.postgres import connect, conninfo


def connect_source(connection_id: str, *, task: str) -> psycopg.Connection:
    """Open a session whose transactions are read-only; the caller ends them and closes.

    The login itself should be read-only too: this setting guards against mistakes, not against malice.
    """
    return connect(connection_id, source_conninfo(connection_id, task=task))


def source_conninfo(connection_id: str, *, task: str) -> str:
    """Return the connection string of a source, for sessions whose transactions are read-only."""
    options = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=5min"
    return conninfo(connection_id, application_name=f"revops:{task}", options=options)
