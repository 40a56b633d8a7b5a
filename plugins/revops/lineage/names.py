"""Names in a statement, as PostgreSQL reads and gives them."""

from __future__ import annotations

from sqlglot import exp

NAMELESS = "?column?"


def name_of(identifier: exp.Expr) -> str:
    """Return an identifier as PostgreSQL reads it: in lower case unless it is quoted."""
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def output_name(node: exp.Expr) -> str:
    """Return the name that PostgreSQL gives an output column; `?column?` where it has none of its own."""
    if isinstance(node, exp.Alias):
        return name_of(node.args["alias"])
    if isinstance(node, exp.Column):
        return name_of(node.this)
    if isinstance(node, exp.Dot):
        return name_of(node.expression) if isinstance(node.expression, exp.Identifier) else output_name(node.expression)
    if isinstance(node, exp.Cast | exp.Paren | exp.Bracket | exp.Filter | exp.Window | exp.WithinGroup | exp.Collate):
        return output_name(node.this)
    if isinstance(node, exp.Subquery | exp.Select):
        return output_name(node.selects[0]) if node.selects else NAMELESS
    if isinstance(node, exp.Case):
        return "case"
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if isinstance(node, exp.Func) and not isinstance(node, exp.Binary | exp.Connector):
        return node.sql_name().lower()
    return NAMELESS
