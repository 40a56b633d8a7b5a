"""Passwords and keys of the embedded stack, made once for each checkout."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from revops.keyring import new_key

# PostgreSQL logins, the web UI's user, the values that Airflow's processes share, the keys of encrypted columns.
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
    "data_keys",
    "index_key",
)


def load_or_create(path: Path) -> dict[str, str]:
    """Return the checkout's passwords and keys by name; those that the file lacks are made and added.

    The file has mode 0600 and changes whole or not at all, so that an interrupted run leaves nothing half done behind.
    """
    stored = _read(path)
    if all(name in stored for name in NAMES):
        return stored
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of two first runs at once the second takes what the first has made: a lost key loses what it encrypted.
    with _alone(path):
        complete = {**_made(), **_read(path)}
        partial = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(complete, file, indent=2)
        partial.replace(path)
    return complete


def _read(path: Path) -> dict[str, str]:
    stored: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return stored


def _made() -> dict[str, str]:
    return {
        **{name: secrets.token_urlsafe(24) for name in NAMES},
        "fernet_key": _fernet_key(),
        "jwt_secret": secrets.token_urlsafe(64),
        "data_keys": f"1:{new_key()}",
        "index_key": new_key(),
    }


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
