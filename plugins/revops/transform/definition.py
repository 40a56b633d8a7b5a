"""The files that describe one table: its select, what an incremental run must compute, its rules, its inputs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from revops.transform.errors import TransformError
from revops.transform.rules import Rule, read_rules
from revops.transform.targets import Target


@dataclass(frozen=True)
class Input:
    """A raw table as the SQL files see it: type by column; a type that ends in `?` may be missing in the source."""

    table: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Definition:
    """How one table is made. affected: null where every run computes everything."""

    target: Target
    statement: str
    affected: str | None
    rules: tuple[Rule, ...]
    inputs: tuple[Input, ...]
    digest: str


def read_inputs(path: Path) -> tuple[Input, ...]:
    """Read include/sql/core/inputs.yaml."""
    return _inputs(path.read_text())


# Each transform needs them twice, and a worker may run many.
@lru_cache(maxsize=4)
def _inputs(text: str) -> tuple[Input, ...]:
    return tuple(Input(table, dict(columns)) for table, columns in yaml.safe_load(text).items())


def read_definition(target: Target, folder: Path) -> Definition:
    """Read the files of a target below include/sql. Raises TransformError where they contradict each other."""
    place = folder / target.schema
    statement = (place / f"{target.name}.sql").read_text()
    affected_path = place / f"{target.name}.affected.sql"
    if bool(target.scopes) != affected_path.exists():
        raise TransformError(
            f"{target.qualified}: {affected_path.name} must exist exactly where the table has scopes in "
            "plugins/revops/transform/targets.py. Remedy: add the file, or the scopes."
        )
    affected = affected_path.read_text() if target.scopes else None
    rules_path = place / f"{target.name}.rules.yaml"
    rules = read_rules(rules_path) if rules_path.exists() else ()
    inputs_path = folder / "core" / "inputs.yaml"
    # A word in a comment does no harm: the view is made and nobody reads it.
    text = f"{statement}\n{affected or ''}"
    used = tuple(
        item
        for item in read_inputs(inputs_path)
        if re.search(rf"\b(scoped_)?{re.escape(item.table)}(_changed)?\b", text)
    )
    digest = hashlib.sha256()
    for part in (statement, affected or "", repr(rules), repr(used), repr(target)):
        digest.update(part.encode() + b"\0")
    return Definition(target, statement, affected, rules, used, digest.hexdigest())
