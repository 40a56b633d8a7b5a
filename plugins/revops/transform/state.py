"""Where an incremental transform starts, and when everything is computed anew instead."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import psycopg

from revops.extract.shape import blind_index_name
from revops.transform.definition import Definition
from revops.transform.targets import Target

# Changes of a raw table that concern rows which no load has written again.
_RESHAPED = ("table_created", "table_returned", "key_changed", "column_dropped", "column_excluded", "type_widened")


@dataclass(frozen=True)
class State:
    """What the last transform of a table and source was made of, and the last load it saw of each raw table."""

    definition: str
    read_up_to: dict[str, int]


def read_state(warehouse: psycopg.Connection, target: Target, source: str) -> State | None:
    """Return the state that the last successful transform saved, None before the first."""
    row = warehouse.execute(
        "select definition, read_up_to from ops.transform_state where target = %s and source = %s",
        (target.qualified, source),
    ).fetchone()
    return None if row is None else State(row[0], {str(table): int(load) for table, load in row[1].items()})


def save_state(
    warehouse: psycopg.Connection, target: Target, source: str, state: State, *, transform_run_id: int
) -> None:
    """Save the state with the rows it belongs to. Does not commit."""
    warehouse.execute(
        "insert into ops.transform_state as s (target, source, transform_run_id, definition, read_up_to) "
        "values (%s, %s, %s, %s, %s) on conflict (target, source) do update set "
        "transform_run_id = excluded.transform_run_id, definition = excluded.definition, "
        "read_up_to = excluded.read_up_to, saved_at = now()",
        (target.qualified, source, transform_run_id, state.definition, json.dumps(state.read_up_to)),
    )


def read_index_keys(warehouse: psycopg.Connection, definition: Definition, source: str) -> list[str]:
    """Return by which index key and kind the blind indexes were computed that a table takes from a source's raw.

    Rows that were given other blind indexes are the same by their loads: who copies them must copy all of them again.
    """
    if "blind_index" not in definition.statement:
        return []
    rows = warehouse.execute(
        "select raw_table, column_name, kind, index_fingerprint from ops.encrypted_column "
        "where source = %s and raw_table = any(%s) order by raw_table, column_name",
        (source, [item.table for item in definition.inputs]),
    ).fetchall()
    read = {item.table: item.columns for item in definition.inputs}
    return [
        f"{raw_table}.{column} {kind} {fingerprint}"
        for raw_table, column, kind, fingerprint in rows
        if blind_index_name(column) in read[raw_table]
    ]


def digest_of(definition: Definition, actual: dict[str, dict[str, str]], *others: str) -> str:
    """Return what a table is made of: its files, the types of the raw columns that it reads, seeds, index keys."""
    digest = hashlib.sha256(definition.digest.encode())
    for item in definition.inputs:
        columns = {name: actual[item.table].get(name) for name in item.columns} if actual[item.table] else None
        digest.update(f"{item.table}{columns}\0".encode())
    for other in others:
        digest.update(other.encode() + b"\0")
    return digest.hexdigest()


def why_full(
    warehouse: psycopg.Connection,
    target: Target,
    previous: State | None,
    *,
    digest: str,
    full_refresh: bool,
) -> str | None:
    """Return why everything is computed anew; None when the changed keys are enough."""
    if not target.scopes:
        return "the table has no scopes"
    if full_refresh:
        return "full_refresh"
    if previous is None:
        return "first run"
    if previous.definition != digest:
        return "its files, rules, seeds, input columns or index key have changed"
    for table, load in previous.read_up_to.items():
        row = warehouse.execute(
            "select change from ops.schema_change where load_id > %(load)s "
            "and table_name = %(table)s and change = any(%(changes)s) limit 1",
            {"table": table, "load": load, "changes": list(_RESHAPED)},
        ).fetchone()
        if row is not None:
            return f"raw.{table}: {row[0].replace('_', ' ')}"
    return None
