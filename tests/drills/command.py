"""The command: run the drills seed by seed, show a table, and say how to repeat what failed."""

from __future__ import annotations

import argparse
import fcntl
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import cast

from rich.console import Console
from rich.table import Table

from revops.local.paths import state_home
from tests.drills.databases import HOME, Databases
from tests.drills.drill import Drill, Skipped
from tests.drills.faults import DRILLS
from tests.drills.world import World


@dataclass
class Tally:
    """What came of the seeds of one drill."""

    drill: Drill
    seeds: int = 0
    hits: int = 0
    broken: int = 0
    recoveries: int = 0
    seconds: float = 0.0
    skipped: str = ""
    failed: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def main(arguments: list[str]) -> int:
    """Run what the arguments choose; 1 when a seed has failed."""
    options = _parse(arguments)
    console = Console(width=None if Console().is_terminal else 160)
    chosen = [drill for drill in DRILLS if options.drill in (None, drill.name)]
    if options.list:
        _list(console)
        return 0
    tallies: list[Tally] = []
    started = time.monotonic()
    with _only_one() as is_first:
        if not is_first:
            console.print("another make drill of this checkout is at work. Remedy: wait for it, or end it.")
            return 2
        databases = Databases.start()
        try:
            for drill in chosen:
                tallies.append(_run_drill(drill, databases, _seeds_of(drill, chosen, options), console))
                _tell(tallies[-1], console)
        except KeyboardInterrupt:
            console.print("interrupted")
        finally:
            databases.stop()
    _show(tallies, console, seconds=time.monotonic() - started)
    return 1 if any(tally.failed for tally in tallies) else 0


def _list(console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("drill", "seeds", "what is done"):
        table.add_column(name, justify="right" if name == "seeds" else "left")
    for drill in DRILLS:
        table.add_row(drill.name, str(drill.seeds), drill.about)
    console.print(table)


@contextmanager
def _only_one() -> Iterator[bool]:
    """Hold the drills' servers for this process; gives False when another one has them."""
    folder = state_home() / HOME
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--drill", choices=[drill.name for drill in DRILLS], help="only this drill")
    parser.add_argument("--seed", type=int, help="only this seed of each drill")
    parser.add_argument("--seeds", type=int, help="how many seeds in all; without it each drill's own number")
    parser.add_argument("--list", action="store_true", help="say what the drills are, and run none")
    parser.add_argument("--first", type=int, default=1, help="the first seed of each drill")
    return parser.parse_args(arguments)


def _seeds_of(drill: Drill, chosen: list[Drill], options: argparse.Namespace) -> range:
    if options.seed is not None:
        return range(options.seed, options.seed + 1)
    count = drill.seeds
    if options.seeds is not None:
        count = max(1, round(options.seeds * drill.seeds / sum(each.seeds for each in chosen)))
    return range(options.first, options.first + count)


def _run_drill(drill: Drill, databases: Databases, seeds: range, console: Console) -> Tally:
    tally = Tally(drill)
    started = time.monotonic()
    try:
        with cast(AbstractContextManager[object], drill.surroundings(databases)):
            for seed in _shown(drill, seeds, console):
                _run_seed(drill, databases, seed, tally, console)
    except Skipped as reason:
        tally.skipped = str(reason)
    except Exception as error:  # noqa: BLE001 - the other drills go on
        tally.failed.append(seeds[0])
        _keep(drill, seeds[0], ["what the drill needs could not be made or undone"], error)
        console.print(f"[red]{drill.name}:[/] {_first_lines(error)}", highlight=False)
    tally.seconds = time.monotonic() - started
    return tally


def _shown(drill: Drill, seeds: range, console: Console) -> Iterator[int]:
    for seed in seeds:
        with console.status(f"{drill.name}: seed {seed} of {seeds[-1]}"):
            yield seed


def _run_seed(drill: Drill, databases: Databases, seed: int, tally: Tally, console: Console) -> None:
    databases.source.start()
    databases.warehouse.start()
    databases.empty()
    world = World(databases, random.Random(f"{drill.name}:{seed}"))
    tally.seeds += 1
    try:
        drill.run(world)
    except Skipped:
        raise
    except Exception as error:  # noqa: BLE001 - it is shown, and the next seed goes on
        tally.failed.append(seed)
        console.print(f"[red]{drill.name} seed {seed}:[/] {_first_lines(error)}", highlight=False)
        _keep(drill, seed, world.log, error)
    else:
        tally.recoveries += world.hits > 0
    finally:
        tally.hits += world.hits > 0
        tally.broken += world.broken
        tally.errors += world.errors
        world.close()


def _tell(tally: Tally, console: Console) -> None:
    outcome = f"skipped: {tally.skipped}" if tally.skipped else f"{tally.hits} hits, {len(tally.failed)} failures"
    console.print(
        f"{tally.seconds:6.1f} s  {tally.drill.name}  [dim]{tally.seeds} seeds, {outcome}[/]", highlight=False
    )


def _first_lines(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:600]


def _keep(drill: Drill, seed: int, log: list[str], error: Exception) -> None:
    folder = state_home() / HOME / "failures"
    folder.mkdir(exist_ok=True)
    text = "\n".join([*log, "", *traceback.format_exception(error)])
    (folder / f"{drill.name}-{seed}.txt").write_text(text)


def _show(tallies: list[Tally], console: Console, *, seconds: float) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("drill")
    for name in ("seeds", "hits", "broken loads", "recoveries", "failures", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("how loads ended", overflow="fold")
    for tally in tallies:
        ends = ", ".join(f"{name} ×{count}" for name, count in tally.errors.most_common())
        numbers = (tally.seeds, tally.hits, tally.broken, tally.recoveries, len(tally.failed), round(tally.seconds))
        table.add_row(tally.drill.name, *map(str, numbers), f"skipped: {tally.skipped}" if tally.skipped else ends)
    table.add_section()
    sums = (
        sum(tally.seeds for tally in tallies),
        sum(tally.hits for tally in tallies),
        sum(tally.broken for tally in tallies),
        sum(tally.recoveries for tally in tallies),
        sum(len(tally.failed) for tally in tallies),
        round(seconds),
    )
    table.add_row("all", *map(str, sums))
    console.print(table)
    for tally in tallies:
        for seed in tally.failed:
            console.print(
                f"[red]failed:[/] make drill DRILL={tally.drill.name} SEED={seed}"
                f"   (what happened: {state_home() / HOME / 'failures' / f'{tally.drill.name}-{seed}.txt'})",
                highlight=False,
            )
