"""The death of every service while a run goes on, and a stop of the whole stack."""

from __future__ import annotations

import pytest

from revops.sources import load_source
from tests.docker.compose.conftest import Night
from tests.docker.compose_stack import ComposeStack
from tests.e2e.raw_and_source import assert_raw_equals_source

# Those that a run can do without for a moment, one after the other in one run; then those that it hangs on.
ASIDE = ("airflow-triggerer", "airflow-dag-processor", "embedding", "mail")
# Service -> the task group in which it dies.
IN_USE = {
    "samples": "extract",
    "warehouse": "extract",
    "metadata": "extract",
    "airflow-api-server": "extract",
    "airflow-scheduler": "transform",
    "docker-proxy": "embed",
}


def test_each_comes_back_while_a_run_goes_on(stack: ComposeStack, first_night: Night) -> None:
    runs = stack.start_runs("odoo", conf={"full_refresh": True})
    stack.wait_for_task("odoo", runs["odoo"], group="extract")
    for name in ASIDE:
        container = stack.container(name)
        stack.kill(container)
        print(f"{name} is healthy again after {stack.wait_for_restart(container):.1f} s")
    stack.assert_succeeded(runs)


@pytest.mark.parametrize("name", IN_USE)
def test_a_run_ends_well_when_what_it_uses_dies(stack: ComposeStack, first_night: Night, name: str) -> None:
    runs = stack.start_runs("odoo", conf={"full_refresh": True})
    stack.wait_for_task("odoo", runs["odoo"], group=IN_USE[name])
    container = stack.container(name)
    stack.kill(container)
    print(f"{name} is healthy again after {stack.wait_for_restart(container):.1f} s")
    stack.assert_succeeded(runs)
    assert_raw_equals_source(stack, load_source("odoo"))
    assert not stack.engine.containers(all=True, filters={"label": [f"revops.handoff={stack.project}_handoff"]})


def test_the_stack_comes_back_from_a_stop_with_what_it_had(stack: ComposeStack, first_night: Night) -> None:
    before = stack.query("revops_core", 'select count(*) from raw."odoo_crm_lead"')
    assert stack.make("down").returncode == 0
    stack.up("demo")
    assert stack.query("revops_core", 'select count(*) from raw."odoo_crm_lead"') == before
    with stack.api() as api:
        assert api.run_state("odoo", first_night.runs["odoo"]) == "success"
