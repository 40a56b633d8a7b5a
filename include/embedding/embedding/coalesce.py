"""Texts of all requests that wait, gathered into batches for one model thread.

Everything but the model runs on the event loop's thread, so that nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from embedding.errors import DeviceLostError, EmbeddingError
from embedding.service_metrics import Metrics
from embedding.waiting import EncodeFailed, Item, Limits, Overloaded

log = logging.getLogger(__name__)

# Of a longer queue, only its head is searched for texts of a similar length.
LOOKAHEAD = 1_024
MAX_ROWS = 512
# How much the last batch counts in the speed that waiting times are told from.
LAST_BATCH = 0.3


class Coalescer:
    """Run items in batches: the oldest first, and with it those of similar length, within a token budget."""

    def __init__(
        self,
        limits: Limits,
        *,
        encode: Callable[[tuple[str, str], Sequence[Any]], Sequence[Any]],
        thread: ThreadPoolExecutor,
        metrics: Metrics,
    ) -> None:
        """Take `encode` (group, payloads -> results in their order), called on `thread` and nowhere else.

        When it raises DeviceLostError, `run` ends, and all that waits or comes fails with it.
        """
        self.limits = limits
        self.is_failing = False
        # Requests that are being read or tokenized now: worth waiting for.
        self.arriving = 0
        self._encode = encode
        self._thread = thread
        self._metrics = metrics
        self._queue: deque[Item] = deque()
        self._pending: dict[bytes, Item] = {}
        self._texts = self._tokens = 0
        self._waiting_tokens = 0
        self._tokens_per_second = 0.0
        self._had_company = False
        self._changed = asyncio.Event()
        self._lost: DeviceLostError | None = None

    def take_room(self, texts: int) -> None:
        """Reserve room for texts before they are tokenized; raises Overloaded."""
        if self._texts + texts > self.limits.queue_texts:
            raise Overloaded(self._retry_after())
        self._count(texts=texts)

    def give_back_room(self, texts: int) -> None:
        """Free room that was reserved and not used, if any; whoever waits for `arriving` looks again."""
        self._count(texts=-texts)
        self._changed.set()

    def pending(self, key: bytes) -> Item | None:
        """Return the item that already waits or runs under this key, now with a waiter more."""
        item = self._pending.get(key)
        if item is not None:
            item.waiters += 1
        return item

    def put(self, items: Sequence[Item]) -> None:
        """Queue items for which room was reserved; raises Overloaded, queuing none and freeing their room."""
        tokens = sum(item.tokens for item in items)
        if self._tokens + tokens > self.limits.queue_tokens:
            self.give_back_room(len(items))
            raise Overloaded(self._retry_after())
        self._count(tokens=tokens)
        self._waiting_tokens += tokens
        self._queue.extend(items)
        self._pending.update((item.key, item) for item in items)
        if self._lost:
            self._give_up([], self._lost)
        self._changed.set()

    def leave(self, items: Iterable[Item]) -> None:
        """Stop listening; an item that nobody listens to and that still waits is never encoded."""
        for item in items:
            item.waiters -= 1
            if item.waiters == 0 and not item.future.done() and item in self._queue:
                self._queue.remove(item)
                self._waiting_tokens -= item.tokens
                self._finish(item)
                self._metrics.dropped.inc()

    async def run(self) -> None:
        """Encode what comes, until cancelled; raises DeviceLostError once everybody has been told."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if not self._queue:
                await self._changed.wait()
                continue
            await self._gather()
            batch = self._take()
            if batch:
                try:
                    await loop.run_in_executor(self._thread, self._compute, batch, loop)
                except DeviceLostError as lost:
                    self._give_up(batch, lost)
                    raise

    async def _gather(self) -> None:
        """Wait for company, up to the window after the oldest item came. Who is alone does not wait."""
        deadline = self._queue[0].arrived + self.limits.window
        while self._queue and self._waiting_tokens < self.limits.token_budget:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not (self.arriving or self._had_company):
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._changed.wait()

    def _take(self) -> list[Item]:
        if not self._queue:
            return []
        head = self._queue[0]
        alike = [item for item in islice(self._queue, LOOKAHEAD) if item.group == head.group]
        alike.sort(key=lambda item: abs(item.tokens - head.tokens))
        batch: list[Item] = []
        longest = head.tokens
        for item in alike[:MAX_ROWS]:
            longest = max(longest, item.tokens)
            if batch and (len(batch) + 1) * longest > self.limits.token_budget:
                break
            batch.append(item)
        taken = set(map(id, batch))
        self._queue = deque(item for item in self._queue if id(item) not in taken)
        self._waiting_tokens -= sum(item.tokens for item in batch)
        self._had_company = len({item.request for item in batch}) > 1
        return batch

    def _compute(self, batch: list[Item], loop: asyncio.AbstractEventLoop) -> None:
        # On the model thread.
        started = time.monotonic()
        outcomes = self._outcomes(batch)
        seconds = time.monotonic() - started
        loop.call_soon_threadsafe(self._answer, batch, outcomes, started, seconds)

    def _outcomes(self, batch: list[Item]) -> list[Any]:
        try:
            return list(self._encode(batch[0].group, [item.payload for item in batch]))
        except DeviceLostError:
            raise
        except Exception as error:
            self._metrics.failures.inc()
            log.error("a batch of %d texts failed: %s", len(batch), error, exc_info=_if_unexpected(error))
            if len(batch) == 1:
                return [error]
        # One text, or their sum, was too much: the others must not suffer for it.
        return [outcome for item in batch for outcome in self._outcomes([item])]

    def _answer(self, batch: list[Item], outcomes: list[Any], started: float, seconds: float) -> None:
        self.is_failing = all(isinstance(outcome, Exception) for outcome in outcomes)
        tokens = sum(item.tokens for item in batch)
        padded = len(batch) * max(item.tokens for item in batch)
        speed = tokens / max(seconds, 1e-6)
        self._tokens_per_second += (speed - self._tokens_per_second) * (LAST_BATCH if self._tokens_per_second else 1)
        self._metrics.texts.labels(batch[0].group[0]).inc(len(batch))
        self._metrics.tokens.inc(tokens)
        self._metrics.fill.observe(padded / self.limits.token_budget)
        self._metrics.padding.observe(padded / tokens)
        self._metrics.encode.observe(seconds)
        for item, outcome in zip(batch, outcomes, strict=True):
            self._metrics.wait.observe(max(0.0, started - item.arrived))
            self._finish(item)
            if item.waiters == 0:
                continue
            if isinstance(outcome, Exception):
                item.future.set_exception(EncodeFailed(str(outcome)))
            else:
                item.future.set_result(outcome)

    def _give_up(self, batch: Sequence[Item], lost: DeviceLostError) -> None:
        """Fail a batch and all that waits, now and from now on."""
        self.is_failing, self._lost = True, lost
        given_up = [*batch, *self._queue]
        self._queue.clear()
        self._waiting_tokens = 0
        for item in given_up:
            self._finish(item)
            if item.waiters:
                item.future.set_exception(lost)

    def _finish(self, item: Item) -> None:
        self._pending.pop(item.key, None)
        self._count(texts=-1, tokens=-item.tokens)

    def _count(self, *, texts: int = 0, tokens: int = 0) -> None:
        self._texts += texts
        self._tokens += tokens
        self._metrics.queued_texts.set(self._texts)
        self._metrics.queued_tokens.set(self._tokens)

    def _retry_after(self) -> int:
        seconds = self._tokens / self._tokens_per_second if self._tokens_per_second else 1.0
        return max(1, min(60, math.ceil(seconds)))


def _if_unexpected(error: Exception) -> bool:
    return not isinstance(error, EmbeddingError)
