"""What a drill is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.drills.databases import Databases
from tests.drills.world import World


class Skipped(Exception):  # noqa: N818 - it is no error
    """The drill can't be done on this machine; says what it needs."""


@contextmanager
def _nothing(databases: Databases) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Drill:
    """One kind of fault.

    about: what is done and what it proves. seeds: its share of a whole run. run: does one seed; it raises when
    something is wrong. surroundings: what the drill needs besides the servers, for all of its seeds; raises Skipped.
    """

    name: str
    about: str
    seeds: int
    run: Callable[[World], None]
    surroundings: Callable[[Databases], object] = _nothing
