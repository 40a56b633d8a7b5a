"""The API server behind a proxy with TLS: whom it believes, and when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from revops.compose import api_server

# As a container of the stack has it: an internal network, and the one of the published ports.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t010015AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000014AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t000015AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
INTERNAL = "".join(ROUTES.splitlines(keepends=True)[0::2])
HTTPS = {api_server.ADDRESS: "https://revops.example.com"}


@pytest.fixture(autouse=True)
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "route"
    path.write_text(ROUTES)
    monkeypatch.setattr(api_server, "ROUTES", path)
    return path


@pytest.mark.skipif(sys.byteorder != "little", reason="the example is of such a machine")
def test_the_gateway_is_read() -> None:
    assert api_server.gateway(ROUTES) == "172.21.0.1"
    assert api_server.gateway(INTERNAL) is None
    assert api_server.gateway("") is None


@pytest.mark.parametrize("address", ["http://localhost:8080", "http://revops.example.com", ""])
def test_without_tls_nobody_is_believed(address: str) -> None:
    assert api_server.behind_proxy({api_server.ADDRESS: address, api_server.TRUSTED: "*"}) == {}
    assert api_server.behind_proxy({}) == {}


def test_with_tls_this_host_is_believed_or_who_is_named() -> None:
    found = api_server.behind_proxy({**HTTPS, api_server.TRUSTED: ""})
    assert found == {"FORWARDED_ALLOW_IPS": "172.21.0.1", "AIRFLOW__FAB__COOKIE_SECURE": "True"}
    named = api_server.behind_proxy({**HTTPS, api_server.TRUSTED: "10.20.0.5,10.20.1.0/24"})
    assert named["FORWARDED_ALLOW_IPS"] == "10.20.0.5,10.20.1.0/24"


def test_a_container_without_a_gateway_says_so(routes: Path) -> None:
    routes.write_text(INTERNAL)
    with pytest.raises(SystemExit, match=r"before https://revops.example.com comes from. Remedy: .*_TRUSTED_PROXIES"):
        api_server.behind_proxy(HTTPS)


@pytest.mark.parametrize(
    ("address", "expected"), [("https://h", "api-server --proxy-headers"), ("http://h", "api-server")]
)
def test_airflow_is_started_so(tmp_path: Path, address: str, expected: str) -> None:
    program = tmp_path / "airflow"
    program.write_text('#!/bin/sh\necho "$* $FORWARDED_ALLOW_IPS $AIRFLOW__FAB__COOKIE_SECURE"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "revops.compose.api_server"],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.defpath}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            api_server.ADDRESS: address,
            api_server.TRUSTED: "10.20.0.5",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].strip() == (
        f"{expected} 10.20.0.5 True" if address.startswith("https") else expected
    )
