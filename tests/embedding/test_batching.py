from __future__ import annotations

import numpy as np
import pytest

from embedding.batching import padded_tokens, plan_batches


@pytest.fixture
def lengths() -> np.ndarray:
    return np.clip(np.random.default_rng(0).lognormal(4, 0.8, 5_000), 3, 512).astype(np.int32)


def test_every_row_is_in_one_batch(lengths):
    batches = plan_batches(lengths, token_budget=4_096)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


def test_batches_keep_to_the_budget_and_waste_little(lengths):
    batches = plan_batches(lengths, token_budget=4_096)
    assert max(len(rows) * lengths[rows].max() for rows in batches) <= 4_096
    assert padded_tokens(lengths, batches) / lengths.sum() < 1.05


def test_a_row_longer_than_the_budget_stands_alone():
    batches = plan_batches(np.array([5, 9_000, 5], np.int32), token_budget=100)
    assert [list(rows) for rows in batches] == [[1], [0, 2]]


def test_a_batch_that_is_a_quarter_full_takes_no_much_shorter_rows():
    lengths = np.array([100, 99, 60, 60, 60, 50], np.int32)
    assert [list(rows) for rows in plan_batches(lengths, token_budget=800)] == [[0, 1], [2, 3, 4, 5]]
    # Less full, it takes them.
    assert [list(rows) for rows in plan_batches(lengths, token_budget=2_400)] == [[0, 1, 2, 3, 4, 5]]


def test_few_documents_are_padded_little_too():
    lengths = np.clip(np.random.default_rng(1).lognormal(4.6, 0.75, 512), 3, 512).astype(np.int32)
    assert padded_tokens(lengths, plan_batches(lengths, token_budget=16_384)) / lengths.sum() < 1.1


def test_short_rows_are_limited_by_number():
    batches = plan_batches(np.full(10, 2, np.int32), token_budget=10_000, max_rows=4)
    assert [len(rows) for rows in batches] == [4, 4, 2]


def test_no_rows_give_no_batches():
    assert plan_batches(np.empty(0, np.int32), token_budget=100) == []
