"""Profile scale: the same DAGs on two workers over Redis, one of which dies in the middle of an extract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import APIClient

from revops.sources import load_source
from tests.docker.compose_stack import ComposeStack, service_of
from tests.e2e.raw_and_source import assert_raw_equals_source

WORKERS = 2


@pytest.fixture(scope="module")
def stack(engine: APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    """The sample sources and two workers, from nothing."""
    with ComposeStack.started(tmp_path_factory.mktemp("checkout"), engine, "demo,scale") as made:
        yield made


def test_tasks_run_in_the_workers_and_what_they_need_is_theirs(stack: ComposeStack) -> None:
    assert len(stack.containers("airflow-worker")) == WORKERS
    for worker in stack.containers("airflow-worker"):
        networks = {name.removeprefix(f"{stack.project}_") for name in worker["NetworkSettings"]["Networks"]}
        assert {"engine", "samples", "outside", "broker"} <= networks
        assert {"/var/lib/revops/embedding", "/var/lib/revops/reports"} <= {m["Destination"] for m in worker["Mounts"]}
    scheduler = stack.container("airflow-scheduler")
    networks = {name.removeprefix(f"{stack.project}_") for name in scheduler["NetworkSettings"]["Networks"]}
    assert networks == {"airflow", "metadata", "broker"}
    assert not [mount for mount in scheduler["Mounts"] if mount["Destination"].startswith("/var/lib/revops")]
    assert not [variable for variable in scheduler["Config"]["Env"] if variable.startswith("DOCKER_HOST")]


def test_the_broker_takes_no_stranger(stack: ComposeStack) -> None:
    redis = stack.container("redis")["Id"]
    tls = ("redis-cli", "--tls", "--cacert", "/run/secrets/redis/ca.crt", "-h", "localhost")
    assert "NOAUTH" in stack.execute(redis, *tls, "llen", "default")[1]
    code, output = stack.execute(redis, "redis-cli", "-h", "localhost", "ping")
    assert "PONG" not in output, code
    code, output = stack.execute(redis, "redis-cli", "--tls", "-h", "localhost", "ping")
    assert "PONG" not in output, code


def test_both_dags_end_well_although_a_worker_dies_in_the_middle(stack: ComposeStack) -> None:
    runs = stack.start_runs("odoo", "ace")
    task = stack.wait_for_task("odoo", runs["odoo"], group="extract")
    worker = next(
        container
        for container in stack.containers("airflow-worker")
        if str(task["hostname"]).startswith(container["Config"]["Hostname"])
    )
    stack.kill(worker)
    print(f"the worker is healthy again after {stack.wait_for_restart(worker):.1f} s")
    stack.assert_succeeded(runs)
    for source in ("odoo", "ace"):
        assert_raw_equals_source(stack, load_source(source))
    with stack.api() as api:
        instances = [task for dag_id, run_id in runs.items() for task in api.task_instances(dag_id, run_id)]
    assert {service_of(container) for container in stack.containers() if _ran(container, instances)} == {
        "airflow-worker"
    }
    assert len({instance["hostname"] for instance in instances if instance["hostname"]}) == WORKERS


def _ran(container: dict[str, object], instances: list[dict[str, object]]) -> bool:
    hostname = container["Config"]["Hostname"]  # type: ignore[index]
    return any(str(instance["hostname"]).startswith(str(hostname)) for instance in instances)


@pytest.mark.parametrize("name", ["redis", "airflow-scheduler"])
def test_a_run_ends_well_when_broker_or_scheduler_die(stack: ComposeStack, name: str) -> None:
    runs = stack.start_runs("odoo", conf={"full_refresh": True})
    stack.wait_for_task("odoo", runs["odoo"], group="extract")
    container = stack.container(name)
    stack.kill(container)
    print(f"{name} is healthy again after {stack.wait_for_restart(container):.1f} s")
    stack.assert_succeeded(runs)
    assert_raw_equals_source(stack, load_source("odoo"))
