"""What is extracted, and how: include/sources/*.yaml as typed, validated sources."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from revops.naming import raw_table_name

INCLUDE = Path(os.environ.get("REVOPS_INCLUDE", Path(__file__).resolve().parents[2] / "include"))
SOURCES_FOLDER = INCLUDE / "sources"
CRON = r"^(@[a-z]+|\S+( +\S+){4})$"

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
    schedule: Annotated[str, Field(pattern=CRON)]
    lock_timeout_s: Annotated[int, Field(ge=1, le=600)] = 10
    statement_timeout_s: Annotated[int, Field(ge=1, le=86400)] = 3600
    snapshot_hold_s: Annotated[int, Field(ge=10, le=86400)] = 1800
    exclude_columns: tuple[Name, ...] = ()
    tables: tuple[Table, ...]

    @field_validator("tables")
    @classmethod
    def _names_are_unique(cls, tables: tuple[Table, ...], info: ValidationInfo) -> tuple[Table, ...]:
        if not tables:
            raise ValueError("at least one table is needed")
        seen: set[str] = set()
        for table in tables:
            name = raw_table_name(str(info.data.get("source")), table.name)
            if name in seen:
                raise ValueError(f"table {table.name!r} is listed twice")
            seen.add(name)
        return tables

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
        """Tell whether a column must never leave the source; patterns are `table.column` with * and ?, any case.

        A pattern may name the table by any of its names, since a source may have it under any of them.
        """
        named = (f"{name}.{column}" for name in table.candidates)
        return _matches(column, table.exclude_columns) or any(_matches(name, self.exclude_columns) for name in named)


def load_source(name: str, folder: Path = SOURCES_FOLDER) -> Source:
    """Read and validate `<name>.yaml`; raises SourceFileError with every fault, each with its line and field."""
    path = folder / f"{name}.yaml"
    try:
        text = path.read_text()
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise SourceFileError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceFileError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SourceFileError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise SourceFileError(f"{path}:1: must be a mapping with source, connection, schedule and tables")
    if doubled := _doubled_key(tree):
        # YAML would take the last one and drop the others in silence.
        raise SourceFileError(f"{path}:{doubled.start_mark.line + 1}: {doubled.value}: is given twice")
    try:
        return Source.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{path}:{_line(tree, fault['loc'])}: {_field(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise SourceFileError("\n".join(faults)) from error


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _doubled_key(node: Any) -> Any:
    """Return the node of the first key that stands twice in one mapping, or None."""
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next((found for child in children if (found := _doubled_key(child))), None)


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
