"""The proxy's image before the real engine: an encoder by way of it, and what it keeps from the engine."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from docker import APIClient
from docker.errors import APIError, DockerException

from tests.docker.conftest import MODEL, ROOT, Desk, assert_equal, build_image, read_shards, write_texts

TAG = "revops-docker-proxy:test"


@pytest.fixture(scope="module")
def proxy_image(engine: APIClient) -> str:
    return build_image(ROOT / "include" / "docker-proxy", TAG)


@pytest.fixture
def proxied(engine: APIClient, desk: Desk, proxy_image: str, model_volume: str) -> Iterator[tuple[Desk, str]]:
    """The desk with its hand-off in a volume and the engine behind the proxy; and the proxy's container."""
    volume = f"revops-test-handoff-{uuid.uuid4().hex[:8]}"
    folder = engine.create_volume(volume)["Mountpoint"]
    if not Path(folder).is_dir():
        engine.remove_volume(volume)
        pytest.skip("the engine's volumes are not on this machine, where the task runs")
    desk.environment |= {
        # The task is a process of this machine: it sees the volume where the engine keeps it.
        "REVOPS_EMBEDDING_HANDOFF": folder,
        "REVOPS_EMBEDDING_HANDOFF_VOLUME": volume,
        "REVOPS_EMBEDDING_MEMORY": "8g",
        "REVOPS_EMBEDDING_PIDS": "1024",
        "REVOPS_EMBEDDING_GPU": "auto",
    }
    config = engine.create_host_config(
        binds=["/var/run/docker.sock:/var/run/docker.sock"],
        port_bindings={2375: ("127.0.0.1", None)},
        cap_drop=["ALL"],
        cap_add=["SETUID", "SETGID"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        restart_policy={"Name": "always"},
    )
    made = engine.create_container(
        proxy_image,
        user="0:0",
        ports=[2375],
        host_config=config,
        environment={name: value for name, value in desk.environment.items() if name.startswith("REVOPS_EMBEDDING_")},
    )["Id"]
    engine.start(made)
    desk.environment["DOCKER_HOST"] = _address(engine, made)
    try:
        yield desk, made
    finally:
        for task in desk.tasks:
            task.process.kill()
            task.finish()
        for container in desk.containers():
            engine.remove_container(container["Id"], force=True)
        engine.remove_container(made, force=True)
        engine.remove_volume(volume)


def _address(engine: APIClient, container: str) -> str:
    """Wait until the proxy answers, and return where; a restart gives it another port."""
    deadline = time.monotonic() + 60
    while True:
        ports = engine.inspect_container(container)["NetworkSettings"]["Ports"].get("2375/tcp")
        if ports:
            address = f"tcp://127.0.0.1:{ports[0]['HostPort']}"
            try:
                APIClient(base_url=address, version="auto", timeout=5).ping()
            except DockerException:
                pass
            else:
                return address
        assert time.monotonic() < deadline, engine.logs(container).decode()
        time.sleep(0.2)


def test_an_encoder_runs_by_way_of_the_proxy(proxied: tuple[Desk, str], expected: dict[str, pa.Table]) -> None:
    desk, _ = proxied
    folder = desk.run_folder("run")
    texts = write_texts(folder / "in")
    assert desk.start("run", command="describe").xcom["name"]
    assert desk.start("run", texts=texts).xcom["documents"] == texts
    assert_equal(read_shards(folder / "out"), expected)
    assert desk.containers() == []


def test_a_killed_task_ends_its_encoder_by_way_of_the_proxy(
    engine: APIClient, proxied: tuple[Desk, str], expected: dict[str, pa.Table]
) -> None:
    desk, _ = proxied
    folder = desk.run_folder("run")
    texts = write_texts(folder / "in")
    first = desk.start("run", texts=texts)
    first.wait_for("encoder shard")
    (container,) = desk.containers()
    first.process.kill()
    # Its input closed, it ended by itself: 7 says that its caller went away.
    assert engine.wait(container["Id"], timeout=60)["StatusCode"] == 7
    again = desk.start("run", attempt=2, texts=texts)
    assert again.finish() == 0, again.log
    assert_equal(read_shards(folder / "out"), expected)
    assert desk.containers() == []


def test_a_proxy_that_dies_ends_the_try_and_a_retry_goes_on(
    engine: APIClient, proxied: tuple[Desk, str], expected: dict[str, pa.Table]
) -> None:
    desk, proxy = proxied
    folder = desk.run_folder("run")
    texts = write_texts(folder / "in")
    first = desk.start("run", texts=texts)
    first.wait_for("encoder shard")
    engine.restart(proxy, timeout=1)
    assert first.finish() != 0
    assert "A retry goes on after the last finished shard" in first.log or "does not answer" in first.log
    desk.environment["DOCKER_HOST"] = _address(engine, proxy)
    again = desk.start("run", attempt=2, texts=texts)
    assert again.finish() == 0, again.log
    assert_equal(read_shards(folder / "out"), expected)
    assert desk.containers() == []


def test_it_is_nobody_and_shows_nothing_of_the_machine(engine: APIClient, proxied: tuple[Desk, str]) -> None:
    desk, proxy = proxied
    users = {row[1] for row in engine.top(proxy, "-eo pid,uid,args")["Processes"]}
    assert users == {"65534"}
    client = APIClient(base_url=desk.environment["DOCKER_HOST"], version="auto")
    assert client.containers(all=True) == []
    assert "Name" not in client.info()
    with pytest.raises(APIError, match="is not let through") as refused:
        client.images()
    assert refused.value.status_code == 403
    for ask in (
        lambda: client.inspect_container(proxy),
        lambda: client.remove_container(proxy, force=True),
        lambda: client.start(proxy),
    ):
        with pytest.raises(APIError, match="is no encoder of this installation"):
            ask()


def test_no_container_but_an_encoder_is_created(
    engine: APIClient, proxied: tuple[Desk, str], image: str, model_volume: str
) -> None:
    desk, proxy = proxied
    before = {container["Id"] for container in engine.containers(all=True)}
    client = APIClient(base_url=desk.environment["DOCKER_HOST"], version="auto")
    for arguments in (
        {"image": image},
        {"image": image, "host_config": engine.create_host_config(privileged=True)},
        {"image": "debian:trixie-slim", "command": ["true"]},
        {"image": image, "host_config": engine.create_host_config(binds=["/:/host"])},
    ):
        with pytest.raises(APIError, match="docker-proxy: ") as refused:
            client.create_container(**arguments)
        assert refused.value.status_code == 403
    refusals = [json.loads(line) for line in engine.logs(proxy).decode().splitlines()]
    assert len([line for line in refusals if line["event"] == "refused"]) == 4
    assert {container["Id"] for container in engine.containers(all=True)} <= before


def test_a_wrong_setting_is_said_at_the_start(engine: APIClient, proxy_image: str) -> None:
    environment = {"REVOPS_EMBEDDING_IMAGE": "x", "REVOPS_EMBEDDING_MODEL": str(MODEL), "REVOPS_EMBEDDING_MEMORY": "8"}
    made = engine.create_container(proxy_image, environment=environment)["Id"]
    try:
        engine.start(made)
        assert engine.wait(made)["StatusCode"] == 2
        assert "REVOPS_EMBEDDING_MEMORY is not an amount of memory" in engine.logs(made).decode()
    finally:
        engine.remove_container(made, force=True)
