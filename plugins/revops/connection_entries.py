"""Entries of the connections file: what Airflow's connections are made of, and where an entry differs from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# As Airflow's own: airflow.models.connection.
_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}")
_TEXTS = ("conn_type", "description", "host", "login", "password", "schema", "uri", "team_name")
FIELDS = frozenset({*_TEXTS, "conn_id", "port", "extra", "extra_dejson"})
_PARTS = frozenset({"conn_type", "host", "login", "password", "schema", "port", "extra", "extra_dejson"})
_MOST_SCHEMES = 2


def faults_of(name: Any, value: Any) -> Iterator[str]:
    """Tell what is wrong with an entry of the connections file, without its values."""
    if not isinstance(name, str) or not _ID.fullmatch(name):
        yield "is no connection id"
    if isinstance(value, list):
        if len(value) != 1:
            yield "must be one connection, not a list"
            return
        value = value[0]
    if isinstance(value, str):
        yield from _faults_of_uri(value)
    elif isinstance(value, dict):
        yield from _faults_of_fields(name, value)
    else:
        yield "must be a URI or an object with conn_type, host, login, password, schema, port, extra"


def _faults_of_uri(uri: str) -> Iterator[str]:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        yield "its URI is malformed: write special characters of the password as %XX, and the port as a number"
        return
    schemes = uri.count("://")
    rest = uri.partition("://")[2]
    if not parts.scheme or schemes == 0:
        yield "its URI must start with a type, such as postgresql:// or smtp://, without quotes"
    elif schemes > _MOST_SCHEMES or (schemes == _MOST_SCHEMES and re.search("[@:]", rest.partition("://")[0])):
        yield "its URI holds another one: write :// in a password as %3A%2F%2F"
    if (extra := dict(parse_qsl(parts.query, keep_blank_values=True)).get("__extra__")) and not _is_object(extra):
        yield "__extra__ of its URI is no JSON object"


def _faults_of_fields(name: Any, fields: dict[Any, Any]) -> Iterator[str]:
    if unknown := [key for key in fields if key not in FIELDS]:
        named = [key for key in unknown if isinstance(key, str) and re.fullmatch("[A-Za-z_]{1,30}", key)]
        yield f"unknown field(s) {', '.join(named)}; there are {', '.join(sorted(FIELDS))}"
    for field in _TEXTS:
        if fields.get(field) is not None and not isinstance(fields[field], str):
            yield f"{field} must be a text: put it in quotes"
    if not str(fields.get("port") or 0).isdecimal():
        yield "port must be a number"
    if fields.get("conn_id", name) != name:
        yield "conn_id is another than the id it stands under"
    yield from _faults_of_extra(fields)
    if not fields.get("uri"):
        if not fields.get("conn_type"):
            yield "conn_type is missing"
    elif any(fields.get(part) for part in _PARTS):
        yield "uri stands beside other fields: leave one or the others out"
    elif isinstance(fields["uri"], str):
        yield from _faults_of_uri(fields["uri"])


def _faults_of_extra(fields: dict[Any, Any]) -> Iterator[str]:
    if "extra" in fields and "extra_dejson" in fields:
        yield "extra and extra_dejson are both there: leave one out"
    if "extra_dejson" in fields and not isinstance(fields["extra_dejson"], dict):
        yield "extra_dejson must be an object"
    if fields.get("extra") and not (isinstance(fields["extra"], dict) or _is_object(fields["extra"])):
        yield "extra must be an object, or one as JSON"


def _is_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False
