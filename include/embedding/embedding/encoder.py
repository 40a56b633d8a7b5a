"""Texts or tokens to dense, sparse and ColBERT vectors, for documents and queries alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding.batching import Batch, pad, plan_batches
from embedding.checkpoint import Checkpoint, read_checkpoint
from embedding.collect import Collected, Embeddings, finish
from embedding.device import choose_device, choose_dtype
from embedding.errors import ModelError, UsageError
from embedding.forward import Forward, Launched
from embedding.model_key import model_key
from embedding.tokenizer import Tokenizer, Tokens
from embedding.weights import Weights, load_weights

Key = TypeVar("Key")
MAX_LENGTH = 512
# A GPU wants large products; on a CPU a batch should stay near its caches.
TOKEN_BUDGET = {"cuda": 16_384, "cpu": 2_048}
# One batch is computed and one is queued behind it; more would only hold memory.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Settings:
    """Name how a model is used: device and dtype are resolved, max_length counts special tokens."""

    device: str
    dtype: str
    max_length: int
    token_budget: int

    @classmethod
    def choose(
        cls,
        *,
        device: str = "auto",
        dtype: str = "auto",
        require_gpu: bool = False,
        max_length: int = MAX_LENGTH,
        token_budget: int | None = None,
    ) -> Settings:
        """Resolve what is left open to suit this machine; raises GpuError, UsageError."""
        device = choose_device(device, require_gpu=require_gpu)
        return cls(
            device=device,
            dtype=choose_dtype(dtype, device=device),
            max_length=max_length,
            token_budget=token_budget or TOKEN_BUDGET[device],
        )


class Encoder:
    """Encode texts; one instance serves one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings, *, weights: Weights | None = None) -> None:
        """Load tokenizer and weights, where none are given; raises ModelError, GpuError, UsageError."""
        if settings.max_length > checkpoint.max_tokens:
            raise UsageError(
                f"{checkpoint.name} takes {checkpoint.max_tokens} tokens, not {settings.max_length}: lower --max-length"
            )
        self.checkpoint = checkpoint
        self.settings = settings
        self.tokenizer = Tokenizer(checkpoint, max_length=settings.max_length)
        weights = weights or load_weights(checkpoint, device=settings.device, dtype=settings.dtype)
        self._forward = Forward(weights, device=settings.device, pooling=checkpoint.pooling)
        self._is_counted = np.ones(checkpoint.vocabulary, np.bool_)
        self._is_counted[self.tokenizer.special_ids] = False

    @classmethod
    def load(cls, model: Path, settings: Settings | None = None) -> Encoder:
        """Load a model directory with settings that suit this machine."""
        return cls(read_checkpoint(model), settings or Settings.choose())

    def model_key(self) -> str:
        """Return the identity of this encoder's vectors; reads the whole model."""
        return model_key(self.checkpoint, max_length=self.settings.max_length, dtype=self.settings.dtype)

    def encode(self, texts: Sequence[str], *, prompt: str = "passage") -> Embeddings:
        """Tokenize and encode; no texts give empty arrays. Raises ValueError naming the row of a bad text."""
        return self.encode_tokens(self.tokenizer.tokenize(texts, prompt=prompt))

    def encode_tokens(self, tokens: Tokens) -> Embeddings:
        """Encode tokenized texts. Batches depend on these texts only, so equal input gives equal bits."""
        batches = self._plan(tokens)
        collected = self._collect(tokens, batches)
        for launched in self._one_behind(tokens, batches, self._forward.documents):
            collected.add(launched)
        return collected.result()

    def encode_stream(self, work: Iterable[tuple[Key, Tokens]]) -> Iterator[tuple[Key, Future[Embeddings]]]:
        """Encode one item after the other without a pause between them, results as those of encode_tokens.

        Results are post-processed in a thread of their own. An item is yielded once its last batch is started, its
        future done when that batch is; what fails there is raised by the future and by the iteration.
        """
        with ThreadPoolExecutor(1, "post-process") as post:
            in_flight: deque[Future[None]] = deque()
            for key, tokens in work:
                batches = self._plan(tokens)
                collected = self._collect(tokens, batches)
                added = []
                for rows in batches:
                    if len(in_flight) == IN_FLIGHT:
                        in_flight.popleft().result()
                    added.append(post.submit(collected.add, self._forward.documents(self._pad(tokens, rows))))
                    in_flight.append(added[-1])
                yield key, post.submit(finish, added, collected)

    def encode_colbert(self, texts: Sequence[str], *, prompt: str = "passage") -> list[NDArray[np.float32]]:
        """Return one (tokens - 1, colbert dim) array of unit rows a text: every token but the first."""
        tokens = self.tokenizer.tokenize(texts, prompt=prompt)
        lengths = tokens.lengths
        vectors: list[Any] = [None] * len(texts)
        for launched in self._one_behind(tokens, self._plan(tokens), self._forward.colbert):
            (units,) = launched.arrays()
            self._check(units)
            for position, row in enumerate(launched.batch.rows):
                # Copied, so that one short text does not keep the whole padded batch alive.
                vectors[row] = units[position, : lengths[row] - 1].copy()
        return vectors

    def _plan(self, tokens: Tokens) -> list[NDArray[np.intp]]:
        return plan_batches(tokens.lengths, token_budget=self.settings.token_budget)

    def _pad(self, tokens: Tokens, rows: NDArray[np.intp]) -> Batch:
        return pad(tokens, rows, pad_id=self.checkpoint.pad_id)

    def _collect(self, tokens: Tokens, batches: Sequence[NDArray[np.intp]]) -> Collected:
        return Collected(tokens, batches, dim=self.checkpoint.dim, is_counted=self._is_counted, check=self._check)

    def _one_behind(
        self, tokens: Tokens, batches: Sequence[NDArray[np.intp]], start: Callable[[Batch], Launched]
    ) -> Iterator[Launched]:
        # A GPU computes the next batch while the host works on the one before.
        before: Launched | None = None
        for rows in batches:
            now = start(self._pad(tokens, rows))
            if before is not None:
                yield before
            before = now
        if before is not None:
            yield before

    def _check(self, *results: NDArray[np.float32]) -> None:
        if not all(np.isfinite(result).all() for result in results):
            raise ModelError(
                f"{self.checkpoint.name} gave NaN or infinity in {self.settings.dtype}: try --dtype float32"
            )
