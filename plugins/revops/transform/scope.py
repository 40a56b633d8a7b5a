"""Which keys an incremental run computes anew."""

from __future__ import annotations

import psycopg
from psycopg import sql

from revops.transform.definition import Definition
from revops.transform.targets import Scope
from revops.transform.views import SCOPE_KEYS


def create_scope(warehouse: psycopg.Connection, definition: Definition, source: str) -> int:
    """Fill pg_temp.scope_key (input, key) with the keys to compute; return how many. Does not commit.

    They are what the target's affected.sql gives, and the rows in quarantine, which are tried again in each run.
    """
    affected = _affected(definition)
    cursor = psycopg.ClientCursor(warehouse)  # a utility statement takes no server-side parameters
    parts: list[sql.Composable] = [sql.SQL("select a.input::text, a.key::text from ({}) as a").format(affected)]
    parts += [_retried(scope, definition.target.qualified) for scope in definition.target.scopes]
    statement = sql.SQL("create temp table scope_key on commit drop as {}").format(sql.SQL(" union ").join(parts))
    made = cursor.execute(statement, {"source": source}).rowcount
    warehouse.execute(sql.SQL("analyze {}").format(SCOPE_KEYS))
    return made


def _affected(definition: Definition) -> sql.SQL:
    if definition.affected is None:
        raise AssertionError("only a table with scopes runs incrementally")
    return sql.SQL(definition.affected)


def _retried(scope: Scope, target: str) -> sql.Composable:
    return sql.SQL(
        "select {input}::text, ({key})::text from {view} where {row_key} in ("
        "select substr(q.source_key, {start})::{type} from ops.quarantine as q "
        "where q.target = {target} and q.source = {source} and q.released_at is null "
        "and starts_with(q.source_key, {prefix}) {others})"
    ).format(
        input=sql.Literal(scope.input),
        key=sql.SQL(scope.key),
        view=sql.Identifier(scope.input),
        row_key=sql.SQL(scope.row_key),
        start=sql.Literal(len(scope.prefix) + 1),
        type=sql.SQL(scope.row_key_type),
        target=sql.Literal(target),
        source=sql.Literal(scope.input.partition("_")[0]),
        prefix=sql.Literal(scope.prefix),
        others=sql.SQL("") if scope.prefix else sql.SQL("and position(':' in q.source_key) = 0"),
    )


def in_scope(definition: Definition, source: str) -> sql.Composable:
    """Return the condition over the target `t` that tells the rows whose keys are computed in an incremental run."""
    conditions = [
        sql.SQL("{} in (select {} || k.key from {} as k where k.input = {})").format(
            sql.SQL(scope.target), sql.Literal(scope.prefix), SCOPE_KEYS, sql.Literal(scope.input)
        )
        for scope in definition.target.scopes
        if scope.input.startswith(f"{source}_")
    ]
    return sql.SQL("({})").format(sql.SQL(" or ").join(conditions))
