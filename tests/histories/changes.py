"""Random changes of a table's rows: what users, imports and merges do to it, in transactions that may fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import psycopg
from psycopg import errors, sql

from tests.histories.keys import NEXT_NUMBER, NUMBERS, key_values
from tests.histories.shape import Field, Shape, read_shape
from tests.histories.tables import insert_from, insert_rows
from tests.histories.values import any_value

Change = Callable[[psycopg.Connection, random.Random, Shape], None]

# What a writer may meet among other writers and alterations; its transaction then rolls back.
REFUSALS = (
    errors.UniqueViolation,
    errors.NotNullViolation,
    errors.CheckViolation,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UndefinedColumn,
    errors.UndefinedTable,
    errors.NumericValueOutOfRange,
    errors.InvalidTextRepresentation,
    errors.DatetimeFieldOverflow,
    errors.FeatureNotSupported,
    errors.ObjectInUse,
    errors.ObjectNotInPrerequisiteState,
    errors.DatatypeMismatch,
    errors.InvalidTableDefinition,
    errors.QueryCanceled,
)


def change_rows(
    connection: psycopg.Connection, rng: random.Random, name: str, *, operations: int = 3, is_long: bool = False
) -> list[str]:
    """Make some random changes in the connection's transaction; return what they were. The caller ends it.

    is_long: the transaction stays open, so it does nothing that would lock readers out.
    Some happen in a savepoint, so that rows carry the ids of subtransactions, and some of those are rolled back.
    """
    done: list[str] = []
    for _ in range(rng.randint(1, operations)):
        change = rng.choices(list(CHANGES), weights=list(CHANGES.values()))[0]
        if is_long and change is truncate:
            change = delete_some
        fate = rng.choice(("plain", "plain", "kept", "undone"))
        shape = read_shape(connection, name)
        if not shape.fields:
            return done
        if fate == "plain":
            change(connection, rng, shape)
        else:
            connection.execute("savepoint s")
            change(connection, rng, shape)
            connection.execute("release savepoint s" if fate == "kept" else "rollback to savepoint s")
        done.append(change.__name__ + ("" if fate == "plain" else f" ({fate} savepoint)"))
    return done


def write(connection: psycopg.Connection, rng: random.Random, name: str, *, operations: int = 3) -> list[str]:
    """Run one whole transaction of changes; it commits, or rolls back by chance or when it is refused."""
    try:
        done = change_rows(connection, rng, name, operations=operations)
    except REFUSALS as refusal:
        connection.rollback()
        return [f"refused: {type(refusal).__name__}"]
    if rng.random() < 0.1:
        connection.rollback()
        return [f"{text} (rolled back)" for text in done]
    connection.commit()
    return done


def write_stamped(connection: psycopg.Connection, rng: random.Random, name: str) -> None:
    """Insert and update rows as an application does that stamps each of them; the caller ends the transaction."""
    shape = read_shape(connection, name)
    if rng.random() < 0.7:
        insert_some(connection, rng, shape)
    settings: list[sql.Composable] = [sql.SQL("write_date = default")]
    for field in rng.sample([field for field in shape.data if field.name not in ("write_date", "filler")], 1):
        value = any_value(field.declared, salt=rng.randrange(1000), row=sql.SQL("t.ctid::text"), is_required=False)
        settings.append(sql.SQL("{} = {}").format(field.identifier, value))
    _update(connection, rng, shape, settings, limit=20)


def insert_some(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    insert_rows(
        connection, shape, rows=rng.choice((1, 3, 20, 150)), salt=rng.randrange(1000), filler=rng.choice((32, 320))
    )


def insert_gone_keys(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Insert rows under keys that were used before: deleted rows come back, as they were or with other values."""
    numbers = sql.SQL(
        "(select n from generate_series(1, (select last_value from {})) as n order by hashint8(n + {}) limit 10)"
        " as numbers"
    )
    insert_from(connection, shape, numbers=numbers.format(NUMBERS, sql.Literal(rng.randrange(1000))), salt=0, filler=32)


def update_some(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Give some rows other values; most writers touch write_date, raw SQL does not."""
    fields = [field for field in shape.data if field.name != "write_date"]
    if not fields:
        return
    chosen = rng.sample(fields, rng.randint(1, min(3, len(fields))))
    row = sql.SQL("t.ctid::text")
    salt = rng.randrange(1000)
    settings: list[sql.Composable] = [
        sql.SQL("{} = {}").format(
            field.identifier, any_value(field.declared, salt=salt + i, row=row, is_required=field.is_required)
        )
        for i, field in enumerate(chosen)
        if field.name != "filler"
    ]
    if shape.has("write_date") and rng.random() < 0.7:
        settings.append(sql.SQL("write_date = default"))
    if settings:
        _update(connection, rng, shape, settings)


def touch(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Write rows back as they are."""
    field = rng.choice((*shape.data, *shape.key))
    _update(connection, rng, shape, [sql.SQL("{0} = {0}").format(field.identifier)])


def delete_some(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    connection.execute(sql.SQL("delete from {} as t where {}").format(shape.table, some_rows(rng, shape)))


def change_keys(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Give some rows other keys: to a loader they vanish, and others appear."""
    if not shape.key:
        return
    # All columns of a key need the same number, so it is drawn once a row, beside the table.
    connection.execute(
        sql.SQL(
            "with numbers as materialized (select chosen.*, {number} as n from ({chosen}) as chosen (part, place)) "
            "update {table} as t set {settings} from numbers where (t.tableoid, t.ctid) = (numbers.part, numbers.place)"
        ).format(
            number=NEXT_NUMBER,
            chosen=_chosen(rng, shape, limit=rng.choice((1, 5, 30))),
            table=shape.table,
            settings=sql.SQL(", ").join(
                sql.SQL("{} = {}").format(field.identifier, value)
                for field, value in zip(shape.key, key_values(shape.key, sql.SQL("numbers.n")), strict=True)
            ),
        )
    )


def exchange_keys(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Let two rows exchange their keys: no key vanishes, no key appears, both rows change."""
    if not shape.key:
        return
    key = sql.SQL(", ").join(sql.SQL("{}::text").format(field.identifier) for field in shape.key)
    rows = connection.execute(
        sql.SQL("select {} from {} where (tableoid, ctid) in ({})").format(
            key, shape.table, _chosen(rng, shape, limit=2)
        )
    ).fetchall()
    spare = connection.execute(
        sql.SQL("select {} from (select {} as n) as numbers").format(
            sql.SQL(", ").join(sql.SQL("({})::text").format(v) for v in key_values(shape.key, sql.SQL("numbers.n"))),
            NEXT_NUMBER,
        )
    ).fetchone()
    if len(rows) < 2 or spare is None:
        return
    for before, after in ((rows[0], spare), (rows[1], rows[0]), (spare, rows[1])):
        connection.execute(
            sql.SQL("update {} set {} where {}").format(
                shape.table,
                sql.SQL(", ").join(_equals(f, value) for f, value in zip(shape.key, after, strict=True)),
                sql.SQL(" and ").join(_equals(f, value) for f, value in zip(shape.key, before, strict=True)),
            )
        )


def merge_rows(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Merge records as a CRM does: the winner changes, who points at the losers is re-pointed, the losers go."""
    update_some(connection, rng, shape)
    delete_some(connection, rng, shape)


def restate(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Delete rows and insert the same ones under new keys, as a bill that is delivered again."""
    fields = [*shape.key, *shape.data]
    values = [
        *key_values(shape.key, sql.SQL("numbers.n")),
        *(sql.SQL("numbers.{}").format(field.identifier) for field in shape.data),
    ]
    connection.execute(
        sql.SQL(
            "with gone as (delete from {table} as t where {some} returning t.*), "
            "numbers as materialized (select gone.*, {number} as n from gone) "
            "insert into {table} ({columns}) select {values} from numbers"
        ).format(
            table=shape.table,
            some=some_rows(rng, shape),
            number=NEXT_NUMBER,
            columns=sql.SQL(", ").join(field.identifier for field in fields),
            values=sql.SQL(", ").join(values),
        )
    )


def lock_some(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Lock rows without changing them: they get a new xmax, not a new xmin."""
    query = sql.SQL("select 1 from {} as t where {} for update nowait")
    connection.execute(query.format(shape.table, some_rows(rng, shape, limit=5)))


def truncate(connection: psycopg.Connection, rng: random.Random, shape: Shape) -> None:
    """Empty the table, and most times fill it again in the same transaction."""
    connection.execute(sql.SQL("truncate {}").format(shape.table))
    if rng.random() < 0.8:
        insert_rows(connection, shape, rows=rng.choice((1, 30, 200)), salt=rng.randrange(1000), filler=64)


# With how often each happens.
CHANGES: dict[Change, float] = {
    insert_some: 6,
    insert_gone_keys: 2,
    update_some: 8,
    touch: 2,
    delete_some: 4,
    change_keys: 2,
    exchange_keys: 1,
    merge_rows: 1,
    restate: 2,
    lock_some: 1,
    truncate: 0.3,
}


def some_rows(rng: random.Random, shape: Shape, *, limit: int | None = None) -> sql.Composed:
    """Return a condition on `t` that chooses a few rows, many, or all."""
    limit = limit or rng.choice((1, 1, 5, 30, 200, 100_000))
    return sql.SQL("(t.tableoid, t.ctid) in ({})").format(_chosen(rng, shape, limit=limit))


def _chosen(rng: random.Random, shape: Shape, *, limit: int) -> sql.Composed:
    return sql.SQL("select s.tableoid, s.ctid from {} as s order by md5(s.ctid::text || {}) limit {}").format(
        shape.table, sql.Literal(str(rng.randrange(1000))), sql.Literal(limit)
    )


def _update(
    connection: psycopg.Connection,
    rng: random.Random,
    shape: Shape,
    settings: Sequence[sql.Composable],
    *,
    limit: int | None = None,
) -> None:
    connection.execute(
        sql.SQL("update {} as t set {} where {}").format(
            shape.table, sql.SQL(", ").join(settings), some_rows(rng, shape, limit=limit)
        )
    )


def _equals(field: Field, value: str | None) -> sql.Composed:
    declared = sql.SQL(field.declared)
    return sql.SQL("{} = {}::{}").format(field.identifier, sql.Literal(value), declared)
