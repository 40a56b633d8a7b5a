"""`python -m revops.preflight`: what is wrong, and what to do, before anything starts. Exit code 0 or 1."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from functools import partial

import structlog
from rich.console import Console
from rich.markup import escape

from revops.errors import describe
from revops.preflight.airflow_database import check_airflow, is_configured
from revops.preflight.configuration import check_connections_file, check_settings, check_sources, read_sources
from revops.preflight.databases import check_source, check_warehouse
from revops.preflight.outcome import Check, CheckError, Passed
from revops.preflight.services import SMTP_CONNECTION, Encoding, check_mail_server
from revops.sources import SourceFileError

AIRFLOW = "airflow"
PAUSE_S = 1.0
PLAIN_WIDTH = 140
_NAME_WIDTH = 14
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def main() -> int:
    """Run the checks that are asked for, each with a line; 1 where one failed that is needed."""
    _be_quiet()
    checks = all_checks()
    parser = argparse.ArgumentParser(prog="python -m revops.preflight", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[check.name for check in checks], help="this check; may be repeated"
    )
    parser.add_argument(
        "--needed",
        action="append",
        choices=[check.name for check in checks],
        help="what fails beside it is told, and ends with 0; may be repeated",
    )
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for what has not started yet"
    )
    arguments = parser.parse_args()
    wanted = [check for check in checks if _is_wanted(check.name, arguments.only)]
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, soft_wrap=True)
    deadline = time.monotonic() + arguments.wait
    failed = [check.name for check in wanted if not _passes(check, console, deadline=deadline)]
    if failed:
        console.print(f"[red]{len(failed)} of {len(wanted)} checks failed:[/] {', '.join(failed)}", highlight=False)
        return 1 if not arguments.needed or set(failed) & set(arguments.needed) else 0
    console.print(f"all {len(wanted)} checks passed", highlight=False)
    return 0


def all_checks() -> list[Check]:
    """Return the checks in the order in which their faults are best mended."""
    encoding = Encoding()
    try:
        sources = [source.connection for source in read_sources()]
    except SourceFileError:
        # The check `sources` says so.
        sources = []
    return [
        Check("settings", check_settings),
        Check("connections", check_connections_file),
        Check("sources", check_sources),
        Check("revops_core", check_warehouse),
        *(Check(name, partial(check_source, name)) for name in dict.fromkeys(sources)),
        Check(SMTP_CONNECTION, check_mail_server),
        Check("encoder", encoding.check_encoder),
        Check("service", encoding.check_service),
        Check(AIRFLOW, check_airflow),
    ]


def _is_wanted(name: str, only: list[str] | None) -> bool:
    if only:
        return name in only
    return name != AIRFLOW or is_configured(os.environ)


def _passes(check: Check, console: Console, *, deadline: float) -> bool:
    started = time.monotonic()
    with console.status(check.name):
        outcome = _outcome(check)
        while isinstance(outcome, CheckError) and outcome.may_pass and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
            outcome = _outcome(check)
    seconds = time.monotonic() - started
    if isinstance(outcome, CheckError):
        _say(console, "failed", check.name, str(outcome), seconds)
        return False
    _say(console, "warning" if outcome.warnings else "ok", check.name, outcome.text, seconds)
    for warning in outcome.warnings:
        console.print(f"{'':9}{'':{_NAME_WIDTH}}{escape(warning)}", highlight=False)
    return True


def _outcome(check: Check) -> Passed | CheckError:
    try:
        return check.run()
    except CheckError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever one check meets, the others are told all the same
        return CheckError(str(error) if type(error).__module__.startswith("revops.") else describe(error))


def _say(console: Console, state: str, name: str, text: str, seconds: float) -> None:
    first, *others = text.splitlines() or [""]
    took = f"  [dim]{seconds:.1f} s[/]" if seconds >= 1 else ""
    line = f"[{_COLOURS[state]}]{state:8}[/] {name:{_NAME_WIDTH}}{escape(first)}{took}"
    console.print(line, highlight=False)
    for other in others:
        console.print(f"{'':9}{'':{_NAME_WIDTH}}{escape(other.strip())}", highlight=False)


def _be_quiet() -> None:
    """Leave the words to the checks, and let Airflow ask all the stores that its servers ask."""
    warnings.simplefilter("ignore")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    # Airflow, once imported, configures both anew.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    if is_configured(os.environ):
        # As Airflow's own servers do: connections of its metadata database are seen, too.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


if __name__ == "__main__":
    sys.exit(main())
