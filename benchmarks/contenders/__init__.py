"""The ways to move a table that are compared, one module each.

What stands here is imported in the rivals' own environment as well: nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RIVALS = ROOT / ".venv-bench"
VARIABLE = "BENCHMARK_JOB"


@dataclass(frozen=True)
class Job:
    """One table to move.

    source, target: URLs with the password. since: rows written from then on, for increments. home: a folder to
    keep state in. options: what only one contender knows.
    """

    source: str
    target: str
    table: str
    columns: tuple[str, ...]
    home: str
    key: str = "id"
    cursor: str = "write_date"
    since: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def given(cls) -> Job:
        """Return the job of this process, from its environment: a password in an argument is in every `ps`."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def with_options(self, **options: Any) -> Job:
        return replace(self, options=self.options | options)


@dataclass(frozen=True)
class Command:
    """A program to run, with the whole environment that it sees."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Contender:
    """A way to move a table. landing: the relation that the rows of a table arrive in.

    is_given_table: the tool fills a table and creates none, so it finds one with the source's columns and key.
    """

    name: str
    load: Callable[[Job], Command]
    increment: Callable[[Job], Command] | None = None
    landing: Callable[[str], str] = "public.{}".format
    is_given_table: bool = False

    def database(self, table: str) -> str:
        """The database on the target that it has to itself for a table."""
        return f"{self.name} {table}".lower().replace(" ", "_")


def environment(job: Job, **more: str) -> dict[str, str]:
    """Return what every contender sees: a home of its own, and no leave to report to anybody."""
    return {
        "PATH": os.defpath,
        "HOME": job.home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": os.environ.get("PYTHONPATH", f"{ROOT}:{ROOT / 'plugins'}"),
        "DO_NOT_TRACK": "1",
        "DISABLE_TELEMETRY": "true",
        **more,
    }


def program(module: str, job: Job, *, python: str = sys.executable, **more: str) -> Command:
    """Return the command that runs a module of this package with a job."""
    return Command([python, "-m", module], environment(job, **{VARIABLE: json.dumps(asdict(job))}, **more))
