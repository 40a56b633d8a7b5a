"""Commands for who holds the keys: rotate them, show a value."""

from __future__ import annotations

import os

from rich.console import Console

from revops.keyring import Keyring
from revops.local.stack import WEB_PORT, Stack, own_settings
from revops.rotation.shell import show_rotation, show_value


def rotate(console: Console, forgotten: int | None) -> int:
    """Rotate the keys of the embedded warehouse, or of the user's own, and show how far it is."""
    return show_rotation(console, _keyring(), forgotten=forgotten)


def decrypt(console: Console, table: str, column: str, key: str) -> int:
    """Show one value of raw; who asked for it is recorded in ops."""
    return show_value(console, _keyring(), table=table, column=column, key=key)


def _keyring() -> Keyring:
    """Return the keys of the warehouse that the connection revops_core names; the embedded one is started."""
    stack = Stack.of_checkout()
    own = own_settings()
    # Its port is part of the environment.
    if stack.postgres.port() is None:
        stack.start_postgres()
    environment = stack.environment(mail_port=25, web_port=WEB_PORT, own=own)
    os.environ["AIRFLOW_CONN_REVOPS_CORE"] = environment["AIRFLOW_CONN_REVOPS_CORE"]
    return Keyring.from_environment(environment)
