"""What only shows while a run goes on in containers: sessions, how they are encrypted, and files handed over."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.docker.compose_stack import DATABASES, TAG, ComposeStack

EVERY_S = 0.1
_SESSIONS = r"""
select a.usename, a.application_name, coalesce(s.ssl, false), coalesce(s.version, 'none'),
       translate(a.query, E'\n\x1f', '  ')
from pg_stat_activity as a left join pg_stat_ssl as s using (pid)
-- Before a session has said who it is, it is no session.
where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.usename is not null
"""
# Asks until its input ends.
_WATCH = f"""
while read -t {EVERY_S} -r; (( $? > 128 )); do echo "$1;"; done | revops-psql -XAtq -F $'\\x1f'
"""
# A file goes when its task is done; one that is being written is copied again.
_COPY = "while sleep 0.1; do find . -name '*.parquet' -exec cp --update --parents {} /copies ';' 2>/copies/errors; done"


class Session(NamedTuple):
    server: str
    login: str
    application: str
    encrypted: bool
    protocol: str


class Watched:
    """Look at the three servers' sessions ten times a second, and copy what is handed over; a context manager.

    What was seen is there after its end. statements: what the sessions ran, as pg_stat_activity shows it.
    """

    def __init__(self, stack: ComposeStack, folder: Path) -> None:
        self.sessions: set[Session] = set()
        self.statements: set[str] = set()
        self.files: list[Path] = []
        self._stack = stack
        self._folder = folder
        self._watchers: dict[str, subprocess.Popen[bytes]] = {}
        self._copier = ""

    def __enter__(self) -> Watched:
        for server in DATABASES:
            container = self._stack.container(server)["Id"]
            with (self._folder / f"{server}.sessions").open("wb") as seen:
                watcher = subprocess.Popen(
                    ["docker", "exec", "-i", container, "bash", "-c", _WATCH, "watch", _SESSIONS],
                    stdin=subprocess.PIPE,
                    stdout=seen,
                )
            self._watchers[server] = watcher
        # nocopy: an empty volume takes on the owner of the folder that it is mounted over.
        config = self._stack.engine.create_host_config(
            binds=[f"{self._stack.project}_handoff:/handoff:ro,nocopy"], network_mode="none", init=True
        )
        self._copier = self._stack.engine.create_container(
            f"revops-postgres:{TAG}",
            entrypoint=["bash", "-c", f"mkdir /copies && {_COPY}"],
            working_dir="/handoff",
            user="0",
            host_config=config,
        )["Id"]
        self._stack.engine.start(self._copier)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server, watcher in self._watchers.items():
            assert watcher.poll() is None, f"the watcher of {server} has ended with {watcher.returncode}"
            watcher.communicate(timeout=30)
            self._read(server)
        copies = self._folder / "copies"
        subprocess.run(["docker", "cp", "--quiet", f"{self._copier}:/copies", str(copies)], check=True)
        self._stack.engine.remove_container(self._copier, v=True, force=True)
        self.files = sorted(copies.rglob("*.parquet"))

    def _read(self, server: str) -> None:
        for line in (self._folder / f"{server}.sessions").read_text(errors="replace").splitlines():
            if line.count("\x1f") == 4:  # the last one may be cut off
                login, application, encrypted, protocol, statement = line.split("\x1f")
                self.sessions.add(Session(server, login, application, encrypted == "t", protocol))
                self.statements.add(statement)
