"""Rules beside a table's SQL: rows that are rejected, values that are fixed, problems that are only noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from psycopg import sql

from revops.transform.errors import TransformError

ISSUES = "issues"
REJECTED = "_rejected"
ACTIONS = ("reject", "fix", "warn")


@dataclass(frozen=True)
class Rule:
    """One rule; `when` is a condition over the table's columns, null counts as not met.

    reject: the row stays out of the table and goes to ops.quarantine. fix: the columns of `assignments` get the value
    of their expression. warn: the row's `issues` name the rule, as they do after a fix. Fixes see the values that the
    select gave, reject and warn see them fixed.
    """

    name: str
    action: Literal["reject", "fix", "warn"]
    when: str
    remedy: str
    assignments: tuple[tuple[str, str], ...] = ()


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a rules file in its order. Raises TransformError naming file, rule and remedy."""
    try:
        content = yaml.safe_load(path.read_text()) or []
    except yaml.YAMLError as error:
        raise TransformError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, list):
        raise TransformError(f"{path}: must be a list of rules; see the header of another file of its folder.")
    rules = tuple(_read_rule(path, item) for item in content)
    names = [rule.name for rule in rules]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise TransformError(f"{path}: each rule needs a name of its own; doubled: {doubled}")
    return rules


def _read_rule(path: Path, item: Any) -> Rule:
    if not isinstance(item, dict):
        raise TransformError(f"{path}: {item!r} is no rule: it needs rule, action, when and remedy.")
    known = {"rule", "action", "when", "remedy", "set"}
    missing = [field for field in ("rule", "action", "when", "remedy") if not isinstance(item.get(field), str)]
    if missing or set(item) - known or item.get("action") not in ACTIONS:
        raise TransformError(
            f"{path}: rule {item.get('rule')!r}: needs rule, action ({', '.join(ACTIONS)}), when and remedy as text, "
            f"and set for a fix. Missing: {missing or 'none'}; unknown: {sorted(set(item) - known) or 'none'}; "
            f"action: {item.get('action')!r}."
        )
    assignments = item.get("set") or {}
    is_told = isinstance(assignments, dict) and all(
        isinstance(value, str | int | float) for value in assignments.values()
    )
    if (item["action"] == "fix") != bool(assignments) or not is_told:
        raise TransformError(
            f"{path}: rule {item['rule']!r}: a fix, and only a fix, says by `set` which column gets which expression, "
            'as text: {column: "null"}.'
        )
    pairs = tuple((str(column), str(expression)) for column, expression in assignments.items())
    return Rule(item["rule"], item["action"], item["when"], item["remedy"], pairs)


def apply_rules(
    statement: sql.Composable, rules: Sequence[Rule], columns: Sequence[str], types: dict[str, str]
) -> sql.Composable:
    """Return a select of the statement's columns with the target's types, their issues and `_rejected`.

    columns: of the statement, in its order. types: of the target by column.
    issues: names of the rules that fixed the row or warn of it, null when none; _rejected likewise.
    """
    fixes = [rule for rule in rules if rule.action == "fix"]
    for rule in fixes:
        if unknown := [column for column, _ in rule.assignments if column not in columns]:
            raise TransformError(f"rule {rule.name!r} sets {unknown}, which the table's select does not give")
    listed = [sql.SQL("{} as {}").format(_value(column, fixes), sql.Identifier(column)) for column in columns]
    fixed = sql.SQL("select {}, {} as _fixed from ({}) as given").format(
        sql.SQL(", ").join(listed), _broken(fixes), statement
    )
    cast = [sql.SQL("{0}::{1} as {0}").format(sql.Identifier(column), sql.SQL(types[column])) for column in columns]
    warned = _broken([rule for rule in rules if rule.action == "warn"])
    rejected = _broken([rule for rule in rules if rule.action == "reject"])
    return sql.SQL("select {}, _fixed || {} as {}, {} as {} from ({}) as fixed").format(
        sql.SQL(", ").join(cast), warned, sql.Identifier(ISSUES), rejected, sql.Identifier(REJECTED), fixed
    )


def _value(column: str, fixes: Sequence[Rule]) -> sql.Composable:
    branches = [
        sql.SQL("when {} then {}").format(_written(rule.when), _written(expression))
        for rule in fixes
        for name, expression in rule.assignments
        if name == column
    ]
    if not branches:
        return sql.Identifier(column)
    return sql.SQL("case {} else {} end").format(sql.SQL(" ").join(branches), sql.Identifier(column))


def _broken(rules: Sequence[Rule]) -> sql.Composable:
    """Return the names of the rules whose condition is met, null when there are none."""
    if not rules:
        return sql.SQL("null::text[]")
    any_of = sql.SQL(" or ").join(_written(rule.when) for rule in rules)
    names = sql.SQL(", ").join(
        sql.SQL("case when {} then {} end").format(
            _written(rule.when), _written(sql.Literal(rule.name).as_string(None))
        )
        for rule in rules
    )
    # Most rows break nothing: no array is made for them.
    return sql.SQL("case when {} then array_remove(array[{}]::text[], null) end").format(any_of, names)


def _written(expression: str) -> sql.Composable:
    # From the project's own files. A per cent sign would be taken for a placeholder.
    return sql.SQL("({})").format(sql.SQL(expression.replace("%", "%%")))
