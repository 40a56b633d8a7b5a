"""One encoder command, wherever it runs: what it prints, how it ends, and what an end means."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

Event = dict[str, Any]

# The encoder ends when its input is closed: none outlives the task that started it.
LEASH = "--end-with-stdin"
# Of what an encoder says on stderr so much stands in the error.
TAIL_LINES = 15
_TAIL_CHARACTERS = 500

# include/embedding/embedding/errors.py. What is in no way the encoder's configuration may pass by itself.
_PERMANENT = {
    2: "its options do not fit",
    3: "the model is missing, incomplete or damaged",
    4: "a GPU is required",
    5: "the texts handed over can't be read",
}
_PASSING = {
    1: "a defect, or a fault of the device",
    6: "its output can't be written, or another encoder is writing there",
    7: "its caller went away",
    137: "killed",
    139: "crashed",
    143: "asked to end",
}


class EncoderError(RuntimeError):
    """The encoder can't do its work for a reason that a retry does not mend; the message holds what it said."""


class EncoderInterruptedError(RuntimeError):
    """The encoder was ended from outside, or can't be reached now; a retry goes on after the last finished shard."""


class Runner(Protocol):
    """Whatever runs encoder commands: a process of this machine, or a container."""

    def hand_over(self, source: Path, output: Path) -> None:
        """Let the commands that follow read one folder and write another, which is made where it is missing."""

    def run(self, arguments: Sequence[str]) -> Generator[Event, None, None]:
        """Run one command and yield its events as they come; it has ended, well, when they end.

        Raises EncoderError and EncoderInterruptedError. Nothing of it is left once the iterator is closed.
        """

    def kill(self) -> None:
        """End the command that runs, if any, from another thread or a signal's handler; within seconds."""


def read_event(line: bytes | str) -> Event:
    """Parse one line of an encoder's output; raises EncoderError, which does not quote it."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise EncoderError(
            f"the encoder printed a line of {len(line)} characters that is no event of its own. "
            "Remedy: what runs there is no encoder, or one of another version: build its image or environment anew."
        )
    return event


def last_words(lines: Sequence[str]) -> str:
    """Return the end of what an encoder said on stderr."""
    return "\n".join(line[:_TAIL_CHARACTERS] for line in lines[-TAIL_LINES:])


def check_end(code: int, words: str) -> None:
    """Turn an exit code, as a shell counts it, and the last words on stderr into an error; do nothing at 0."""
    if code == 0:
        return
    meaning = _PERMANENT.get(code) or _PASSING.get(code) or ("killed by a signal" if code > 128 else "unknown")
    said = f":\n{words}" if words else ""
    message = f"the encoder ended with code {code} ({meaning}){said}"
    if code in _PERMANENT:
        raise EncoderError(message)
    raise EncoderInterruptedError(f"{message}\nA retry goes on after the last finished shard.")
