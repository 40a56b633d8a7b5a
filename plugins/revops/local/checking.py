"""`make check`: the checks of revops.preflight, of what `make run` would use."""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console

from revops.local.airflow_server import AirflowServer
from revops.local.model_supply import ensure_model
from revops.local.progress import step
from revops.local.stack import WEB_PORT, Stack, own_settings


def check(console: Console, arguments: list[str]) -> int:
    """Check the user's settings, and the embedded stack for the rest; arguments: of preflight. 0 when all is well."""
    stack = Stack.of_checkout()
    own = own_settings()
    with step(console, "PostgreSQL 18 with pgvector, TLS") as done:
        done(f"port {stack.start_postgres()}")
    ensure_model(stack, console, own)
    with AirflowServer(stack).mail_sink() as mail_port:
        environment = stack.environment(mail_port=mail_port, web_port=WEB_PORT, own=own)
        # Airflow's own database is checked where it runs.
        environment.pop("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
        # The mail sink may have been started just now.
        command = [sys.executable, "-m", "revops.preflight", "--wait", "10", *arguments]
        return subprocess.run(command, env=environment, check=False).returncode
