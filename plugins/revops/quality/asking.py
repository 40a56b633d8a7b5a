"""A round of own checks: each is asked by itself, so that an error of one leaves the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from revops.errors import describe
from revops.quality.checks import Check
from revops.quality.results import CheckResult, PeriodTotal


@dataclass
class Asking:
    """What a round has found so far; warehouse: in the transaction in which everything is read."""

    warehouse: psycopg.Connection
    results: list[CheckResult] = field(default_factory=list)
    totals: list[PeriodTotal] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, check: Check, answer: Callable[[], CheckResult]) -> None:
        """Keep the answer, or that there is none. Raises psycopg.Error when the session is lost."""
        try:
            with self.warehouse.transaction():
                self.results.append(answer())
        except psycopg.Error as error:
            if self.warehouse.closed:
                raise
            self.results.append(CheckResult(check, "not_evaluated"))
            self.errors.append(f"{check.table}: {check.name}: {describe(error)}")
