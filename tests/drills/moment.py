"""When a fault comes: a statement of the load, and how long after its start."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.drills.worker import Event


@dataclass(frozen=True)
class Moment:
    """Statement `number` has begun `delay` seconds ago; or it is held back while the fault comes (is_before)."""

    number: int
    delay: float
    is_before: bool
    text: str

    def __str__(self) -> str:
        when = "before" if self.is_before else f"{1000 * self.delay:.1f} ms into"
        return f"{when} statement {self.number}: {self.text}"


def choose_moment(rng: random.Random, events: list[Event]) -> Moment:
    """Choose a moment of a load from what an undisturbed load of the same rows did, and when.

    Half of the moments fall on statements with equal chance, so that short ones are hit too; the others on the time
    that the load took, most of which is reading and writing rows.
    """
    steps = [event for event in events if event.what in ("statement", "commit")]
    ends = [*(event.at for event in steps[1:]), events[-1].at]
    lengths = [max(0.0, end - event.at) for event, end in zip(steps, ends, strict=True)]
    by_time = rng.random() < 0.5 and sum(lengths) > 0
    index = rng.choices(range(len(steps)), weights=lengths if by_time else None)[0]
    event = steps[index]
    is_before = not by_time and rng.random() < 0.5
    delay = 0.0 if is_before else rng.uniform(0, lengths[index])
    return Moment(event.number, delay, is_before, f"{event.side}: {event.text or event.what}")
