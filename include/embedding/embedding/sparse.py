"""Token weights to sparse vectors: the highest weight of each token id, without a Python loop a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedding.ragged import places, to_offsets

WEIGHT_BITS = 32


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
    """Keep the highest positive weight per row and token id; all three arrays are (rows, positions).

    Raises ValueError where rows x the highest id has more than 32 bits: 16,384 rows of BGE-M3's 250,002 ids have not.
    """
    keep = keep & (weights > 0)
    id_bits = int(ids.max(initial=1)).bit_length()
    if len(ids) << id_bits > 1 << WEIGHT_BITS:
        raise ValueError(f"{len(ids)} rows of ids below {1 << id_bits} are too many: use smaller batches")
    rows = np.repeat(np.arange(len(ids), dtype=np.uint64), keep.sum(1))
    places_of_tokens = rows << np.uint64(id_bits) | ids[keep].astype(np.uint64)
    # The bits of positive floats sort as the floats do, so one sort of plain numbers puts the highest weight last.
    packed = places_of_tokens << np.uint64(WEIGHT_BITS) | weights[keep].view(np.uint32)
    packed.sort()
    places_of_tokens = packed >> np.uint64(WEIGHT_BITS)
    last = np.append(places_of_tokens[1:] != places_of_tokens[:-1], True)[: len(packed)]
    found = places_of_tokens[last]
    return SparseVectors(
        offsets=np.searchsorted(found, np.arange(len(ids) + 1, dtype=np.uint64) << np.uint64(id_bits)).astype(np.int32),
        ids=(found & np.uint64((1 << id_bits) - 1)).astype(np.int32),
        weights=packed[last].astype(np.uint32).view(np.float32),
    )


def join(parts: Sequence[SparseVectors], order: NDArray[np.intp]) -> SparseVectors:
    """Put parts together; row i of the result is row order[i] of all parts' rows, one part after the other."""
    lengths = np.concatenate([np.empty(0, np.int32), *(np.diff(part.offsets) for part in parts)])
    chosen = places(to_offsets(lengths), order)
    return SparseVectors(
        offsets=to_offsets(lengths[order]).astype(np.int32),
        ids=np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)])[chosen],
        weights=np.concatenate([np.empty(0, np.float32), *(part.weights for part in parts)])[chosen],
    )
