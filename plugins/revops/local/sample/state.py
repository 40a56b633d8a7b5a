"""What the sample remembers of itself, in a schema of its own: its seed, its days, its ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from psycopg import Cursor, sql

from revops.local.sample.loading import columns_of

DDL = """
create schema sample;
create table sample.setting (seed bigint not null, started date not null, scale double precision not null);
create table sample.day (
    number integer primary key, at timestamp not null, first_lead_id bigint, first_partner_id bigint
);
create table sample.merged (
    table_name text, loser integer, winner integer not null, primary key (table_name, loser)
);
create table sample.last_id (table_name text primary key, id bigint not null);
"""
APART = timedelta(seconds=30)


@dataclass(frozen=True)
class State:
    """Where one database of the sample stands; `at` is the naive UTC time of its last day's changes."""

    seed: int
    started: date
    scale: float
    day: int
    at: datetime


def begin(cursor: Cursor[tuple[object, ...]], *, seed: int, started: date, scale: float) -> None:
    """Create the sample's own tables at day 0. Does not commit."""
    cursor.execute(DDL)
    cursor.execute("insert into sample.setting values (%s, %s, %s)", [seed, started, scale])
    cursor.execute("insert into sample.day values (0, %s)", [datetime.combine(started, time())])


def read(cursor: Cursor[tuple[object, ...]], database: str) -> State:
    """Return the state of one database. Raises LookupError where it is no sample."""
    cursor.execute("select to_regclass('sample.setting') is not null")
    if cursor.fetchone() != (True,):
        raise LookupError(
            f"the {database} database is not a sample source: fill two empty databases with create() first"
        )
    cursor.execute(
        "select seed, started, scale, number, at from sample.setting, sample.day order by number desc limit 1"
    )
    row = cursor.fetchone()
    match row:
        case (int(seed), date() as started, float(scale), int(day), datetime() as at):
            return State(seed, started, scale, day, at)
    raise LookupError(f"the {database} database's schema sample is damaged: drop both sample databases and create anew")


def next_moment(last: datetime, today: date) -> datetime:
    """Return the time of the next day's changes: early on `today`, and after the last ones in any case."""
    return max(datetime.combine(today, time()), last) + APART


def remember_ids(cursor: Cursor[tuple[object, ...]], tables: list[str]) -> None:
    """Note the highest id of each table and move its sequence there. Does not commit (sequences never do)."""
    for table in tables:
        if "id" not in columns_of(cursor, table):
            continue
        cursor.execute(
            sql.SQL("insert into sample.last_id select {}, coalesce(max(id), 0) from {}").format(
                table, sql.Identifier(table)
            )
        )
        cursor.execute(
            "select setval(pg_get_serial_sequence(%s, 'id'), greatest(id, 1))"
            " from sample.last_id where table_name = %s",
            [table, table],
        )


def take_ids(cursor: Cursor[tuple[object, ...]], table: str, count: int) -> range:
    """Return `count` new ids of `table`; an id of a deleted row never comes back. Does not commit."""
    cursor.execute(
        "update sample.last_id set id = id + %s where table_name = %s"
        " returning id, setval(pg_get_serial_sequence(%s, 'id'), greatest(id, 1))",
        [count, table, table],
    )
    row = cursor.fetchone()
    if row is None or not isinstance(row[0], int):
        raise LookupError(f"sample.last_id has no row for {table}: drop both sample databases and create them again")
    return range(row[0] - count + 1, row[0] + 1)
