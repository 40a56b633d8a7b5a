"""Who reaches whom, and who gets out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.docker.compose_stack import DATABASES, ComposeStack

SERVERS = {
    "warehouse": (5432,),
    "metadata": (5432,),
    "samples": (5432,),
    "docker-proxy": (2375,),
    "embedding": (8300,),
    "mail": (1025, 8025),
    "airflow-api-server": (8080,),
}
# A network leads both ways: who serves Airflow sees its login page, too.
WEB = "airflow-api-server"
MAY_REACH = {
    "airflow-scheduler": {*DATABASES, "docker-proxy", "embedding", "mail", WEB},
    WEB: {"warehouse", "metadata", "embedding", WEB},
    "airflow-dag-processor": {"warehouse", "metadata", "mail", WEB},
    "airflow-triggerer": {"metadata", "mail", WEB},
    "warehouse": {"warehouse", WEB},
    "metadata": {"metadata", WEB},
    "samples": {"samples"},
    "embedding": {"embedding", WEB},
    "docker-proxy": {"docker-proxy"},
    "mail": {"mail"},
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


def test_this_host_comes_to_the_web_ui_from_the_gateway(stack: ComposeStack) -> None:
    """By that a proxy on this host is known (revops.compose.api_server), and the other containers are not."""
    container, path = stack.container(WEB)["Id"], f"/from-this-host-{uuid.uuid4().hex}"
    ask = "from revops.compose.api_server import ROUTES, gateway; print(gateway(ROUTES.read_text()))"
    code, told = stack.execute(container, "python", "-c", ask)
    assert code == 0, told
    httpx.get(f"http://127.0.0.1:{stack.web_port}{path}", timeout=60, trust_env=False)
    deadline = time.monotonic() + 30
    while not (lines := [line for line in stack.engine.logs(container).decode().splitlines() if path in line]):
        assert time.monotonic() < deadline, "the request is not in the log"
        time.sleep(0.5)
    assert json.loads(lines[0])["client_addr"].rpartition(":")[0] == told.split()[-1]


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
