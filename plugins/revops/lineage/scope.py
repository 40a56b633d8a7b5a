"""Which column a name in a query means: PostgreSQL's rules for what is in the from clause."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from revops.lineage.errors import LineageError
from revops.lineage.origin import NOTHING, Origin, Relation, Sources, Variant, combine

# Reserved words that stand for a value and look like a column.
WORDS = frozenset({"user", "current_role", "current_catalog", "current_schema"})


@dataclass
class Item:
    """A relation of a from clause under its alias; given: what decides which of its rows a row is joined with."""

    alias: str | None
    relation: Relation
    given: Sources = NOTHING

    def only(self, variant: Variant) -> Item:
        """Return the item with one of the variants of its relation."""
        return Item(self.alias, replace(self.relation, variants=(variant,)), self.given)

    @property
    def rows(self) -> Sources:
        return self.relation.merged.rows

    @property
    def columns(self) -> list[tuple[str, Origin]]:
        return [
            (name, origin.given(self.given))
            for name, origin in zip(self.relation.names, self.relation.merged.columns, strict=True)
        ]

    @property
    def whole(self) -> Origin:
        """The origin of the row as one value."""
        return combine(self.relation.merged.columns).given(self.given)

    def count(self, name: str) -> int:
        return self.relation.names.count(name)

    def column(self, name: str) -> Origin | None:
        """Return the origin of a column, None where there is no such column."""
        if name in self.relation.names:
            return self.relation.merged.columns[self.relation.names.index(name)].given(self.given)
        return self.whole if self.relation.is_open else None


@dataclass
class Scope:
    """What names can mean inside one query.

    ctes: common table expressions by name. shared: columns that joins merge (USING), with the items that they come
    from. rows: what decides which rows the from clause gives. parent: the query around it, whose columns can be named.
    """

    parent: Scope | None = None
    ctes: dict[str, Relation] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    shared: dict[str, list[Item]] = field(default_factory=dict)
    rows: Sources = NOTHING

    def inner(self, *, sees_items: bool) -> Scope:
        """Return an empty scope for a query inside this one; sees_items: a subquery may name the items beside it."""
        return Scope(parent=self if sees_items else self.parent, ctes=dict(self.ctes))

    def qualified(self, alias: str, name: str) -> Origin:
        """Return the origin of alias.name; raises LineageError when there is no such column."""
        item = self._item(alias)
        if item is None:
            raise LineageError(f"{alias}.{name} names no relation of the query")
        origin = item.column(name)
        if origin is None:
            raise LineageError(f"{alias} has no column {name!r}, only {', '.join(item.relation.names)}")
        return origin

    def unqualified(self, name: str) -> Origin:
        """Return the origin of a column named alone, or of a whole row; raises LineageError when there is neither."""
        scope: Scope | None = self
        opened: Item | None = None
        while scope is not None:
            origin = scope._own(name)
            if origin is not None:
                if opened is not None:
                    raise LineageError(f"{name!r} may be a column of {opened.alias} or of the query around it")
                return origin
            opened = opened or next((item for item in scope.items if item.relation.is_open), None)
            scope = scope.parent
        if opened is not None:
            return opened.whole
        if (item := self._item(name)) is not None:
            return item.whole
        if name in WORDS:
            return Origin()
        raise LineageError(f"{name!r} is a column of none of: {', '.join(self._aliases()) or 'no relation at all'}")

    def whole(self, alias: str) -> list[tuple[str, Origin]]:
        """Return the columns of alias.*; raises LineageError when there is no such relation."""
        item = self._item(alias)
        if item is None:
            raise LineageError(f"{alias}.* names no relation of the query")
        self._require_known(item)
        return item.columns

    def everything(self) -> list[tuple[str, Origin]]:
        """Return the columns of *: those that joins merge first, once each."""
        for item in self.items:
            self._require_known(item)
        merged = [(name, self._merged(name)) for name in self.shared]
        return merged + [
            (name, origin) for item in self.items for name, origin in item.columns if name not in self.shared
        ]

    def has_item(self, alias: str) -> bool:
        return self._item(alias) is not None

    def has_column(self, name: str) -> bool:
        return self._own(name) is not None

    def _own(self, name: str) -> Origin | None:
        """Return the origin of a column of this query's own from clause."""
        if name in self.shared:
            return self._merged(name)
        holders = [item for item in self.items if item.count(name)]
        if len(holders) > 1 or (holders and holders[0].count(name) > 1):
            raise LineageError(
                f"{name!r} is a column of {' and '.join(str(item.alias) for item in holders)}: ambiguous"
            )
        return holders[0].column(name) if holders else None

    def _merged(self, name: str) -> Origin:
        return combine(origin for item in self.shared[name] if (origin := item.column(name)) is not None)

    def _item(self, alias: str) -> Item | None:
        scope: Scope | None = self
        while scope is not None:
            for item in scope.items:
                if item.alias == alias:
                    return item
            scope = scope.parent
        return None

    def _aliases(self) -> list[str]:
        return [str(item.alias) for item in self.items] + (self.parent._aliases() if self.parent else [])

    def _require_known(self, item: Item) -> None:
        if item.relation.is_open:
            raise LineageError(f"the columns of the function {item.alias} are not told")
