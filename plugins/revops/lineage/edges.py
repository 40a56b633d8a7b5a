"""Column-level edges, read from the SQL file that makes a table, so that they can't go stale."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from revops.lineage.errors import LineageError
from revops.lineage.origin import ROWS, Origin, Relation, Sources

if TYPE_CHECKING:
    from sqlglot import exp

Kind = Literal["value", "condition"]
# Columns of every raw table that the views before a transform have as well.
METADATA = ("_load_id", "_deleted_at")
# The view of a driving table that has only the rows to compute anew.
SCOPED = "scoped_"
_PLACEHOLDER = re.compile(r"%(?:%|\((\w+)\)s)")


@dataclass(frozen=True, order=True)
class Edge:
    """A column of an input that a column of the output comes from.

    kind: `value`, its value is in the output's; `condition`, it only decides which value that is. A column `*` stands
    for the rows: as output, the input decides which rows there are; as input, only which rows there are counts.
    """

    input_relation: str
    input_column: str
    output_relation: str
    output_column: str
    kind: Kind


def read_edges(
    statement: str,
    *,
    target: str,
    inputs: Mapping[str, Collection[str]],
    name: str,
    parameters: Mapping[str, str] | None = None,
    rejected: str | None = None,
) -> tuple[Edge, ...]:
    """Return the edges of one query, sorted, each pair of columns once.

    target: the table that it makes, such as `core.contact`. inputs: the columns of what it may read, in their order; a
    name without a schema is a view before raw.<name>, has _load_id and _deleted_at besides, and can be read as
    scoped_<name> too. name: the file, for errors. parameters: what placeholders stand for; parts of a union that are of
    another source (`where source_system = %(source)s`) have no edges then. rejected: the column that keeps a row out of
    the table where it is not null; it becomes part of what decides which rows there are. Raises LineageError.
    """
    return _read_edges(
        statement,
        target,
        tuple((relation, tuple(columns)) for relation, columns in inputs.items()),
        name,
        tuple((parameters or {}).items()),
        rejected,
    )


# The largest file takes a second, and a worker that runs it again has read it already.
@lru_cache(maxsize=64)
def _read_edges(
    statement: str,
    target: str,
    inputs: tuple[tuple[str, tuple[str, ...]], ...],
    name: str,
    parameters: tuple[tuple[str, str], ...],
    rejected: str | None,
) -> tuple[Edge, ...]:
    # Half a second, which a DAG file that is parsed every few seconds need not pay.
    from revops.lineage.relations import Reader
    from revops.lineage.scope import Scope

    try:
        query = _parse(statement)
        found = Reader(*_known(dict(inputs)), dict(parameters)).read(query, Scope())
        _require_names(found.names)
    except LineageError as error:
        raise LineageError(
            f"{name}: the lineage of {target} can't be read: {error}. Remedy: correct the name; name the columns of an "
            "input in inputs.yaml, those of a function after its alias; write what is not understood in another way."
        ) from None
    return _edges(found, target, rejected)


def _parse(statement: str) -> exp.Expr:
    import sqlglot
    from sqlglot.errors import ParseError, SqlglotError

    text = _PLACEHOLDER.sub(lambda match: f" :{match[1]} " if match[1] else "%", statement)
    try:
        parsed = [query for query in sqlglot.parse(text, dialect="postgres") if query is not None]
    except ParseError as error:
        found = error.errors[0] if error.errors else {"description": str(error)}
        raise LineageError(
            f"it can't be parsed: line {found.get('line')}, column {found.get('col')}: {found['description']}"
        ) from None
    except SqlglotError as error:
        raise LineageError(f"it can't be parsed: {' '.join(str(error).split())}") from None
    if len(parsed) != 1:
        raise LineageError(f"it is {len(parsed)} statements, not one query")
    query = parsed[0]
    if not any(query.args.get(name) for name in ("limit", "offset", "distinct")):
        query.set("order", None)  # a table has no order
    return query


def _known(inputs: Mapping[str, Collection[str]]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return columns by relation, and relation by the name that a query may write."""
    columns: dict[str, tuple[str, ...]] = {}
    relations: dict[str, str] = {}
    for written, listed in inputs.items():
        schema, _, table = written.rpartition(".")
        relation = f"{schema or 'raw'}.{table}"
        columns[relation] = tuple(dict.fromkeys((*listed, *(METADATA if not schema else ()))))
        relations[written] = relation
        relations[f"{SCOPED}{table}"] = relation
    return columns, relations


def _require_names(names: tuple[str, ...]) -> None:
    from revops.lineage.names import NAMELESS

    for position, name in enumerate(names, start=1):
        if name == NAMELESS:
            raise LineageError(f"output column {position} has no name")
        if names.count(name) > 1:
            raise LineageError(f"output column {name!r} is there {names.count(name)} times")


def _edges(found: Relation, target: str, rejected: str | None) -> tuple[Edge, ...]:
    whole = found.merged
    columns = dict(zip(found.names, whole.columns, strict=True))
    keeps_out = columns.pop(rejected, Origin()) if rejected else Origin()
    values = {name: origin.values for name, origin in columns.items()}
    conditions = {name: origin.conditions for name, origin in columns.items()}
    conditions[ROWS] = whole.rows | keeps_out.all
    edges = {Edge(*source, target, name, "value") for name, sources in values.items() for source in sources} | {
        Edge(*source, target, name, "condition")
        for name, sources in conditions.items()
        for source in _telling(sources | values.get(name, frozenset())) - values.get(name, frozenset())
    }
    return tuple(sorted(edges))


def _telling(sources: Sources) -> Sources:
    """Leave out the rows of a relation where one of its columns is named: that says more."""
    named = {relation for relation, column in sources if column != ROWS}
    return frozenset(source for source in sources if source[1] != ROWS or source[0] not in named)
