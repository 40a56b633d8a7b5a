"""Relevance by token vectors, as BGE-M3 defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def max_sim(query: NDArray[np.float32], document: NDArray[np.float32]) -> float:
    """Return the mean, over the query's tokens, of the best cosine with any token of the document.

    Both are (tokens, dim) arrays of unit rows, at least one row each. The result is within -1 and 1.
    """
    return float((query @ document.T).max(axis=1).mean())
