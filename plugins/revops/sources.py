"""What is extracted, and how: include/sources/*.yaml as typed, validated sources."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from revops.naming import raw_table_name

INCLUDE = Path(os.environ.get("REVOPS_INCLUDE", Path(__file__).resolve().parents[2] / "include"))
SOURCES_FOLDER = INCLUDE / "sources"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00]+$")]


class SourceFileError(ValueError):
    """A file of include/sources is malformed; the message names file, line and field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(_Strict):
    """One table of a source.

    mode: `xid` reads the rows that transactions unfinished at the last load, or later ones, have written
    (exact, also for
    updates that touch no timestamp); `full` reads every row. Both find deletions by comparing keys.
    """

    name: Name
    alternatives: tuple[Name, ...] = ()
    optional: bool = False
    mode: Literal["xid", "full"] = "xid"
    priority: Annotated[int, Field(ge=1, le=1000)] = 1
    exclude_columns: tuple[Name, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names to look for in the source, best first."""
        return (self.name, *self.alternatives)


class Source(_Strict):
    """One source system: a connection and the tables to extract from it."""

    source: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=20)]
    connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    schema_name: Annotated[Name, Field(alias="schema")] = "public"
    schedule: str
    lock_timeout_s: Annotated[int, Field(ge=1, le=600)] = 10
    statement_timeout_s: Annotated[int, Field(ge=1, le=86400)] = 3600
    snapshot_hold_s: Annotated[int, Field(ge=10, le=86400)] = 1800
    exclude_columns: tuple[Name, ...] = ()
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Source:
        seen: dict[str, str] = {}
        for table in self.tables:
            name = raw_table_name(self.source, table.name)
            if name in seen:
                raise ValueError(f"table {table.name!r} is listed twice")
            seen[name] = table.name
        return self

    def table(self, name: str) -> Table:
        """Return the table of a name; raises KeyError when the source does not list it."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"source {self.source!r} has no table {name!r}; tables: {[t.name for t in self.tables]}")

    def raw_table(self, table: Table) -> str:
        """Return the name of the table in schema raw."""
        return raw_table_name(self.source, table.name)

    def is_excluded(self, table: Table, column: str) -> bool:
        """Tell whether a column must never leave the source; patterns are `table.column` with * and ?, any case."""
        patterns = (*self.exclude_columns, *(f"{table.name}.{pattern}" for pattern in table.exclude_columns))
        return any(fnmatch.fnmatch(f"{table.name}.{column}".lower(), pattern.lower()) for pattern in patterns)


def load_source(name: str, folder: Path = SOURCES_FOLDER) -> Source:
    """Read and validate `<name>.yaml`; raises SourceFileError with every fault, each with its line and field."""
    path = folder / f"{name}.yaml"
    try:
        text = path.read_text()
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise SourceFileError(f"{path}: can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SourceFileError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise SourceFileError(f"{path}:1: must be a mapping with source, connection, schedule and tables")
    try:
        return Source.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{path}:{_line(tree, fault['loc'])}: {_field(fault['loc'])}: {fault['msg']}" for fault in error.errors()
        ]
        raise SourceFileError("\n".join(faults)) from error


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(whole file)"


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest node on the way to a location that the file really has, counted from 1."""
    line = int(node.start_mark.line)
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == part]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1
