"""Pauses between tries: random within a growing limit that has an end, so that tasks do not come back all at once."""

from __future__ import annotations

import random
import statistics
from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from revops.operators.retrying import FullJitter

POLICY = FullJitter(base=timedelta(seconds=30), cap=timedelta(minutes=10))


def pauses(try_number: int, *, policy: FullJitter = POLICY, times: int = 400) -> list[float]:
    """The seconds of many pauses after the same try."""
    found = []
    for _ in range(times):
        decision = policy.evaluate(ConnectionError("x"), try_number, max_tries=5)
        assert decision.retry_delay is not None
        found.append(decision.retry_delay.total_seconds())
    return found


@pytest.fixture(autouse=True)
def always_the_same_chance() -> None:
    random.seed(20261122)


@pytest.mark.parametrize(
    ("try_number", "limit_s"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (7, 600), (50, 600), (5000, 600)],
)
def test_a_pause_is_anything_up_to_the_limit_of_its_try(try_number: int, limit_s: int) -> None:
    found = pauses(try_number)
    assert min(found) >= 0
    assert max(found) <= limit_s
    # Evenly spread: half of the limit on average, and both ends reached.
    assert abs(statistics.mean(found) - limit_s / 2) < limit_s / 12
    assert min(found) < limit_s / 20
    assert max(found) > limit_s * 19 / 20


def test_tasks_that_failed_together_do_not_come_back_together() -> None:
    assert len(set(pauses(1))) == 400


def test_a_cap_below_the_base_counts() -> None:
    policy = FullJitter(base=timedelta(seconds=30), cap=timedelta(seconds=5))
    assert max(pauses(1, policy=policy)) <= 5


@pytest.mark.parametrize("error", [ConnectionError("secret"), MemoryError(), KeyboardInterrupt()])
def test_it_always_asks_for_a_retry_and_says_why(error: BaseException) -> None:
    decision = POLICY.evaluate(error, 1, max_tries=3)
    assert decision.action == RetryAction.RETRY
    assert decision.reason is not None
    assert decision.reason.startswith(f"{type(error).__name__}; trying again in ")
    assert "secret" not in decision.reason
