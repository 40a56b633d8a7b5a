"""Batches of similar length whose padded size stays within a token budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 512


def plan_batches(lengths: NDArray[np.int32], *, token_budget: int, max_rows: int = MAX_ROWS) -> list[NDArray[np.intp]]:
    """Group row numbers, longest rows first, so that rows x longest length <= token_budget.

    A row longer than the budget stands alone. Ties keep their order: equal lengths give equal batches.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, min(max_rows, token_budget // longest))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def padded_tokens(lengths: NDArray[np.int32], batches: Sequence[NDArray[np.intp]]) -> int:
    """Count the tokens that the model computes, padding included."""
    return sum(len(rows) * int(lengths[rows].max()) for rows in batches)
