"""A session of the worker is ended in the middle of its work, by the server it is on."""

from __future__ import annotations

from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.server import Server
from tests.drills.world import World


def end_source_session(world: World) -> None:
    """End one of the worker's sessions in the source with pg_terminate_backend."""
    world.prepare()
    world.disturb(lambda load: _end_session(world, world.databases.source, load.backends("source")))
    world.settle()


def end_warehouse_session(world: World) -> None:
    """End one of the worker's sessions in the warehouse with pg_terminate_backend."""
    world.prepare()
    world.disturb(lambda load: _end_session(world, world.databases.warehouse, load.backends("warehouse")))
    world.settle()


def end_all_sessions(world: World) -> None:
    """End all of the worker's sessions on both servers at once, as a failing proxy or pooler does."""

    def end(load: Load) -> bool:
        sides = ((world.databases.source, "source"), (world.databases.warehouse, "warehouse"))
        return sum(_end(server, pid) for server, side in sides for pid in load.backends(side)) > 0

    world.prepare()
    world.disturb(end)
    world.settle()


def _end_session(world: World, server: Server, backends: list[int]) -> bool:
    # The last one opened is the one that reads or writes; the others watch, or keep the record.
    chosen = world.rng.sample(backends, len(backends))
    return any(_end(server, pid) for pid in chosen)


def _end(server: Server, pid: int) -> bool:
    with server.connect("postgres") as connection:
        return connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s", (pid,)
        ).fetchone() == (True,)


DRILLS = (
    Drill("source-session", "pg_terminate_backend on a source session at a random moment", 12, end_source_session),
    Drill("warehouse-session", "pg_terminate_backend on a warehouse session", 12, end_warehouse_session),
    Drill("all-sessions", "pg_terminate_backend on all sessions of the worker at once", 4, end_all_sessions),
)
