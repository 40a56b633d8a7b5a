"""Which texts share a batch, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from embedding.coalesce import Coalescer
from embedding.errors import DeviceLostError
from embedding.service_metrics import Metrics
from embedding.waiting import Item, Limits, Overloaded

FOR_EVER = 3_600.0


class Queue:
    """A coalescer whose model doubles numbers and notes each batch."""

    def __init__(self, *, budget: int = 100, window: float = FOR_EVER, texts: int = 100, tokens: int = 1_000) -> None:
        self.batches: list[list[int]] = []
        self.error: Exception | None = None
        self.thread = ThreadPoolExecutor(1)
        limits = Limits(budget, texts, tokens, window)
        self.coalescer = Coalescer(limits, encode=self._encode, thread=self.thread, metrics=Metrics())

    def _encode(self, group: tuple[str, str], payloads: Sequence[int]) -> list[int]:
        self.batches.append(list(payloads))
        if self.error:
            raise self.error
        return [2 * payload for payload in payloads]

    def put(self, *numbers: int, tokens: int = 10, request: int = 0, group: str = "a") -> list[Item]:
        self.coalescer.take_room(len(numbers))
        loop = asyncio.get_running_loop()
        items = [
            Item(f"{group}{n}".encode(), (group, ""), n, tokens, loop.create_future(), request=request) for n in numbers
        ]
        self.coalescer.put(items)
        return items


def play(queue: Queue, scene) -> None:
    async def main() -> None:
        running = asyncio.create_task(queue.coalescer.run())
        await asyncio.wait_for(scene(), 20)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())
    queue.thread.shutdown()


async def results(*items: Item) -> list[int]:
    return [await item.future for item in items]


def test_who_is_alone_does_not_wait():
    queue = Queue()

    async def scene():
        assert await results(*queue.put(1, 2, request=1)) == [2, 4]
        assert await results(*queue.put(3, request=2)) == [6]

    play(queue, scene)
    assert queue.batches == [[1, 2], [3]]


def test_a_request_that_is_being_read_is_waited_for():
    queue = Queue()

    async def scene():
        queue.coalescer.arriving = 1
        first = queue.put(1, request=1)
        await asyncio.sleep(0.02)
        assert queue.batches == []
        second = queue.put(2, request=2)
        queue.coalescer.arriving = 0
        queue.coalescer.give_back_room(0)
        assert await results(*first, *second) == [2, 4]

    play(queue, scene)
    assert queue.batches == [[1, 2]]


def test_after_company_the_window_is_waited_but_not_once_a_batch_is_full():
    queue = Queue(budget=30)

    async def scene():
        await results(*queue.put(1, request=1), *queue.put(2, request=2))
        third = queue.put(3, request=3)
        await asyncio.sleep(0.02)
        assert queue.batches == [[1, 2]]
        await results(*third, *queue.put(4, 5, request=4))

    play(queue, scene)
    assert queue.batches == [[1, 2], [3, 4, 5]]


def test_the_window_ends():
    queue = Queue(window=0.01)

    async def scene():
        queue.coalescer.arriving = 1
        assert await results(*queue.put(1)) == [2]

    play(queue, scene)


def test_the_oldest_is_always_served_and_similar_lengths_join_it():
    queue = Queue(budget=100)

    async def scene():
        queue.coalescer.arriving = 1
        oldest = queue.put(1, tokens=20)
        long = queue.put(2, tokens=90)
        short = queue.put(3, 4, 5, 6, tokens=20)
        other = queue.put(7, tokens=20, group="b")
        queue.coalescer.arriving = 0
        queue.coalescer.give_back_room(0)
        assert await results(*oldest, *long, *short, *other) == [2, 4, 6, 8, 10, 12, 14]

    play(queue, scene)
    assert queue.batches == [[1, 3, 4, 5, 6], [2], [7]]


def test_what_does_not_fit_is_refused_and_leaves_nothing_behind():
    queue = Queue(texts=3, tokens=25)

    async def scene():
        queue.coalescer.arriving = 1
        waiting = queue.put(1, tokens=20)
        with pytest.raises(Overloaded) as full:
            queue.put(2, tokens=10)
        assert full.value.retry_after >= 1
        with pytest.raises(Overloaded):
            queue.put(3, 4, 5, tokens=1)
        queue.coalescer.leave(waiting)
        queue.coalescer.arriving = 0
        assert await results(*queue.put(6, 7, 8, tokens=8)) == [12, 14, 16]

    play(queue, scene)
    assert queue.batches == [[6, 7, 8]]


def test_a_lost_gpu_fails_all_that_waits_and_all_that_comes_and_is_asked_no_more():
    queue = Queue(budget=10, texts=3)
    queue.error = DeviceLostError("lost")

    async def scene():
        waiting = queue.put(1, 2, 3)
        for item in waiting:
            with pytest.raises(DeviceLostError, match="lost"):
                await item.future
        assert queue.coalescer.is_failing
        # There is room again.
        (late,) = queue.put(4)
        with pytest.raises(DeviceLostError, match="lost"):
            await late.future

    with pytest.raises(DeviceLostError, match="lost"):
        play(queue, scene)
    assert queue.batches == [[1]]
