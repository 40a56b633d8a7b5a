"""Calls that look at more rows than one, or make several of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlglot import exp

from revops.lineage.names import name_of

# fmt: off
# Aggregates of PostgreSQL that the parser takes for ordinary functions.
AGGREGATES = frozenset(
    {
        "bit_and", "bit_or", "bit_xor", "cume_dist", "dense_rank", "every", "json_agg", "json_agg_strict",
        "json_object_agg", "json_object_agg_strict", "json_object_agg_unique", "jsonb_agg", "jsonb_agg_strict",
        "jsonb_object_agg", "jsonb_object_agg_strict", "jsonb_object_agg_unique", "mode", "percent_rank", "range_agg",
        "range_intersect_agg", "rank", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2",
        "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "xmlagg",
    }
)
# Functions that make several rows of one, where they stand in a select list.
SET_RETURNING = frozenset(
    {
        "generate_subscripts", "json_array_elements", "json_array_elements_text", "json_each", "json_each_text",
        "json_object_keys", "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_each", "jsonb_each_text",
        "jsonb_object_keys", "jsonb_path_query", "regexp_matches", "regexp_split_to_table", "string_to_table",
    }
)
# fmt: on


def is_aggregate(node: exp.Expr) -> bool:
    """Tell whether an expression is the call of an aggregate function."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in AGGREGATES
    return isinstance(node, exp.AggFunc | exp.WithinGroup | exp.Grouping)


def has_aggregate(node: exp.Expr) -> bool:
    """Tell whether an expression aggregates the rows of its own query; as a window function it does not."""
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, exp.Window):
        function = node.this.this if isinstance(node.this, exp.Filter) else node.this
        return any(has_aggregate(part) for part in (*function.iter_expressions(), *after_over(node)))
    return is_aggregate(node) or any(has_aggregate(child) for child in node.iter_expressions())


def has_window(node: exp.Expr) -> bool:
    """Tell whether an expression looks at other rows of its own query."""
    if isinstance(node, exp.Query):
        return False
    return isinstance(node, exp.Window) or any(has_window(child) for child in node.iter_expressions())


def returns_set(node: exp.Expr) -> bool:
    """Tell whether an expression of a select list makes several rows of one, or none."""
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, exp.Anonymous) and node.name.lower() in SET_RETURNING:
        return True
    is_set = isinstance(node, exp.Explode | exp.Unnest | exp.ExplodingGenerateSeries)
    return is_set or any(returns_set(child) for child in node.iter_expressions())


def after_over(node: exp.Expr, windows: Mapping[str, exp.Window] | None = None) -> Iterator[exp.Expr]:
    """Yield what stands after OVER: what partitions and orders, also that of the named window that it builds on."""
    yield from node.args.get("partition_by") or ()
    yield from node.args["order"].expressions if node.args.get("order") else ()
    spec = node.args.get("spec")
    yield from (
        [bound for name in ("start", "end") if isinstance(bound := spec.args.get(name), exp.Expr)] if spec else ()
    )
    base = node.args.get("alias")
    if base is not None and windows and (named := windows.get(name_of(base))) is not None:
        yield from after_over(named, windows)
