from __future__ import annotations

import numpy as np
import pytest

from embedding.sparse import join, pool_tokens


def test_highest_weight_of_a_token_wins_and_ids_ascend():
    weights = np.array([[0.1, 0.5, 0.3, 0.9], [0.0, 0.2, 0.2, 0.7]], np.float32)
    ids = np.array([[0, 7, 5, 7], [0, 250_001, 4, 4]], np.int32)
    keep = np.array([[False, True, True, True], [True, True, True, False]])
    pooled = pool_tokens(weights, ids, keep)
    assert [row.tolist() for row in pooled.row(0)] == [[5, 7], [np.float32(0.3), np.float32(0.9)]]
    assert [row.tolist() for row in pooled.row(1)] == [[4, 250_001], [np.float32(0.2), np.float32(0.2)]]


def test_equals_a_loop_over_tokens():
    random = np.random.default_rng(0)
    weights = random.normal(size=(40, 60)).astype(np.float32)
    weights[0, :2] = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    ids = random.integers(0, 50, weights.shape).astype(np.int32)
    keep = random.random(weights.shape) < 0.8
    pooled = pool_tokens(weights, ids, keep)
    for row in range(len(weights)):
        wanted: dict[int, np.float32] = {}
        for token, weight in zip(ids[row][keep[row]].tolist(), weights[row][keep[row]], strict=True):
            if weight > 0:
                wanted[token] = max(weight, wanted.get(token, weight))
        found_ids, found = pooled.row(row)
        assert dict(zip(found_ids.tolist(), found, strict=True)) == wanted
        assert found_ids.tolist() == sorted(wanted)


def test_rows_without_weights_are_empty():
    pooled = pool_tokens(np.zeros((3, 2), np.float32), np.ones((3, 2), np.int32), np.ones((3, 2), bool))
    assert pooled.offsets.tolist() == [0, 0, 0, 0]
    assert join([], np.empty(0, np.intp)).offsets.tolist() == [0]


def test_more_rows_than_can_be_told_apart_are_refused():
    ids = np.full((2, 1), 1 << 31 - 1, np.int32)
    assert pool_tokens(np.ones((2, 1), np.float32), ids >> 1, np.ones((2, 1), bool)).offsets.tolist() == [0, 1, 2]
    ids = np.full((3, 1), (1 << 31) - 1, np.int32)
    with pytest.raises(ValueError, match="use smaller batches"):
        pool_tokens(np.ones((3, 1), np.float32), ids, np.ones((3, 1), bool))


def test_parts_are_joined_in_the_order_asked_for():
    ids = np.array([[5, 6, 7], [8, 9, 9]], np.int32)
    keep = np.array([[True, True, False], [False, False, False]])
    first = pool_tokens(np.ones((2, 3), np.float32), ids, keep)
    second = pool_tokens(np.full((1, 3), 2, np.float32), ids[1:], np.ones((1, 3), bool))
    joined = join([first, second], np.array([2, 1, 0]))
    assert joined.offsets.tolist() == [0, 2, 2, 4]
    assert joined.ids.tolist() == [8, 9, 5, 6]
    assert joined.weights.tolist() == [2, 2, 1, 1]
