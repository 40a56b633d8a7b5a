"""Where connections come from: the environment or a connections file, each connection from one of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from revops.connections_file import ConnectionFileError, Written, read_connections

BACKEND = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
# Those of the workers win; without them the workers use the others.
BACKEND_VARIABLES = ("AIRFLOW__WORKERS__SECRETS_BACKEND", "AIRFLOW__SECRETS__BACKEND")
_PATH = "connections_file_path"


def variable_of(connection_id: str) -> str:
    """Return the environment variable of a connection."""
    return f"AIRFLOW_CONN_{connection_id.upper()}"


def files_named_by(environment: Mapping[str, str]) -> list[Path]:
    """Return the connections files that an environment names; raises ConnectionFileError where it names one badly."""
    found = [
        _file(
            variable,
            backend=environment.get(variable, ""),
            options=environment.get(f"{variable}_KWARGS", ""),
            path=environment.get(f"{variable}_KWARG__{_PATH.upper()}", ""),
        )
        for variable in BACKEND_VARIABLES
    ]
    return list(dict.fromkeys(path for path in found if path is not None))


def files_of_airflow() -> list[Path]:
    """Return the connections files that this process's Airflow reads; raises ConnectionFileError.

    Airflow's configuration may stand in its environment, in airflow.cfg or in what a command prints.
    """
    from airflow.sdk.configuration import conf

    found = [
        _file(
            variable,
            backend=conf.get(section, option, fallback="") or "",
            options=conf.get(section, f"{option}_kwargs", fallback="") or "",
            path=os.environ.get(f"{variable}_KWARG__{_PATH.upper()}", ""),
        )
        for variable, section, option in zip(
            BACKEND_VARIABLES, ("workers", "secrets"), ("secrets_backend", "backend"), strict=True
        )
    ]
    return list(dict.fromkeys(path for path in found if path is not None))


def check_connection(connection_id: str) -> None:
    """Raise ConnectionFileError where Airflow could take a connection from another place than it is written in.

    To be called before Airflow is asked: it takes a malformed file for an empty one, and of two places either.
    """
    for path in files_of_airflow():
        if connection_id in read_connections(path):
            check_not_doubled([connection_id], path, os.environ)


def check_not_doubled(ids: list[str], path: Path, environment: Mapping[str, str]) -> None:
    """Raise ConnectionFileError where connections of a file are in the environment as well."""
    if doubled := [variable_of(name) for name in ids if environment.get(variable_of(name), "").strip()]:
        raise ConnectionFileError(
            f"{path} and the environment's {', '.join(doubled)} name the same connection(s). "
            "Remedy: keep each in one place: take it out of the file, or the variable out of .env."
        )


def connections_of_files(environment: Mapping[str, str]) -> dict[str, Written]:
    """Return the connections of the files that an environment names; none of them in its own AIRFLOW_CONN_* as well.

    Raises ConnectionFileError.
    """
    found: dict[str, Written] = {}
    for path in files_named_by(environment):
        connections = read_connections(path)
        check_not_doubled(list(connections), path, environment)
        found = {**connections, **found}
    return found


def _file(variable: str, *, backend: str, options: str, path: str) -> Path | None:
    if backend.strip() != BACKEND:
        return None
    if path.strip():
        return Path(path.strip())
    try:
        given = json.loads(options) if options.strip() else None
    except ValueError:
        given = None
    if not isinstance(given, dict) or not given:
        # Airflow warns at the most, and goes on without the file.
        raise ConnectionFileError(
            f"{variable}_KWARGS is no JSON object, but {variable} needs one to find its file. "
            f'Remedy: {variable}_KWARGS={{"{_PATH}": "/run/secrets/airflow/connections.json"}}'
        )
    return Path(str(given[_PATH])) if given.get(_PATH) else None
