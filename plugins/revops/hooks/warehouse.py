"""Sessions in the warehouse, each as the least of its roles."""

from __future__ import annotations

from typing import Literal

import psycopg

from revops.hooks.postgres import connect, conninfo

CONNECTION_ID = "revops_core"

Role = Literal["revops_ingest", "revops_transform", "revops_embed", "revops_quality", "revops_api", "revops_audit"]

IDLE = "idle_in_transaction_session_timeout"
READ_ONLY = "default_transaction_read_only"
# Settings of a session by role: one that adopts a role gets its rights, but not what ALTER ROLE ... SET says of it.
# The last one: a load waits in its transaction for as long as the source is read.
ROLE_SETTINGS: dict[str, dict[str, str]] = {
    "revops_ingest": {"statement_timeout": "2h", "lock_timeout": "60s", "work_mem": "64MB", IDLE: "2h"},
    "revops_transform": {"statement_timeout": "1h", "lock_timeout": "60s", "work_mem": "64MB", IDLE: "15min"},
    "revops_embed": {"statement_timeout": "1h", "lock_timeout": "60s", IDLE: "15min"},
    "revops_quality": {"statement_timeout": "30min", "lock_timeout": "60s", IDLE: "15min"},
    "revops_api": {"statement_timeout": "15s", "lock_timeout": "5s", READ_ONLY: "on", IDLE: "5min"},
    "revops_audit": {"statement_timeout": "60s", "lock_timeout": "5s", READ_ONLY: "on", IDLE: "60s"},
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
