"""Sessions in the warehouse, each as the least of its roles."""

from __future__ import annotations

from typing import Literal

import psycopg

from revops.hooks.postgres import connect, conninfo

CONNECTION_ID = "revops_core"

Role = Literal["revops_ingest", "revops_transform", "revops_embed", "revops_quality", "revops_api", "revops_audit"]

# Settings of a session by role; a role that only adopts its rights does not bring settings of its own.
ROLE_SETTINGS: dict[str, dict[str, str]] = {
    "revops_ingest": {"statement_timeout": "2h", "lock_timeout": "60s", "work_mem": "64MB"},
    "revops_transform": {"statement_timeout": "1h", "lock_timeout": "60s", "work_mem": "64MB"},
    "revops_embed": {"statement_timeout": "1h", "lock_timeout": "60s"},
    "revops_quality": {"statement_timeout": "30min", "default_transaction_read_only": "off"},
    "revops_api": {"statement_timeout": "15s", "default_transaction_read_only": "on"},
    "revops_audit": {"statement_timeout": "60s", "default_transaction_read_only": "on"},
}


def warehouse_conninfo(role: Role | None, *, task: str) -> str:
    """Return the connection string of `revops_core`; with a role, sessions hold the rights of that role only."""
    options = session_options(role) if role is not None else ""
    return conninfo(CONNECTION_ID, application_name=f"revops:{task}", options=options)


def session_options(role: Role) -> str:
    """Return libpq's command-line options of a session that holds the rights of a role only."""
    settings = {"role": role, "timezone": "UTC", "default_toast_compression": "lz4", **ROLE_SETTINGS[role]}
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def connect_warehouse(role: Role, *, task: str) -> psycopg.Connection:
    """Open a session in the warehouse; the caller commits and closes."""
    return connect(CONNECTION_ID, warehouse_conninfo(role, task=task))
