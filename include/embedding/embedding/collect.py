"""The results of many batches, put together in the order of the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedding.batching import padded_tokens
from embedding.forward import Launched
from embedding.sparse import SparseVectors, join, pool_tokens
from embedding.tokenizer import Tokens


@dataclass(frozen=True)
class Embeddings:
    """Hold n results in the order of the texts: unit vectors (n, dim), sparse vectors, token counts (n)."""

    dense: NDArray[np.float32]
    sparse: SparseVectors
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    encoded_tokens: int
    padded_tokens: int


class Collected:
    """Gather the results of one item's batches in the order of its rows."""

    def __init__(
        self,
        tokens: Tokens,
        batches: Sequence[NDArray[np.intp]],
        *,
        dim: int,
        is_counted: NDArray[np.bool_],
        check: Callable[..., None],
    ) -> None:
        self._tokens = tokens
        self._batches = batches
        self._is_counted = is_counted
        self._check = check
        self._dense = np.empty((len(tokens.counts), dim), np.float32)
        self._sparse: list[SparseVectors] = []

    def add(self, launched: Launched) -> None:
        """Wait for a batch and take in its results; raises ModelError for NaN."""
        batch = launched.batch
        dense, weights = launched.arrays()
        self._check(dense, weights)
        self._dense[batch.rows] = dense
        counted = batch.mask & self._is_counted[batch.ids]
        counted[:, 1 : 1 + self._tokens.prompt_tokens] = False
        self._sparse.append(pool_tokens(weights, batch.ids, counted))

    def result(self) -> Embeddings:
        """Return what was gathered, once every batch was added."""
        # Batches hold the rows by length; the way back is the inverse of that permutation.
        order = np.argsort(np.concatenate([np.empty(0, np.intp), *self._batches]))
        return Embeddings(
            dense=self._dense,
            sparse=join(self._sparse, order),
            tokens=self._tokens.counts,
            truncated=self._tokens.truncated,
            encoded_tokens=len(self._tokens.ids),
            padded_tokens=padded_tokens(self._tokens.lengths, self._batches),
        )


def finish(added: Sequence[Future[None]], collected: Collected) -> Embeddings:
    """Wait for these batches, and return what was gathered; raises what one of them raised."""
    for batch in added:
        batch.result()
    return collected.result()
