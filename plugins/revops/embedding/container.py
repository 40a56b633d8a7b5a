"""The encoder as a container that lives no longer than whoever started it."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from docker import APIClient
from docker.errors import APIError, NotFound
from docker.utils.socket import STDOUT, frames_iter
from requests.exceptions import RequestException

from revops.embedding.container_config import ACCOUNT, container_config, encoder_uid
from revops.embedding.engine import check_parts, explained
from revops.embedding.runner import (
    LEASH,
    TAIL_LINES,
    EncoderError,
    EncoderInterruptedError,
    Event,
    check_end,
    last_words,
    read_event,
)
from revops.settings import Settings

log = structlog.get_logger(__name__)

# Which containers are whose: those that hand over in one place belong to one installation.
INSTALLATION = "revops.handoff"
OWNER = ("revops.dag", "revops.task", "revops.map_index")
# Longer than any task may run: what is older belongs to nobody.
STALE_S = 24 * 3600
# A container whose output has ended says within this time that it has ended itself.
_END_S = 10
_BEING_REMOVED = 409


@dataclass
class ContainerRunner:
    """Run encoder commands in the image of REVOPS_EMBEDDING_IMAGE; see runner.Runner.

    labels: those of OWNER, which say whose containers these are, and any others. Without them nothing is swept.
    """

    client: APIClient
    settings: Settings
    labels: Mapping[str, str] = field(default_factory=dict)
    _folders: tuple[Path, Path] | None = field(default=None, init=False)
    _is_killed: bool = field(default=False, init=False)

    def hand_over(self, source: Path, output: Path) -> None:
        """Let the container's account into both folders; what root has written there becomes its own."""
        self._folders = (source, output)
        output.mkdir(parents=True, exist_ok=True)
        uid = encoder_uid()
        for folder in self._folders:
            if uid != os.geteuid():
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, uid, ACCOUNT)
                # To be passed through, not to be looked into: the folder of a run is closed to others.
                for above in folder.relative_to(self.settings.embedding_handoff).parents:
                    parent = self.settings.embedding_handoff / above
                    parent.chmod(parent.stat().st_mode | 0o011)

    def run(self, arguments: Sequence[str]) -> Generator[Event, None, None]:
        """Run one command and yield its events; the container is removed in any case.

        Containers that an earlier try has left are removed first. The container's input is open as long as this client
        is attached to it: should this process die, by kill -9 too, the engine closes it and the encoder ends.
        """
        with explained(self.settings):
            self.sweep()
            check_parts(self.client, self.settings, with_handoff=self._folders is not None)
            labels = {**self.labels, INSTALLATION: self._installation}
            config = container_config(
                self.client, self.settings, command=[LEASH, *arguments], folders=self._folders, labels=labels
            )
            container = str(self.client.create_container(**config)["Id"])
            words: deque[bytes] = deque(maxlen=TAIL_LINES)
            try:
                yield from self._events(container, words)
                self._check_end(container, last_words([line.decode(errors="replace") for line in words]))
            finally:
                self._remove(container)

    def kill(self) -> None:
        """Remove the container, also one whose creation is not answered yet; a later one does not start."""
        self._is_killed = True
        try:
            with explained(self.settings):
                self.sweep()
        except (EncoderError, EncoderInterruptedError) as error:
            log.warning("the container could not be removed; it ends by itself without its client", error=str(error))

    def sweep(self) -> None:
        """Remove the containers of the same task, whatever their state, and those that no task can be waiting for."""
        owner = {name: self.labels.get(name) for name in OWNER}
        if None in owner.values():
            return
        for found in self.client.containers(all=True, filters={"label": [f"{INSTALLATION}={self._installation}"]}):
            theirs = {name: (found["Labels"] or {}).get(name) for name in OWNER}
            if theirs == owner or time.time() - found["Created"] > STALE_S:
                log.warning("removing a container", container=found["Id"][:12], was=found["State"], **_short(theirs))
                self._remove(found["Id"])

    @property
    def _installation(self) -> str:
        return self.settings.embedding_handoff_volume or str(self.settings.embedding_handoff)

    def _events(self, container: str, words: deque[bytes]) -> Iterator[Event]:
        # Attached before it starts: nothing it says is lost.
        pipe = self.client.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        try:
            if self._is_killed:
                raise EncoderInterruptedError("the task was ended before its encoder began")
            self.client.start(container)
            for is_output, line in _lines(pipe):
                if is_output:
                    yield read_event(line)
                else:
                    words.append(line)
        finally:
            # Closing the pipe alone would leave the connection open, and the container's input with it.
            getattr(pipe, "_response", pipe).close()

    def _check_end(self, container: str, words: str) -> None:
        try:
            code = self.client.wait(container, timeout=_END_S)["StatusCode"]
            state = self.client.inspect_container(container)["State"]
        except NotFound as error:
            raise EncoderInterruptedError("the encoder's container was removed while it worked") from error
        except RequestException as error:
            raise EncoderInterruptedError(
                f"the connection to the encoder's container {container[:12]} broke while it worked. "
                "A retry goes on after the last finished shard."
            ) from error
        if state.get("OOMKilled"):
            raise EncoderError(
                f"the encoder needs more memory than the {self.settings.embedding_memory} it may have. "
                "Remedy: raise REVOPS_EMBEDDING_MEMORY."
            )
        check_end(code, words)

    def _remove(self, container: str) -> None:
        with contextlib.suppress(NotFound):
            try:
                self.client.remove_container(container, force=True)
            except APIError as error:
                if error.status_code != _BEING_REMOVED:
                    raise


def _lines(pipe: Any) -> Iterator[tuple[bool, bytes]]:
    """Yield whole lines and whether they were printed on stdout, rather than on stderr, until the container ends.

    Also ends where the connection breaks; which of both it was, its state tells.
    """
    begun = {True: b"", False: b""}
    with contextlib.suppress(ConnectionError):
        for stream, chunk in frames_iter(pipe, tty=False):
            is_output = stream == STDOUT
            *lines, begun[is_output] = (begun[is_output] + chunk).split(b"\n")
            for line in lines:
                yield is_output, line
    # Of a broken line on stdout the rest is lost; the last words of a crash may lack their end of line.
    if begun[False]:
        yield False, begun[False]


def _short(labels: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.rpartition(".")[2]: value for name, value in labels.items()}
