"""Which numbers of a column are measured, and the SQL that computes each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from revops.quality.anomaly_config import MetricName

# Larger numbers are absurd, and their squares would overflow.
LARGEST_NUMBER = "1e100"
LEAST_NUMBER = "1e-100"
# Of a text so many characters tell it from others.
TEXT_CHARACTERS = 200
WHOLE_NUMBERS = frozenset({"int2", "int4", "int8"})
NUMBERS = WHOLE_NUMBERS | {"numeric", "float4", "float8", "money"}
TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
QUANTILES: tuple[tuple[MetricName, float], ...] = (("p05", 0.05), ("p50", 0.5), ("p95", 0.95))

Kind = Literal["number", "boolean", "category", "other"]


@dataclass(frozen=True)
class Column:
    """A column as the catalogue has it; type is PostgreSQL's short name, such as int4."""

    name: str
    type: str
    kind: Kind
    is_nullable: bool


def read_columns(warehouse: psycopg.Connection, schema: str, table: str) -> list[Column]:
    """Return a table's columns in their order, a domain as the type below it; none when there is no such table."""
    rows = warehouse.execute(
        "select a.attname, coalesce(b.typname, t.typname), coalesce(b.typtype, t.typtype)::text, a.attnotnull "
        "from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype "
        "join pg_class c on c.oid = a.attrelid "
        "where c.oid = to_regclass(format('%%I.%%I', %s::text, %s::text)) and c.relkind in ('r', 'p') and a.attnum > 0 "
        "and not a.attisdropped order by a.attnum",
        (schema, table),
    ).fetchall()
    return [Column(name, type_name, _kind(type_name, typtype), not must) for name, type_name, typtype, must in rows]


def _kind(type_name: str, typtype: str) -> Kind:
    if type_name in NUMBERS:
        return "number"
    if type_name == "bool":
        return "boolean"
    return "category" if type_name in TEXTS or typtype == "e" else "other"


@dataclass(frozen=True)
class Probe:
    """An aggregate over the sampled rows that gives one number, or null."""

    metric: MetricName
    column: str
    number: sql.Composable


def column_inputs(column: Column, number: int, *, is_full: bool) -> list[sql.Composable]:
    """Return what is computed of a column once a row: whether it is null, and what is counted or summed.

    number: tells the columns of one statement apart. is_full: false for columns of which the nulls are counted only.
    """
    null = sql.SQL("{} is null as {}").format(sql.Identifier(column.name), _null(number))
    if not is_full or column.kind == "other":
        return [null]
    return [null, sql.SQL("{} as {}").format(_countable(column), _value(number))]


def column_probes(column: Column, number: int, *, is_full: bool, least_values: int) -> list[Probe]:
    """Return the numbers about a column, as aggregates over what column_inputs has computed.

    least_values: mean and quantiles of fewer are null.
    """
    null, value = _null(number), _value(number)
    probes: list[tuple[MetricName, sql.Composable]] = []
    if column.is_nullable:
        probes.append(("null_share", _share(null)))
    if is_full and column.kind == "number" and column.type not in WHOLE_NUMBERS:
        probes.append(("unusable_share", _share(sql.SQL("{} is null and not {}").format(value, null))))
    if is_full and (column.kind == "category" or column.type in WHOLE_NUMBERS):
        probes.append(("distinct_values", sql.SQL("case when count(*) > 0 then count(distinct {}) end").format(value)))
    if is_full and column.kind in ("number", "boolean"):
        probes.append(("mean", _enough(value, least_values, sql.SQL("avg({})").format(value))))
    if is_full and column.kind == "number":
        for metric, part in QUANTILES:
            # The three share one sort.
            quantile = sql.SQL("percentile_cont({}) within group (order by {})").format(sql.Literal(part), value)
            probes.append((metric, _enough(value, least_values, quantile)))
    return [Probe(metric, column.name, expression) for metric, expression in probes]


def _countable(column: Column) -> sql.Composable:
    """Return the expression that a column's values are counted and summed by; null for those that can't be."""
    name = sql.Identifier(column.name)
    if column.kind == "category":
        # Hashes sort many times faster than texts, and take no memory for long ones.
        return sql.SQL("hashtextextended(left({}::text, {}), 0)").format(name, sql.Literal(TEXT_CHARACTERS))
    if column.kind == "boolean":
        return sql.SQL("{}::int::float8").format(name)
    if column.type in WHOLE_NUMBERS:
        return sql.SQL("{}::float8").format(name)
    exact = sql.SQL("{}::numeric").format(name) if column.type == "money" else name
    # NaN is larger than every number, so it is left out as the infinite ones are. What is too small for float8, which
    # would be an error, is nothing.
    return sql.SQL(
        "case when {0} between -{largest} and {largest} "
        "then case when abs({0}) < {least} then 0 else {0}::float8 end end"
    ).format(exact, largest=sql.SQL(LARGEST_NUMBER), least=sql.SQL(LEAST_NUMBER))


def _share(condition: sql.Composable) -> sql.Composed:
    return sql.SQL("count(*) filter (where {})::float8 / nullif(count(*), 0)").format(condition)


def _enough(value: sql.Composable, least_values: int, number: sql.Composable) -> sql.Composed:
    return sql.SQL("case when count({}) >= {} then {} end").format(value, sql.Literal(least_values), number)


def _null(number: int) -> sql.Identifier:
    return sql.Identifier(f"null_{number}")


def _value(number: int) -> sql.Identifier:
    return sql.Identifier(f"value_{number}")
