"""A random table with its first rows."""

from __future__ import annotations

import random
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tests.histories.keys import KEY_KINDS, NEXT_NUMBER, NUMBERS, key_values
from tests.histories.shape import Field, Shape, read_shape
from tests.histories.values import DECLARATIONS, OWN_TYPES, any_value

# Names that break what quotes carelessly.
NAMES = ("name", "Name", "order", "select", 'we"ird', "ünï", "%s", "{}", "excluded", "t", "staging", "with blank", "x")
# Settings of the source's database that must not show in raw.
FOREIGN_SETTINGS = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'sql_standard'",
    "timezone": "'Asia/Kathmandu'",
    "extra_float_digits": "0",
    "bytea_output": "'escape'",
}


@dataclass(frozen=True)
class Plan:
    """How a table is made; filler: characters of text in each row, for volume."""

    key_kind: str
    columns: tuple[tuple[str, str, bool], ...]
    is_partitioned: bool
    filler: int
    has_write_date: bool


def plan_table(rng: random.Random, *, filler: int = 0) -> Plan:
    """Choose key, columns and kind of a table."""
    names = rng.sample(NAMES, rng.randint(1, 7))
    columns = tuple((name, rng.choice(DECLARATIONS), rng.random() < 0.15) for name in names)
    key_kind = rng.choice(tuple(KEY_KINDS))
    is_partitioned = key_kind != "none" and rng.random() < 0.12
    return Plan(key_kind, columns, is_partitioned, filler, rng.random() < 0.8)


def prepare_source(connection: psycopg.Connection, rng: random.Random) -> None:
    """Create the types and the number sequence that tables need; some sources print values in ways of their own."""
    connection.execute(OWN_TYPES.encode())
    connection.execute(sql.SQL("create sequence {} cache 1").format(NUMBERS))
    forget_settings(connection)
    if rng.random() < 0.4:
        database = sql.Identifier(connection.info.dbname)
        for name, value in FOREIGN_SETTINGS.items():
            statement = sql.SQL("alter database {} set {} = {}")
            connection.execute(statement.format(database, sql.Identifier(name), sql.SQL(value)))


def forget_settings(connection: psycopg.Connection) -> None:
    """Give the source's database the server's settings back."""
    connection.execute(sql.SQL("alter database {} reset all").format(sql.Identifier(connection.info.dbname)))


def create_table(connection: psycopg.Connection, name: str, plan: Plan) -> None:
    """Create an empty table."""
    key = KEY_KINDS[plan.key_kind]
    definitions: list[sql.Composable] = [_definition(column, declared, is_required=True) for column, declared in key]
    # A key stands first in most tables, but not in all.
    others: list[sql.Composable] = [
        _definition(column, declared, is_required=required) for column, declared, required in plan.columns
    ]
    if plan.filler:
        others.append(sql.SQL("filler text"))
    if plan.has_write_date:
        others.append(sql.SQL("write_date timestamp default (now() at time zone 'UTC')"))
    split = len(plan.columns) % 3 if len(plan.columns) > 3 else 0
    listed = others[:split] + definitions + others[split:]
    if key:
        columns = sql.SQL(", ").join(sql.Identifier(column) for column, _ in key)
        listed.append(sql.SQL("primary key ({})").format(columns))
    statement = sql.SQL("create table {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(listed))
    if plan.is_partitioned:
        statement += sql.SQL(" partition by hash ({})").format(sql.Identifier(key[-1][0]))
    connection.execute(statement)
    for part in range(3 if plan.is_partitioned else 0):
        connection.execute(
            sql.SQL("create table {} partition of {} for values with (modulus 3, remainder {})").format(
                sql.Identifier(f"{name}_p{part}"), sql.Identifier(name), sql.Literal(part)
            )
        )


def insert_rows(connection: psycopg.Connection, shape: Shape, *, rows: int, salt: int, filler: int = 0) -> None:
    """Insert rows with new keys and values that follow from the salt."""
    numbers = sql.SQL("(select {} as n from generate_series(1, {})) as numbers").format(NEXT_NUMBER, sql.Literal(rows))
    insert_from(connection, shape, numbers=numbers, salt=salt, filler=filler)


def insert_from(
    connection: psycopg.Connection, shape: Shape, *, numbers: sql.Composable, salt: int, filler: int = 0
) -> None:
    """Insert one row for each number `n` of a FROM item; rows whose key is taken are left out."""
    number = sql.SQL("numbers.n")
    fields = [*shape.key, *(field for field in shape.data if not _is_left_to_its_default(field))]
    values = key_values(shape.key, number)
    values += [
        _value(field, salt=salt + i, number=number, filler=filler) for i, field in enumerate(fields[len(values) :])
    ]
    conflict = sql.SQL(" on conflict do nothing") if shape.key else sql.SQL("")
    connection.execute(
        sql.SQL("insert into {} ({}) overriding system value select {} from {}").format(
            shape.table,
            sql.SQL(", ").join(field.identifier for field in fields),
            sql.SQL(", ").join(values),
            numbers,
        )
        + conflict
    )


def first_rows(connection: psycopg.Connection, name: str, plan: Plan, *, rows: int, salt: int) -> None:
    """Create a table and fill it."""
    create_table(connection, name, plan)
    if rows:
        insert_rows(connection, read_shape(connection, name), rows=rows, salt=salt, filler=plan.filler)


def _is_left_to_its_default(field: Field) -> bool:
    return field.name == "write_date"


def _value(field: Field, *, salt: int, number: sql.Composable, filler: int) -> sql.Composed:
    if field.name == "filler" and field.declared == "text":
        return sql.SQL("repeat(md5(({}) || {}), {})").format(
            number, sql.Literal(f"/{salt}"), sql.Literal(max(1, filler // 32))
        )
    row = sql.SQL("({})").format(number)
    return any_value(field.declared, salt=salt, row=row, is_required=field.is_required)


def _definition(name: str, declared: str, *, is_required: bool) -> sql.Composed:
    required = sql.SQL(" not null") if is_required else sql.SQL("")
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(declared)) + required
