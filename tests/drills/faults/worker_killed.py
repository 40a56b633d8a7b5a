"""The worker process is killed with -9; its sessions may still finish what they are at."""

from __future__ import annotations

from tests.drills.drill import Drill
from tests.drills.world import World, kill_worker


def kill(world: World) -> None:
    """Kill the worker at a random moment; the next try begins at once, while its sessions may still be alive."""
    world.prepare()
    world.disturb(kill_worker)
    world.settle()


def kill_again_and_again(world: World) -> None:
    """Kill three tries in a row, then let one go through."""
    world.prepare()
    for _ in range(3):
        world.disturb(kill_worker)
    world.settle()


def kill_first_load(world: World) -> None:
    """Kill a first load in small ranges, between and in its ranges, while the application goes on writing."""
    world.prepare(rows=(12_000, 20_000), loads=0, ranged_above_mb=0, range_mb=1)
    for _ in range(2):
        with world.application.writing(world.rng.choice((0, 1))):
            world.disturb(kill_worker)
        world.change()
    world.settle()


DRILLS = (
    Drill("worker-killed", "kill -9 of the worker at a random moment", 16, kill),
    Drill("worker-killed-thrice", "kill -9 of three tries in a row", 4, kill_again_and_again),
    Drill("first-load-killed", "kill -9 of a first load in ranges, twice, while rows change", 8, kill_first_load),
)
