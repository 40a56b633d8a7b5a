"""Airflow's connections in the Compose stack: what .env says, with the paths that hold inside the containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import TypeAdapter, ValidationError

from revops.compose.files import SecretFiles, SecretsError
from revops.settings import PLACEHOLDER, Database, MailServer

FILE = "airflow/connections.json"
# Where the containers find secrets/airflow.
MOUNTED = "/run/secrets/airflow"
VARIABLES = {
    "odoo_source": "AIRFLOW_CONN_ODOO_SOURCE",
    "ace_source": "AIRFLOW_CONN_ACE_SOURCE",
    "revops_core": "AIRFLOW_CONN_REVOPS_CORE",
    "smtp_default": "AIRFLOW_CONN_SMTP_DEFAULT",
}
FIELDS = {"conn_type", "description", "host", "port", "login", "password", "schema", "extra"}
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
MAIL_SINK = (
    "smtp://mail:1025/?disable_ssl=true&disable_tls=true&from_email=airflow%40revops.localhost&timeout=10&retry_limit=1"
)


@dataclass(frozen=True)
class Connections:
    """Connections by id, the certificate files that they name on the host, and what to tell the user."""

    found: Mapping[str, str]
    bundles: Mapping[str, Path]
    notes: list[str]


def postgresql_uri(scheme: str, host: str, database: str, *, login: str, password: str) -> str:
    """Return the URI of a database of this stack, TLS verified."""
    query = urlencode(
        {"sslmode": "verify-full", "sslrootcert": f"{MOUNTED}/ca.crt", "channel_binding": "require"}, quote_via=quote
    )
    return f"{scheme}://{login}:{quote(password, safe='')}@{host}:5432/{database}?{query}"


def read_connections(given: Mapping[str, str], *, defaults: Mapping[str, str]) -> Connections:
    """Return the connections of .env, `defaults` where it has none; raises SecretsError naming every fault.

    A warehouse on localhost is the stack's own: that is how the host sees it.
    """
    found, bundles, notes, faults = {}, {}, [], []
    for name, variable in VARIABLES.items():
        value = given.get(variable, "").strip()
        unset = not value or (PLACEHOLDER in value and name in defaults)
        own_warehouse = name == "revops_core" and not unset and _host(value) in LOOPBACK_HOSTS
        if unset or own_warehouse:
            if name in defaults:
                found[name] = defaults[name]
            else:
                notes.append(f"{name}: not set. Set {variable} in .env, then run `make secrets` again")
            continue
        if fault := _fault(name, value):
            faults.append(f"  {variable} {fault}")
            continue
        found[name] = value
        if (path := bundle_of(value)) is not None:
            bundles[name] = path
    if faults:
        raise SecretsError("in .env:\n" + "\n".join(faults))
    return Connections(found, bundles, notes)


def write_connections(files: SecretFiles, connections: Connections, *, host_root: Path) -> None:
    """Write connections.json and copies of the certificate files; entries of other ids in it are kept.

    host_root: where the host's file system is seen. Raises SecretsError.
    """
    written: dict[str, str | dict[str, Any]] = {}
    for name, value in connections.found.items():
        copy = None
        if (path := connections.bundles.get(name)) is not None:
            files.put(f"airflow/ca-{name}.pem", _read_bundle(host_root, path, VARIABLES[name]))
            copy = f"{MOUNTED}/ca-{name}.pem"
        written[name] = _as_object(value, copy) if _is_json(value) else _with_bundle(value, copy)
    kept = {name: value for name, value in _existing(files).items() if name not in VARIABLES}
    files.put(FILE, (json.dumps({**kept, **written}, indent=2) + "\n").encode())


def bundle_of(value: str) -> Path | None:
    """Return the certificate file that a connection names, None when it names none or the system's.

    Raises ValueError when the connection can't be read.
    """
    path = _extra(json.loads(value)).get("sslrootcert") if _is_json(value) else _query(value).get("sslrootcert")
    return Path(str(path)) if path and path != "system" else None


def _fault(name: str, value: str) -> str | None:
    kind: Any = MailServer if name == "smtp_default" else Database
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        # The message alone: the value holds a password.
        return str(error.errors(include_input=False)[0]["msg"]).removeprefix("Value error, ")
    if _host(value) in LOOPBACK_HOSTS:
        return (
            f"names {_host(value)}, which in a container is the container itself. Remedy: the name by which another "
            "machine reaches that host"
        )
    try:
        path = bundle_of(value)
    except ValueError:
        return "has an extra that is no JSON object"
    if path is not None and not path.is_absolute():
        return f"has sslrootcert={path}. Remedy: an absolute path on this machine"
    unknown = sorted(set(json.loads(value)) - FIELDS) if _is_json(value) else []
    return (
        f"has the field {unknown[0]!r}, which no connection has. Remedy: {', '.join(sorted(FIELDS))}"
        if unknown
        else None
    )


def _host(value: str) -> str | None:
    try:
        return str(json.loads(value).get("host") or "") if _is_json(value) else urlsplit(value).hostname
    except (ValueError, AttributeError):
        return None


def _is_json(value: str) -> bool:
    return value.lstrip().startswith("{")


def _query(value: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in urlsplit(value).query.split("&"))
    return {unquote(name): unquote(text) for name, _, text in pairs}


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    extra = fields.get("extra") or {}
    parsed = json.loads(extra) if isinstance(extra, str) else extra
    if not isinstance(parsed, dict):
        raise ValueError("extra is no object")
    return parsed


def _with_bundle(uri: str, path: str | None) -> str:
    if path is None:
        return uri
    parts = urlsplit(uri)
    query = "&".join(
        f"sslrootcert={quote(path)}" if item.partition("=")[0] == "sslrootcert" else item
        for item in parts.query.split("&")
    )
    return urlunsplit(parts._replace(query=query))


def _as_object(value: str, path: str | None) -> dict[str, Any]:
    """Return a connection written as JSON in the form that Airflow's backend of files reads."""
    fields = json.loads(value)
    extra = {**_extra(fields), **({} if path is None else {"sslrootcert": path})}
    port = {"port": int(fields["port"])} if fields.get("port") else {}
    return {**{name: fields[name] for name in fields if name not in ("extra", "port")}, **port, "extra_dejson": extra}


def _read_bundle(host_root: Path, path: Path, variable: str) -> bytes:
    seen = host_root / path.relative_to("/")
    try:
        data = seen.read_bytes()
    except OSError as error:
        raise SecretsError(f"{variable} names the certificate file {path}: {error.strerror}") from error
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise SecretsError(f"{variable} names {path}, which holds no certificate in PEM format")
    return data


def _existing(files: SecretFiles) -> dict[str, Any]:
    data = files.read(FILE)
    if data is None:
        return {}
    try:
        connections = json.loads(data)
    except ValueError as error:
        raise SecretsError(
            f"{files.root / FILE} is not JSON: {error}. Remedy: mend it, or remove it to have it made from .env"
        ) from error
    if not isinstance(connections, dict):
        raise SecretsError(f"{files.root / FILE} holds no object of connections by id. Remedy: mend or remove it")
    return connections
