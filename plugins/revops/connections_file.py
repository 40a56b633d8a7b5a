"""The connections file of Airflow's LocalFilesystemBackend, read strictly.

Airflow takes a file that it can't read for one without connections: it says so at level DEBUG only, and asks the next
store, which may name another database. What passes here, Airflow reads.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from revops.connection_entries import faults_of
from revops.yaml_nodes import doubled_key

_COMMENT = re.compile(r"\s*#")
# A URI, or the fields of a connection.
Written = str | dict[str, Any]


class ConnectionFileError(ValueError):
    """The connections file, or where it is said to be, is wrong; the message names place and remedy, never a value."""


def read_connections(path: Path) -> dict[str, Written]:
    """Return the connections of a .json, .yaml, .yml or .env file by id; raises ConnectionFileError with each fault."""
    read = {".json": _read_json, ".yaml": _read_yaml, ".yml": _read_yaml, ".env": _read_env}.get(path.suffix.lower())
    if read is None:
        raise ConnectionFileError(f"{path}: Airflow reads .json, .yaml, .yml and .env only. Remedy: rename it.")
    if not path.is_absolute():
        raise ConnectionFileError(
            f"{path}: is not an absolute path. Remedy: each process would look elsewhere: make it one."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConnectionFileError(
            f"{path}: can't be read: {error.strerror}. Remedy: put the connections file there, readable for the "
            "account that runs Airflow."
        ) from error
    except UnicodeDecodeError as error:
        raise ConnectionFileError(f"{path}: is not UTF-8, at byte {error.start}. Remedy: save it as UTF-8.") from None
    try:
        found = read(text)
        faults = [
            f"{path}: {_entry(name)}: {fault}" for name, value in found.items() for fault in faults_of(name, value)
        ]
    except _FaultError as error:
        faults = [f"{path}:{error}"]
    if faults:
        raise ConnectionFileError(
            "\n".join(faults)
            + "\nRemedy: mend the file; the next task reads it. Until then no connection is taken from "
            "anywhere else, which might be another database."
        )
    return {name: value[0] if isinstance(value, list) else value for name, value in found.items()}


class _FaultError(ValueError):
    """A fault of the whole file: `LINE: why`."""


def _read_json(text: str) -> dict[str, Any]:
    try:
        # Objects as lists of pairs: a dict would keep the last of two that have one name.
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise _FaultError(f"{error.lineno}: not JSON, at column {error.colno}: {_unquoted(error.msg)}") from None
    if not isinstance(pairs, _Pairs):
        raise _FaultError("1: must be an object of connections by id")
    for name, value in pairs:
        if [key for key, _ in pairs].count(name) > 1:
            raise _FaultError(f"{_last_line(text, name)}: {_entry(name)}: is there twice")
        if (doubled := _doubled(value)) is not None:
            raise _FaultError(f"{_last_line(text, name)}: {_entry(name)}: its field {doubled} is there twice")
    return {name: _plain(value) for name, value in pairs}


def _read_yaml(text: str) -> dict[str, Any]:
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _FaultError(f"{line}: not YAML: {_unquoted(str(error.problem))}") from None
    except (yaml.YAMLError, ValueError, TypeError):
        # Says the value that it could not take.
        raise _FaultError("1: not YAML: a value is not what it looks like, put it in quotes") from None
    if not isinstance(content, dict):
        raise _FaultError("1: must be a mapping of connections by id")
    if doubled := doubled_key(tree):
        raise _FaultError(f"{doubled.start_mark.line + 1}: {_entry(doubled.value)}: is there twice")
    return content


def _read_env(text: str) -> dict[str, Any]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line or _COMMENT.match(line):
            continue
        name, separator, value = line.partition("=")
        if not separator:
            raise _FaultError(f"{number}: not ID=URI: there is no equal sign")
        if not name or name != name.strip() or not value:
            raise _FaultError(f"{number}: not ID=URI, without blanks around the id and with a URI after the sign")
        if name in found:
            raise _FaultError(f"{number}: {_entry(name)}: is there twice")
        found[name] = value
    return found


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs."""


def _doubled(value: Any) -> str | None:
    """Return the first name that stands twice in one object within a value, or None."""
    if not isinstance(value, list):
        return None
    if isinstance(value, _Pairs):
        names = [name for name, _ in value]
        if twice := [name for name in names if names.count(name) > 1]:
            return str(twice[0])
        value = [inner for _, inner in value]
    return next((found for inner in value if (found := _doubled(inner)) is not None), None)


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(inner) for name, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _last_line(text: str, name: str) -> int:
    places = [match.start() for match in re.finditer(re.escape(json.dumps(name)) + r"\s*:", text)]
    return text.count("\n", 0, places[-1]) + 1 if places else 1


def _entry(name: Any) -> str:
    # What stands where an id should may be a part of a password.
    return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name) else "an entry"


def _unquoted(message: str) -> str:
    """Return a parser's words up to where they quote the file."""
    return re.split(r"['\"]", message)[0].strip()
