"""Check tables of one layer with Soda, closed against checks that were not evaluated."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from revops.quality.checks import Check, CheckFileError, read_checks
from revops.quality.results import KEPT_KEYS, CheckResult, ScanReport, judge
from revops.quality.tables import CheckedTable, read_tables

TIMEOUT_S = 3600
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# What Soda's process adds to the checks of each table (soda_process.LIVE_ROWS; that module needs Soda's packages).
LIVE_ROWS = "__live_rows__"

# Where the views of live rows are; Soda puts it before every table name.
VIEWS_SCHEMA = "pg_temp"
READABLE = "the file of checks can be read"


class ScanError(RuntimeError):
    """Soda could not be run at all."""


def scan_tables(conninfo: str, *, layer: str, source: str, tables: Sequence[str], folder: Path) -> ScanReport:
    """Run the checks of `folder/<table>.yml` for each table that has such a file.

    A check sees the live rows only, in core those of the source: a row that is gone from the source neither keeps a
    gate shut nor holds one open, and one source's rows do not stop the other.

    A check that Soda leaves out, or that has an error, is `not_evaluated`, and so is a file that can't be read; neither
    hides the results of others. A check that `needs` a column that is not there is `not_applicable`. Raises ScanError.
    """
    started = time.monotonic()
    declared, results, errors = _read_files(tables, folder)
    if not declared:
        return ScanReport(layer, tuple(results), "\n".join(errors), time.monotonic() - started)
    with psycopg.connect(conninfo) as connection:
        found = read_tables(connection, layer=layer, names=tables)
    asked = {
        table: [check for check in checks if _is_applicable(check, found) and not _is_proved(check, found)]
        for table, checks in declared.items()
    }
    answers = _run_soda(conninfo, layer=layer, source=source, found=found, asked=asked)
    for table, checks in declared.items():
        answer = answers.get(table, {"checks": [], "errors": []})
        errors += [f"{table}: {line}" for line in answer["errors"]]
        by_name = {item["name"]: item for item in answer["checks"]}
        rows = by_name.get(LIVE_ROWS, {}).get("value")
        results += [_result(check, by_name, found, None if rows is None else int(rows)) for check in checks]
    return ScanReport(layer, tuple(results), "\n".join(errors), time.monotonic() - started)


def _read_files(tables: Sequence[str], folder: Path) -> tuple[dict[str, list[Check]], list[CheckResult], list[str]]:
    """Return the checks by table, and for each file that can't be read a check that says so, with its error."""
    declared: dict[str, list[Check]] = {}
    unreadable, errors = [], []
    for table in tables:
        path = folder / f"{table}.yml"
        if not path.exists():
            continue
        try:
            declared[table] = read_checks(path)
        except CheckFileError as error:
            remedy = "Correct the file, and run again."
            check = Check(table, READABLE, str(path), "validity", "critical", 1.0, remedy)
            unreadable.append(CheckResult(check, "not_evaluated"))
            errors.append(str(error))
    return declared, unreadable, errors


def _is_applicable(check: Check, found: dict[str, CheckedTable]) -> bool:
    """Tell whether the columns are there that the check's source may lack."""
    for needed in check.needs:
        table, _, column = needed.rpartition(".")
        known = found.get(table or check.table)
        # A table that should be there and is not must not make its own checks vanish.
        if known is None and not table:
            return True
        if known is None or column not in known.columns:
            return False
    return True


def _is_proved(check: Check, found: dict[str, CheckedTable]) -> bool:
    return check.table in found and found[check.table].proves(check)


def _result(
    check: Check, answers: dict[str, dict[str, Any]], found: dict[str, CheckedTable], rows: int | None
) -> CheckResult:
    if not _is_applicable(check, found):
        return CheckResult(check, "not_applicable")
    if _is_proved(check, found):
        return judge(check, is_passed=True, value=0, rows_total=rows, rows_failed=0)
    item = answers.get(check.name)
    if item is None or item["outcome"] is None:
        return CheckResult(check, "not_evaluated")
    failed = item["rows_failed"]
    result = judge(
        check,
        is_passed=item["outcome"] == "pass",
        value=item["value"],
        rows_total=None if failed is None else rows,
        rows_failed=failed,
        keys=item["keys"],
    )
    if item["outcome"] == "warn" and result.outcome == "fail":
        # The check itself says at which number it only warns.
        return CheckResult(check, "warn", result.value, result.rows_total, result.rows_failed, result.keys)
    return result


def _run_soda(
    conninfo: str,
    *,
    layer: str,
    source: str,
    found: dict[str, CheckedTable],
    asked: dict[str, list[Check]],
) -> dict[str, Any]:
    """Return what Soda found, by table."""
    libpq = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
    data_source = {
        "type": "postgres",
        "host": libpq["host"],
        "port": libpq["port"],
        "username": libpq["user"],
        "password": libpq.get("password", ""),
        "database": libpq.pop("dbname"),
        "schema": VIEWS_SCHEMA,
        # What Soda would connect with by itself; the session is made from `libpq`, which says how it is verified.
        "sslmode": "verify-full",
    }
    with tempfile.TemporaryDirectory(prefix="revops-soda-") as scratch:
        output = Path(scratch) / "results.json"
        request = {
            "name": layer,
            "libpq": libpq,
            "views": [table.view(source).as_string(None) for table in found.values()],
            "data_source": data_source,
            "tables": [_requested(table, checks, found) for table, checks in asked.items()],
            "kept_keys": KEPT_KEYS,
            "output": str(output),
        }
        environment = {
            "HOME": scratch,
            # Airflow's image has the packages in the home of its account.
            "PYTHONUSERBASE": site.getuserbase(),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PACKAGE_ROOT),
            "PYTHON_DOTENV_DISABLED": "1",
            "PYTHONWARNINGS": "ignore",
        }
        try:
            process = subprocess.run(
                [sys.executable, "-m", "revops.quality.soda_process"],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                env=environment,
                cwd=scratch,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ScanError(f"Soda did not end within {TIMEOUT_S} s and was stopped; nothing was checked") from None
        if process.returncode != 0 or not output.exists():
            # Only the last line, which is the error's: what Soda prints holds its queries.
            told = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise ScanError(f"Soda ended with code {process.returncode} and no results: {told}")
        results: dict[str, Any] = json.loads(output.read_text())["tables"]
        return results


def _requested(table: str, checks: list[Check], found: dict[str, CheckedTable]) -> dict[str, Any]:
    return {
        "name": table,
        "key": list(found[table].key) if table in found else [],
        "checks": [{"name": check.name, "line": check.line, "settings": dict(check.settings)} for check in checks],
    }
