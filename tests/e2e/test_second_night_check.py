"""`make check` on the whole stack, and Airflow's own database as the stack has it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from revops.local.airflow_server import AirflowServer
from tests.stack import Commands

pytestmark = pytest.mark.e2e


def test_the_stack_of_the_first_night_passes_every_check(commands: Commands, first_night: str) -> None:
    finished = commands.run("check")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    told = {line.split()[1]: line for line in finished.stdout.splitlines() if line.startswith(("ok ", "warning "))}
    assert all(line.startswith("ok ") for line in told.values()), finished.stdout
    assert "migrations applied" in told["revops_core"]
    assert "odoo_reader may only read" in told["odoo_source"]
    assert "ace_reader may only read" in told["ace_source"]
    assert "multilingual-e5-small" in told["encoder"]
    assert set(told) >= {"settings", "connections", "sources", "smtp_default", "service"}


def test_airflows_database_has_the_pools_and_no_connection_twice(
    commands: Commands, first_night: str, web_address: str
) -> None:
    server = AirflowServer(commands.stack)
    running = server.running()
    assert running is not None
    environment = commands.stack.environment(mail_port=running.mail_port, web_port=running.web_port, own={})

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "revops.preflight", "--only", "airflow"],
            env={**environment, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )

    passed = check()
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "pools odoo_source (4), ace_source (4), embedding (1); no connection is stored twice" in passed.stdout
    with server.api(running) as api:
        api.client.delete("/api/v2/pools/embedding").raise_for_status()
        connection = {"connection_id": "odoo_source", "conn_type": "postgres", "password": "hunter2"}
        try:
            assert "Airflow lacks the pool(s) embedding" in check().stdout
            api.set_pools()
            api.client.post("/api/v2/connections", json=connection).raise_for_status()
            refused = check()
        finally:
            api.set_pools()
            api.client.delete("/api/v2/connections/odoo_source")
    assert refused.returncode == 1
    assert "stand elsewhere too: odoo_source. Remedy: keep each in one place" in refused.stdout
    assert "hunter2" not in refused.stdout
