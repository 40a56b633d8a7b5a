"""No fault at all: the source lives on while it is read. Rows, keys, columns and whole tables change under the load."""

from __future__ import annotations

import random
from concurrent.futures import Future, ThreadPoolExecutor, wait

import psycopg

from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.world import DrillError, World, kill_worker
from tests.histories.alterations import alter
from tests.histories.changes import change_keys, delete_some, exchange_keys, insert_gone_keys, restate
from tests.histories.shape import read_shape


def commit_late(world: World) -> None:
    """Keep transactions open over one or more loads, then let them commit or roll back, in any order."""
    world.prepare(loads=1)
    for _ in range(world.rng.randint(3, 5)):
        for _ in range(world.rng.randint(1, 2)):
            world.application.open_late()
        world.change(transactions=1)
        with world.application.writing(world.rng.choice((0, 0, 1, 2))):
            world.judge(world.load())
        world.hits += world.application.finish_late(chance=0.4)
    world.hits += world.application.finish_late()
    world.settle()


def commit_late_killed(world: World) -> None:
    """As before, with the worker killed while they are open."""
    world.prepare(loads=1)
    for _ in range(2):
        world.application.open_late()
        world.change(transactions=1)
        world.disturb(kill_worker)
        world.application.finish_late(chance=0.5)
    world.settle()


def alter_meanwhile(world: World) -> None:
    """Alter, rewrite, empty or replace the table at a random moment of a load."""
    world.prepare()
    seed = world.rng.random()
    with ThreadPoolExecutor(1) as pool:
        begun: list[Future[None]] = []

        def inject(_: Load) -> bool:
            begun.append(pool.submit(_alter, world, seed))
            # Where the load is held back meanwhile, the alteration comes between two of its statements.
            wait(begun, timeout=0.3)
            return True

        world.disturb(inject)
        for alteration in begun:
            alteration.result()
    world.settle()


def alter_between(world: World) -> None:
    """Alter the table several times between loads; each of them must succeed at once."""
    world.prepare(loads=1)
    for _ in range(world.rng.randint(2, 4)):
        for _ in range(world.rng.randint(1, 3)):
            world.application.alter()
            world.application.write()
        world.load_twice()
        world.hits += 1
        world.compare(world.keys())
    world.settle()


def go_and_return(world: World) -> None:
    """Rename the table away, or drop it, and let it come back later: it is absent meanwhile, and nothing is lost."""
    world.prepare(loads=1, optional=True)
    is_dropped = world.rng.random() < 0.5
    with psycopg.connect(world.application.dsn) as connection:
        connection.execute("create table kept (like t including all)" if is_dropped else "alter table t rename to kept")
        if is_dropped:
            connection.execute("insert into kept select * from t")
            connection.execute("drop table t")
    before = world.raw_rows()
    outcome = world.load()
    world.judge(outcome)
    if outcome.kind != "succeeded" or outcome.event is None or not outcome.event.facts["is_absent"]:
        raise DrillError(f"the table is away, but the load {outcome}")
    if world.raw_rows() != before:
        raise DrillError("a table that is away has lost rows in raw")
    with psycopg.connect(world.application.dsn) as connection:
        connection.execute("alter table kept rename to t")
    world.hits += 1
    world.change()
    world.settle()


def delete_and_rekey(world: World) -> None:
    """Delete rows, give rows other keys, restate and bring back rows; kill the worker now and then."""
    world.prepare(rows=(300, 3000), loads=1)
    for _ in range(3):
        for _ in range(world.rng.randint(1, 3)):
            _delete(world)
        if world.rng.random() < 0.4:
            world.disturb(kill_worker)
        else:
            before = world.keys()
            world.recover()
            world.compare(before)
            world.hits += 1
    world.settle()


def lose_too_much(world: World) -> None:
    """Delete nearly everything: a load that nobody has allowed that refuses and changes nothing."""
    world.prepare(rows=(300, 3000), loads=1, max_deleted_share=0.2)
    if world.load().kind != "succeeded":
        raise DrillError("a load that nothing disturbs fails")
    before = world.raw_rows()
    with psycopg.connect(world.application.dsn) as connection:
        connection.execute("delete from t where (tableoid, ctid) in (select tableoid, ctid from t offset 5)")
    outcome = world.start(accept_deletions=False).wait()
    world.log.append(f"nearly all rows are gone: load {outcome}")
    if outcome.error != "TooManyDeletionsError":
        raise DrillError(f"nearly all rows are gone, and the load {outcome}")
    if world.raw_rows() != before:
        raise DrillError("a load that was refused has changed raw")
    world.hits += 1
    world.broken += 1
    world.settle()


def _alter(world: World, seed: float) -> None:
    rng = random.Random(seed)
    with psycopg.connect(world.application.dsn) as connection:
        for _ in range(rng.randint(1, 2)):
            world.log.append(f"meanwhile: {alter(connection, rng, 't', lock_timeout='15s')}")


def _delete(world: World) -> None:
    change = world.rng.choice((delete_some, change_keys, exchange_keys, restate, insert_gone_keys))
    with psycopg.connect(world.application.dsn) as connection:
        change(connection, world.rng, read_shape(connection, "t"))
    world.log.append(change.__name__)


DRILLS = (
    Drill("late-commit", "transactions stay open over loads, then commit or roll back", 8, commit_late),
    Drill("late-commit-killed", "the same, and the worker is killed", 4, commit_late_killed),
    Drill(
        "altered-meanwhile", "ALTER, TRUNCATE, rewrite or replacement of the table during a load", 14, alter_meanwhile
    ),
    Drill("altered-between", "the same between loads, which must succeed at once", 7, alter_between),
    Drill("away-and-back", "the table is renamed away or dropped, and comes back", 3, go_and_return),
    Drill("deleted-and-rekeyed", "hard deletes, changed keys, restatements, rows that come back", 7, delete_and_rekey),
    Drill("too-many-deletions", "nearly all rows vanish: the load refuses until it is allowed", 2, lose_too_much),
)
