"""What the model thread computes for a batch of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding.colbert import max_sim
from embedding.encoder import Encoder
from embedding.lost_device import check_device
from embedding.service_tokens import Row, join_rows

# The kinds of work; a batch is of one kind and one prompt.
VECTORS, COLBERT, MAX_SIM = "vectors", "colbert", "max_sim"


@dataclass(frozen=True)
class Text:
    """Hold what is needed of one text; `query`: the token vectors that MAX_SIM compares with."""

    text: str
    row: Row
    query: NDArray[np.float32] | None


@dataclass(frozen=True)
class Vectors:
    """Hold one text's vectors and how many tokens it had, special tokens included."""

    dense: NDArray[np.float32]
    sparse_ids: NDArray[np.int32]
    sparse_weights: NDArray[np.float32]
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Score:
    """Hold one text's relevance to a query, within -1 and 1."""

    value: float
    tokens: int
    truncated: bool


def compute(encoder: Encoder, group: tuple[str, str], texts: Sequence[Text]) -> list[Any]:
    """Return a Vectors, a matrix of token vectors or a Score a text, in their order; group: (kind, prompt).

    Raises DeviceLostError where every later call would fail as well.
    """
    kind, prompt = group
    try:
        return _vectors(encoder, texts) if kind == VECTORS else _matrices_or_scores(encoder, kind, prompt, texts)
    except RuntimeError:
        check_device(encoder)
        raise


def _matrices_or_scores(encoder: Encoder, kind: str, prompt: str, texts: Sequence[Text]) -> list[Any]:
    matrices = encoder.encode_colbert([text.text for text in texts], prompt=prompt)
    if kind == COLBERT:
        return list(matrices)
    return [
        Score(max_sim(text.query, matrix), text.row.count, text.row.is_cut)
        for text, matrix in zip(texts, matrices, strict=True)
        if text.query is not None
    ]


def _vectors(encoder: Encoder, texts: Sequence[Text]) -> list[Vectors]:
    embeddings = encoder.encode_tokens(join_rows([text.row for text in texts]))
    rows = []
    for row, text in enumerate(texts):
        ids, weights = embeddings.sparse.row(row)
        # Copied: a row that is kept in the cache must not keep its whole batch.
        rows.append(Vectors(embeddings.dense[row].copy(), ids.copy(), weights.copy(), text.row.count, text.row.is_cut))
    return rows
