"""One wrong row of a source, and what must catch it."""

from __future__ import annotations

from dataclasses import dataclass, field

Catch = tuple[str, str, str]


def check(table: str, name: str) -> Catch:
    """A check of quality, on raw.<...> or core.<...>, that lists the row among its failing keys."""
    return ("check", table, name)


def reject(table: str, rule: str) -> Catch:
    """A rule that keeps the row out of the table of core, in ops.quarantine."""
    return ("reject", f"core.{table}", rule)


def mark(table: str, rule: str) -> Catch:
    """A rule that fixes the row of core, or warns of it: it is named in the row's `issues`."""
    return ("mark", f"core.{table}", rule)


@dataclass(frozen=True)
class Item:
    """A copy of a good row with some wrong values, under a key of its own.

    table: in the source. values: SQL expressions by column. key: instead of the one that is made for the item.
    """

    what: str
    source: str
    table: str
    values: dict[str, str]
    caught: frozenset[Catch]
    key: str | None = None


@dataclass(frozen=True)
class Model:
    """Which row of a table is copied, and the values that make sure that nothing is wrong with the copy."""

    where: str
    values: dict[str, str] = field(default_factory=dict)
