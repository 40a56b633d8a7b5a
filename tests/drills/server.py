"""An embedded server of the drills' own, fsync on, that can be brought down in every way a server goes down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psycopg
from psycopg import sql

from revops.local.postgres import EmbeddedPostgres

DOWN_TIMEOUT_S = 30


class Server:
    """One server; `postgres` starts it again, with retries, after whatever was done to it."""

    def __init__(self, home: Path, install: Path, password: str) -> None:
        self.postgres = EmbeddedPostgres(home, install, password)

    def start(self) -> None:
        """Start the server where it does not run, and wait until it answers: after a crash it recovers first."""
        self.postgres.start()
        deadline = time.monotonic() + DOWN_TIMEOUT_S
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def connect(self, database: str) -> psycopg.Connection:
        """Open a session as the superuser, in autocommit."""
        return psycopg.connect(self.postgres.conninfo(database), autocommit=True)

    def create_login(self, name: str, password: str, rights: str = "") -> None:
        """Create a login, or give the one that is there this password."""
        with self.connect("postgres") as connection:
            found = connection.execute("select from pg_roles where rolname = %s", (name,)).fetchone()
            connection.execute(
                sql.SQL("{} role {} login {} password {}").format(
                    sql.SQL("create" if found is None else "alter"),
                    sql.Identifier(name),
                    sql.SQL(rights),
                    sql.Literal(password),
                )
            )

    def stop_at_once(self) -> None:
        """Stop as `pg_ctl -m immediate` does: no checkpoint, recovery at the next start."""
        os.kill(self._postmaster(), signal.SIGQUIT)
        self._wait_until_down()

    def cut_power(self) -> None:
        """Kill the postmaster and all its children with -9 at the same moment."""
        processes = self._processes()
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
        self._wait_until_down()

    def kill_postmaster(self) -> None:
        """Kill the postmaster alone with -9: its children notice it by and by."""
        os.kill(self._postmaster(), signal.SIGKILL)

    def signal_backend(self, pid: int, number: signal.Signals) -> bool:
        """Send a signal to one of the server's processes; False when it has ended.

        -9 is what the kernel does when memory runs out: the server then ends all sessions and recovers by itself.
        """
        if pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def _postmaster(self) -> int:
        return int((self.postgres.data / "postmaster.pid").read_text().split()[0])

    def _processes(self) -> list[int]:
        """Return the server's processes: they work in its data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.postgres.data.resolve():
                    found.append(int(entry.name))
        return found

    def _wait_until_down(self) -> None:
        deadline = time.monotonic() + DOWN_TIMEOUT_S
        while self._processes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server in {self.postgres.home} does not go down")
            time.sleep(0.01)
