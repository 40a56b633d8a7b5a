"""Rows of different lengths in one array: row i is values[offsets[i]:offsets[i + 1]]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_offsets(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each row begins, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def places(offsets: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the places of all values of these rows, row after row, in the order asked for."""
    lengths = np.diff(offsets)[rows]
    made = to_offsets(lengths)
    return np.arange(made[-1]) + np.repeat(offsets[:-1][rows] - made[:-1], lengths)
