"""All tables of a run are read in one snapshot, which another session holds: it may be lost, or become old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from revops.extract.snapshot import SharedSnapshot
from tests.drills.databases import SOURCE
from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.world import World


def lose_snapshot(world: World) -> None:
    """End the session that holds the run's snapshot at a random moment: the load reads in one of its own, or fails."""
    world.prepare()
    with _held(world) as (holder, snapshot):

        def inject(_: Load) -> bool:
            with world.databases.source.connect("postgres") as connection:
                ended = connection.execute("select pg_terminate_backend(%s)", (holder.info.backend_pid,)).fetchone()
            return ended == (True,)

        world.change()
        world.disturb(inject, snapshot=snapshot)
    world.settle()


def read_old_snapshot(world: World) -> None:
    """Load in a snapshot that is older than what raw already has, as a run does that was held up."""
    world.prepare(loads=1)
    with _held(world) as (_, snapshot):
        for _ in range(world.rng.randint(1, 2)):
            world.change()
            world.recover()
        outcome = world.start(snapshot=snapshot).wait()
        world.log.append(f"in the old snapshot: load {outcome}")
        world.judge(outcome)
        world.hits += 1
        world.broken += outcome.kind != "succeeded"
    if world.rng.random() < 0.5:
        world.change()
    world.settle()


@contextmanager
def _held(world: World) -> Iterator[tuple[psycopg.Connection, SharedSnapshot]]:
    with psycopg.connect(world.databases.source.postgres.conninfo(SOURCE)) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = holder.execute("select pg_export_snapshot()").fetchone()
        yield holder, SharedSnapshot(str(row[0] if row else ""))
        holder.close()


DRILLS = (
    Drill("snapshot-lost", "the session that holds the run's snapshot is ended", 6, lose_snapshot),
    Drill("snapshot-old", "a load reads in a snapshot older than what raw has", 5, read_old_snapshot),
)
