"""When a failed task is tried again: soon at first, later after ever longer and never equal pauses."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from airflow.sdk import Context
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

# A year from half a minute; past some forty there is no such time span any more.
_MOST_DOUBLINGS = 20


@dataclass(frozen=True)
class FullJitter(RetryPolicy):
    """Wait a random time between nothing and an exponentially growing limit, which a cap bounds.

    Tasks that fail together, as when a server restarts, come back spread out instead of all at once (M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). What a retry can't mend does not come here: it is
    raised as AirflowFailException, which Airflow never retries (see failure.failing_fast). Where a worker was killed
    nobody can ask this policy: then the task's own retry_delay and retry_exponential_backoff count.
    """

    base: timedelta
    cap: timedelta

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002 - the signature is Airflow's
        context: Context | None = None,  # noqa: ARG002
    ) -> RetryDecision:
        """Retry after a pause; Airflow itself ends it when the tries are used up."""
        limit = min(self.cap, self.base * 2 ** min(try_number - 1, _MOST_DOUBLINGS))
        delay = limit * random.random()  # noqa: S311 - nobody gains by guessing it
        return RetryDecision.retry(delay, f"{type(exception).__name__}; trying again in {delay.total_seconds():.0f} s")
