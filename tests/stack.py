"""A stack of the tests' own, driven by the commands that people type."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg

from revops.keyring import Keyring
from revops.local.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_SCALE = "0.25"


@dataclass(frozen=True)
class Commands:
    """Run `python -m revops.local ...` in a state home of its own."""

    stack: Stack

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Return the finished command; its output is for the assertion's message."""
        return subprocess.run(
            [sys.executable, "-m", "revops.local", *arguments],
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command and return it while it runs; its output comes in one stream."""
        return subprocess.Popen(
            [sys.executable, "-m", "revops.local", *arguments],
            env=self._environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def query(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Return the rows of a query on a database of this stack's server."""
        self.stack.postgres.start()
        with psycopg.connect(self.stack.postgres.conninfo(database)) as connection:
            return connection.execute(statement.encode()).fetchall()

    @property
    def keyring(self) -> Keyring:
        """The keys of this stack's encrypted columns."""
        return Keyring.parse(self.stack.passwords["data_keys"], self.stack.passwords["index_key"])

    def _environment(self, own: dict[str, str]) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "REVOPS", "PYTEST"))
        }
        return {
            **inherited,
            "PYTHONPATH": str(ROOT / "plugins"),
            "REVOPS_HOME": str(self.stack.home),
            "REVOPS_SAMPLE_SCALE": SAMPLE_SCALE,
            **own,
        }
