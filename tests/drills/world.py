"""One seed of a drill: a random table with a history, loads in worker processes, recovery, and the comparison."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from psycopg.conninfo import make_conninfo

from tests.drills.databases import SHADOW, SOURCE, WAREHOUSE, Databases
from tests.drills.ledger import check_ledger
from tests.drills.load import Load, Outcome
from tests.drills.moment import Moment, choose_moment
from tests.drills.worker import Job
from tests.histories.application import Application
from tests.histories.compare import Keys, Lines, Pair
from tests.histories.loads import source_config
from tests.histories.tables import Plan

TABLE, RAW = "t", "odoo_t"
# How often and how long the retries of a task are made before a drill has failed.
TRIES = 12
PATIENCE_S = 150.0
# A moment that comes after the load has ended is no hit; then the load is disturbed again.
AIMS = 4


class DrillError(AssertionError):
    """A load did not do what it must under a fault."""


class World:
    """What a drill works with; everything follows from the seed's random numbers."""

    def __init__(self, databases: Databases, rng: random.Random) -> None:
        self.databases = databases
        self.rng = rng
        self.application = Application(databases.application_dsn(), rng, name=TABLE)
        self.log = self.application.log
        self.settings: dict[str, Any] = {}
        # Faults that found the worker at work, and how many of its loads did not succeed then.
        self.hits = 0
        self.broken = 0
        self.errors: Counter[str] = Counter()
        # Changes to the connection strings of a task, for workers that go through a proxy or another network.
        self.detours: dict[str, dict[str, Any]] = {"source": {}, "warehouse": {}}
        self._runs = itertools.count(1)

    def prepare(
        self,
        *,
        rows: tuple[int, ...] = (300, 3000, 12_000),
        loads: int | None = None,
        plan: Plan | None = None,
        **settings: Any,
    ) -> None:
        """Create the table, and load it up to twice with changes between; then there is something to load."""
        self.settings = {"mode": self.rng.choice(("xid", "xid", "xid", "full")), **settings}
        if self.rng.random() < 0.3:
            self.settings |= {"ranged_above_mb": 0, "range_mb": 1}
        self.application.create(rows=self.rng.choice(rows), filler=self.rng.choice((32, 320)), plan=plan)
        for _ in range(self.rng.choice((0, 1, 1, 2)) if loads is None else loads):
            self.load_twice()
            self.change()

    def change(self, *, transactions: int = 3) -> None:
        """Let the application change rows, and the table now and then, as far as the mode can follow."""
        mode = self.settings["mode"]
        if mode == "cursor":
            self.application.write_stamped(transactions=transactions)
            return
        self.application.write(transactions=transactions)
        if mode in ("xid", "full") and self.rng.random() < 0.25:
            self.application.alter()
            self.application.write()

    def job(
        self,
        *,
        database: str = WAREHOUSE,
        pause_at: int | None = None,
        asks_before_commit: bool = False,
        **options: Any,
    ) -> Job:
        """Return the next load as the task would do it; options are load_table's."""
        source, warehouse = self.databases.task_dsns(database)
        detours = self.detours if database == WAREHOUSE else {"source": {}, "warehouse": {}}
        return Job(
            make_conninfo(source, **detours["source"]),
            make_conninfo(warehouse, **detours["warehouse"]),
            source_config(TABLE, **self.settings).model_dump(by_alias=True),
            f"run-{next(self._runs)}",
            {"accept_deletions": True, **options},
            pause_at,
            asks_before_commit,
        )

    def start(self, **options: Any) -> Load:
        """Begin the next load in a worker of its own."""
        return Load(self.job(**options))

    def load(self) -> Outcome:
        """Load once without a fault."""
        outcome = self.start().wait()
        self.log.append(f"load {outcome}")
        return outcome

    def load_twice(self) -> None:
        """Load into the shadow and into the warehouse; nothing disturbs, so both must succeed."""
        self.rehearse_load()
        outcome = self.load()
        if outcome.kind != "succeeded":
            raise DrillError(f"a load that nothing disturbs {outcome}")

    def rehearse_load(self) -> Load:
        """Do the next load in the shadow warehouse; what it did, and when, is in its events."""
        load = Load(self.job(database=SHADOW))
        outcome = load.wait()
        if outcome.kind != "succeeded":
            raise DrillError(f"a load that nothing disturbs {outcome}")
        return load

    def rehearse(self) -> Moment:
        """Do the next load in the shadow warehouse, and choose a moment of it."""
        return choose_moment(self.rng, self.rehearse_load().events)

    def disturb(
        self,
        inject: Callable[[Load], bool],
        *,
        start: Callable[[Job], Load] = Load,
        permitted: tuple[str, ...] = (),
        limit: float = 120.0,
        **options: Any,
    ) -> Outcome:
        """Load, and do something at a random moment of it; judge how the load ends.

        inject returns whether it found something to do. permitted: SQLSTATEs that are no failure although no retry
        mends them. limit: how long the worker may take. options are load_table's.
        """
        for _ in range(AIMS):
            moment = self.rehearse()
            load = start(self.job(pause_at=moment.number if moment.is_before else None, **options))
            reached = load.wait_for(
                lambda event, moment=moment: (
                    event.number >= moment.number and (event.what == "waits" or not moment.is_before)
                )  # type: ignore[misc]
            )
            if not moment.is_before:
                time.sleep(moment.delay)
            has_struck = reached is not None and load.is_alive and inject(load)
            if moment.is_before:
                with suppress(OSError):
                    load.go_on()
            outcome = load.wait(limit=limit)
            self.log.append(f"fault {moment} -> {'struck' if has_struck else 'missed'}; load {outcome}")
            self.hits += has_struck
            self.broken += has_struck and outcome.kind != "succeeded"
            self.judge(outcome, permitted=permitted)
            if has_struck:
                break
            self.change()
        return outcome

    def judge(self, outcome: Outcome, *, permitted: tuple[str, ...] = ()) -> None:
        """Count how a disturbed load ended; raise DrillError when the fault became a permanent failure."""
        if outcome.kind != "succeeded":
            self.errors[outcome.error or outcome.kind] += 1
        if outcome.kind == "hung":
            raise DrillError(f"the worker did not end within {outcome.seconds:.0f} s")
        sqlstate = outcome.event.facts.get("sqlstate") if outcome.event else None
        if not outcome.is_mended_by_retry and sqlstate not in permitted:
            raise DrillError(f"a fault that passes became a failure that no retry mends: {outcome}")

    def restart(self) -> None:
        """Start the servers that are down; the application comes back."""
        self.databases.source.start()
        self.databases.warehouse.start()
        self.application.reconnect(self.databases.application_dsn())

    def load_in_vain(self, *, permitted: tuple[str, ...]) -> None:
        """Load while the fault lasts; it may fail, but not for good."""
        outcome = self.load()
        self.judge(outcome, permitted=permitted)

    def recover(self) -> None:
        """Do what the retries of the task do, until one succeeds."""
        deadline = time.monotonic() + PATIENCE_S
        outcome = self.load()
        for _ in range(TRIES):
            if outcome.kind == "succeeded":
                return
            self.judge(outcome)
            if time.monotonic() > deadline:
                break
            time.sleep(0.3)
            outcome = self.load()
        raise DrillError(f"the table can't be loaded although the fault is over: {outcome}")

    def settle(self) -> None:
        """End the application's transactions, recover, and compare everything."""
        self.application.finish_late()
        before = self.keys()
        self.recover()
        self.compare(before)
        # And life goes on.
        self.application.write(transactions=2)
        before = self.keys()
        self.recover()
        self.compare(before)

    def keys(self) -> Keys:
        """Return the keys that raw has now, of rows that are marked deleted too."""
        return cast(Keys, self._with_pair(lambda pair: pair.keys()))

    def raw_rows(self) -> Lines:
        """Return all that raw has now, metadata included."""
        return cast(Lines, self._with_pair(lambda pair: pair.everything()))

    def assert_equal(self) -> None:
        """Raise RawDiffersError unless raw's live rows are the source's rows."""
        self._with_pair(lambda pair: pair.assert_equal())

    def compare(self, before: Keys) -> None:
        """Raise when raw or the records of the loads are wrong."""
        self.assert_equal()
        self._with_pair(lambda pair: pair.assert_deletions(before))
        self._with_pair(lambda pair: check_ledger(pair.warehouse, table=TABLE, raw=RAW))

    def close(self) -> None:
        self.application.close()

    def _with_pair(self, ask: Callable[[Pair], Any]) -> Any:
        with self.databases.source.connect(SOURCE) as source, self.databases.warehouse.connect(WAREHOUSE) as warehouse:
            pair = Pair(source, warehouse, TABLE, RAW)
            pair.prepare()
            return ask(pair)


def kill_worker(load: Load) -> bool:
    """Kill the worker with -9; False when it had ended by then."""
    return load.kill()
