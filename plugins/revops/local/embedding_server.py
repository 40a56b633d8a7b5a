"""The embedding service of the embedded stack: started when a query comes, gone when none comes any more."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from revops.embedding.encoder import model_options
from revops.embedding.service import ServiceError, find_service
from revops.local.processes import carries
from revops.settings import Settings
from revops.sources import INCLUDE

IDLE_EXIT_S = 900
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 40
LOCK_TIMEOUT_S = 320
LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Serving:
    """A service as it runs: process id, address, and a digest of the model and the Python it was started with.

    is_new: started by this very call.
    """

    pid: int
    url: str
    digest: str
    is_new: bool = False


@dataclass(frozen=True)
class EmbeddingServer:
    """The service of one stack; `home` holds its state and its log."""

    home: Path

    @property
    def log(self) -> Path:
        return self.home / "service.log"

    @property
    def _state(self) -> Path:
        return self.home / "running.json"

    @property
    def _events(self) -> Path:
        return self.home / "events.jsonl"

    @property
    def _mark(self) -> str:
        return f"REVOPS_EMBEDDING_SERVICE={self.home}"

    def running(self) -> Serving | None:
        """Return what runs, or None; a state file that a crash left behind counts as nothing."""
        try:
            serving = Serving(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return serving if carries(serving.pid, self._mark.encode()) else None

    def start(self, settings: Settings) -> Serving:
        """Start the service with the model of the settings, or return the one that runs with it already.

        One that runs with another model is ended first. Safe when called twice at the same time. Raises ServiceError
        with the end of the service's log.
        """
        with self._locked():
            digest = _digest(settings)
            if (running := self.running()) is not None:
                if running.digest == digest and _answers(settings, running):
                    return running
                self.stop()
            return self._start(settings, digest)

    def stop(self) -> bool:
        """End the service once it has answered what it was asked; return whether it ran."""
        running = self.running()
        if running is None:
            return False
        self._end(running.pid)
        self._state.unlink(missing_ok=True)
        return True

    def _start(self, settings: Settings, digest: str) -> Serving:
        if settings.embedding_python is None:
            raise ServiceError(
                "the encoder is a Docker image, which this stack does not serve queries with. Remedy: start its "
                "service (`embed serve --host 0.0.0.0` in a container) and set REVOPS_EMBEDDING_URL."
            )
        command = [str(settings.embedding_python), "-m", "embedding", "serve", *model_options(settings)]
        # It gets no credentials: only what is named here reaches it.
        name, _, value = self._mark.partition("=")
        environment = {"PATH": os.defpath, "HOME": str(self.home), "LANG": "C.UTF-8", name: value}
        with self._events.open("wb") as events, self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--port", "0", "--idle-exit", str(IDLE_EXIT_S)],
                env={**environment, "PYTHONPATH": str(INCLUDE / "embedding")},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=log,
                start_new_session=True,
            )
        try:
            serving = Serving(process.pid, self._wait_until_ready(process), digest)
            self._state.write_text(json.dumps(asdict(serving)))
        except BaseException:
            process.kill()
            process.wait()
            raise
        return replace(serving, is_new=True)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ValueError):
                event = json.loads(self._events.read_text().partition("\n")[0])
                if event.get("event") == "ready":
                    return str(event["url"])
            if process.poll() is not None:
                raise ServiceError(f"the embedding service ended with code {process.returncode}.\n{self._log_tail()}")
            time.sleep(0.05)
        raise ServiceError(f"the embedding service is not ready after {START_TIMEOUT_S} s.\n{self._log_tail()}")

    def _end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while carries(pid, self._mark.encode()):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # another command's child
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"End of {self.log}:\n" + "\n".join(lines)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        with (self.home / "start.lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ServiceError(
                            f"another process starts the embedding service for over {LOCK_TIMEOUT_S} s "
                            f"({self.home / 'start.lock'}). Remedy: `make stop`, then try again."
                        ) from None
                    time.sleep(0.1)
            yield


def _answers(settings: Settings, serving: Serving) -> bool:
    try:
        find_service(settings.model_copy(update={"embedding_urls": (serving.url,)}))
    except ServiceError:
        return False
    return True


def _digest(settings: Settings) -> str:
    """Return what tells one model from another without reading it: the files' names, sizes and times."""
    files = sorted(
        (path.relative_to(settings.embedding_model).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in settings.embedding_model.rglob("*")
        if path.is_file()
    )
    told = [str(settings.embedding_python), model_options(settings), files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
