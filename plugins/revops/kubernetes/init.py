"""`python -m revops.kubernetes.init`: what must be there before Airflow starts. Every step may be repeated.

The steps of the Compose stack, but for the encoder: its pods come later, and the query service beside them.
"""

from __future__ import annotations

import sys
import time

import structlog

from revops.compose import init as compose
from revops.preflight.__main__ import all_checks

LATER = frozenset({"encoder", "service"})

log = structlog.get_logger("revops.init")


def main() -> int:
    """Do all steps in order, each with its time; an error ends it."""
    from airflow import settings
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    settings.initialize()  # type: ignore[no-untyped-call]
    for title, step in compose.STEPS:
        started = time.monotonic()
        outcome = providers_configuration_loaded(check_settings if step is compose.check_settings else step)()
        log.info(title, outcome=outcome, seconds=round(time.monotonic() - started, 1))
    return 0


def check_settings() -> str:
    """Check settings and connections; raises SystemExit where something is wrong that Airflow can't run without."""
    return compose.run_preflight(*(check.name for check in all_checks() if check.name not in LATER))


if __name__ == "__main__":
    sys.exit(main())
