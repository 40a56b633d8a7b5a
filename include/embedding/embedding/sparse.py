"""Token weights to sparse vectors: the highest weight of each token id, without a Python loop a token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SparseVectors:
    """Hold n sparse vectors: row i is ids[offsets[i]:offsets[i + 1]], ids are 0-based and ascending."""

    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return (ids, weights) of one row."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        return self.ids[part], self.weights[part]


def pool_tokens(weights: NDArray[np.float32], ids: NDArray[np.int32], keep: NDArray[np.bool_]) -> SparseVectors:
    """Keep the highest positive weight per row and token id; all three arrays are (rows, positions)."""
    rows, positions = np.nonzero(keep & (weights > 0))
    keys = rows.astype(np.int64) << 32 | ids[rows, positions]
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], weights[rows, positions][order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    unique = keys[starts]
    return SparseVectors(
        offsets=np.searchsorted(unique >> 32, np.arange(len(weights) + 1)).astype(np.int32),
        ids=(unique & 0xFFFFFFFF).astype(np.int32),
        weights=np.maximum.reduceat(values, starts) if len(starts) else values,
    )


def join_rows(rows: list[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> SparseVectors:
    """Put single rows together, in their order."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(ids) for ids, _ in rows], out=offsets[1:])
    return SparseVectors(
        offsets=offsets,
        ids=np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in rows)]),
        weights=np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)]),
    )
