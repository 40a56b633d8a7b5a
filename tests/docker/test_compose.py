"""One host, from empty volumes: start, order, hardening, both DAGs, and the death of every service."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from revops.sources import load_source
from tests.docker.compose_stack import PATIENCE, ComposeStack, is_one_shot, service_of, show_json
from tests.e2e.raw_and_source import assert_raw_equals_source

# Container startup time shall not exceed 30 seconds (requirements, Performance): on two cores with nothing else to do.
START_S = 30
DATABASES = ("warehouse", "metadata", "samples")
RUN_TASKS = "airflow-scheduler"


@pytest.fixture(scope="module")
def stack(engine: APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    """The stack of profile demo, from nothing: no secrets, no volumes."""
    with ComposeStack.started(tmp_path_factory.mktemp("checkout"), engine, "demo") as made:
        yield made


def test_all_are_healthy(stack: ComposeStack) -> None:
    states = {str(container["Name"]): container["State"] for container in stack.containers()}
    for container in stack.containers():
        state = container["State"]
        if is_one_shot(container):
            assert (state["Status"], state["ExitCode"]) == ("exited", 0), show_json(states)
        else:
            assert state["Health"]["Status"] == "healthy", show_json(states)
    assert {service_of(container) for container in stack.containers()} == {
        *DATABASES,
        *("airflow-init", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"),
        *("model", "embedding", "docker-proxy", "mail", "samples-init"),
    }


def test_each_starts_in_time_and_in_order(stack: ComposeStack) -> None:
    began = min(start.began for start in stack.starts.values())
    print(f"\n{'service':26}{'began':>8}{'ready after':>13}{'processor':>11}")
    for name, start in sorted(stack.starts.items(), key=lambda item: item[1].began):
        cpu = "" if start.cpu is None else f"{start.cpu:9.1f} s"
        print(f"{name:26}{start.began - began:6.1f} s{start.seconds:11.1f} s{cpu:>11}")
    starts = {name.rsplit("-", 1)[0]: start for name, start in stack.starts.items()}
    for container in stack.containers():
        start = starts[service_of(container)]
        if not is_one_shot(container):
            assert start.seconds < START_S * PATIENCE, service_of(container)
    # The warehouse first, and nothing before what it needs.
    assert starts["warehouse"].ready < min(starts["metadata"].began, starts["samples"].began)
    assert max(starts[name].ready for name in (*DATABASES, "docker-proxy", "model")) < starts["airflow-init"].began
    for name in ("airflow-api-server", "airflow-dag-processor"):
        assert starts["airflow-init"].ready < starts[name].began
    for name in ("airflow-scheduler", "airflow-triggerer"):
        assert starts["airflow-api-server"].ready < starts[name].began


# --- What a container may do ------------------------------------------------------------------------------------------


def test_containers_may_do_little(stack: ComposeStack) -> None:
    for container in stack.containers():
        name, host, config = service_of(container), container["HostConfig"], container["Config"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert not host["Privileged"], name
        assert host["Memory"] > 0, name
        assert 0 < host["PidsLimit"] <= 1024, name
        assert host["LogConfig"]["Config"]["max-size"], name
        assert host["RestartPolicy"]["Name"] in ("unless-stopped", "on-failure"), name
        if name == "docker-proxy":
            assert sorted(host["CapAdd"]) == ["SETGID", "SETUID"]
        else:
            assert host["CapAdd"] is None, name
            assert config["User"].split(":")[0] not in ("", "0", "root"), name


def test_no_process_is_root(stack: ComposeStack) -> None:
    for name, container in stack.services().items():
        told = stack.engine.top(container["Id"], "-eo pid,uid,args")
        users = {row[1] for row in told["Processes"]}
        assert users, name
        assert "0" not in users, (name, told["Processes"])


def test_the_socket_is_in_one_container(stack: ComposeStack) -> None:
    with_socket = {
        service_of(container)
        for container in stack.containers()
        for mount in container["Mounts"]
        if "docker.sock" in mount["Source"] or mount["Source"] in ("/", "/var/run", "/run")
    }
    assert with_socket == {"docker-proxy"}


def test_tasks_have_their_folders_and_nothing_else(stack: ComposeStack) -> None:
    mounts = {mount["Destination"]: mount["RW"] for mount in stack.container(RUN_TASKS)["Mounts"]}
    assert mounts == {
        "/run/secrets/airflow": False,
        "/opt/airflow/include/sources": False,
        "/opt/airflow/logs": True,
        "/var/lib/revops/embedding": True,
        "/var/lib/revops/reports": True,
    }


def test_no_secret_is_in_what_the_engine_tells(stack: ComposeStack) -> None:
    secrets = {}
    for path in (stack.folder / "secrets").rglob("*"):
        if path.is_file() and path.suffix not in (".crt", ".lock") and path.name not in ("keys-made", ".lock"):
            secrets[str(path.relative_to(stack.folder))] = path.read_text().strip()
    assert len(secrets) > 15
    told = json.dumps(stack.containers())
    told += json.dumps([stack.engine.history(image) for image in {c["Image"] for c in stack.containers()}])
    told += stack.make("up", "--dry-run").stdout
    for name, value in secrets.items():
        for part in {value, *value.splitlines()}:
            assert len(part) < 16 or part not in told, name


def test_ports_are_published_to_this_machine_alone(stack: ComposeStack) -> None:
    published = {
        (service_of(container), inner, binding["HostIp"], binding["HostPort"])
        for container in stack.containers()
        for inner, bindings in (container["NetworkSettings"]["Ports"] or {}).items()
        for binding in bindings or ()
    }
    assert published == {
        ("warehouse", "5432/tcp", "127.0.0.1", str(stack.warehouse_port)),
        ("airflow-api-server", "8080/tcp", "127.0.0.1", str(stack.web_port)),
        ("mail", "8025/tcp", "127.0.0.1", str(stack.mail_port)),
    }
    for port in (stack.warehouse_port, stack.web_port, stack.mail_port):
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass


# --- Who reaches whom -------------------------------------------------------------------------------------------------

SERVERS = {
    "warehouse": (5432,),
    "metadata": (5432,),
    "samples": (5432,),
    "docker-proxy": (2375,),
    "embedding": (8300,),
    "mail": (1025, 8025),
    "airflow-api-server": (8080,),
    "airflow-scheduler": (8974,),
}
# A network leads both ways: who serves Airflow sees its login page and its scheduler's health, too.
AIRFLOW = {"airflow-api-server", "airflow-scheduler"}
MAY_REACH = {
    "airflow-scheduler": {*DATABASES, "docker-proxy", "embedding", "mail", *AIRFLOW},
    "airflow-api-server": {"warehouse", "metadata", "embedding", *AIRFLOW},
    "airflow-dag-processor": {"warehouse", "metadata", "mail", *AIRFLOW},
    "airflow-triggerer": {"metadata", "mail", *AIRFLOW},
    "warehouse": {"warehouse", *AIRFLOW},
    "metadata": {"metadata", *AIRFLOW},
    "samples": {"samples", "airflow-scheduler"},
    "embedding": {"embedding", *AIRFLOW},
    "docker-proxy": {"docker-proxy", "airflow-scheduler"},
    "mail": {"mail", "airflow-scheduler"},
}
# Some addresses at a time, for a container may have few processes; in the databases' containers there is no Python.
KNOCK = """
knock() { timeout 3 bash -c "exec 3<>/dev/tcp/${1//:/\\/}" 2>/dev/null && echo "$1"; }
for target in "$@"; do
    knock "$target" &
    (( ++begun % 8 )) || wait
done
wait
"""


def test_each_reaches_whom_it_needs_and_nobody_else(stack: ComposeStack) -> None:
    services = stack.services()
    targets = {
        f"{network['IPAddress']}:{port}": name
        for name, ports in SERVERS.items()
        for network in services[name]["NetworkSettings"]["Networks"].values()
        for port in ports
    }
    reached = {}
    for name, container in services.items():
        _, output = stack.execute(container["Id"], "bash", "-c", KNOCK, "knock", *targets)
        reached[name] = {targets[line] for line in output.splitlines() if line in targets}
    assert reached == MAY_REACH


@contextlib.contextmanager
def _far_host() -> Iterator[str]:
    """A host behind this one, which knows the way back to this machine only; yields its address, with a server."""
    name, address = f"far{uuid.uuid4().hex[:6]}", "198.51.100.2"
    far = ["ip", "netns", "exec", name]
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", name],
        ["ip", "address", "add", "198.51.100.1/24", "dev", name],
        ["ip", "link", "set", name, "up"],
        [*far, "ip", "address", "add", f"{address}/24", "dev", "up0"],
        [*far, "ip", "link", "set", "up0", "up"],
    ):
        subprocess.run(command, check=True)
    serving = (
        "import socket; s = socket.create_server(('', 9999)); print(flush=True); [s.accept() for _ in iter(int, 1)]"
    )
    with subprocess.Popen([*far, "python3", "-c", serving], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield f"{address}:9999"
        finally:
            server.kill()
            subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="a further host needs root and iproute2")
def test_only_who_needs_it_gets_out(stack: ComposeStack) -> None:
    with _far_host() as far:
        outside = {
            name
            for name, container in stack.services().items()
            if far in stack.execute(container["Id"], "bash", "-c", KNOCK, "knock", far)[1]
        }
    assert outside == {"airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}


# --- Runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_night(stack: ComposeStack) -> dict[str, str]:
    """Both DAGs, once."""
    runs = stack.start_runs("odoo", "ace")
    stack.assert_succeeded(runs)
    return runs


def test_both_dags_succeed(stack: ComposeStack, first_night: dict[str, str]) -> None:
    for source in ("odoo", "ace"):
        assert_raw_equals_source(stack, load_source(source))
    with stack.api() as api:
        for dag_id, run_id in first_night.items():
            assert {instance["state"] for instance in api.task_instances(dag_id, run_id)} <= {"success", "skipped"}


def test_the_texts_are_encoded_in_containers_by_way_of_the_proxy(
    stack: ComposeStack, first_night: dict[str, str]
) -> None:
    said = stack.engine.logs(stack.container("docker-proxy")["Id"]).decode()
    requests = [json.loads(line).get("request") or "" for line in said.splitlines()]
    created = [request for request in requests if request.endswith("/containers/create")]
    removed = [request for request in requests if request.startswith("DELETE")]
    # In each run the model is asked for and the texts are encoded; the initialisation asks, too.
    assert len(created) >= 5
    assert len(removed) >= len(created)
    ((texts, vectors),) = stack.query(
        "revops_core",
        "select (select count(distinct text_hash) from search.document), (select count(*) from search.embedding)",
        role="revops_embed",
    )
    assert texts == vectors
    assert int(str(texts)) > 100
    assert not stack.engine.containers(all=True, filters={"label": [f"revops.handoff={stack.project}_handoff"]})


def test_logs_are_lines_of_json(stack: ComposeStack, first_night: dict[str, str]) -> None:
    for name, container in stack.services().items():
        if name.startswith("airflow-"):
            lines = stack.engine.logs(container["Id"], tail=200).decode().splitlines()
            assert lines, name
            for line in lines:
                assert {"event", "level"} <= json.loads(line).keys(), (name, line)


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


def test_each_comes_back_while_a_run_goes_on(stack: ComposeStack, first_night: dict[str, str]) -> None:
    runs = stack.start_runs("odoo", conf={"full_refresh": True})
    stack.wait_for_task("odoo", runs["odoo"], group="extract")
    for name in ASIDE:
        container = stack.container(name)
        stack.kill(container)
        print(f"{name} is healthy again after {stack.wait_for_restart(container):.1f} s")
    stack.assert_succeeded(runs)


@pytest.mark.parametrize("name", IN_USE)
def test_a_run_ends_well_when_what_it_uses_dies(stack: ComposeStack, first_night: dict[str, str], name: str) -> None:
    runs = stack.start_runs("odoo", conf={"full_refresh": True})
    stack.wait_for_task("odoo", runs["odoo"], group=IN_USE[name])
    container = stack.container(name)
    stack.kill(container)
    print(f"{name} is healthy again after {stack.wait_for_restart(container):.1f} s")
    stack.assert_succeeded(runs)
    assert_raw_equals_source(stack, load_source("odoo"))
    assert not stack.engine.containers(all=True, filters={"label": [f"revops.handoff={stack.project}_handoff"]})


def test_mails_are_shown(stack: ComposeStack) -> None:
    container = stack.container("airflow-scheduler")["Id"]
    send = (
        "import smtplib; s = smtplib.SMTP('mail', 1025); s.sendmail('a@example.com', ['b@example.com'], "
        "'From: a@example.com\\nTo: b@example.com\\nSubject: It works\\n\\ntext\\n')"
    )
    code, output = stack.execute(container, "python", "-c", send)
    assert code == 0, output
    assert "b@example.com  It works" in stack.make("mail").stdout


def test_the_stack_comes_back_from_a_stop_with_what_it_had(stack: ComposeStack, first_night: dict[str, str]) -> None:
    before = stack.query("revops_core", 'select count(*) from raw."odoo_crm_lead"')
    assert stack.make("down").returncode == 0
    stack.up("demo")
    assert stack.query("revops_core", 'select count(*) from raw."odoo_crm_lead"') == before
    with stack.api() as api:
        assert api.run_state("odoo", first_night["odoo"]) == "success"


# --- What goes wrong is said, with the remedy -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no .env, so that nobody knows your sources. Remedy: cp .env.example .env"),
        (("PROFILE=prod",), "there is no profile prod. Remedy: PROFILE=demo, dev, scale"),
        (("PROFILE=demo", "WEB_PORT=x"), "WEB_PORT=x is no port"),
        (("PROFILE=demo", "DOCKER_HOST=unix:///nonexistent"), "the Docker engine does not answer"),
    ],
)
def test_up_says_what_is_missing(engine: APIClient, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    empty = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")
    done = empty.make("up", *arguments)
    assert done.returncode != 0
    assert said in done.stdout


def test_up_says_whose_port_it_is(engine: APIClient, tmp_path: Path) -> None:
    empty = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=taken.accept, daemon=True).start()
        port = taken.getsockname()[1]
        done = empty.make("up", "PROFILE=demo", f"REVOPS_WAREHOUSE_PORT={port}")
    assert done.returncode != 0
    assert f"port {port} is taken by another program. Remedy: end it, or choose another" in done.stdout


def test_a_gpu_is_given_where_there_is_one(tmp_path: Path, engine: APIClient) -> None:
    stack = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")

    def embedding(gpu: str) -> dict[str, Any]:
        told = subprocess.run(
            ["include/compose/run", "config", "--format", "json"],
            cwd=stack.folder,
            env={**stack.environment, "GPU": gpu, "PROFILE": "demo"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found: dict[str, Any] = json.loads(told)["services"]
        return found

    with_gpu = embedding("1")
    (device,) = with_gpu["embedding"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert with_gpu["model"]["build"]["args"]["TORCH_VARIANT"] == "cuda"
    without = embedding("0")
    assert "deploy" not in without["embedding"]
    assert without["model"]["build"]["args"]["TORCH_VARIANT"] == "cpu"
