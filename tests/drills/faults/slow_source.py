"""The source is slow: somebody holds a lock, or waits for one, or the line is thin."""

from __future__ import annotations

import signal
import time

import psycopg

from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.proxy import Proxy
from tests.drills.world import DrillError, World

# How much longer than its time-out a load may take to give up.
GRACE_S = 4.0
# Within this an ALTER TABLE must have its lock, however slow the reader is: others queue up behind it.
LONGEST_WAIT_S = 8.0


def lock_table(world: World) -> None:
    """Hold the table in access exclusive mode: the load gives up after lock_timeout and leaves no queue behind it."""
    world.prepare(lock_timeout_s=1)
    world.rehearse()
    with psycopg.connect(world.application.dsn) as holder:
        holder.execute("lock table t in access exclusive mode")
        outcome = world.start().wait()
        world.log.append(f"behind a lock: load {outcome}")
        world.judge(outcome)
        if outcome.kind == "succeeded":
            raise DrillError("a load went through a lock")
        if outcome.seconds > 1 + GRACE_S:
            raise DrillError(f"a load waited {outcome.seconds:.1f} s for a lock, its lock_timeout is 1 s")
        waiting = holder.execute("select count(*) from pg_locks where not granted").fetchone()
        if waiting != (0,):
            raise DrillError("a load that gave up still waits for the lock")
        world.hits += 1
        world.broken += 1
        holder.rollback()
    world.settle()


def make_way(world: World) -> None:
    """Alter the table while a slow load reads it: the users' ALTER TABLE must not wait long, nor all behind it."""
    world.prepare(rows=(12_000,), loads=0)
    with Proxy(int(world.databases.source.postgres.port() or 0)) as proxy:
        proxy.bytes_per_second = 150_000
        world.detours["source"] = {"port": proxy.port}
        load = world.start()
        is_reading = load.wait_for(lambda event: event.side == "warehouse" and event.text.startswith("copy"))
        time.sleep(world.rng.uniform(0, 2))
        if is_reading is None or not load.is_alive:
            raise DrillError("the load ended although its line is slow")
        waited = _alter(world)
        proxy.bytes_per_second = None
        outcome = load.wait()
    world.detours["source"] = {}
    world.log.append(f"an ALTER TABLE waited {waited:.1f} s; load {outcome}")
    world.hits += 1
    world.broken += outcome.kind != "succeeded"
    world.judge(outcome)
    if waited > LONGEST_WAIT_S:
        raise DrillError(f"an ALTER TABLE waited {waited:.1f} s for a slow reader")
    world.settle()


def thin_line(world: World) -> None:
    """Read over a thin line while the application writes: it takes long, and is right."""
    world.prepare(rows=(3000,), loads=0)
    quick = _seconds(world.rehearse_load())
    with Proxy(int(world.databases.source.postgres.port() or 0)) as proxy:
        proxy.bytes_per_second = 300_000
        world.detours["source"] = {"port": proxy.port}
        with world.application.writing(2):
            outcome = world.start().wait()
    world.detours["source"] = {}
    world.log.append(f"over a thin line: load {outcome}, quick {quick:.2f} s")
    world.judge(outcome)
    world.hits += outcome.seconds > 2 * quick
    world.settle()


def stall(world: World) -> None:
    """Stop the source's backends for some seconds, as a disk does that stands still; then they go on."""
    world.prepare()

    def inject(load: Load) -> bool:
        server = world.databases.source
        stopped = [pid for pid in load.backends("source") if server.signal_backend(pid, signal.SIGSTOP)]
        time.sleep(world.rng.uniform(0.5, 2.5))
        for pid in stopped:
            server.signal_backend(pid, signal.SIGCONT)
        return bool(stopped)

    world.disturb(inject)
    world.settle()


def _alter(world: World) -> float:
    started = time.monotonic()
    with psycopg.connect(world.databases.application_dsn()) as connection:
        connection.execute("alter table t add column in_a_hurry integer")
    return time.monotonic() - started


def _seconds(load: Load) -> float:
    return load.events[-1].at - load.started


DRILLS = (
    Drill("table-locked", "somebody holds an access exclusive lock on the table", 5, lock_table),
    Drill("alter-waits", "an ALTER TABLE comes while a slow load reads the table", 3, make_way),
    Drill("thin-line", "a slow line to the source while rows change", 2, thin_line),
    Drill("source-stalls", "the source's backends stand still for seconds", 4, stall),
)
