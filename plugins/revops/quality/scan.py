"""Check tables of one layer with Soda, closed against checks that were not evaluated."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from revops.quality.checks import Check, read_checks

TIMEOUT_S = 1800
PACKAGE_ROOT = Path(__file__).resolve().parents[2]

# Where the views of live rows are; Soda puts it before every table name.
VIEWS_SCHEMA = "pg_temp"

Outcome = Literal["pass", "warn", "fail", "not_evaluated"]


class ScanError(RuntimeError):
    """Soda could not be run at all."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check; value is Soda's measured number, null where it has none."""

    check: Check
    outcome: Outcome
    value: float | None


@dataclass(frozen=True)
class ScanReport:
    """The results of one scan, one for every declared check, in the order of the files."""

    layer: str
    results: tuple[CheckResult, ...]
    errors: str
    seconds: float

    @property
    def status(self) -> Literal["passed", "warned", "failed", "error"]:
        outcomes = {result.outcome for result in self.results}
        if self.errors or "not_evaluated" in outcomes:
            return "error"
        if "fail" in outcomes:
            return "failed"
        return "warned" if "warn" in outcomes else "passed"

    @property
    def evaluated(self) -> int:
        return sum(result.outcome != "not_evaluated" for result in self.results)

    @property
    def score(self) -> float | None:
        """Weighted share of checks passed, 0 to 1; None unless every check was evaluated."""
        return score(self.results)


def score(results: tuple[CheckResult, ...]) -> float | None:
    """Return the weighted share of passed checks; None when there are none or one was not evaluated."""
    if not results or any(result.outcome == "not_evaluated" for result in results):
        return None
    total = math.fsum(result.check.weight for result in results)
    return math.fsum(result.check.weight for result in results if result.outcome == "pass") / total


def scan_tables(conninfo: str, *, layer: str, source: str, tables: list[str], folder: Path) -> ScanReport:
    """Run the checks of `folder/<table>.yml` for each table that has such a file.

    A check sees the live rows only, in core those of the source: a row that is gone from the source neither keeps a
    gate shut nor holds one open, and one source's rows do not stop the other.

    A check that Soda leaves out, or any error of Soda's, makes every check of the tables concerned
    `not_evaluated`: Soda computes the
    checks of a table in one query, and when that fails it still reports some of them as passed. Raises ScanError.
    """
    files = [path for table in tables if (path := folder / f"{table}.yml").exists()]
    declared = [check for path in files for check in read_checks(path)]
    started = time.monotonic()
    nothing: dict[str, Any] = {"exit_code": 0, "checks": [], "errors": ""}
    raw = _run_soda(conninfo, layer=layer, source=source, tables=tables, files=files) if files else nothing
    found = {(item["table"], item["name"]): item for item in raw["checks"]}
    broken = {check.table for check in declared if found.get((check.table, check.name), {}).get("outcome") is None}
    if raw["exit_code"] >= 3 and not broken:
        broken = {check.table for check in declared}
    results = tuple(_result(check, found, broken) for check in declared)
    return ScanReport(layer, results, raw["errors"], time.monotonic() - started)


def _result(check: Check, found: dict[tuple[str, str], dict[str, Any]], broken: set[str]) -> CheckResult:
    if check.table in broken:
        return CheckResult(check, "not_evaluated", None)
    item = found[check.table, check.name]
    value = item["value"]
    number = float(value) if isinstance(value, int | float) else None
    if item["outcome"] == "pass":
        return CheckResult(check, "pass", number)
    is_critical = check.severity == "critical" and item["outcome"] == "fail"
    return CheckResult(check, "fail" if is_critical else "warn", number)


def _live_rows(layer: str, table: str, source: str) -> str:
    """Return the statement that puts the rows to check before a table, as a temporary view of its name."""
    condition: sql.Composable = sql.SQL("_deleted_at is null")
    if layer == "core":
        condition = sql.SQL("deleted_at is null and source_system = {}").format(sql.Literal(source))
    view = sql.SQL("create temp view {} as select * from {} where {}").format(
        sql.Identifier(table), sql.Identifier(layer, table), condition
    )
    return view.as_string(None)


def _run_soda(conninfo: str, *, layer: str, source: str, tables: list[str], files: list[Path]) -> dict[str, Any]:
    libpq = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
    data_source = {
        "type": "postgres",
        "host": libpq["host"],
        "port": libpq["port"],
        "username": libpq["user"],
        "password": libpq.get("password", ""),
        "database": libpq.pop("dbname"),
        "schema": VIEWS_SCHEMA,
        "sslmode": libpq.get("sslmode", "require"),
    }
    with tempfile.TemporaryDirectory(prefix="revops-soda-") as scratch:
        output = Path(scratch) / "results.json"
        request = {
            "name": layer,
            "libpq": libpq,
            "views": [_live_rows(layer, table, source) for table in tables],
            "data_source": data_source,
            "files": [str(path.resolve()) for path in files],
            "output": str(output),
        }
        environment = {
            "HOME": scratch,
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PACKAGE_ROOT),
            "PYTHON_DOTENV_DISABLED": "1",
            "PYTHONWARNINGS": "ignore",
        }
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
        if process.returncode != 0 or not output.exists():
            tail = "\n".join((process.stderr or process.stdout).splitlines()[-10:])
            raise ScanError(f"Soda ended with code {process.returncode} and no results:\n{tail}")
        results: dict[str, Any] = json.loads(output.read_text())
        return results
