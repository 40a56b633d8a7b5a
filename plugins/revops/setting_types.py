"""What the values of settings must look like; each refusal says why, and holds no password."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from revops.keyring import read_data_keys, read_key

PLACEHOLDER = "CHANGE_ME"
UNIT_BITS = {"k": 10, "m": 20, "g": 30}


def _database(value: str) -> str:
    if value.lstrip().startswith("{"):
        return _database_as_json(value)
    parts = urlsplit(value)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("must start with postgresql://")
    if not parts.hostname or not parts.path.strip("/"):
        raise ValueError("needs a host and a database")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError("has a port that is no number") from error
    _without_placeholder(unquote(value))
    return value


def _database_as_json(value: str) -> str:
    try:
        fields: dict[str, Any] = json.loads(value)
    except ValueError as error:
        raise ValueError("is neither a URI nor JSON") from error
    if fields.get("conn_type") not in ("postgres", "postgresql") or not fields.get("host") or not fields.get("schema"):
        raise ValueError("as JSON needs conn_type postgres, host and schema (the database)")
    if not str(fields.get("port", "")).isdecimal() and fields.get("port") is not None:
        raise ValueError("has a port that is no number")
    return _without_placeholder(value)


def _mail_server(value: str) -> str:
    if value.lstrip().startswith("{"):
        try:
            fields: dict[str, Any] = json.loads(value)
        except ValueError as error:
            raise ValueError("is neither a URI nor JSON") from error
        if fields.get("conn_type") != "smtp" or not fields.get("host"):
            raise ValueError("as JSON needs conn_type smtp and host")
    elif urlsplit(value).scheme != "smtp":
        raise ValueError("must start with smtp://")
    return _without_placeholder(value)


def _without_placeholder(value: str) -> str:
    if PLACEHOLDER in value:
        raise ValueError(f"still holds {PLACEHOLDER}")
    return value


def _addresses(value: str) -> str:
    for address in value.split(","):
        local, at, domain = address.strip().partition("@")
        if not (local and at and domain) or any(character.isspace() for character in address.strip()):
            raise ValueError(f"{address.strip()!r} is not an e-mail address")
    return _without_placeholder(value)


def _existing(value: Path) -> Path:
    if not value.exists():
        raise ValueError(f"{value} does not exist")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{value} is not an absolute path: each process would take it for another folder")
    return value


def _urls(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    urls = tuple(url.strip().rstrip("/") for url in value.split(","))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not one or more http(s) addresses, separated by commas")
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError("has a port that is no number") from error
        if parts.username or parts.query or parts.fragment:
            # It is named in messages.
            raise ValueError("must hold no password and no query")
    return urls


def _memory(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[kmg]", value):
        raise ValueError(f"{value!r} is not an amount of memory")
    return value


def _memory_bytes(value: Any) -> Any:
    return int(_memory(value)[:-1]) << UNIT_BITS[value[-1]] if isinstance(value, str) else value


def _data_keys(value: SecretStr) -> SecretStr:
    read_data_keys(value.get_secret_value())
    return value


def _index_key(value: SecretStr) -> SecretStr:
    read_key(value.get_secret_value())
    return value


Database = Annotated[str, AfterValidator(_database)]
MailServer = Annotated[str, AfterValidator(_mail_server)]
Addresses = Annotated[str, AfterValidator(_addresses)]
ExistingPath = Annotated[Path, AfterValidator(_existing)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Urls = Annotated[tuple[str, ...], BeforeValidator(_urls)]
Memory = Annotated[str, AfterValidator(_memory)]
MemoryBytes = Annotated[int, BeforeValidator(_memory_bytes)]
DataKeys = Annotated[SecretStr, AfterValidator(_data_keys)]
IndexKey = Annotated[SecretStr, AfterValidator(_index_key)]
