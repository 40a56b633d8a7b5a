"""The ways to embed texts that are compared, run in the encoder's own environment.

What stands in this file is imported by the benchmark's environment as well: nothing but the standard library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "BENCHMARK_JOB"
MAX_LENGTH = 512
# BGE-M3's own lengths for the figures at full size.
LENGTHS = (128, 512)
Emit = Callable[..., None]


@dataclass(frozen=True)
class Job:
    """What to measure. model: a directory with a checkpoint; full_size: at which size its weights are made anew."""

    model: str
    home: str
    device: str
    documents: int
    host_documents: int
    full_documents: int
    queries: int
    rounds: int
    full_size: bool
    threads: int | None
    sections: tuple[str, ...]

    @classmethod
    def given(cls) -> Job:
        """Return the job of this process, from its environment."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def as_variable(self) -> dict[str, str]:
        """Return the variable that hands the job over."""
        return {VARIABLE: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Figures:
    """One measured run. wall, cpu: seconds; tokens: real ones, cut to the maximum; padded: those computed."""

    section: str
    contender: str
    documents: int
    tokens: int
    wall: float
    cpu: float
    padded: int = 0

    @classmethod
    def read(cls, event: dict[str, Any]) -> Figures:
        """Read them from an event of the worker."""
        return cls(**{name: event[name] for name in cls.__dataclass_fields__})
