"""How good a ranking is, against the set of answers that are right."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set


def recall(ranking: Sequence[str], relevant: Set[str], *, depth: int = 10) -> float:
    """Return the share of the right answers that stand among the first `depth`, 0 to 1.

    Of more right answers than `depth`, that many count: a full page of right ones is 1. Raises ValueError where
    nothing is right.
    """
    if not relevant:
        raise ValueError("no answer is right: such a query measures nothing")
    return len(relevant & set(ranking[:depth])) / min(depth, len(relevant))


def ndcg(ranking: Sequence[str], relevant: Set[str], *, depth: int = 10) -> float:
    """Return the normalised discounted cumulative gain of the first `depth`, 0 to 1; an answer is right or it is not.

    Gains are discounted by log2(rank + 1) (Järvelin, Kekäläinen 2002). Raises ValueError where nothing is right.
    """
    if not relevant:
        raise ValueError("no answer is right: such a query measures nothing")
    gains = sum(_discount(rank) for rank, answer in enumerate(ranking[:depth], 1) if answer in relevant)
    return gains / sum(_discount(rank) for rank in range(1, min(depth, len(relevant)) + 1))


def _discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)
