"""Faults that no single setting shows: settings that contradict each other, and connections that stand in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from revops.connection_stores import connections_of_files, variable_of
from revops.connections_file import ConnectionFileError, Written
from revops.keyring import (
    DATA_KEYS,
    DATA_KEYS_FILE,
    INDEX_KEY,
    INDEX_KEY_FILE,
    read_data_keys,
    read_key,
    read_variable,
)
from revops.setting_names import (
    CONNECTION_VARIABLES,
    EMBEDDING_IMAGE,
    EMBEDDING_PYTHON,
    EMBEDDING_VOLUMES,
)
from revops.setting_types import Database, MailServer

SECRETS_BACKEND = "AIRFLOW__SECRETS__BACKEND"
MODEL_VOLUME = "REVOPS_EMBEDDING_MODEL_VOLUME"
MODEL = "REVOPS_EMBEDDING_MODEL"

# A variable and what is wrong with it.
Fault = tuple[str, str]


def connection_faults(given: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Fault]:
    """Tell which connections are missing.

    With a secrets backend in Airflow's configuration they may live there, or in its metadata database; those absent
    are not asked for.
    """
    if not environment.get(SECRETS_BACKEND, "").strip():
        yield from ((name, "is missing") for name in CONNECTION_VARIABLES if name not in given)


def connection_file_faults(environment: Mapping[str, str]) -> list[str]:
    """Tell what is wrong with the connections file that an environment names, and with our connections in it."""
    try:
        connections = connections_of_files(environment)
    except ConnectionFileError as error:
        return str(error).splitlines()
    return [
        f"connection {name} of the connections file {why}"
        for name, written in connections.items()
        if variable_of(name) in CONNECTION_VARIABLES and (why := _why(name, written))
    ]


def _why(name: str, written: Written) -> str | None:
    value = written if isinstance(written, str) else str(written.get("uri") or json.dumps(written))
    try:
        TypeAdapter(MailServer if name == "smtp_default" else Database).validate_python(value)
    except ValidationError as error:
        return reason(error.errors(include_input=False)[0]["msg"])
    return None


def encoder_faults(given: Mapping[str, str]) -> Iterator[Fault]:
    """Tell what is wrong with where the encoder is said to run."""
    if EMBEDDING_IMAGE not in given and EMBEDDING_PYTHON not in given:
        yield EMBEDDING_IMAGE, f"is missing, and so is {EMBEDDING_PYTHON}: one says where the encoder runs"
    elif EMBEDDING_IMAGE not in given:
        for name in EMBEDDING_VOLUMES:
            if name in given:
                yield name, f"needs {EMBEDDING_IMAGE}: without Docker there is no volume"
    elif EMBEDDING_PYTHON in given:
        yield EMBEDDING_IMAGE, f"and {EMBEDDING_PYTHON} are both set: leave one out"
    elif MODEL_VOLUME in given and len(Path(given.get(MODEL, "")).parts) == len(("/", "model")):
        yield MODEL, "lies at the root: a volume is mounted at the folder above the model"


def key_faults(given: Mapping[str, str]) -> Iterator[Fault]:
    """Tell what is wrong with keys that are in files; keys in variables are checked with their fields."""
    for variable, file, read in (
        (DATA_KEYS, DATA_KEYS_FILE, read_data_keys),
        (INDEX_KEY, INDEX_KEY_FILE, read_key),
    ):
        try:
            if file in given:
                read(read_variable(given, variable) or "")
        except ValueError as error:
            yield variable, str(error)


def reason(message: str) -> str:
    """Return a validator's own words."""
    return message.removeprefix("Value error, ")
