"""Keep the results of checks in ops, and stop the data where a critical one failed."""

from __future__ import annotations

import psycopg

from revops.quality.results import CheckResult, ScanReport, describe_result
from revops.quality.score import scores

ENGINE = "soda-core 3.5.6"
SHOWN_CHECKS = 20
SHOWN_KEYS = 5


class QualityGateError(RuntimeError):
    """A critical check failed, or a check was not evaluated: the data must not go further."""


def record_report(warehouse: psycopg.Connection, report: ScanReport, *, source: str, run_id: str) -> int:
    """Write a report to ops.quality_* with its scores; commits; returns the id of the quality run."""
    with warehouse.transaction():
        row = warehouse.execute(
            "insert into ops.quality_run "
            "(run_id, source, layer, status, gate, expected, evaluated, score, seconds, engine, error) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning quality_run_id",
            (
                run_id,
                source,
                report.layer,
                report.status,
                report.gate,
                len(report.applicable),
                report.evaluated,
                report.score,
                report.seconds,
                ENGINE,
                report.errors or None,
            ),
        ).fetchone()
        if row is None:
            raise AssertionError("insert ... returning returns a row")
        _write_parts(warehouse, report, int(row[0]))
    warehouse.commit()
    return int(row[0])


def _write_parts(warehouse: psycopg.Connection, report: ScanReport, run: int) -> None:
    with warehouse.cursor() as cursor:
        cursor.executemany(
            "insert into ops.quality_result (quality_run_id, table_name, check_name, dimension, severity, weight, "
            "outcome, value, rows_total, rows_failed, definition, remedy) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(run, *_columns(result)) for result in report.results],
        )
        cursor.executemany(
            "insert into ops.quality_failed_key (quality_run_id, table_name, check_name, key) values (%s, %s, %s, %s)",
            [(run, result.check.table, result.check.name, key) for result in report.results for key in result.keys],
        )
        cursor.executemany(
            "insert into ops.quality_score (quality_run_id, table_name, dimension, score, checks, evaluated, weight) "
            "values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (run, score.table, score.dimension, score.score, score.checks, score.evaluated, score.weight)
                for score in scores([result.scored for result in report.applicable])
            ],
        )
        cursor.executemany(
            "insert into ops.quality_total (quality_run_id, table_name, period, raw_rows, raw_amount, core_rows, "
            "core_amount, quarantined_rows, quarantined_amount) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(run, *vars(total).values()) for total in report.totals],
        )


def _columns(result: CheckResult) -> tuple[object, ...]:
    check = result.check
    return (
        check.table,
        check.name,
        check.dimension,
        check.severity,
        check.weight,
        result.outcome,
        result.value,
        result.rows_total,
        result.rows_failed,
        check.definition,
        check.remedy,
    )


def require_gate_open(report: ScanReport) -> None:
    """Raise QualityGateError, naming table, check, number, keys and remedy, unless the gate is open."""
    if report.gate == "open":
        return
    stopped = [result for result in report.results if result.outcome in ("fail", "not_evaluated")]
    lines = [_line(report.layer, result) for result in stopped[:SHOWN_CHECKS]]
    if len(stopped) > SHOWN_CHECKS:
        lines.append(f"... and {len(stopped) - SHOWN_CHECKS} more, see ops.quality_result")
    kept = "core stays as it was" if report.layer == "raw" else "nothing is embedded"
    raise QualityGateError(
        f"{len(stopped)} of {len(report.applicable)} checks on {report.layer} stop the run; {kept}:\n"
        + "\n".join(lines)
        + (f"\nWhat kept checks from being evaluated:\n{report.errors}" if report.errors else "")
    )


def _line(layer: str, result: CheckResult) -> str:
    check = result.check
    told = describe_result(result.outcome, result.value, result.rows_failed, result.rows_total)
    first = ", ".join(result.keys[:SHOWN_KEYS])
    keys = f"; first keys: {first}" if first else ""
    return f"  {layer}.{check.table}: {check.name} ({check.definition}): {told}{keys}. Remedy: {check.remedy}"
