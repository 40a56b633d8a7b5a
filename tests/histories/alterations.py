"""Random alterations of a table, each one transaction: what migrations, module upgrades and custom fields do to it."""

from __future__ import annotations

import random
from collections.abc import Callable

import psycopg
from psycopg import sql

from tests.histories.changes import REFUSALS, truncate
from tests.histories.keys import NEXT_NUMBER
from tests.histories.shape import Field, Shape, read_shape
from tests.histories.tables import NAMES
from tests.histories.values import DECLARATIONS, any_value

Alteration = Callable[[psycopg.Connection, random.Random, Shape], None]

# What a type may become without losing a value; the last ones don't rewrite the table's rows, yet some print otherwise.
WIDENINGS = {
    "smallint": ("integer", "bigint", "numeric", "text"),
    "integer": ("bigint", "numeric", "text"),
    "bigint": ("numeric", "text"),
    "numeric(12,2)": ("numeric", "numeric(14,4)", "text"),
    "real": ("double precision",),
    "date": ("timestamp without time zone", "text"),
    "character varying(12)": ("character varying(40)", "character varying", "text"),
    "character varying(20)": ("character varying(40)", "character varying", "text"),
    "character varying": ("text",),
    "character(3)": ("character(5)", "text"),
    "timestamp(0) without time zone": ("timestamp without time zone",),
    "timestamp without time zone": ("timestamp with time zone",),
    "timestamp with time zone": ("timestamp without time zone",),
    "cidr": ("inet",),
    "text": ("character varying",),
    "mood": ("text",),
    "mood[]": ("text[]",),
    "share": ("numeric",),
    "json": ("text",),
}


def alter(connection: psycopg.Connection, rng: random.Random, name: str, *, lock_timeout: str) -> str:
    """Run one random alteration as a transaction; return what it was, or that it was refused."""
    alteration = rng.choices(list(ALTERATIONS), weights=list(ALTERATIONS.values()))[0]
    return run_alteration(connection, rng, name, alteration, lock_timeout=lock_timeout)


def run_alteration(
    connection: psycopg.Connection, rng: random.Random, name: str, alteration: Alteration, *, lock_timeout: str
) -> str:
    """Run one alteration as a transaction; return what it was, or that it was refused."""
    try:
        connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(lock_timeout)))
        # So that timestamps become timestamptz without their rows being rewritten.
        connection.execute("set local timezone = 'UTC'")
        shape = read_shape(connection, name)
        if shape.fields:
            alteration(connection, rng, shape)
        connection.commit()
    except REFUSALS as refusal:
        connection.rollback()
        return f"{alteration.__name__} refused: {type(refusal).__name__}"
    return alteration.__name__


def add_column(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Add a column: empty, with a constant that no row is rewritten for, or with a value of each row's own."""
    free = [name for name in (*NAMES, "added", "added_2", "added_3") if not shape.has(name)]
    name = rng.choice(free)
    declared = rng.choice(DECLARATIONS)
    row = sql.SQL(rng.choice(("''::text", "random()::text")))
    default = any_value(declared, salt=rng.randrange(1000), row=row, is_required=True)
    tail = rng.choice(
        (sql.SQL(""), sql.SQL(" default {}").format(default), sql.SQL(" not null default {}").format(default))
    )
    _alter(connection, shape, "add column {} {}", sql.Identifier(name), sql.SQL(declared), tail)


def drop_column(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    if field := _any_field(rng, shape.data):
        _alter(connection, shape, "drop column {}", field.identifier)


def replace_column(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Drop a column and add another of the same name, often of the same type."""
    if field := _any_field(rng, shape.data):
        _alter(connection, shape, "drop column {}", field.identifier)
        declared = rng.choice((field.declared, rng.choice(DECLARATIONS)))
        default = any_value(declared, salt=rng.randrange(1000), row=sql.SQL("''::text"), is_required=False)
        _alter(connection, shape, "add column {} {} default {}", field.identifier, sql.SQL(declared), default)


def rename_column(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    field = _any_field(rng, (*shape.data, *shape.key))
    free = [name for name in (*NAMES, "renamed", "renamed_2") if not shape.has(name)]
    if field is not None:
        _rename(connection, shape, field.name, rng.choice(free))


def exchange_names(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Let two columns exchange their names."""
    if len(shape.data) > 1:
        one, other = rng.sample(shape.data, 2)
        for before, after in ((one.name, "spare name"), (other.name, one.name), ("spare name", other.name)):
            _rename(connection, shape, before, after)


def widen_type(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    fields = tuple(field for field in (*shape.data, *shape.key) if field.declared in WIDENINGS)
    if field := _any_field(rng, fields):
        declared = sql.SQL(rng.choice(WIDENINGS[field.declared]))
        _alter(connection, shape, "alter column {} type {}", field.identifier, declared)


def change_type(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Give a column a type that has nothing to do with its present one, and values that fit."""
    if field := _any_field(rng, tuple(field for field in shape.data if field.name != "write_date")):
        declared = rng.choice(DECLARATIONS)
        row = sql.SQL("coalesce({}::text, '')").format(field.identifier)
        value = any_value(declared, salt=rng.randrange(1000), row=row, is_required=True)
        _alter(connection, shape, "alter column {} drop default", field.identifier)
        _alter(
            connection,
            shape,
            "alter column {} type {} using {}",
            field.identifier,
            sql.SQL(declared),
            value,
        )


def change_key(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Make another column the key, or add one to it, or leave the table without."""
    if shape.is_partitioned:
        return
    if shape.key:
        row = connection.execute(
            "select conname from pg_constraint where contype = 'p' and conrelid = to_regclass(%s)",
            (shape.table.as_string(connection),),
        ).fetchone()
        _alter(connection, shape, "drop constraint {}", sql.Identifier(str(row[0] if row else "")))
    if shape.key and rng.random() < 0.3:
        return
    name = next(name for name in ("id", "Key", "key_2", "key_3", "key_4", "key_5") if not shape.has(name))
    _alter(connection, shape, "add column {} bigint", sql.Identifier(name))
    connection.execute(sql.SQL("update {} set {} = {}").format(shape.table, sql.Identifier(name), NEXT_NUMBER))
    kept = [field.identifier for field in shape.key if rng.random() < 0.3]
    _alter(connection, shape, "add primary key ({})", sql.SQL(", ").join([*kept, sql.Identifier(name)]))


def recreate(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Put a new table in the place of the old one, with some of its rows."""
    if shape.is_partitioned:
        return
    parts = {
        "old": shape.table,
        "new": sql.Identifier(f"{shape.name}_new"),
        "share": sql.Literal(rng.choice((0, 50, 100))),
    }
    connection.execute(sql.SQL("create table {new} (like {old} including all)").format(**parts))
    connection.execute(
        sql.SQL(
            "insert into {new} select * from {old} as o where abs(hashtext(o.ctid::text)::bigint) % 100 < {share}"
        ).format(**parts)
    )
    connection.execute(sql.SQL("drop table {old}").format(**parts))
    connection.execute(sql.SQL("alter table {new} rename to {old}").format(**parts))


def rewrite(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Rewrite the table's file; its rows stay what they are."""
    if shape.is_partitioned:
        return
    if rng.random() < 0.5:
        _alter(connection, shape, "set unlogged")
        _alter(connection, shape, "set logged")
        return
    connection.commit()
    connection.autocommit = True
    try:
        connection.execute(sql.SQL("vacuum ({}) {}").format(sql.SQL(rng.choice(("full", "freeze"))), shape.table))
    finally:
        connection.autocommit = False


def move_partition(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Take a partition away with its rows, or bring it back."""
    if not shape.is_partitioned:
        return
    part = sql.Identifier(f"{shape.name}_p1")
    attached = connection.execute(
        "select relispartition from pg_class where oid = to_regclass(%s)", (part.as_string(connection),)
    ).fetchone()
    if attached == (True,):
        _alter(connection, shape, "detach partition {}", part)
    elif attached == (False,):
        _alter(connection, shape, "attach partition {} for values with (modulus 3, remainder 1)", part)


# With how often each happens.
ALTERATIONS: dict[Alteration, float] = {
    add_column: 4,
    drop_column: 2,
    replace_column: 1,
    rename_column: 2,
    exchange_names: 1,
    widen_type: 4,
    change_type: 1,
    change_key: 1,
    recreate: 1,
    rewrite: 1,
    move_partition: 2,
    truncate: 1,
}


def _any_field(rng: random.Random, fields: tuple[Field, ...]) -> Field | None:
    # Without a column of data some changes have nothing to do, so the last one stays.
    return rng.choice(fields) if len(fields) > 1 else None


def _alter(connection: psycopg.Connection, shape: Shape, action: str, *parts: sql.Composable) -> None:
    placed = sql.SQL(action).format(*parts[: action.count("{}")])
    tail = sql.SQL("").join(parts[action.count("{}") :])
    connection.execute(sql.SQL("alter table {} ").format(shape.table) + placed + tail)


def _rename(connection: psycopg.Connection, shape: Shape, before: str, after: str) -> None:
    _alter(connection, shape, "rename column {} to {}", sql.Identifier(before), sql.Identifier(after))
