from __future__ import annotations

import numpy as np

from embedding.sparse import join_rows, pool_tokens


def test_highest_weight_of_a_token_wins_and_ids_ascend():
    weights = np.array([[0.1, 0.5, 0.3, 0.9], [0.0, 0.2, 0.2, 0.7]], np.float32)
    ids = np.array([[0, 7, 5, 7], [0, 250_001, 4, 4]], np.int32)
    keep = np.array([[False, True, True, True], [True, True, True, False]])
    pooled = pool_tokens(weights, ids, keep)
    assert [row.tolist() for row in pooled.row(0)] == [[5, 7], [np.float32(0.3), np.float32(0.9)]]
    assert [row.tolist() for row in pooled.row(1)] == [[4, 250_001], [np.float32(0.2), np.float32(0.2)]]


def test_rows_without_weights_are_empty():
    pooled = pool_tokens(np.zeros((3, 2), np.float32), np.ones((3, 2), np.int32), np.ones((3, 2), bool))
    assert pooled.offsets.tolist() == [0, 0, 0, 0]
    assert join_rows([pooled.row(0), pooled.row(2)]).offsets.tolist() == [0, 0, 0]
    assert join_rows([]).offsets.tolist() == [0]
