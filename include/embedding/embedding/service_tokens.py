"""Tokens of single texts: taken apart where they come in, put together in another order for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedding.tokenizer import Tokens


@dataclass(frozen=True)
class Row:
    """Hold one text's token ids, cut to the maximum length; `count` is of those before cutting."""

    ids: NDArray[np.int32]
    count: int
    prompt_tokens: int

    @property
    def is_cut(self) -> bool:
        """Tell whether tokens were lost."""
        return self.count > len(self.ids)


def split_rows(tokens: Tokens) -> list[Row]:
    """Return one row a text; copies, since one that waits or is kept must not keep all of its request."""
    counts = tokens.counts.tolist()
    return [Row(ids.copy(), count, tokens.prompt_tokens) for ids, count in zip(tokens.rows(), counts, strict=True)]


def join_rows(rows: Sequence[Row]) -> Tokens:
    """Put rows of one prompt together, at least one."""
    return Tokens.of([row.ids for row in rows], counts=[row.count for row in rows], prompt_tokens=rows[0].prompt_tokens)
