"""Batches of similar length whose padded size stays within a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding.ragged import places
from embedding.tokenizer import Tokens

MAX_ROWS = 512
# A quarter of a GPU's budget keeps it busy: from then on padding costs more than another batch.
FULL_ENOUGH = 4
LEAST_SIMILAR = 0.9


@dataclass(frozen=True)
class Batch:
    """Hold padded token ids (rows, positions); `mask` tells which are no padding, `rows` which texts they are."""

    rows: NDArray[np.intp]
    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]


def plan_batches(lengths: NDArray[Any], *, token_budget: int, max_rows: int = MAX_ROWS) -> list[NDArray[np.intp]]:
    """Group row numbers, longest rows first, so that rows x longest length <= token_budget.

    A row longer than the budget stands alone. A batch that is a quarter full takes no rows that would be padded by more
    than a ninth. Ties keep their order: equal lengths give equal batches.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    descending = -lengths.astype(np.int64)[order]
    batches = []
    start = 0
    while start < len(order):
        longest = max(1, -int(descending[start]))
        rows = max(1, min(max_rows, token_budget // longest))
        similar = int(np.searchsorted(descending, -longest * LEAST_SIMILAR, side="right")) - start
        enough = -(-token_budget // (FULL_ENOUGH * longest))
        rows = min(rows, max(similar, enough, 1))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(tokens: Tokens, rows: NDArray[np.intp], *, pad_id: int) -> Batch:
    """Lay out these rows side by side, as wide as the longest."""
    lengths = tokens.lengths[rows]
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int32)
    ids[mask] = tokens.ids[places(tokens.offsets, rows)]
    return Batch(rows=rows, ids=ids, mask=mask)


def padded_tokens(lengths: NDArray[Any], batches: Sequence[NDArray[np.intp]]) -> int:
    """Count the tokens that the model computes, padding included."""
    return sum(len(rows) * int(lengths[rows].max()) for rows in batches)
