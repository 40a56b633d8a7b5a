"""What is extracted, and how: include/sources/*.yaml as typed, validated sources."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from revops.naming import raw_table_name
from revops.yaml_nodes import doubled_key, line_of

INCLUDE = Path(os.environ.get("REVOPS_INCLUDE", Path(__file__).resolve().parents[2] / "include"))
SOURCES_FOLDER = INCLUDE / "sources"
CRON = r"^(@[a-z]+|\S+( +\S+){4})$"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00]+$")]


class SourceFileError(ValueError):
    """A file of include/sources is malformed; the message names file, line and field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reading(_Strict):
    """How tables are read.

    mode: `xid` reads the rows that transactions unfinished at the last load, or later ones, have written (exact, also
    for updates that touch no timestamp); `cursor` reads the rows whose timestamp `cursor` is not older than the last
    safe moment, and compares everything every `compare_every_h` hours; `replace_period` compares periods, told apart by
    the columns `period`, and reads those that differ as a whole; `full` reads every row. All mark what was deleted.
    drift: follow the source's columns (`evolve`), stop at any difference (`freeze`), or keep raw as it is (`ignore`).
    max_deleted_share: above it a run stops and asks; the source's own where it is not given.
    """

    mode: Literal["xid", "cursor", "replace_period", "full"] = "xid"
    cursor: Name | None = None
    period: tuple[Name, ...] = ()
    compare_every_h: Annotated[int, Field(ge=0, le=8760)] = 168
    drift: Literal["evolve", "freeze", "ignore"] = "evolve"
    max_deleted_share: Annotated[float, Field(ge=0, le=1)] | None = None
    workers: Annotated[int, Field(ge=1, le=32)] = 1
    priority: Annotated[int, Field(ge=1, le=1000)] = 1
    exclude_columns: tuple[Name, ...] = ()
    encrypt: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _mode_has_its_columns(self) -> Self:
        if (self.mode == "cursor") != (self.cursor is not None):
            raise ValueError("`cursor` names the timestamp column of mode cursor, and belongs to that mode only")
        if (self.mode == "replace_period") != bool(self.period):
            raise ValueError("`period` names the columns of mode replace_period, and belongs to that mode only")
        return self


class Table(Reading):
    """One table of a source."""

    name: Name
    alternatives: tuple[Name, ...] = ()
    optional: bool = False

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names to look for in the source, best first."""
        return (self.name, *self.alternatives)


class Pattern(Reading):
    """All tables of a source whose names fit, except those that are listed by name.

    name: what the task is called. like and unlike: names with * and ? as wildcards, any case.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    like: Annotated[tuple[Name, ...], Field(min_length=1)]
    unlike: tuple[Name, ...] = ()

    def table(self, name: str) -> Table:
        """Return a table of this name, read as the pattern says; it may be gone when its turn comes."""
        shared = self.model_dump(include=set(Reading.model_fields), exclude_unset=True)
        return Table(name=name, optional=True, **shared)


class Sensitive(_Strict):
    """Columns that hold the same kind of secret: their blind indexes can be compared with each other.

    columns: `table.column` with * and ? as wildcards, any case.
    """

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]


class Source(_Strict):
    """One source system: a connection and the tables to extract from it.

    ranged_above_mb: larger tables are loaded for the first time in ranges of `range_mb` that commit one by one.
    cursor_lag_s: how far back a cursor starts where the source does not show how long its transactions run.
    """

    source: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=20)]
    connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    schema_name: Annotated[Name, Field(alias="schema")] = "public"
    schedule: Annotated[str, Field(pattern=CRON)]
    lock_timeout_s: Annotated[int, Field(ge=1, le=600)] = 10
    statement_timeout_s: Annotated[int, Field(ge=1, le=86400)] = 3600
    snapshot_hold_s: Annotated[int, Field(ge=10, le=86400)] = 1800
    max_deleted_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    ranged_above_mb: Annotated[int, Field(ge=0)] = 1024
    range_mb: Annotated[int, Field(ge=1, le=4096)] = 64
    cursor_lag_s: Annotated[int, Field(ge=0, le=604800)] = 3600
    exclude_columns: tuple[Name, ...] = ()
    encrypt: tuple[Sensitive, ...] = ()
    tables: tuple[Table, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.tables and not self.patterns:
            raise ValueError("at least one table or pattern is needed")
        names = [table.name for table in self.tables]
        for pattern in self.patterns:
            if pattern.name in names:
                raise ValueError(f"the name {pattern.name!r} is used twice")
            names.append(pattern.name)
        return self

    @field_validator("tables")
    @classmethod
    def _names_are_unique(cls, tables: tuple[Table, ...], info: ValidationInfo) -> tuple[Table, ...]:
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

    def pattern(self, name: str) -> Pattern:
        """Return the pattern of a name; raises KeyError when the source has none."""
        for pattern in self.patterns:
            if pattern.name == name:
                return pattern
        raise KeyError(f"source {self.source!r} has no pattern {name!r}; patterns: {[p.name for p in self.patterns]}")

    @property
    def entries(self) -> tuple[Table | Pattern, ...]:
        """What is loaded by a task of its own each: tables, then patterns."""
        return (*self.tables, *self.patterns)

    def has_pattern(self, name: str) -> bool:
        """Tell whether a name is that of a pattern; tables and patterns share no name."""
        return any(pattern.name == name for pattern in self.patterns)

    def fitting(self, pattern: Pattern, names: Iterable[str]) -> list[str]:
        """Return the names that fit a pattern and are not listed as tables, nor taken by a pattern before it."""
        listed = {name for table in self.tables for name in table.candidates}
        before = self.patterns[: self.patterns.index(pattern)]
        return [
            name
            for name in names
            if name not in listed and _fits(pattern, name) and not any(_fits(earlier, name) for earlier in before)
        ]

    def raw_table(self, table: Table) -> str:
        """Return the name of the table in schema raw."""
        return raw_table_name(self.source, table.name)

    def is_excluded(self, table: Table, column: str) -> bool:
        """Tell whether a column must never leave the source; patterns are `table.column` with * and ?, any case.

        A pattern may name the table by any of its names, since a source may have it under any of them.
        """
        return self._names(table, column, table.exclude_columns, self.exclude_columns)

    def sensitive_kind(self, table: Table, column: str) -> str | None:
        """Return the kind of secret that a column holds, None when it is stored as it comes.

        A column that its table lists is a kind of its own, by its name.
        """
        if _matches(column, table.encrypt):
            return column
        return next((entry.kind for entry in self.encrypt if self._names(table, column, (), entry.columns)), None)

    @staticmethod
    def _names(table: Table, column: str, of_table: tuple[str, ...], of_source: tuple[str, ...]) -> bool:
        return _matches(column, of_table) or any(_matches(f"{name}.{column}", of_source) for name in table.candidates)


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
    if doubled := doubled_key(tree):
        raise SourceFileError(f"{path}:{doubled.start_mark.line + 1}: {doubled.value}: is given twice")
    try:
        return Source.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{path}:{line_of(tree, fault['loc'])}: {_field(fault['loc'])}: "
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors()
        ]
        raise SourceFileError("\n".join(faults)) from error


def _fits(pattern: Pattern, name: str) -> bool:
    return _matches(name, pattern.like) and not _matches(name, pattern.unlike)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(whole file)"
