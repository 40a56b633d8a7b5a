"""Run a command and measure it: wall time, processor time of client and servers, peak memory of the client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import Command
from benchmarks.servers import Servers

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.02
TIMEOUT_S = 3600
OUTPUT_TAIL = 4000


class ContenderError(RuntimeError):
    """A contender did not do its work; the message ends with what it printed."""


@dataclass(frozen=True)
class Measured:
    """One run. Times in seconds; client, source and target are processor time; rss in bytes."""

    wall: float
    client: float
    source: float
    target: float
    rss: int
    output: str = ""

    @property
    def cpu(self) -> float:
        return self.client + self.source + self.target


def measure(command: Command, servers: Servers) -> Measured:
    """Run a command to its end. Its time includes starting it: an interpreter, imports, connections.

    Raises ContenderError when it fails or takes longer than an hour.
    """
    before = [_tree_seconds(server.postmaster) for server in (servers.source, servers.target)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command.arguments,
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ContenderError(f"{error.filename} is missing. Remedy: `make bench`, which installs it") from None
        memory = _PeakMemory(process.pid)
        killer = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            killer.cancel()
            memory.stop()
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output = out.read()
        if process.returncode:
            said = (output + err.read()).strip()[-OUTPUT_TAIL:]
            last = said.rpartition("\n")[2]
            raise ContenderError(f"{Path(command.arguments[0]).name} ended with {process.returncode}: {last}\n{said}")
    for server in (servers.source, servers.target):
        server.wait_until_idle()
    source, target = (
        _tree_seconds(server.postmaster) - seconds
        for server, seconds in zip((servers.source, servers.target), before, strict=True)
    )
    return Measured(wall, usage.ru_utime + usage.ru_stime, source, target, memory.peak, output)


class _PeakMemory:
    """Watches the memory of a process and its descendants until told to stop.

    The kernel's own figure (ru_maxrss) won't do: it starts from the memory of the process that forked.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            together = 0
            for pid in _tree(self._pid):
                now, highest = _memory(pid)
                together += now
                # What one process reached between two samples, at least that much was used.
                self.peak = max(self.peak, highest)
            self.peak = max(self.peak, together)
            if self._ended.wait(SAMPLE_S):
                return


def _tree(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    found = [pid]
    with contextlib.suppress(OSError):  # it ends while we look
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _tree(int(child))
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process and the most that it has had, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if "VmRSS" not in values:  # it has ended and waits to be reaped
        return 0, 0
    return int(values["VmRSS"].split()[0]) * 1024, int(values["VmHWM"].split()[0]) * 1024


def _tree_seconds(pid: int) -> float:
    """Return the processor time of a process, its descendants, and those that have ended and were waited for."""
    ticks = 0
    for member in _tree(pid):
        try:
            stat = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        # Fields after the name in brackets, which may hold spaces: utime, stime, cutime, cstime are 14 to 17 of all.
        ticks += sum(int(value) for value in stat.rpartition(")")[2].split()[11:15])
    return ticks / TICKS
