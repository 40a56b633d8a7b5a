"""What the columns and rows of a query are made from: selects, unions, common table expressions, the from clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from revops.lineage.calls import has_aggregate, returns_set
from revops.lineage.clauses import (
    calls_of,
    compares_rows,
    function_name,
    grouped,
    has_limit,
    is_one_row,
    is_parenthesised_join,
    listed_columns,
    ordered,
    parts,
)
from revops.lineage.errors import LineageError
from revops.lineage.expressions import Context, origin_of
from revops.lineage.names import name_of, output_name
from revops.lineage.origin import NOTHING, ROWS, Origin, Relation, Sources, Variant, combine, merge
from revops.lineage.scope import Item, Scope

# A recursive query is read again until nothing is added; each round adds a column of an input at least.
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Reader:
    """Reads queries over inputs: columns by relation, for `core.account` and raw's views by their own name.

    constants: what placeholders stand for; parts of a union that a condition on such a value leaves out are not read.
    """

    inputs: Mapping[str, tuple[str, ...]]
    relations: Mapping[str, str]
    constants: Mapping[str, str]

    def read(self, query: exp.Expr, outer: Scope) -> Relation:
        """Return the columns of a query and their origins; outer: what it may name besides its own from clause.

        Raises LineageError for what has no meaning or is not understood.
        """
        if isinstance(query, exp.Values):
            return self._values(query, outer)
        if not isinstance(query, exp.Select | exp.SetOperation | exp.Subquery):
            raise LineageError(f"a {type(query).__name__} is not understood, only queries")
        scope = self._with(query, outer)
        if isinstance(query, exp.Select):
            return self._select(query, scope)
        if isinstance(query, exp.SetOperation):
            found = self._set_operation(query, scope)
        else:
            found = self.read(query.this, scope)
        return self._limited(query, found)

    def _with(self, query: exp.Expr, outer: Scope) -> Scope:
        """Return the scope of a query with its common table expressions, and nothing in the from clause yet."""
        scope = outer.inner(sees_items=True)
        clause = query.args.get("with_")
        for cte in clause.expressions if clause else ():
            name = name_of(cte.args["alias"].this)
            try:
                if clause and clause.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                    found = self._recursive(cte, name, scope)
                else:
                    found = _renamed(self.read(cte.this, scope), cte.args["alias"])
            except LineageError as error:
                raise LineageError(f"in {name}: {error}") from None
            scope.ctes[name] = found
        return scope

    def _recursive(self, cte: exp.Expr, name: str, scope: Scope) -> Relation:
        """Return a recursive query: what it starts with, then again until a round adds nothing."""
        found = _renamed(self.read(cte.this.this, scope), cte.args["alias"])
        found = replace(found, variants=(found.merged,))
        for _ in range(MOST_ROUNDS):
            inner = scope.inner(sees_items=True)
            inner.ctes[name] = found
            again = _renamed(self.read(cte.this, inner), cte.args["alias"])
            again = Relation(again.names, (again.merged,))
            if again == found:
                return found
            found = again
        raise LineageError("the recursion does not end")

    def _set_operation(self, query: exp.SetOperation, scope: Scope) -> Relation:
        left, right = self.read(query.this, scope), self.read(query.expression, scope)
        if len(left.names) != len(right.names):
            raise LineageError(f"a union of {len(left.names)} and {len(right.names)} columns")
        if isinstance(query, exp.Union):
            variants = left.variants + right.variants
            if query.args.get("distinct"):
                variants = tuple(replace(part, rows=part.rows | combine(part.columns).all) for part in variants)
            return Relation(left.names, variants)
        # Intersect and except: the rows are those of the left side, all columns of both sides decide which.
        others = right.merged
        decided = combine(others.columns).all | others.rows
        return Relation(
            left.names,
            tuple(replace(part, rows=part.rows | combine(part.columns).all | decided) for part in left.variants),
        )

    def _limited(self, query: exp.Expr, found: Relation) -> Relation:
        """Read the order and limit of a union or of a query in parentheses."""
        if not ordered(query):
            return found
        item = Item(None, Relation(found.names, (found.merged,)))
        context = self._context(Scope(items=[item]))
        decided = combine(_by_name(part, found.names, item.columns, context) for part in ordered(query)).all
        variants = (found.merged,) if has_limit(query) else found.variants
        return Relation(found.names, tuple(replace(part, rows=part.rows | decided) for part in variants))

    def _values(self, node: exp.Expr, scope: Scope) -> Relation:
        context = self._context(scope)
        columns = tuple(
            combine(origin_of(part, context) for part in column)
            for column in zip(*(parts(row) for row in node.expressions), strict=True)
        )
        return Relation(tuple(f"column{number}" for number in range(1, len(columns) + 1)), (Variant(columns),))

    def _select(self, select: exp.Select, base: Scope) -> Relation:
        """Read a select once for each variant of the relation that it starts from.

        One that compares rows with each other (groups, windows, distinct, limit) takes together what its condition
        leaves of the variants.
        """
        first = self._first(select, base)
        if first is None:
            return self._over(select, [self._from(select, base, None)])
        possible = tuple(
            variant
            for variant in first.relation.variants
            if not self._is_impossible(select, self._from(select, base, first.only(variant)))
        )
        is_empty = not possible
        if is_empty or compares_rows(select):
            possible = (merge(possible, len(first.relation.names)),)
        found = self._over(select, [self._from(select, base, first.only(variant)) for variant in possible])
        return Relation(found.names) if is_empty and not is_one_row(select) else found

    def _over(self, select: exp.Select, scopes: list[Scope]) -> Relation:
        """Return the columns of a select over each of its from clauses that can have rows."""
        found = [(scope, *self._project(select, scope)) for scope in scopes]
        possible = [
            variant for scope, _, variant in found if is_one_row(select) or not self._is_impossible(select, scope)
        ]
        return Relation(found[0][1], tuple(possible))

    def _first(self, select: exp.Select, base: Scope) -> Item | None:
        """Return what a from clause starts with, None where there is none, or where it does not lead: rows that are
        there without it, by a right or full join, are made otherwise."""
        source = select.args.get("from_")
        if source is None or source.this.args.get("joins") or is_parenthesised_join(source.this):
            return None
        if any(join.side in ("RIGHT", "FULL") for join in select.args.get("joins") or ()):
            return None
        return self._item(source.this, base)

    def _from(self, select: exp.Select, base: Scope, first: Item | None) -> Scope:
        """Return the scope of a select with its from clause; first: in the place of what the clause starts with."""
        scope = Scope(parent=base.parent, ctes=base.ctes)
        source = select.args.get("from_")
        if source is not None:
            scope.items = [first] if first is not None else self._items(source.this, scope)
            scope.rows |= frozenset().union(*(item.rows for item in scope.items))
        unconditional = [item for join in select.args.get("joins") or () for item in self._join(join, scope)]
        where = select.args.get("where")
        decided = origin_of(where.this, self._context(scope)).all if where else NOTHING
        scope.rows |= decided
        for item in unconditional:
            # from a, b where a.x = b.y is a join as well.
            item.given |= decided
        return scope

    def _items(self, node: exp.Expr, scope: Scope) -> list[Item]:
        """Return the items of one member of a from clause, a join in parentheses included."""
        alias = node.args.get("alias")
        if is_parenthesised_join(node):
            if alias is None:
                return self._joined(node.this, scope)
            inner = scope.inner(sees_items=False)
            inner.items = self._joined(node.this, inner)
            names, columns = zip(*inner.everything(), strict=True)
            return [Item(name_of(alias.this), _renamed(Relation(names, (Variant(columns, inner.rows),)), alias))]
        if node.args.get("joins"):
            return self._joined(node, scope)
        return [self._item(node, scope)]

    def _joined(self, node: exp.Expr, scope: Scope) -> list[Item]:
        """Read a table with the joins that belong to it, in a scope of their own for their conditions."""
        inner = Scope(parent=scope, ctes=scope.ctes, items=[self._item(node, scope)])
        inner.rows = inner.items[0].rows
        for join in node.args["joins"]:
            self._join(join, inner)
        scope.rows |= inner.rows
        scope.shared.update(inner.shared)
        return inner.items

    def _join(self, join: exp.Join, scope: Scope) -> list[Item]:
        """Add what a join brings to a scope; returns its items where no condition of its own ties them."""
        before = list(scope.items)
        brought = self._items(join.this, scope)
        scope.items = before + brought
        decided = origin_of(join.args.get("on"), self._context(scope)).all
        names = [name_of(name) for name in join.args.get("using") or ()]
        if join.args.get("method") == "NATURAL":
            shared = {name for item in brought for name in item.relation.names}
            names = [name for item in before for name in item.relation.names if name in shared]
        for name in names:
            decided |= self._share(name, before, brought, join.side, scope)
        # Of an outer join, the side that is kept whole does not depend on the other.
        dependent = {"RIGHT": before, "FULL": before + brought}.get(join.side, brought)
        for item in dependent:
            item.given |= decided | item.rows
        scope.rows |= decided.union(*(item.rows for item in brought))
        return [] if names or join.args.get("on") else brought

    def _share(self, name: str, before: list[Item], brought: list[Item], side: str, scope: Scope) -> Sources:
        """Merge a column that both sides of a join have; returns what it is made from."""
        left = scope.shared.get(name) or [item for item in before if name in item.relation.names]
        right = [item for item in brought if name in item.relation.names]
        if not left or not right:
            raise LineageError(f"a join uses {name!r}, which not both of its sides have")
        scope.shared[name] = {"RIGHT": right, "FULL": left + right}.get(side, left)
        return combine(origin for item in left + right if (origin := item.column(name)) is not None).all

    def _item(self, node: exp.Expr, scope: Scope) -> Item:
        """Return one relation of a from clause under its alias, with the columns that the alias renames."""
        alias = node.args.get("alias")
        is_lateral = isinstance(node, exp.Lateral)
        query = node.this if is_lateral else node
        if isinstance(query, exp.Subquery | exp.Values | exp.Select | exp.SetOperation):
            inner = query if is_lateral or isinstance(query, exp.Values) else query.this
            found = self.read(inner, scope.inner(sees_items=is_lateral))
            name = None
        elif isinstance(query, exp.Table) and isinstance(query.this, exp.Identifier):
            name, found = self._table(query, scope)
        else:
            name, found = self._function(node, query, scope)
        if alias is not None:
            return Item(name_of(alias.this) if alias.this else name, _renamed(found, alias))
        return Item(name, found)

    def _table(self, node: exp.Table, scope: Scope) -> tuple[str, Relation]:
        name = name_of(node.this)
        if not node.args.get("db") and name in scope.ctes:
            return name, scope.ctes[name]
        written = f"{name_of(node.args['db'])}.{name}" if node.args.get("db") else name
        relation = self.relations.get(written)
        if relation is None:
            raise LineageError(
                f"{written} is no input; known are {', '.join(sorted(self.relations))}" + _line(node.this)
            )
        columns = self.inputs[relation]
        origins = tuple(Origin(frozenset({(relation, column)})) for column in columns)
        return name, Relation(columns, (Variant(origins, frozenset({(relation, ROWS)})),))

    def _function(self, node: exp.Expr, call: exp.Expr, scope: Scope) -> tuple[str, Relation]:
        """A function in the from clause: each column is made from all that it is called with, or from its own array."""
        context = self._context(scope)
        origins = [origin_of(part, context) for part in calls_of(call)]
        every = combine(origins)
        alias = node.args.get("alias")
        own = name_of(alias.this) if alias is not None and alias.this else function_name(call)
        listed = list(listed_columns(alias))
        ordinality = call.args.get("offset") or node.args.get("ordinality")
        if isinstance(ordinality, exp.Identifier):
            listed.append(name_of(ordinality))
        if not listed:
            return own, Relation((own,), (Variant((every,), every.all),), is_open=True)
        if ordinality and len(listed) == 1:
            listed.append("ordinality")
        width = len(listed) - bool(ordinality)
        columns = origins if len(origins) == width else [every] * width
        if ordinality:
            columns.append(Origin(conditions=every.all))
        return own, Relation(tuple(listed), (Variant(tuple(columns), every.all),))

    def _is_impossible(self, select: exp.Select, scope: Scope) -> bool:
        """Tell whether the condition compares two texts that are known and differ."""
        where = select.args.get("where")
        context = self._context(scope)
        for part in where.this.flatten() if where and isinstance(where.this, exp.And) else [where and where.this]:
            if isinstance(part, exp.EQ):
                left, right = (origin_of(side, context).constant for side in (part.this, part.expression))
                if left is not None and right is not None and left != right:
                    return True
        return False

    def _project(self, select: exp.Select, scope: Scope) -> tuple[tuple[str, ...], Variant]:
        """Return the names of a select's columns, their origins, and what decides which rows it has."""
        before = self._context(scope)
        group, having = select.args.get("group"), select.args.get("having")
        keys = combine(self._group_key(part, select, before) for part in grouped(group)).all
        windows = {name_of(window.this): window for window in select.args.get("windows") or ()}
        condition = origin_of(having.this, replace(before, rows=scope.rows | keys)).all if having else NOTHING
        context = replace(before, rows=scope.rows | keys | condition, windows=windows)
        multiplied = combine(origin_of(part, before) for part in select.expressions if returns_set(part)).all
        is_grouped = group is not None or having is not None or any(map(has_aggregate, select.expressions))
        outputs = [column for projection in select.expressions for column in self._outputs(projection, context)]
        names = tuple(name for name, _ in outputs)
        rows = multiplied | (context.rows if group is not None or not is_grouped else condition)
        distinct = select.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            rows |= combine(_by_name(part, names, outputs, context) for part in parts(distinct.args["on"])).all
        elif distinct is not None:
            rows |= combine(origin for _, origin in outputs).all
        rows |= combine(_by_name(part, names, outputs, context) for part in ordered(select)).all
        return names, Variant(tuple(origin for _, origin in outputs), rows)

    def _outputs(self, projection: exp.Expr, context: Context) -> list[tuple[str, Origin]]:
        """Return the columns that one expression of a select list makes: several for a star."""
        if isinstance(projection, exp.Star):
            return context.scope.everything()
        if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
            return context.scope.whole(name_of(projection.args["table"]))
        name = output_name(projection)
        try:
            return [(name, origin_of(projection, context))]
        except LineageError as error:
            raise LineageError(f"column {name!r}: {error}") from None

    def _group_key(self, part: exp.Expr, select: exp.Select, context: Context) -> Origin:
        """An expression, a position, or an output's name that is no column of the from clause."""
        if isinstance(part, exp.Literal) and not part.is_string:
            return origin_of(select.expressions[int(part.name) - 1].unalias(), context)
        if isinstance(part, exp.Column) and not part.table and not context.scope.has_column(name_of(part.this)):
            for projection in select.expressions:
                if isinstance(projection, exp.Alias) and output_name(projection) == name_of(part.this):
                    return origin_of(projection.this, context)
        return origin_of(part, context)

    def _context(self, scope: Scope) -> Context:
        return Context(scope, self.read, self.constants)


def _renamed(relation: Relation, alias: exp.Expr) -> Relation:
    """Return a relation with the column names that an alias lists; those after them keep theirs."""
    listed = listed_columns(alias)
    return replace(relation, names=listed + relation.names[len(listed) :]) if listed else relation


def _by_name(part: exp.Expr, names: tuple[str, ...], outputs: list[tuple[str, Origin]], context: Context) -> Origin:
    """What an expression of an order is made from: an output's name or position, else an expression."""
    if isinstance(part, exp.Column) and not part.table and name_of(part.this) in names:
        return outputs[names.index(name_of(part.this))][1]
    if isinstance(part, exp.Literal) and not part.is_string:
        return outputs[int(part.name) - 1][1]
    return origin_of(part, context)


def _line(identifier: exp.Expr) -> str:
    line = identifier.meta.get("line")
    return f" (line {line})" if line else ""
