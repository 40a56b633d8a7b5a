"""From texts to results: the cache first, then the queue, then the model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding.coalesce import Coalescer
from embedding.encoder import Encoder
from embedding.errors import DeviceLostError
from embedding.lru import Lru
from embedding.service_bodies import ApiError
from embedding.service_heads import COLBERT, MAX_SIM, VECTORS, Score, Text, Vectors, compute
from embedding.service_metrics import Metrics
from embedding.service_tokens import Row, split_rows
from embedding.waiting import Item, Limits, Overloaded

# A query is tokenized at once; what takes longer than the way to another thread goes there.
INLINE_CHARACTERS = 4_000
Left = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class _Ask:
    """Name what one request wants of its texts; `left` returns when the client has gone."""

    kind: str
    prompt: str
    truncate: bool
    left: Left
    query: str = ""
    matrix: NDArray[np.float32] | None = None

    def key(self, text: str) -> bytes:
        """Return the hash that results are kept under."""
        digest = hashlib.sha256(f"{self.kind}\0{self.prompt}\0{len(self.query)}\0{self.query}".encode())
        digest.update(text.encode())
        return digest.digest()


class Work:
    """Answer for one encoder; every method runs on the event loop's thread."""

    def __init__(
        self, encoder: Encoder, limits: Limits, *, cache_size: int, thread: ThreadPoolExecutor, metrics: Metrics
    ) -> None:
        self.encoder = encoder
        self.coalescer = Coalescer(limits, encode=partial(compute, encoder), thread=thread, metrics=metrics)
        self._metrics = metrics
        self._cache: Lru[Any] = Lru(cache_size)
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._numbers = count()

    async def vectors(self, texts: Sequence[str], *, prompt: str, truncate: bool, left: Left) -> list[Vectors]:
        """Return the vectors of texts in their order; raises ApiError."""
        return await self._results(texts, _Ask(VECTORS, prompt, truncate, left))

    async def scores(self, query: str, texts: Sequence[str], *, truncate: bool, left: Left) -> list[Score]:
        """Return each text's relevance to a query in their order; raises ApiError."""
        if not texts:
            return []
        (matrix,) = await self._results([query], _Ask(COLBERT, "query", truncate, left))
        return await self._results(texts, _Ask(MAX_SIM, "passage", truncate, left, query, matrix))

    async def is_well(self, left: Left) -> bool:
        """Tell whether the model works: after a batch that failed, by a text of our own.

        Nobody asks a service that says of itself that it fails: one bad text would put it out of use for good.
        """
        if self.coalescer.is_failing:
            with suppress(ApiError):
                await self.vectors([f"is it well {next(self._numbers)}"], prompt="query", truncate=True, left=left)
        return not self.coalescer.is_failing

    async def _results(self, texts: Sequence[str], ask: _Ask) -> list[Any]:
        keys = [ask.key(text) for text in texts]
        found: dict[bytes, Any] = {}
        joined: dict[bytes, Item] = {}
        missing: dict[bytes, str] = {}
        try:
            for key, text in dict(zip(keys, texts, strict=True)).items():
                if (result := self._cache.get(key)) is not None:
                    found[key] = result
                elif (item := self.coalescer.pending(key)) is not None:
                    joined[key] = item
                else:
                    missing[key] = text
            self._metrics.cached.inc(len(found))
            self._metrics.missed.inc(len(joined) + len(missing))
            if missing:
                joined |= await self._queue(missing, ask)
            if joined:
                found |= await self._wait(joined, ask)
        finally:
            self.coalescer.leave(joined.values())
        if ask.kind != COLBERT and not ask.truncate:
            # An equal text may have been cut for somebody else.
            for result in found.values():
                if result.truncated:
                    raise self._too_long(result.tokens)
        return [found[key] for key in keys]

    async def _queue(self, missing: dict[bytes, str], ask: _Ask) -> dict[bytes, Item]:
        with self._room(len(missing)) as room:
            rows = await self._tokenize(list(missing.values()), prompt=ask.prompt)
            self._refuse_too_much(rows, truncate=ask.truncate)
            loop, number = asyncio.get_running_loop(), next(self._numbers)
            items = {
                key: Item(
                    key,
                    group=(ask.kind, ask.prompt),
                    payload=Text(text, row, ask.matrix),
                    tokens=len(row.ids),
                    future=loop.create_future(),
                    request=number,
                )
                for row, (key, text) in zip(rows, missing.items(), strict=True)
            }
            room.clear()
            self.coalescer.put(list(items.values()))
        return items

    @contextmanager
    def _room(self, texts: int) -> Iterator[list[int]]:
        """Hold room in the queue until the list that is yielded is emptied: from then on the queue holds it."""
        try:
            self.coalescer.take_room(texts)
            held = [texts]
            self.coalescer.arriving += 1
            try:
                yield held
            finally:
                self.coalescer.arriving -= 1
                self.coalescer.give_back_room(sum(held))
        except Overloaded as full:
            raise ApiError(429, "overloaded", str(full), retry_after=full.retry_after) from full

    async def _tokenize(self, texts: list[str], *, prompt: str) -> list[Row]:
        tokenize = partial(self.encoder.tokenizer.tokenize, texts, prompt=prompt)
        try:
            if sum(map(len, texts)) <= INLINE_CHARACTERS:
                return split_rows(tokenize())
            return split_rows(await asyncio.get_running_loop().run_in_executor(self._tokenizing, tokenize))
        except ValueError as error:
            raise ApiError(422, "wrong_text", str(error)) from error

    def _refuse_too_much(self, rows: Sequence[Row], *, truncate: bool) -> None:
        if not truncate and any(row.is_cut for row in rows):
            raise self._too_long(max(row.count for row in rows))
        total, limit = sum(len(row.ids) for row in rows), self.coalescer.limits.queue_tokens
        if total > limit:
            raise ApiError(413, "too_many_tokens", f"the texts have {total} tokens, the limit is {limit}: send fewer")

    def _too_long(self, tokens: int) -> ApiError:
        limit = self.encoder.settings.max_length
        how = "send a shorter one, or have it cut with truncate"
        return ApiError(413, "too_long", f"a text has {tokens} tokens, the limit is {limit}: {how}")

    async def _wait(self, joined: dict[bytes, Item], ask: _Ask) -> dict[bytes, Any]:
        settled = asyncio.ensure_future(asyncio.wait([item.future for item in joined.values()]))
        leaving = asyncio.ensure_future(ask.left())
        try:
            await asyncio.wait({settled, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not settled.done():
                raise ApiError(499, "client_left", "the client left before its turn")
        finally:
            settled.cancel()
            leaving.cancel()
        failures = [error for item in joined.values() if (error := item.future.exception())]
        for failure in failures[:1]:
            if isinstance(failure, DeviceLostError):
                said = "the GPU failed and the service ends: try again once it runs anew"
                raise ApiError(503, "gpu_lost", said) from failure
            raise ApiError(500, "encoding_failed", "the model failed; its log says why") from failure
        results = {key: item.future.result() for key, item in joined.items()}
        if ask.kind != COLBERT:  # some hundred kilobytes a text
            for key, result in results.items():
                self._cache.put(key, result)
        return results
