"""Two workers load the same table: by a double start, or because one was taken for dead and comes back."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from tests.drills.drill import Drill
from tests.drills.load import Load, Outcome
from tests.drills.world import DrillError, World


def start_twice(world: World) -> None:
    """Start two or three workers at nearly the same moment, while rows change."""
    world.prepare()
    length = _seconds(world.rehearse_load())
    with world.application.writing(world.rng.choice((0, 1))):
        loads = [world.start()]
        for _ in range(world.rng.choice((1, 1, 2))):
            time.sleep(world.rng.uniform(0, length / 2))
            world.hits += loads[-1].is_alive
            loads.append(world.start())
        outcomes = [load.wait() for load in loads]
    _judge(world, outcomes)
    if not any(outcome.kind == "succeeded" for outcome in outcomes):
        raise DrillError(f"of {len(outcomes)} workers none went through: {', '.join(map(str, outcomes))}")
    world.settle()


def come_back(world: World) -> None:
    """Stop a worker in its tracks, let another load the table meanwhile, and let the first one go on."""
    world.prepare()
    with _stopped(world) as load:
        other = _load_meanwhile(world)
        load.signal(signal.SIGCONT)
        outcome = load.wait()
    world.log.append(f"the one that was stopped: {outcome}; the other: {other}")
    _judge(world, [other, outcome])
    world.settle()


def come_back_without_lock(world: World) -> None:
    """As before, but the stopped worker has lost its sessions, so that the other one gets through."""
    world.prepare()
    with _stopped(world) as load:
        for server, side in ((world.databases.source, "source"), (world.databases.warehouse, "warehouse")):
            with server.connect("postgres") as connection:
                connection.execute(
                    "select pg_terminate_backend(pid, 5000) from unnest(%s::int[]) as pid", (load.backends(side),)
                )
        other = _load_meanwhile(world)
        load.signal(signal.SIGCONT)
        outcome = load.wait()
    world.log.append(f"the one that was stopped: {outcome}; the other: {other}")
    if other.kind != "succeeded":
        raise DrillError(f"a worker without sessions held up another one: {other}")
    _judge(world, [outcome])
    world.settle()


class _stopped:  # noqa: N801 - used as a function
    """A load that is stopped with SIGSTOP at a random moment; killed at the end if it is still there."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __enter__(self) -> Load:
        moment = self.world.rehearse()
        self.load = self.world.start()
        self.load.wait_for(lambda event: event.number >= moment.number)
        time.sleep(moment.delay)
        if self.load.is_alive:
            self.load.signal(signal.SIGSTOP)
            self.world.hits += 1
            self.world.log.append(f"stopped {moment}")
        return self.load

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.load.kill()


def _load_meanwhile(world: World) -> Outcome:
    world.application.write(transactions=2)
    return world.start().wait()


def _judge(world: World, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        world.log.append(f"twin: {outcome}")
        world.judge(outcome)
        world.broken += outcome.kind != "succeeded"


def _seconds(load: Load) -> float:
    return load.events[-1].at - load.started


DRILLS = (
    Drill("twins", "two or three workers start at nearly the same moment", 8, start_twice),
    Drill("zombie", "a worker is stopped, another one loads, the first one goes on", 6, come_back),
    Drill(
        "zombie-cut-off",
        "a stopped worker loses its sessions, another one loads, it goes on",
        6,
        come_back_without_lock,
    ),
)
