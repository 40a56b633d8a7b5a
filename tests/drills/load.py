"""A load that runs in a worker process, as the drill sees it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection as Channel

from tests.drills import ROOT
from tests.drills.worker import Event, Job, work

# A worker that neither ends nor fails by then is killed, and its drill has failed.
LIMIT_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a load ended: `succeeded`, `failed` with its error, or `killed` without a word."""

    kind: str
    event: Event | None
    seconds: float

    @property
    def error(self) -> str:
        """The class of the error, with its SQLSTATE; empty where there is none."""
        if self.kind == "killed":
            return "killed"
        facts = self.event.facts if self.event and self.kind == "failed" else {}
        return " ".join(filter(None, (facts.get("error"), facts.get("sqlstate"))))

    @property
    def is_mended_by_retry(self) -> bool:
        return self.kind != "failed" or bool(self.event and self.event.facts["is_mended"])

    def __str__(self) -> str:
        return f"{self.kind} after {self.seconds:.2f} s" + (
            f": {self.event.text}" if self.event and self.event.text else ""
        )


class Load:
    """A worker process at work on a job.

    prefix: a command that the worker is run by, for one in another network or with another clock; without it the
    worker is forked from a process that has imported everything already, which takes milliseconds.
    """

    def __init__(self, job: Job, *, prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> None:
        self.started = time.monotonic()
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._has_ended = False
        self._channel, self.pid, self._join = (
            _run(job, prefix, environment or {}) if prefix or environment else _fork(job)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        """Whether the worker has neither told its outcome nor died."""
        return not self._has_ended and not any(event.what in ("succeeded", "failed") for event in self.events)

    def backends(self, side: str) -> list[int]:
        """Return the process ids of the sessions that the worker has opened on one side."""
        return [event.facts["backend"] for event in self.events if event.what == "opened" and event.side == side]

    def wait_for(self, is_it: Callable[[Event], bool], *, since: int = 0, timeout: float = LIMIT_S) -> Event | None:
        """Wait for an event after the first `since` ones; None when the worker ends without it."""
        deadline = time.monotonic() + timeout
        seen = since
        with self._news:
            while True:
                found = next((event for event in self.events[seen:] if is_it(event)), None)
                seen = len(self.events)
                if found is not None or self._has_ended or time.monotonic() > deadline:
                    return found
                self._news.wait(0.5)

    def go_on(self) -> None:
        """Let a worker that waits go on."""
        self._channel.send(None)

    def signal(self, number: signal.Signals) -> bool:
        """Send the worker a signal; False when it had ended by then."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        return self.signal(signal.SIGKILL)

    def wait(self, *, limit: float = LIMIT_S) -> Outcome:
        """Wait for the worker's end; one that does not end in time is killed and counts as hung."""
        with self._news:
            self._news.wait_for(lambda: self._has_ended, limit)
        hung = not self._has_ended
        if hung:
            self.signal(signal.SIGKILL)
            self._reader.join()
        self._join()
        self._channel.close()
        last = next((event for event in self.events if event.what in ("succeeded", "failed")), None)
        seconds = (self.events[-1].at if self.events else time.monotonic()) - self.started
        if hung:
            return Outcome("hung", None, limit)
        return Outcome(last.what if last else "killed", last, seconds)

    def _read(self) -> None:
        while True:
            try:
                event = self._channel.recv()
            except (EOFError, OSError):
                event = None
            with self._news:
                if event is None:
                    self._has_ended = True
                else:
                    self.events.append(event)
                self._news.notify_all()
            if event is None:
                return


@cache
def _forks() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.drills.worker"])
    return context


def _fork(job: Job) -> tuple[Channel, int, Callable[[], None]]:
    ours, theirs = _forks().Pipe()
    process = _forks().Process(target=work, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, int(process.pid or 0), process.join


def _run(job: Job, prefix: tuple[str, ...], environment: dict[str, str]) -> tuple[Channel, int, Callable[[], None]]:
    ours, theirs = multiprocessing.Pipe()
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.drills.worker", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT / "plugins")},
    )
    theirs.close()
    ours.send(job)

    def join() -> None:
        process.wait()

    return ours, process.pid, join
