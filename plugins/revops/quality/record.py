"""Keep the results of checks in ops, and stop the data where a critical one failed."""

from __future__ import annotations

import psycopg

from revops.quality.scan import CheckResult, ScanReport

ENGINE = "soda-core 3.5.6"
SHOWN_CHECKS = 20


class QualityGateError(RuntimeError):
    """A critical check failed, or a check was not evaluated: the data must not go further."""


def record_report(warehouse: psycopg.Connection, report: ScanReport, *, source: str, run_id: str) -> int:
    """Write a report to ops.quality_run and ops.quality_result; commits; returns the id of the quality run."""
    row = warehouse.execute(
        "insert into ops.quality_run "
        "(run_id, source, layer, status, expected, evaluated, score, seconds, engine, error) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning quality_run_id",
        (
            run_id,
            source,
            report.layer,
            report.status,
            len(report.results),
            report.evaluated,
            report.score,
            report.seconds,
            ENGINE,
            report.errors or None,
        ),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    with warehouse.cursor() as cursor:
        cursor.executemany(
            "insert into ops.quality_result (quality_run_id, table_name, check_name, dimension, severity, weight, "
            "outcome, value, definition) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    row[0],
                    result.check.table,
                    result.check.name,
                    result.check.dimension,
                    result.check.severity,
                    result.check.weight,
                    result.outcome,
                    result.value,
                    result.check.definition,
                )
                for result in report.results
            ],
        )
    warehouse.commit()
    return int(row[0])


def require_gate_open(report: ScanReport) -> None:
    """Raise QualityGateError, naming table, check and number, unless every critical check passed."""
    if report.status in ("passed", "warned"):
        return
    stopped = [result for result in report.results if result.outcome in ("fail", "not_evaluated")]
    lines = [_line(report.layer, result) for result in stopped[:SHOWN_CHECKS]]
    if len(stopped) > SHOWN_CHECKS:
        lines.append(f"... and {len(stopped) - SHOWN_CHECKS} more, see ops.quality_result")
    kept = "core stays as it was" if report.layer == "raw" else "nothing is embedded"
    raise QualityGateError(
        f"{len(stopped)} of {len(report.results)} checks on {report.layer} stop the run; {kept}:\n"
        + "\n".join(lines)
        + (f"\nSoda says: {report.errors}" if report.errors else "")
        + f"\nRemedy: correct the source and run again, or change the check in include/soda/{report.layer}/<table>.yml."
    )


def _line(layer: str, result: CheckResult) -> str:
    measured = "not evaluated" if result.outcome == "not_evaluated" else f"measured {result.value}"
    return f"  {layer}.{result.check.table}: {result.check.name} ({result.check.definition}): {measured}"
