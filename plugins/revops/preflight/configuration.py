"""Checks of what is written down: settings, the connections file, the files of the sources."""

from __future__ import annotations

import os

from revops.connection_stores import check_not_doubled, files_of_airflow
from revops.connections_file import read_connections
from revops.preflight.outcome import Passed
from revops.settings import CONNECTION_VARIABLES, Settings, variable_names
from revops.sources import SOURCES_FOLDER, Source, load_source


def check_settings() -> Passed:
    """Check the environment; raises SettingsError."""
    Settings.from_environment()
    given = [name for name in variable_names() if os.environ.get(name, "").strip()]
    return Passed(f"{len(given)} variables set, all well-formed")


def check_connections_file() -> Passed:
    """Check the file that Airflow reads connections from, where there is one; raises ConnectionFileError."""
    files = files_of_airflow()
    if not files:
        given = [name for name in CONNECTION_VARIABLES if os.environ.get(name, "").strip()]
        return Passed(f"no file; {len(given)} connections in the environment")
    told = []
    for path in files:
        ids = list(read_connections(path))
        check_not_doubled(ids, path, os.environ)
        told.append(f"{path}: {', '.join(ids)}")
    return Passed("; ".join(told))


def check_sources() -> Passed:
    """Check include/sources/*.yaml; raises SourceFileError."""
    return Passed(", ".join(f"{source.source} ({len(source.entries)} tables)" for source in read_sources()))


def read_sources() -> list[Source]:
    """Return all sources; raises SourceFileError."""
    return [load_source(path.stem) for path in sorted(SOURCES_FOLDER.glob("*.yaml"))]
