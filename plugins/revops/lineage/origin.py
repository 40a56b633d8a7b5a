"""What the columns and rows of a relation are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

# A column of an input: relation and column.
Source = tuple[str, str]
Sources = frozenset[Source]

# In the place of a column: the rows of a relation, which there are and how many.
ROWS = "*"

NOTHING: Sources = frozenset()


@dataclass(frozen=True)
class Origin:
    """What a value is made from.

    values: the columns whose values are in it. conditions: those that only decide which value it is. constant: the text
    that it always is, None where it is not known to be one.
    """

    values: Sources = NOTHING
    conditions: Sources = NOTHING
    constant: str | None = None

    @property
    def all(self) -> Sources:
        return self.values | self.conditions

    def given(self, sources: Sources) -> Origin:
        """Return the same value, with more that decides over it."""
        return replace(self, conditions=self.conditions | sources)


def combine(origins: Iterable[Origin]) -> Origin:
    """Return the origin of a value that is made from several."""
    parts = list(origins)
    return Origin(
        frozenset(chain.from_iterable(part.values for part in parts)),
        frozenset(chain.from_iterable(part.conditions for part in parts)),
    )


@dataclass(frozen=True)
class Variant:
    """Rows of a relation that are made in one way: the origin of each column, and what decides which rows there are."""

    columns: tuple[Origin, ...]
    rows: Sources = NOTHING


@dataclass(frozen=True)
class Relation:
    """A table, view or query: its columns by position, and the ways in which its rows are made.

    A union has a variant for each of its parts, so that a condition such as `source_system = 'odoo'` further out can
    leave out the parts that are of another system. is_open: a function whose columns are not told; a column of any name
    is one of it.
    """

    names: tuple[str, ...]
    variants: tuple[Variant, ...] = field(default=())
    is_open: bool = False

    @cached_property
    def merged(self) -> Variant:
        """All variants as one."""
        return merge(self.variants, len(self.names))


def merge(variants: tuple[Variant, ...], width: int) -> Variant:
    """Return variants as one whose columns may come from any of them."""
    if len(variants) == 1:
        return variants[0]
    columns = []
    for position in range(width):
        parts = [variant.columns[position] for variant in variants]
        constants = {part.constant for part in parts}
        columns.append(replace(combine(parts), constant=constants.pop() if len(constants) == 1 else None))
    return Variant(tuple(columns), frozenset(chain.from_iterable(variant.rows for variant in variants)))
