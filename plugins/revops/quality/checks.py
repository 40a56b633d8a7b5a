"""The checks of a layer: one SodaCL file a table, every check named, with dimension, severity and weight."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DIMENSIONS = ("completeness", "uniqueness", "validity", "consistency", "timeliness")
SEVERITIES = ("critical", "warning")
FAILED_ROWS = "failed rows"
# What the project adds to SodaCL.
ATTRIBUTES = frozenset({"dimension", "severity", "weight", "remedy", "needs", "critical_above"})


class CheckFileError(ValueError):
    """A file of include/soda is malformed; the message names file, check and remedy."""


@dataclass(frozen=True)
class Check:
    """One check as its file declares it.

    definition: what is checked, in one line. critical_above: the share of rows above which a warning is critical.
    needs: columns, of other tables as `table.column`, that a source may lack; the check does not apply then.
    line and settings: the check as Soda reads it; empty where Soda does not make it.
    """

    table: str
    name: str
    definition: str
    dimension: str
    severity: str
    weight: float
    remedy: str = ""
    critical_above: float | None = None
    needs: tuple[str, ...] = ()
    line: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def demands_rows(self) -> bool:
        """Whether it says that the table must not be empty."""
        return self.severity == "critical" and re.fullmatch(r"row_count\s*>\s*0", self.definition) is not None


def read_checks(path: Path) -> list[Check]:
    """Read the checks of one file; the file is named after its table.

    Raises CheckFileError where a check has no name, dimension or severity: such a check could vanish from the
    results unseen.
    """
    table = path.stem
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CheckFileError(f"{path}: can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise CheckFileError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    block = f"checks for {table}"
    if (
        not isinstance(content, dict)
        or set(content) != {block}
        or not isinstance(content[block], list)
        or not content[block]
    ):
        raise CheckFileError(f"{path}: must hold exactly one block `{block}:` with at least one check")
    checks = [_read_check(path, table, item) for item in content[block]]
    names = [check.name for check in checks]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise CheckFileError(f"{path}: check names must be unique; doubled: {doubled}")
    return checks


def _read_check(path: Path, table: str, item: Any) -> Check:
    if not isinstance(item, dict) or len(item) != 1 or not isinstance(next(iter(item.values())), dict):
        raise CheckFileError(f"{path}: {item!r}: every check needs a name and attributes, see the other checks there")
    (line, settings), *_ = item.items()
    line = str(line)
    attributes = settings.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    dimension, severity = attributes.get("dimension"), attributes.get("severity")
    if not settings.get("name") or dimension not in DIMENSIONS or severity not in SEVERITIES:
        raise CheckFileError(
            f"{path}: {line!r}: needs `name` and `attributes: {{dimension: one of {sorted(DIMENSIONS)}, "
            f"severity: one of {sorted(SEVERITIES)}}}`"
        )
    if unknown := sorted(set(attributes) - ATTRIBUTES):
        raise CheckFileError(f"{path}: {line!r}: unknown attributes {unknown}; there are {sorted(ATTRIBUTES)}")
    if "_percent(" in line:
        # Soda rounds them to two decimals, so that one row in a million would pass.
        raise CheckFileError(f"{path}: {line!r}: use the count and the attribute `critical_above: SHARE` instead")
    own = {key: value for key, value in settings.items() if key not in ("name", "attributes")}
    return Check(
        table,
        str(settings["name"]),
        _definition(line, own),
        dimension,
        severity,
        _number(path, line, "weight", attributes.get("weight", 1)),
        remedy=" ".join(str(attributes.get("remedy") or _default_remedy(path, table)).split()),
        critical_above=_share(path, line, attributes.get("critical_above")),
        needs=_needs(path, line, attributes.get("needs", [])),
        line=line,
        settings=own,
    )


def _definition(line: str, settings: Mapping[str, Any]) -> str:
    """Return the check in one line, with the query or condition where that is what it checks."""
    told = settings.get("fail query") or settings.get("fail condition")
    return f"{line}: {' '.join(str(told).split())}" if line == FAILED_ROWS and told else line


def _default_remedy(path: Path, table: str) -> str:
    layer = path.parent.name
    where = "the rows in the source"
    if layer == "core":
        where += f", or the rules in include/sql/core/{table}.rules.yaml,"
    return f"Correct {where} and run again; or change the check in include/soda/{layer}/{table}.yml."


def _number(path: Path, line: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise CheckFileError(f"{path}: {line!r}: `{name}` must be a number above 0, not {value!r}")
    return float(value)


def _share(path: Path, line: str, value: Any) -> float | None:
    if value is None:
        return None
    share = _number(path, line, "critical_above", value)
    if share >= 1:
        raise CheckFileError(f"{path}: {line!r}: `critical_above` is a share below 1, such as 0.01, not {value!r}")
    return share


def _needs(path: Path, line: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise CheckFileError(f"{path}: {line!r}: `needs` is a list of columns, `column` or `table.column`")
    return tuple(value)
