"""A server goes down hard in the middle of a load, and comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.drills.databases import SOURCE, Databases
from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.server import Server
from tests.drills.world import World
from tests.histories.changes import update_some
from tests.histories.shape import read_shape


def stop_at_once(world: World) -> None:
    """Stop one server or both as `pg_ctl -m immediate` does."""
    _bring_down(world, Server.stop_at_once)


def cut_power(world: World) -> None:
    """Kill the postmaster and every child with -9 at the same moment, on one server or both."""
    _bring_down(world, Server.cut_power)


def kill_postmaster(world: World) -> None:
    """Kill the postmaster alone with -9: what its backends are at may still be committed."""
    _bring_down(world, Server.kill_postmaster)


def kill_backend(world: World) -> None:
    """Kill the worker's backend with -9, as the kernel does when memory runs out; the server restarts by itself."""
    world.prepare()
    server, side = world.rng.choice(((world.databases.source, "source"), (world.databases.warehouse, "warehouse")))
    world.disturb(lambda load: sum(server.signal_backend(pid, signal.SIGKILL) for pid in load.backends(side)) > 0)
    world.restart()
    world.settle()


def reuse_transaction_ids(world: World) -> None:
    """Cut the source's power right after a load; ids of transactions whose end was not on disk are given out again.

    A transaction that is rolled back waits for no disk. The load sees its id as finished and remembers that; after the
    crash other rows are written under the same id, and they must be found all the same.
    """
    world.prepare(rows=(300,), loads=1, mode="xid")
    load = world.start(pause_at=1)
    load.wait_for(lambda event: event.what == "waits")
    with world.databases.source.connect(SOURCE) as connection, connection.transaction(force_rollback=True):
        connection.execute("create table never_there (n integer)")
        lost = connection.execute("select pg_current_xact_id()::text::bigint").fetchone()
    load.go_on()
    outcome = load.wait()
    world.databases.source.cut_power()
    world.log.append(f"load {outcome}; transaction {lost} was rolled back before it, then the power was cut")
    world.judge(outcome)
    world.restart()
    with world.databases.source.connect(SOURCE) as connection:
        following = connection.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    world.log.append(f"the next transaction is {following}")
    world.hits += bool(lost and following and following[0] <= lost[0])
    # Updates only: a row that is missing would be noticed, a row that is old would not.
    with psycopg.connect(world.application.dsn) as connection:
        update_some(connection, world.rng, read_shape(connection, "t"))
    world.settle()


def take_back_commits(world: World) -> None:
    """Cut the source's power right after a load that saw a commit which had not waited for the disk.

    The source has its rows again; raw must not hold on to a deletion that never was.
    """
    world.prepare(rows=(300,), loads=0, mode="xid")
    world.load_twice()
    # What was written before it is not read again for the crash's sake alone.
    with world.databases.source.connect("postgres") as connection:
        connection.execute("checkpoint")
    load = world.start(pause_at=1)
    load.wait_for(lambda event: event.what == "waits")
    with psycopg.connect(world.application.dsn) as connection:
        connection.execute("set synchronous_commit = off")
        before = connection.execute("select count(*) from t").fetchone()
        deleted = connection.execute("delete from t where random() < 0.2").rowcount
    load.go_on()
    outcome = load.wait()
    world.databases.source.cut_power()
    world.log.append(
        f"load {outcome}; {deleted} deletions were committed before it without waiting, then the power was cut"
    )
    world.judge(outcome)
    world.restart()
    with psycopg.connect(world.application.dsn) as connection:
        after = connection.execute("select count(*) from t").fetchone()
    world.log.append(f"{before} rows were there before, {after} are now")
    world.hits += deleted > 0 and before == after
    world.settle()


@contextmanager
def slow_writer(databases: Databases) -> Iterator[None]:
    """Let the source write what nobody waits for after two seconds instead of a fifth of one: a crash then loses it."""
    for action in ("set wal_writer_delay = '2s'", "reset wal_writer_delay"):
        databases.source.start()
        with databases.source.connect("postgres") as connection:
            connection.execute(f"alter system {action}".encode())
            connection.execute("select pg_reload_conf()")
        if action.startswith("set"):
            yield


def _bring_down(world: World, down: Callable[[Server], None]) -> None:
    world.prepare()
    both = [world.databases.source, world.databases.warehouse]
    servers = world.rng.choice(([both[0]], [both[1]], both))

    def bring_down(_: Load) -> bool:
        for server in servers:
            down(server)
        return True

    world.disturb(bring_down)
    time.sleep(world.rng.uniform(0, 0.5))
    world.restart()
    world.settle()


DRILLS = (
    Drill("server-stopped", "pg_ctl -m immediate on one server or both", 10, stop_at_once),
    Drill("power-cut", "kill -9 of a postmaster and all its children, one server or both", 10, cut_power),
    Drill("postmaster-killed", "kill -9 of the postmaster alone, its backends live on", 4, kill_postmaster),
    Drill("backend-killed", "kill -9 of the worker's backend: the whole server recovers", 4, kill_backend),
    Drill(
        "ids-given-out-again",
        "power cut after a load that saw a rollback which was not on disk yet",
        4,
        reuse_transaction_ids,
        slow_writer,
    ),
    Drill(
        "commits-taken-back",
        "power cut after a load that saw a commit which was not on disk yet",
        4,
        take_back_commits,
        slow_writer,
    ),
)
