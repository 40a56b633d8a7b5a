"""Passwords of the embedded stack, made once for each checkout."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

# PostgreSQL logins, then the web UI's user and the values that Airflow's processes share.
NAMES = (
    "postgres",
    "revops",
    "airflow",
    "odoo",
    "odoo_reader",
    "ace",
    "ace_reader",
    "web_admin",
    "fernet_key",
    "jwt_secret",
    "api_secret",
)


def load_or_create(path: Path) -> dict[str, str]:
    """Return the checkout's passwords by name, made on the first call.

    The file has mode 0600 and appears whole or not at all, so that an interrupted first run leaves nothing behind.
    """
    if path.exists():
        stored: dict[str, str] = json.loads(path.read_text())
        return stored
    made = {name: secrets.token_urlsafe(24) for name in NAMES}
    made["fernet_key"] = _fernet_key()
    made["jwt_secret"] = secrets.token_urlsafe(64)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(made, file, indent=2)
    partial.replace(path)
    return made


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
