"""Read-only sessions in a source system."""

from __future__ import annotations

import psycopg

from revops.extract.source_login import require_read_only
from revops.hooks.postgres import connect, conninfo
from revops.settings import requires_read_only_source


def connect_source(connection_id: str, *, task: str, may_write: bool = False) -> psycopg.Connection:
    """Open a session whose transactions are read-only; the caller ends them and closes.

    The login itself should be read-only too: this setting guards against mistakes, not against malice. Where
    REVOPS_REQUIRE_READ_ONLY_SOURCE is on, a login that can write is refused with WritingLoginError, unless the caller
    says that it `may_write`, to look into its rights.
    """
    is_checked = requires_read_only_source() and not may_write
    source = connect(connection_id, source_conninfo(connection_id, task=task))
    if is_checked:
        try:
            require_read_only(source, connection_id)
        except BaseException:
            source.close()
            raise
    return source


def source_conninfo(connection_id: str, *, task: str) -> str:
    """Return the connection string of a source, for sessions whose transactions are read-only."""
    options = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=5min"
    return conninfo(connection_id, application_name=f"revops:{task}", options=options)
