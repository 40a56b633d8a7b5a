"""A secret that was made anew while the stack runs: who uses it is started again, and the others go on."""

from __future__ import annotations

import psycopg
import pytest

from tests.docker.compose.conftest import Night
from tests.docker.compose_stack import ComposeStack


def test_a_renewed_password_is_the_servers_after_make_up(stack: ComposeStack, first_night: Night) -> None:
    name = "warehouse/revops_password"
    old = stack.secret(name)
    before = {service: container["State"]["StartedAt"] for service, container in stack.services().items()}
    (stack.folder / "secrets" / name).unlink()
    # The clients have the new one at once, the server has it after its start.
    assert stack.make("secrets", "ARGS=--demo").returncode == 0
    assert stack.secret(name) != old
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        stack.query("revops_core", "select 1")

    done = stack.make("up", "PROFILE=demo")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "warehouse runs without what is new in secrets/warehouse: revops_password" in done.stdout
    assert stack.query("revops_core", "select 1") == [(1,)]
    services = stack.services()
    assert {container["State"]["Health"]["Status"] for container in services.values()} == {"healthy"}
    assert {service for service in services if services[service]["State"]["StartedAt"] != before[service]} == {
        "warehouse"
    }
    # Airflow has it, too, without a start: the session of a task is opened with it.
    runs = stack.start_runs("odoo")
    stack.assert_succeeded(runs)

    again = stack.make("up", "PROFILE=demo")
    assert again.returncode == 0, again.stdout[-6000:]
    assert "runs without what is new" not in again.stdout
