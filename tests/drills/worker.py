"""One load in a process of its own, as an extract task does it; tells the drill what it does, statement by statement.

Started with a file descriptor as its only argument, where it does not begin as a fork (see load.py).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection as Channel
from typing import Any

import psycopg
import structlog

from revops.errors import describe
from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.sources import Source
from tests.histories.loads import is_mended_by_retry


@dataclass(frozen=True)
class Job:
    """What a worker is to load.

    pause_at: the number of the statement before which it waits for a word. asks_before_commit: it waits before each
    commit in the warehouse.
    """

    source_dsn: str
    warehouse_dsn: str
    config: dict[str, Any]
    run_id: str
    options: dict[str, Any] = field(default_factory=dict)
    pause_at: int | None = None
    asks_before_commit: bool = False


@dataclass(frozen=True)
class Event:
    """Something that a worker does.

    what: `opened` a session, is about to run a `statement` or to `commit`; at last `succeeded` or `failed`.
    number: counts statements and commits of all sessions. at: time.monotonic(), the same clock for all processes.
    """

    what: str
    side: str = ""
    text: str = ""
    number: int = 0
    at: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class Teller:
    """Sends events to the drill; sessions of several threads share it."""

    def __init__(self, channel: Channel, job: Job) -> None:
        self._channel = channel
        self._job = job
        self._lock = threading.Lock()
        self._count = 0

    def tell(self, what: str, *, side: str = "", text: str = "", **facts: Any) -> None:
        with self._lock:
            if what in ("statement", "commit"):
                self._count += 1
            self._channel.send(Event(what, side, text, self._count, time.monotonic(), facts))
            is_asked = what == "commit" and side == "warehouse" and self._job.asks_before_commit
            if is_asked or (self._count == self._job.pause_at and what in ("statement", "commit")):
                self._wait()

    def _wait(self) -> None:
        self._channel.send(Event("waits", number=self._count, at=time.monotonic()))
        self._channel.recv()


class ToldCursor(psycopg.Cursor[Any]):
    """A cursor that tells each statement before it runs."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self.connection.tell("statement", query)  # type: ignore[attr-defined]
        return super().execute(query, params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[psycopg.Copy]:
        self.connection.tell("statement", statement)  # type: ignore[attr-defined]
        with super().copy(statement, params, **options) as copy:
            yield copy


class ToldConnection(psycopg.Connection[Any]):
    """A session that tells its commits, and its statements by way of its cursors."""

    side = ""
    teller: Teller | None = None

    def tell(self, what: str, query: Any = "") -> None:
        if self.teller is not None:
            text = query if isinstance(query, str) else getattr(query, "as_string", lambda _: repr(query))(self)
            self.teller.tell(what, side=self.side, text=str(text)[:120])

    def commit(self) -> None:
        self.tell("commit")
        super().commit()


def work(job: Job, channel: Channel) -> None:
    """Run a job and send its outcome; the process ends afterwards."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    teller = Teller(channel, job)
    config = Source.model_validate(job.config)
    route = Route(
        source=_opener("source", job.source_dsn, teller), warehouse=_opener("warehouse", job.warehouse_dsn, teller)
    )
    try:
        result = load_table(route, config=config, table=config.tables[0], run_id=job.run_id, **job.options)
    except BaseException as error:  # noqa: BLE001 - the drill judges it
        teller.tell(
            "failed",
            text=describe(error),
            error=type(error).__name__,
            sqlstate=getattr(error, "sqlstate", None),
            is_mended=is_mended_by_retry(error),
        )
    else:
        teller.tell("succeeded", **asdict(result))


def _opener(side: str, dsn: str, teller: Teller) -> Callable[[], psycopg.Connection]:
    def open_session() -> psycopg.Connection:
        teller.tell("opens", side=side)
        connection = ToldConnection.connect(dsn, cursor_factory=ToldCursor)
        connection.side, connection.teller = side, teller
        teller.tell("opened", side=side, backend=connection.info.backend_pid)
        return connection

    return open_session


def main() -> None:
    """Work for a drill that has started this as a program."""
    channel = Channel(int(sys.argv[1]))
    work(channel.recv(), channel)


if __name__ == "__main__":
    # Under its real name, or the drill could not read this module's events.
    from tests.drills import worker

    worker.main()
