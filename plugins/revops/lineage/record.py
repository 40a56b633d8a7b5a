"""Keep the lineage of a transform in ops: the definition once, for each run which definition it ran by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import psycopg
from psycopg.types.json import Jsonb

from revops.lineage.edges import Edge
from revops.lineage.errors import LineageError
from revops.lineage.grain import Grain


def read_columns(warehouse: psycopg.Connection) -> dict[str, tuple[str, ...]]:
    """Return the columns of every table and view of core in their order, as inputs for read_edges."""
    rows = warehouse.execute(
        "select 'core.' || c.relname, array_agg(a.attname::text order by a.attnum) from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where c.relnamespace = 'core'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition "
        "group by c.relname order by c.relname"
    ).fetchall()
    return {relation: tuple(columns) for relation, columns in rows}


def record_lineage(
    warehouse: psycopg.Connection,
    *,
    transform_run_id: int,
    target: str,
    source: str,
    edges: Sequence[Edge],
    grains: Sequence[Grain],
) -> int:
    """Record by which edges and grains a run made its table; return the definition's id. Does not commit.

    Runs in the transaction of the rows, as revops_transform or revops_embed. The run's row counts are those of
    ops.transform_run, and the view ops.lineage_edge shows them with the edges. grains: those of other sources are left
    out. Raises LineageError where edges and grains contradict each other, so that no trace leads astray.
    """
    applying = [grain for grain in grains if grain.is_of(source)]
    _require_agreement(target, edges, applying)
    digest = _digest(target, source, edges, applying)
    row = warehouse.execute(
        "select definition_id from ops.lineage_definition where definition_hash = %s", (digest,)
    ).fetchone()
    definition_id = int(row[0]) if row else _insert(warehouse, digest, target, source, edges, applying)
    warehouse.execute(
        "insert into ops.lineage_run (transform_run_id, definition_id) values (%s, %s)",
        (transform_run_id, definition_id),
    )
    warehouse.execute(
        "update ops.lineage_definition set last_transform_run_id = %s where definition_id = %s",
        (transform_run_id, definition_id),
    )
    return definition_id


def read_run_edges(warehouse: psycopg.Connection, transform_run_id: int) -> list[Edge]:
    """Return the edges that a run recorded, sorted."""
    rows = warehouse.execute(
        "select input_relation, input_column, output_relation, output_column, kind from ops.lineage_edge "
        "where transform_run_id = %s",
        (transform_run_id,),
    ).fetchall()
    return sorted(Edge(*row) for row in rows)


def _require_agreement(target: str, edges: Sequence[Edge], grains: Sequence[Grain]) -> None:
    if others := {edge.output_relation for edge in edges} - {target}:
        raise LineageError(f"{target}: edges of {', '.join(sorted(others))} are not its own")
    read = {edge.input_relation for edge in edges}
    if missing := sorted({grain.relation for grain in grains} - read):
        raise LineageError(
            f"{target}: its rows are said to be made from {', '.join(missing)}, which its SQL file does not read. "
            "Remedy: correct the grains of the table in plugins/revops/lineage/grain.py."
        )
    if edges and not grains:
        raise LineageError(
            f"{target}: nothing says which records its rows are made from. "
            "Remedy: add the table to GRAINS in plugins/revops/lineage/grain.py."
        )


def _digest(target: str, source: str, edges: Sequence[Edge], grains: Sequence[Grain]) -> str:
    content = [
        target,
        source,
        sorted([edge.output_column, edge.input_relation, edge.input_column, edge.kind] for edge in edges),
        [[g.relation, g.key, g.output, g.prefix, sorted(g.when.items())] for g in grains],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _insert(
    warehouse: psycopg.Connection,
    digest: str,
    target: str,
    source: str,
    edges: Sequence[Edge],
    grains: Sequence[Grain],
) -> int:
    # Runs of one table wait for each other, so nobody else inserts the same meanwhile.
    row = warehouse.execute(
        "insert into ops.lineage_definition (definition_hash, target, source) values (%s, %s, %s) "
        "returning definition_id",
        (digest, target, source),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    with warehouse.cursor() as cursor:
        cursor.executemany(
            "insert into ops.lineage_definition_edge "
            "(definition_id, input_relation, input_column, output_column, kind) values (%s, %s, %s, %s, %s)",
            [(row[0], edge.input_relation, edge.input_column, edge.output_column, edge.kind) for edge in edges],
        )
        cursor.executemany(
            "insert into ops.lineage_definition_grain "
            "(definition_id, position, relation, input_columns, output_columns, prefix, condition) "
            "values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (row[0], position, g.relation, list(g.key), list(g.output), g.prefix, Jsonb(dict(g.when)))
                for position, g in enumerate(grains, start=1)
            ],
        )
    return int(row[0])
