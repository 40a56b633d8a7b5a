"""The answer of a COMMIT is lost: the worker can't know whether its load is committed, and must not do it twice."""

from __future__ import annotations

from contextlib import suppress

from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.proxy import Proxy
from tests.drills.world import World


def lose_answer(world: World) -> None:
    """Let a COMMIT reach the warehouse, drop its answer, and cut the worker off from it."""
    _lose(world, answers=True)


def lose_commit(world: World) -> None:
    """Drop a COMMIT before it reaches the warehouse, and cut the worker off from it."""
    _lose(world, answers=False)


def _lose(world: World, *, answers: bool) -> None:
    """The worker tells when it is about to commit: TLS hides from the proxy what passes through it."""
    world.prepare()
    rehearsed = world.rehearse_load().events
    commits = sum(event.what == "commit" and event.side == "warehouse" for event in rehearsed)
    # The last one commits the load itself; the ones before open it, or commit ranges.
    wanted = commits if world.rng.random() < 0.5 else world.rng.randint(1, commits)
    with Proxy(int(world.databases.warehouse.postgres.port() or 0)) as proxy:
        world.detours["warehouse"] = {"port": proxy.port}
        load = Load(world.job(asks_before_commit=True))
        seen = 0
        while load.wait_for(lambda event: event.what == "waits", since=seen) is not None:
            seen = len(load.events)
            passed = sum(event.what == "waits" for event in load.events)
            if passed == wanted:
                proxy.lose_answers, proxy.lose_requests = answers, not answers
            with suppress(OSError):
                load.go_on()
            if passed == wanted:
                break
        _let_all_pass(load, proxy)
        outcome = load.wait()
        world.log.append(f"commit {wanted} of {commits} lost ({'answer' if answers else 'request'}); load {outcome}")
    world.detours["warehouse"] = {}
    world.hits += proxy.lost > 0
    world.broken += outcome.kind != "succeeded"
    world.judge(outcome)
    world.settle()


def _let_all_pass(load: Load, proxy: Proxy) -> None:
    """Once the answer is lost, the network is whole again, and further commits need not wait."""
    seen = len(load.events)
    while True:
        event = load.wait_for(lambda event: event.what in ("waits", "succeeded", "failed"), since=seen, timeout=5)
        if proxy.lost:
            proxy.lose_answers = proxy.lose_requests = False
        if event is None or event.what != "waits":
            return
        seen = len(load.events)
        with suppress(OSError):
            load.go_on()


DRILLS = (
    Drill("commit-answer-lost", "a proxy drops the answer of a COMMIT and cuts the line", 12, lose_answer),
    Drill("commit-lost", "a proxy drops a COMMIT before it arrives and cuts the line", 4, lose_commit),
)
