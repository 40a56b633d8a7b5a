"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Passed:
    """All that is needed is there. warnings: what works, and should be mended all the same."""

    text: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """Something that can be checked by itself; run returns what it found or raises an error that says the remedy."""

    name: str
    run: Callable[[], Passed]


class CheckError(RuntimeError):
    """Something is wrong; the message says what and what to do. may_pass: perhaps it only has not started yet."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass
