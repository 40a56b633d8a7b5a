"""What an expression is made from: which columns its value holds, and which only decide over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from revops.lineage.calls import after_over, is_aggregate
from revops.lineage.errors import LineageError
from revops.lineage.names import name_of
from revops.lineage.origin import NOTHING, Origin, Relation, Sources, combine
from revops.lineage.scope import Scope


@dataclass(frozen=True)
class Context:
    """Where an expression stands.

    rows: what decides which rows its aggregates and window functions see. windows: the named ones of the query.
    read: reads a subquery. constants: what placeholders stand for.
    """

    scope: Scope
    read: Callable[[exp.Expr, Scope], Relation]
    constants: Mapping[str, str]
    rows: Sources = NOTHING
    windows: Mapping[str, exp.Window] = field(default_factory=dict)


def origin_of(node: exp.Expr | None, context: Context) -> Origin:
    """Return what the value of an expression is made from; raises LineageError for a name that means nothing."""
    if node is None:
        return Origin()
    for kind, read in _READERS:
        if isinstance(node, kind):
            return read(node, context)
    origin = combine(origin_of(child, context) for child in node.iter_expressions())
    return origin.given(context.rows) if is_aggregate(node) else origin


def _column(node: exp.Expr, context: Context) -> Origin:
    table: exp.Expr | None = node.args.get("table")
    if table and isinstance(node.this, exp.Star):
        return combine(origin for _, origin in context.scope.whole(name_of(table)))
    try:
        name = name_of(node.this)
        return context.scope.qualified(name_of(table), name) if table else context.scope.unqualified(name)
    except LineageError as error:
        line = node.this.meta.get("line")
        raise LineageError(f"{error} (line {line})" if line else str(error)) from None


def _field(node: exp.Expr, context: Context) -> Origin:
    """A field of a row in parentheses, (alias).column, or of a value of composite type."""
    row = node.this.unnest() if isinstance(node.this, exp.Paren) else node.this
    if isinstance(row, exp.Column) and not row.table and isinstance(node.expression, exp.Identifier):
        alias = name_of(row.this)
        if context.scope.has_item(alias) and not context.scope.has_column(alias):
            return context.scope.qualified(alias, name_of(node.expression))
    return combine(origin_of(child, context) for child in node.iter_expressions())


def _case(node: exp.Expr, context: Context) -> Origin:
    branches = node.args["ifs"]
    tested = [node.this, *(branch.this for branch in branches)]
    results = [*(branch.args["true"] for branch in branches), node.args.get("default")]
    decided = combine(origin_of(part, context) for part in tested).all
    return combine(origin_of(part, context) for part in results).given(decided)


def _first_only(node: exp.Expr, context: Context) -> Origin:
    """nullif(a, b), f(...) filter (where b), array_agg(a order by b): a is the value, b decides over it."""
    decided = combine(origin_of(child, context) for child in _others(node)).all
    return origin_of(node.this, context).given(decided)


def _within_group(node: exp.Expr, context: Context) -> Origin:
    """percentile_cont(a) within group (order by b): both are in the value."""
    ordered = node.expression.expressions
    return combine(origin_of(part, context) for part in (node.this, *ordered)).given(context.rows)


def _window(node: exp.Expr, context: Context) -> Origin:
    decided = combine(origin_of(part, context) for part in after_over(node, context.windows)).all
    return origin_of(node.this, context).given(decided | context.rows)


def _exists(node: exp.Expr, context: Context) -> Origin:
    return Origin(conditions=context.read(node.this, context.scope).merged.rows)


def _subquery(node: exp.Expr, context: Context) -> Origin:
    found = context.read(node, context.scope).merged
    return combine(found.columns).given(found.rows)


def _text(node: exp.Expr, _: Context) -> Origin:
    return Origin(constant=node.name if node.args.get("is_string") else None)


def _placeholder(node: exp.Expr, context: Context) -> Origin:
    return Origin(constant=context.constants.get(node.name))


def _same(node: exp.Expr, context: Context) -> Origin:
    return origin_of(node.this, context)


def _arrow(node: exp.Expr, context: Context) -> Origin:
    """f(a -> 'key'), which the parser takes for a function of a that is passed to f; PostgreSQL has no such thing."""
    operands = [exp.column(identifier) for identifier in node.expressions]
    return combine(origin_of(part, context) for part in (*operands, node.this))


def _refuse(node: exp.Expr, _: Context) -> Origin:
    raise LineageError(f"a {type(node).__name__} inside an expression is not understood")


def _nothing(_: exp.Expr, __: Context) -> Origin:
    return Origin()


def _others(node: exp.Expr) -> Iterator[exp.Expr]:
    return (child for child in node.iter_expressions() if child is not node.this)


# The first kind that fits is read in its way; all others are made from all their parts.
_READERS: tuple[tuple[type[exp.Expr] | tuple[type[exp.Expr], ...], Callable[[exp.Expr, Context], Origin]], ...] = (
    (exp.Column, _column),
    (exp.Literal, _text),
    (exp.Placeholder, _placeholder),
    ((exp.Identifier, exp.Var, exp.DataType, exp.Star), _nothing),
    ((exp.Cast, exp.Paren, exp.Alias), _same),
    (exp.Case, _case),
    ((exp.Nullif, exp.Filter, exp.Order), _first_only),
    (exp.WithinGroup, _within_group),
    (exp.Window, _window),
    (exp.Exists, _exists),
    ((exp.Query, exp.Values), _subquery),
    (exp.Dot, _field),
    (exp.Lambda, _arrow),
    (exp.Table, _refuse),
)
