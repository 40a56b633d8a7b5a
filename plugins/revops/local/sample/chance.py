"""Seeded randomness of the sample: streams, shares, moments, ids."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from random import Random

LARGEST_BATCH = 21


def stream(seed: int, *names: object) -> Random:
    """Return a generator for one purpose: more draws for one table leave the other tables as they are."""
    return Random("/".join([str(seed), *map(str, names)]))  # noqa: S311


def moment(rng: Random, day: date) -> datetime:
    """Return a naive UTC time in the office hours of `day`, with microseconds."""
    return datetime.combine(day, time(7)) + timedelta(microseconds=rng.randrange(12 * 3600 * 1_000_000))


def between(rng: Random, first: date, last: date) -> date:
    """Return a day from `first` to `last`, both possible; `first` where the range is empty."""
    return first + timedelta(days=rng.randint(0, max(0, (last - first).days)))


def whole_second(value: datetime) -> datetime:
    """Cut to whole seconds, as Odoo stores business times."""
    return value.replace(microsecond=0)


def gapped_ids(rng: Random, first: int, gap: float = 0.04) -> Iterator[int]:
    """Yield rising ids from `first`; after the share `gap` of them, ids were rolled back or deleted."""
    number = first
    while True:
        yield number
        number += 1 if rng.random() >= gap else rng.randint(2, 4)


class WriteDates:
    """Hand out write dates; some rows share one, as they do when a single transaction wrote them."""

    def __init__(self, rng: Random, today: date) -> None:
        self._rng = rng
        self._today = today
        self._shared = datetime.min  # noqa: DTZ901 naive like every time in Odoo
        self._left = 0

    def after(self, created: datetime) -> datetime:
        """Return a write date not before `created` and before `today`."""
        rng = self._rng
        if self._left == 0 and rng.random() < 0.08:
            self._left = rng.choice((2, 3, 4, 6, 9, 15, LARGEST_BATCH))
            self._shared = moment(rng, between(rng, self._today - timedelta(days=90), self._today - timedelta(days=1)))
        if self._left and created <= self._shared:
            self._left -= 1
            return self._shared
        if rng.random() < 0.15:
            return created
        span = datetime.combine(self._today, time()) - created
        return created + timedelta(microseconds=int(rng.random() ** 2 * max(1, span // timedelta(microseconds=1))))
