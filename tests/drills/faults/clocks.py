"""Clocks that are wrong: the worker's, and those of whoever stamps the source's rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.drills.databases import Databases
from tests.drills.drill import Drill, Skipped
from tests.drills.load import Load
from tests.drills.world import World, kill_worker
from tests.histories.keys import KEY_KINDS
from tests.histories.tables import Plan

# Debian's package faketime.
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
WORKER_CLOCKS = ("-400d", "-1h", "+1h", "+400d")
ROW_CLOCKS = ("'infinity'", "now() + interval '10 years'", "now() - interval '10 years'", "null", "'-infinity'")


@contextmanager
def faketime(_: Databases) -> Iterator[None]:
    """A library that gives a process another clock; raises Skipped where it is not installed."""
    if _library() is None:
        raise Skipped("needs Debian's package faketime, which is not installed")
    yield


def stamp_rows_wrongly(world: World) -> None:
    """Stamp rows with moments far away, in either direction: mode xid does not care what a row says of itself."""
    world.prepare(plan=_stamped(world), mode="xid", loads=1)
    for _ in range(2):
        world.application.write()
        with psycopg.connect(world.application.dsn) as connection:
            moment = world.rng.choice(ROW_CLOCKS)
            connection.execute(f"update t set write_date = {moment} where hashtext(ctid::text) % 3 = 0".encode())
        world.disturb(kill_worker)
    world.settle()


def skew_worker(world: World) -> None:
    """Let workers with wrong clocks follow a cursor: only the source's own clock may count."""
    settings = {"mode": "cursor", "cursor": "write_date", "compare_every_h": 8760}
    world.prepare(rows=(300,), plan=_stamped(world), loads=1, **settings)
    # To a clock before its time a certificate is not valid yet: that would end the drill at the door.
    world.detours = {side: {"sslmode": "require", "sslrootcert": ""} for side in world.detours}
    for clock in world.rng.sample(WORKER_CLOCKS, 3):
        world.change()
        environment = {"LD_PRELOAD": _library() or "", "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        outcome = Load(world.job(), environment=environment).wait()
        world.log.append(f"with a clock {clock}: load {outcome}")
        world.judge(outcome)
        world.hits += 1
        world.assert_equal()
    world.detours = {side: {} for side in world.detours}
    world.settings["compare_every_h"] = 0
    world.settle()


def _stamped(world: World) -> Plan:
    columns = (("name", "text", False), ("amount", "numeric", False))
    kinds = [kind for kind in KEY_KINDS if kind != "none"]
    return Plan(world.rng.choice(kinds), columns, is_partitioned=False, filler=32, has_write_date=True)


def _library() -> str | None:
    return next((str(path) for path in Path("/").glob(FAKETIME.lstrip("/"))), None)


DRILLS = (
    Drill("rows-stamped-wrongly", "rows stamped years ago or ahead, the worker is killed", 4, stamp_rows_wrongly),
    Drill("worker-clock-wrong", "workers whose clock is hours or years off (libfaketime)", 4, skew_worker, faketime),
)
