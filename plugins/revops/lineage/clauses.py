"""Clauses of a query, taken apart."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from revops.lineage.calls import has_aggregate, has_window
from revops.lineage.errors import LineageError
from revops.lineage.names import name_of, output_name


def has_limit(query: exp.Expr) -> bool:
    return bool(query.args.get("limit") or query.args.get("offset"))


def ordered(query: exp.Expr) -> list[exp.Expr]:
    """Return what decides in which order rows come, which aggregates further out may go by, and how many come."""
    order = query.args.get("order")
    limits = [query.args[name] for name in ("limit", "offset") if query.args.get(name)]
    return [*(part.this for part in order.expressions), *limits] if order else limits


def parts(node: exp.Expr) -> list[exp.Expr]:
    return list(node.expressions) if isinstance(node, exp.Tuple) else [node]


def grouped(group: exp.Expr | None) -> Iterator[exp.Expr]:
    """Yield the expressions that rows are grouped by, those of grouping sets, cubes and rollups included."""
    for part in group.iter_expressions() if group else ():
        if isinstance(part, exp.GroupingSets | exp.Cube | exp.Rollup | exp.Tuple | exp.Paren):
            yield from grouped(part)
        else:
            yield part


def is_one_row(select: exp.Select) -> bool:
    """Tell whether a select gives one row, from whatever rows it is made: an aggregate without groups."""
    return not select.args.get("group") and any(map(has_aggregate, select.expressions))


def compares_rows(select: exp.Select) -> bool:
    """Tell whether a row of the result depends on other rows of the from clause."""
    if select.args.get("group") or select.args.get("having") or select.args.get("distinct") or has_limit(select):
        return True
    return any(has_aggregate(part) or has_window(part) for part in select.expressions)


def is_parenthesised_join(node: exp.Expr) -> bool:
    return isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not node.this.args.get("rows_from")


def listed_columns(alias: exp.Expr | None) -> tuple[str, ...]:
    """Return the column names that an alias lists."""
    columns = alias.args.get("columns") or () if alias is not None else ()
    return tuple(name_of(column.this if isinstance(column, exp.ColumnDef) else column) for column in columns)


def calls_of(call: exp.Expr) -> list[exp.Expr]:
    """Return what gives columns in a from clause: functions, or arrays of one unnest."""
    if isinstance(call, exp.Unnest):
        return list(call.expressions)
    if not isinstance(call, exp.Table):
        return [_require_call(call)]
    together = call.args.get("rows_from") or [call]
    return [_require_call(part.this if isinstance(part, exp.Table) else part) for part in together]


def function_name(call: exp.Expr) -> str:
    if isinstance(call, exp.Unnest):
        return "unnest"
    return output_name(call.this) if isinstance(call, exp.Table) and call.this else output_name(call)


def _require_call(node: exp.Expr) -> exp.Expr:
    if not isinstance(node, exp.Func | exp.Dot):
        raise LineageError(f"a {type(node).__name__} in a from clause is not understood")
    return node
