"""`python -m revops.compose.init`: what must be there before Airflow starts. Every step may be repeated."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

SECRETS = Path("/run/secrets/airflow")
ADMIN = "admin"
# For what starts at the same time, such as the embedding service, which loads its model.
WAIT_S = "120"
# Without these nothing runs. A source or a mail server that is down must not keep the web UI from starting: it is told.
NEEDED = ("settings", "connections", "sources", "revops_core", "airflow")

log = structlog.get_logger("revops.init")


def main() -> int:
    """Do all steps in order, each with its time; an error ends it."""
    from airflow import settings
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    settings.initialize()  # type: ignore[no-untyped-call]
    for title, step in STEPS:
        started = time.monotonic()
        outcome = providers_configuration_loaded(step)()
        log.info(title, outcome=outcome, seconds=round(time.monotonic() - started, 1))
    return 0


def migrate_metadata() -> str:
    """Bring Airflow's own database, the web users' tables included, to this version of Airflow."""
    from airflow.utils import db

    db.upgradedb()
    return "up to date"


def ensure_admin() -> str:
    """Create the web user `admin` with the password of its file; a user that is there already is left alone."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        security = builder.sm
        if security.find_user(ADMIN) is not None:
            return "is there"
        password = (SECRETS / "web_admin_password").read_text().strip()
        role = security.find_role("Admin")
        if not security.add_user(ADMIN, "Revops", "Admin", "admin@revops.localhost", role, password=password):
            raise RuntimeError("the web user admin could not be created; Airflow's own message stands above")
    return "created"


def set_pools() -> str:
    """Create the pools that the DAGs name, or set their size."""
    from airflow.models.pool import Pool

    from revops.pools import read_pools

    pools = read_pools()
    for name, pool in pools.items():
        Pool.create_or_update_pool(name, pool.slots, pool.description, pool.include_deferred)
    return ", ".join(pools)


def check_settings() -> str:
    """Check settings, connections and the encoder; raises SystemExit where what is NEEDED is wrong."""
    return run_preflight()


def run_preflight(*only: str) -> str:
    """Run all checks, or those that are named; raises SystemExit where one fails that is NEEDED, after all is said."""
    # A process of its own: it prints its progress, and knows nothing of the database that this one is connected to.
    options = [*(("--needed", name) for name in NEEDED), *(("--only", name) for name in only)]
    words = [word for option in options for word in option]
    checked = subprocess.run([sys.executable, "-m", "revops.preflight", "--wait", WAIT_S, *words], check=False)
    if checked.returncode != 0:
        raise SystemExit(checked.returncode)
    return "passed"


def set_up_warehouse() -> str:
    """Create the warehouse's tables, or bring them to this version."""
    from revops import warehouse_setup
    from revops.hooks.warehouse import warehouse_conninfo
    from revops.sources import INCLUDE

    migrations = warehouse_setup.read_migrations(INCLUDE / "sql" / "migrations")
    applied = warehouse_setup.set_up_warehouse(
        warehouse_conninfo(None, task="setup"), migrations, progress=lambda text: log.info(text)
    )
    return f"{len(applied)} of {len(migrations)} migrations applied" if applied else "up to date"


STEPS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("Airflow's database", migrate_metadata),
    ("web user admin", ensure_admin),
    ("pools", set_pools),
    ("settings and connections", check_settings),
    ("warehouse", set_up_warehouse),
)

if __name__ == "__main__":
    sys.exit(main())
