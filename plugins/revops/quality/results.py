"""What became of checks: one result each, and what they mean together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from revops.quality.checks import Check
from revops.quality.score import Scored, mean_score

Outcome = Literal["pass", "warn", "fail", "not_evaluated", "not_applicable"]
# So many keys of failing rows are kept for each check.
KEPT_KEYS = 100
# A key is a few digits or a short text; what is longer is cut.
KEY_CHARACTERS = 200


@dataclass(frozen=True)
class CheckResult:
    """What became of one check.

    value: the number measured, null where it has none. rows_total, rows_failed: of what; null where the check is about
    the table as a whole. keys: of the first rows that failed, never values.
    """

    check: Check
    outcome: Outcome
    value: float | None = None
    rows_total: int | None = None
    rows_failed: int | None = None
    keys: tuple[str, ...] = ()

    @property
    def scored(self) -> Scored:
        """The part of it that scores are made of."""
        check = self.check
        return Scored(
            table=check.table,
            dimension=check.dimension,
            weight=check.weight,
            is_evaluated=self.outcome != "not_evaluated",
            is_passed=self.outcome == "pass",
            rows_total=self.rows_total,
            rows_failed=self.rows_failed,
            lacks_rows=check.demands_rows and self.outcome == "fail",
        )


def judge(
    check: Check,
    *,
    is_passed: bool,
    value: float | None = None,
    rows_total: int | None = None,
    rows_failed: int | None = None,
    keys: Iterable[str] = (),
) -> CheckResult:
    """Return the result of an evaluated check: a failure is a warning, unless critical or of too many rows."""
    if is_passed:
        return CheckResult(check, "pass", value, rows_total, rows_failed)
    if check.critical_above is not None and rows_total and (rows_failed or 0) / rows_total > check.critical_above:
        check = replace(check, severity="critical")
    kept = dict.fromkeys(key[:KEY_CHARACTERS] for key in keys)
    outcome: Outcome = "fail" if check.severity == "critical" else "warn"
    return CheckResult(check, outcome, value, rows_total, rows_failed, tuple(kept)[:KEPT_KEYS])


@dataclass(frozen=True)
class PeriodTotal:
    """Sums of a month in raw and core, where raw is core and quarantine together."""

    table: str
    period: str
    raw_rows: int
    raw_amount: Decimal
    core_rows: int
    core_amount: Decimal
    quarantined_rows: int
    quarantined_amount: Decimal


@dataclass(frozen=True)
class ScanReport:
    """The results of one layer's checks, one for every declared check, in the order of the files."""

    layer: str
    results: tuple[CheckResult, ...]
    errors: str
    seconds: float
    totals: tuple[PeriodTotal, ...] = ()

    @property
    def status(self) -> Literal["passed", "warned", "failed", "error"]:
        outcomes = {result.outcome for result in self.results}
        if self.errors or "not_evaluated" in outcomes:
            return "error"
        if "fail" in outcomes:
            return "failed"
        return "warned" if "warn" in outcomes else "passed"

    @property
    def gate(self) -> Literal["open", "shut"]:
        """Whether the data may go further: no critical check failed, and every check was evaluated."""
        return "open" if self.status in ("passed", "warned") else "shut"

    @property
    def applicable(self) -> tuple[CheckResult, ...]:
        """The results of the checks that the tables can be held against."""
        return tuple(result for result in self.results if result.outcome != "not_applicable")

    @property
    def evaluated(self) -> int:
        return sum(result.outcome != "not_evaluated" for result in self.applicable)

    @property
    def score(self) -> Decimal | None:
        """The score over all tables and dimensions, 0 to 1; None unless every check was evaluated."""
        return mean_score([result.scored for result in self.applicable])

    def joined(self, other: ScanReport) -> ScanReport:
        """Return both reports of a layer as one."""
        return ScanReport(
            self.layer,
            self.results + other.results,
            "\n".join(filter(None, (self.errors, other.errors))),
            self.seconds + other.seconds,
            self.totals + other.totals,
        )


def describe_result(
    outcome: str, value: float | Decimal | None, rows_failed: int | None, rows_total: int | None
) -> str:
    """Return what a check has found, in words."""
    if outcome == "not_evaluated":
        return "not evaluated"
    if rows_failed is not None and rows_total is not None:
        return f"{rows_failed:,} of {rows_total:,} failed"
    return "nothing measured" if value is None else f"measured {float(value):g}"
