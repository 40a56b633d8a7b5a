"""The checks of a layer: one SodaCL file a table, every check named, with dimension, severity and weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DIMENSIONS = frozenset({"completeness", "uniqueness", "validity", "consistency", "timeliness"})
SEVERITIES = frozenset({"critical", "warning"})


class CheckFileError(ValueError):
    """A file of include/soda is malformed; the message names file, check and remedy."""


@dataclass(frozen=True)
class Check:
    """One check as its file declares it."""

    table: str
    name: str
    definition: str
    dimension: str
    severity: str
    weight: float


def read_checks(path: Path) -> list[Check]:
    """Read the checks of one file; the file is named after its table.

    Raises CheckFileError where a check has no name, dimension or severity: such a check could vanish from the
    results unseen.
    """
    table = path.stem
    content = yaml.safe_load(path.read_text())
    block = f"checks for {table}"
    if not isinstance(content, dict) or set(content) != {block} or not content[block]:
        raise CheckFileError(f"{path}: must hold exactly one block `{block}:` with at least one check")
    checks = [_read_check(path, table, item) for item in content[block]]
    names = [check.name for check in checks]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise CheckFileError(f"{path}: check names must be unique; doubled: {doubled}")
    return checks


def _read_check(path: Path, table: str, item: Any) -> Check:
    if not isinstance(item, dict) or len(item) != 1 or not isinstance(next(iter(item.values())), dict):
        raise CheckFileError(f"{path}: {item!r}: every check needs a name and attributes, see the other checks there")
    (definition, settings), *_ = item.items()
    attributes = settings.get("attributes") or {}
    dimension, severity = attributes.get("dimension"), attributes.get("severity")
    if not settings.get("name") or dimension not in DIMENSIONS or severity not in SEVERITIES:
        raise CheckFileError(
            f"{path}: {definition!r}: needs `name` and `attributes: {{dimension: one of {sorted(DIMENSIONS)}, "
            f"severity: one of {sorted(SEVERITIES)}}}`"
        )
    return Check(table, str(settings["name"]), str(definition), dimension, severity, float(attributes.get("weight", 1)))
