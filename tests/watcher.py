"""What only shows while a run goes on: sessions and how they are encrypted, their statements, handed-over files."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path
from types import TracebackType

import psycopg

from revops.local.stack import Stack
from tests import canary

EVERY_S = 0.05
_SESSIONS = (
    "select a.usename, a.datname, a.application_name, coalesce(s.ssl, false), coalesce(s.version, 'none'), a.query "
    "from pg_stat_activity as a left join pg_stat_ssl as s using (pid) "
    # Before a session has said who it is, it is no session.
    "where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.usename is not null"
)


class Watcher:
    """Look at a stack's server and hand-over folder twenty times a second; a context manager.

    sessions: (login, database, application, encrypted, protocol). leaks: names of canaries that a statement showed.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.sessions: set[tuple[str, str, str, bool, str]] = set()
        self.leaks: set[str] = set()
        self.samples = 0
        self.folder = folder
        self._stack = stack
        self._handed_over = stack.home / "embedding"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.failure: BaseException | None = None

    @property
    def files(self) -> list[Path]:
        """Copies of the files that were handed over between tasks."""
        return sorted(self.folder.glob("*.parquet"))

    def __enter__(self) -> Watcher:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            with psycopg.connect(self._stack.postgres.conninfo("postgres"), autocommit=True) as server:
                while not self._stop.wait(EVERY_S):
                    for *session, query in server.execute(_SESSIONS):
                        self.sessions.add(tuple(session))
                        self.leaks |= canary.found_in(query or "", *canary.EVERYTHING)
                    self._copy_files()
                    self.samples += 1
        except BaseException as error:  # noqa: BLE001 - told by who looks at what was seen
            self.failure = error

    def _copy_files(self) -> None:
        for path in self._handed_over.rglob("*.parquet"):
            # A file goes when its task is done; one that is being written is copied again.
            copy = self.folder / "-".join(path.relative_to(self._handed_over).parts)
            with contextlib.suppress(FileNotFoundError):
                if not copy.exists() or copy.stat().st_size != path.stat().st_size:
                    shutil.copyfile(path, copy)
