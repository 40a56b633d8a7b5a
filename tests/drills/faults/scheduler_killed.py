"""Airflow's scheduler is killed with -9 in the middle of a run, on the whole local stack."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg

from revops.local.airflow_server import AirflowServer
from revops.local.paths import state_home
from revops.local.stack import Stack
from revops.local.watch import PATIENCE_S
from revops.sources import Source, Table, load_source
from tests.drills.databases import HOME, Databases
from tests.drills.drill import Drill
from tests.drills.world import DrillError, World
from tests.histories.compare import Pair
from tests.stack import Commands

DAG = "odoo"
# From the scheduler's death until the run's command must have ended one way or the other: Airflow takes its time to
# call a scheduler dead, and the command to believe it.
LONGEST_S = PATIENCE_S + 90

_stacks: list[Commands] = []


@contextmanager
def stack(_: Databases) -> Iterator[None]:
    """A stack of the drill's own, with its first run done."""
    home = state_home() / HOME / "stack"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "postgres-install").exists():
        (home / "postgres-install").symlink_to(state_home() / "postgres-install")
    commands = Commands(Stack(home))
    commands.run("stop")
    try:
        first = commands.run("run", DAG)
        if first.returncode != 0:
            raise DrillError(f"a run that nothing disturbs fails:\n{first.stdout[-2000:]}{first.stderr[-2000:]}")
        _stacks.append(commands)
        yield
    finally:
        _stacks.clear()
        commands.run("stop")


def kill_scheduler(world: World) -> None:
    """Kill the scheduler while tasks run; the command must end, and the next run must make everything whole."""
    commands = _stacks[0]
    process = commands.start("run", DAG)
    try:
        _wait_for_tasks(commands, process)
        time.sleep(world.rng.uniform(0, 3))
        killed = _kill_scheduler(commands)
        started = time.monotonic()
        output = _wait_for_end(process)
    finally:
        if process.poll() is None:
            process.kill()
        commands.run("stop")
    how = "went on waiting" if output is None else f"ended with code {process.returncode}"
    world.log.append(f"{killed} processes killed; the command {how} after {time.monotonic() - started:.0f} s")
    world.log.append((output or "")[-3000:])
    world.hits += killed > 0
    world.broken += process.returncode != 0
    world.errors[how] += 1
    following = commands.run("run", DAG)
    world.log.append(following.stdout[-3000:] + following.stderr[-3000:])
    if following.returncode != 0:
        raise DrillError(f"the run after the scheduler's death fails:\n{following.stdout[-1500:]}")
    _compare(commands)
    if output is None:
        raise DrillError(f"{LONGEST_S} s after the scheduler's death the command still waits, and says nothing")


def _wait_for_tasks(commands: Commands, process: subprocess.Popen[str]) -> None:
    """Wait until the run loads its first table."""
    before = commands.query("revops_core", "select coalesce(max(load_id), 0) from ops.load")[0][0]
    while process.poll() is None:
        if commands.query("revops_core", f"select from ops.load where load_id > {before} limit 1"):
            return
        time.sleep(0.1)
    raise DrillError("the run ended before it loaded anything")


def _wait_for_end(process: subprocess.Popen[str]) -> str | None:
    """Return what the command has printed; None when it does not end in time."""
    try:
        return process.communicate(timeout=LONGEST_S)[0]
    except subprocess.TimeoutExpired:
        return None


def _kill_scheduler(commands: Commands) -> int:
    """Kill the scheduler of this stack: by its session, for Airflow's processes overwrite their environment."""
    running = AirflowServer(commands.stack).running()
    killed = 0
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError):
            if entry.name.isdigit() and b"scheduler" in (entry / "cmdline").read_bytes():
                session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[3]
                if running is not None and int(session) == running.airflow_pid:
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed += 1
    return killed


def _compare(commands: Commands) -> None:
    config = load_source(DAG)
    postgres = commands.stack.postgres
    postgres.start()
    with (
        psycopg.connect(postgres.conninfo("odoo"), autocommit=True) as source,
        psycopg.connect(postgres.conninfo("revops_core"), autocommit=True) as warehouse,
    ):
        for table in config.tables:
            pair = Pair(source, warehouse, table.name, config.raw_table(table), partial(_is_hidden, config, table))
            pair.prepare()
            if pair.exists():
                pair.assert_equal()
        running = warehouse.execute("select count(*) from ops.load where status = 'running'").fetchone()
        if running != (0,):
            raise DrillError(f"{running} loads still say that they run")


def _is_hidden(config: Source, table: Table, column: str) -> bool:
    """Tell whether a column is not in raw, or not as the source has it."""
    return config.is_excluded(table, column) or config.sensitive_kind(table, column) is not None


DRILLS = (
    Drill(
        "scheduler-killed", "kill -9 of Airflow's scheduler during a run of the whole stack", 1, kill_scheduler, stack
    ),
)
