"""The other ways to read a table, killed in the middle: billing months that are restated, and a cursor."""

from __future__ import annotations

import time

import psycopg

from tests.drills.drill import Drill
from tests.drills.world import World, kill_worker
from tests.histories.changes import delete_some, restate, write_stamped
from tests.histories.shape import read_shape
from tests.histories.tables import Plan

# A cursor goes back by seconds in any case; a transaction that is to be overlooked has to last longer.
LATE_S = 7.0


def restate_periods(world: World) -> None:
    """Deliver billing months again, under new ids, and kill the load that replaces them."""
    world.prepare(rows=(300, 3000), plan=_plan(world), loads=1, mode="replace_period", period=["month"])
    for _ in range(2):
        with psycopg.connect(world.application.dsn) as connection:
            for _ in range(world.rng.randint(1, 3)):
                restate(connection, world.rng, read_shape(connection, "t"))
        world.change(transactions=1)
        world.disturb(kill_worker)
    world.settle()


def follow_cursor(world: World) -> None:
    """Read by a timestamp that every change moves, with transactions that commit long after their timestamp."""
    # With the right to see how long transactions run the cursor's start is exact, without it is a fixed time back.
    right = world.rng.choice(("grant pg_read_all_stats to odoo_reader", "revoke pg_read_all_stats from odoo_reader"))
    with world.databases.source.connect("postgres") as connection:
        connection.execute(right.encode())
    settings = {"mode": "cursor", "cursor": "write_date", "compare_every_h": 8760, "cursor_lag_s": 60}
    world.prepare(rows=(300, 3000), plan=_plan(world), loads=1, **settings)
    late = psycopg.connect(world.application.dsn)
    write_stamped(late, world.rng, "t")
    for _ in range(2):
        world.change()
        world.recover()
    time.sleep(LATE_S)
    world.change()
    world.disturb(kill_worker)
    world.recover()
    late.commit()
    late.close()
    world.recover()
    world.assert_equal()
    # What moves no timestamp is found by the comparison of everything, when it is due.
    with psycopg.connect(world.application.dsn) as connection:
        delete_some(connection, world.rng, read_shape(connection, "t"))
    world.settings["compare_every_h"] = 0
    world.settle()


def _plan(world: World) -> Plan:
    """A bill: an id, a month, and what else there may be; never without a timestamp."""
    columns = (("month", "date", False), ("amount", "numeric", False), ("name", "text", False))
    return Plan(
        world.rng.choice(("integer", "bigint", "uuid")), columns, is_partitioned=False, filler=32, has_write_date=True
    )


DRILLS = (
    Drill("periods-restated", "billing months come again under new ids, the worker is killed", 5, restate_periods),
    Drill("cursor", "mode cursor with late commits, the worker is killed", 4, follow_cursor),
)
