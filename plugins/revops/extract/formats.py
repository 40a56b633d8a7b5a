"""Which COPY format a table may be moved in."""

from __future__ import annotations

from revops.extract.catalog import Column, Relation, without_modifier
from revops.extract.stream import Format

# Types whose binary form is the same in every server version from 10 on and holds the whole value. Not here: money
# (its scale is a setting), xml (its encoding), oid and what is built on it (numbers of one server), and all that
# is not PostgreSQL's own.
_SCALARS = frozenset(
    {
        *("smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean"),
        *("text", "character varying", "character", "bytea", "uuid", "json", "jsonb"),
        *("date", "interval", "timestamp without time zone", "timestamp with time zone"),
        *("time without time zone", "time with time zone"),
        *("inet", "cidr", "macaddr", "macaddr8", "bit", "bit varying", "tsvector"),
        *("point", "line", "lseg", "box", "path", "polygon", "circle"),
        *("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"),
    }
)
_TEXTS = frozenset({"text", "character varying"})


def agreed_format(relation: Relation, raw_types: dict[str, str]) -> Format:
    """Return `binary` where every column's type is surely the same on both sides, else `text`.

    Binary COPY checks nothing: a bigint read as a timestamp, or a scale cut to fewer digits, goes through without a
    word. So both catalogues must agree, or raw must have the same type without length, scale or precision.
    """
    agreed = all(_is_agreed(column, raw_types[column.name]) for column in relation.columns)
    return "binary" if agreed else "text"


def _is_agreed(column: Column, raw_type: str) -> bool:
    if column.role != "plain":
        return raw_type == "bytea"
    bare = without_modifier(column.source_type)
    if bare.removesuffix("[]") not in _SCALARS:
        return False
    if bare in _TEXTS and raw_type == "text":
        return True
    return raw_type in (column.source_type, bare)
