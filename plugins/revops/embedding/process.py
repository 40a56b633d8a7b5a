"""The encoder as a process of this machine, without credentials."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from revops.embedding.runner import LEASH, EncoderInterruptedError, Event, check_end, last_words, read_event
from revops.settings import Settings
from revops.sources import INCLUDE

ENCODER = INCLUDE / "embedding"


@dataclass
class ProcessRunner:
    """Run encoder commands by the Python of REVOPS_EMBEDDING_PYTHON; see runner.Runner."""

    settings: Settings
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _is_killed: bool = field(default=False, init=False)

    def hand_over(self, source: Path, output: Path) -> None:  # noqa: ARG002 - it may read whatever its caller may
        """Make the folder to write; the encoder runs as the account that calls it."""
        output.mkdir(parents=True, exist_ok=True)

    def run(self, arguments: Sequence[str]) -> Generator[Event, None, None]:
        """Run one command and yield its events. Only what is named here reaches it of the environment.

        It holds the reading end of a pipe: should this process die, by kill -9 too, the encoder ends at once.
        """
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8", "PYTHONPATH": str(ENCODER)}
        command = [str(self.settings.embedding_python), "-m", "embedding", LEASH, *arguments]
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
            )
            self._process = process
            try:
                if self._is_killed:
                    raise EncoderInterruptedError("the task was ended before its encoder began")
                yield from map(read_event, process.stdout or ())
                code = process.wait()
                words.seek(0)
                check_end(
                    code if code >= 0 else 128 - code, last_words(words.read().decode(errors="replace").splitlines())
                )
            finally:
                self._process = None
                process.kill()
                with contextlib.suppress(BrokenPipeError):
                    process.communicate()

    def kill(self) -> None:
        """End the process; what it has finished stays."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()
