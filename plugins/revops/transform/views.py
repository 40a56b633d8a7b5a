"""Raw tables as the SQL files see them: temporary views with the columns and types that core needs."""

from __future__ import annotations

import psycopg
from psycopg import sql

from revops.extract.catalog import without_modifier
from revops.extract.raw_table import read_raw_columns
from revops.transform.definition import Definition, Input
from revops.transform.errors import TransformError
from revops.transform.targets import Scope

NAIVE_TIME = "timestamp without time zone"
WHOLE_NUMBERS = ("smallint", "integer", "bigint")
TEXTS = ("text", "character varying", "character")
METADATA = {"_load_id": "bigint", "_deleted_at": "timestamptz"}
SCOPE_KEYS = sql.Identifier("pg_temp", "scope_key")


class InputViews:
    """The views of one transform: `<input>`, `scoped_<input>` and `<input>_changed`; dropped in its transaction.

    They go with the transaction and not with the session: a view of a raw table keeps its columns from being widened.
    Tables of another source are empty views: their rows have not passed the checks of this run.
    """

    def __init__(self, warehouse: psycopg.Connection, definition: Definition, source: str) -> None:
        self._warehouse = warehouse
        self._definition = definition
        self._made: list[str] = []
        self.actual = {
            item.table: read_raw_columns(warehouse, item.table) if item.table.startswith(f"{source}_") else {}
            for item in definition.inputs
        }

    def create(self) -> None:
        """Create the view `<input>` of each raw table. Raises TransformError where a column is missing."""
        for item in self._definition.inputs:
            self._create(item.table, self._body(item))

    def create_changed(self, read_up_to: dict[str, int]) -> None:
        """Create `<input>_changed`: the rows, deleted ones included, that were written after the last load seen."""
        for item in self._definition.inputs:
            # A constant, so that raw's index of later rows is used.
            since = sql.SQL("_load_id > {}").format(sql.Literal(read_up_to.get(item.table, 0)))
            self._create(f"{item.table}_changed", self._body(item, since))

    def create_scoped(self, *, is_full: bool) -> None:
        """Create `scoped_<input>` for the raw tables that the target's rows come from."""
        for scope in self._definition.target.scopes:
            item = next(item for item in self._definition.inputs if item.table == scope.input)
            condition = None if is_full or not self.actual[item.table] else _in_scope(scope)
            self._create(f"scoped_{item.table}", self._body(item, condition))

    def last_loads(self, read_up_to: dict[str, int]) -> dict[str, int]:
        """Return the last load that is visible, by rows or by what it changed of the columns, for each raw table."""
        found: dict[str, int] = {}
        for table, columns in self.actual.items():
            if not columns:
                continue
            since = read_up_to.get(table, 0)
            row = self._warehouse.execute(
                sql.SQL(
                    "select greatest((select max(_load_id) from {} where _load_id > {}), "
                    "(select max(load_id) from ops.schema_change where table_name = {}))"
                ).format(sql.Identifier("raw", table), sql.Literal(since), sql.Literal(table))
            ).fetchone()
            found[table] = max(since, row[0] or 0) if row else since
        return found

    def drop(self) -> None:
        for name in reversed(self._made):
            self._warehouse.execute(sql.SQL("drop view pg_temp.{}").format(sql.Identifier(name)))

    def _create(self, name: str, body: sql.Composable) -> None:
        self._warehouse.execute(sql.SQL("create temp view {} as {}").format(sql.Identifier(name), body))
        self._made.append(name)

    def _body(self, item: Input, condition: sql.Composable | None = None) -> sql.Composable:
        actual = self.actual[item.table]
        if not actual:
            nulls = [_null(name, declared) for name, declared in {**item.columns, **METADATA}.items()]
            return sql.SQL("select {} where false").format(sql.SQL(", ").join(nulls))
        columns = [_convert(item.table, name, declared, actual) for name, declared in item.columns.items()]
        columns += [sql.Identifier(name) for name in METADATA]
        body = sql.SQL("select {} from {}").format(sql.SQL(", ").join(columns), sql.Identifier("raw", item.table))
        # Over the converted columns; the planner sees through the nesting to raw's indexes.
        return body if condition is None else sql.SQL("select * from ({}) as v where {}").format(body, condition)


def _in_scope(scope: Scope) -> sql.Composable:
    return sql.SQL("{} in (select k.key::{} from {} as k where k.input = {})").format(
        sql.SQL(scope.key), sql.SQL(scope.type), SCOPE_KEYS, sql.Literal(scope.input)
    )


def _null(name: str, declared: str) -> sql.Composable:
    return sql.SQL("null::{} as {}").format(_type(declared), sql.Identifier(name))


def _convert(table: str, name: str, declared: str, actual: dict[str, str]) -> sql.Composable:
    if name not in actual:
        if declared.endswith("?"):
            return _null(name, declared)
        raise TransformError(
            f"raw.{table} has no column {name!r}, which core needs. Remedy: if the source really has none, mark it "
            f"`{declared}?` in include/sql/core/inputs.yaml; if it was renamed, "
            "change the name there and in the SQL files."
        )
    column = sql.Identifier(name)
    wanted = declared.rstrip("?")
    if wanted == "text" and actual[name] == "jsonb":
        # Translated text (Odoo 16 and later): {"en_US": ..., "fr_FR": ...}; en_US is always there.
        expression: sql.Composable = sql.SQL(
            "case when jsonb_typeof({0}) = 'object' then {0} ->> 'en_US' else {0} #>> '{{}}' end"
        ).format(column)
    elif wanted == "timestamptz" and without_modifier(actual[name]) == NAIVE_TIME:
        expression = sql.SQL("{} at time zone 'UTC'").format(column)
    elif wanted == "bigint" and actual[name] in WHOLE_NUMBERS:
        # As it is, so that raw's key is found by its index.
        expression = column
    elif wanted != "text" and without_modifier(actual[name]) in TEXTS:
        expression = sql.SQL("nullif({}, '')::{}").format(column, _type(declared))
    else:
        expression = sql.SQL("{}::{}").format(column, _type(declared))
    return sql.SQL("{} as {}").format(expression, column)


def _type(declared: str) -> sql.SQL:
    # From inputs.yaml, a file of the project.
    return sql.SQL(declared.rstrip("?"))
