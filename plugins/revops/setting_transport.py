"""Where OpenLineage's events go: a transport in the environment, or in a file where a key is part of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

TRANSPORT = "AIRFLOW__OPENLINEAGE__TRANSPORT"
CONFIG_PATH = "AIRFLOW__OPENLINEAGE__CONFIG_PATH"
_EXAMPLE = 'transport: {type: http, url: "https://lineage.example.com"} (docs/lineage.md)'
_SECRET = re.compile(r"auth|api.?key|password|secret|token", re.IGNORECASE)
_LOGIN = re.compile(r"//[^/\s]*@")
# `auth` of this type names an Airflow connection, which has the key; it may say nothing else.
_BY_CONNECTION = "airflow_connection_api_key"
_OF_A_CONNECTION = {"type", "conn_id", "extra_key"}


def transport_faults(environment: Mapping[str, str]) -> Iterator[str]:
    """Tell what is wrong with where events are sent, each with its variable and its remedy, and quote no value."""
    transport, path = (environment.get(name, "").strip() for name in (TRANSPORT, CONFIG_PATH))
    if transport and path:
        yield f"{TRANSPORT} and {CONFIG_PATH} are both set, and only the file would be read. Remedy: leave one out"
    if transport and (why := _why_not(transport)):
        yield f"{TRANSPORT} {why}"
    if path and (why := _why_not_read(Path(path))):
        yield f"{CONFIG_PATH} names {path}, which {why}"


def _why_not(text: str) -> str | None:
    try:
        transport = json.loads(text)
    except ValueError:
        transport = None
    if not isinstance(transport, dict):
        return 'is no JSON object. Example: {"type": "http", "url": "https://lineage.example.com"}'
    if _holds_secret(transport):
        return (
            "holds a key or a password, and whoever may inspect a container reads its environment. Remedy: write the "
            f"transport into a file of mode 600 (secrets/airflow/openlineage.yml), and name that with {CONFIG_PATH} "
            "(docs/lineage.md)"
        )
    return None


def _why_not_read(path: Path) -> str | None:
    """Tell why events would go nowhere, or to the log: that is what OpenLineage's client does without a transport."""
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        return (
            f"can't be read: {error.strerror}. Remedy: write it, for the account of Airflow's processes to read, or "
            f"leave {CONFIG_PATH} out (docs/lineage.md)"
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Its own words would quote the file.
        mark = getattr(error, "problem_mark", None)
        return f"is no YAML{f' at line {mark.line + 1}' if mark else ''}. Example: {_EXAMPLE}"
    transport = config.get("transport") if isinstance(config, dict) else None
    if not isinstance(transport, dict) or not transport.get("type"):
        return f"has no transport with a type. Example: {_EXAMPLE}"
    return None


def _holds_secret(part: Any) -> bool:
    if isinstance(part, dict):
        return any(_is_secret(str(name), value) or _holds_secret(value) for name, value in part.items())
    if isinstance(part, list):
        return any(_holds_secret(item) for item in part)
    return isinstance(part, str) and bool(_LOGIN.search(part))


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, dict) and value.get("type") == _BY_CONNECTION:
        return not set(value) <= _OF_A_CONNECTION
    return bool(_SECRET.search(name))
