"""Airflow's API server as the Compose stack starts it: cookies are Secure where a proxy says https, and only there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.cookiejar import Cookie
from pathlib import Path

import httpx
import pytest

from revops.local.ports import free_port
from tests.conftest import ROOT

# The unit tests show who is believed; here two servers start, at 12 s of a processor each.
pytestmark = pytest.mark.long

LOGIN = "/auth/login/"
PREPARE = """
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import initdb
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

def prepare():
    initdb()
    with get_application_builder() as builder:
        builder.sm.add_user("admin", "A", "B", "a@b.c", builder.sm.find_role("Admin"), password="hunter2-hunter2")

providers_configuration_loaded(prepare)()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's folder, with a database that knows one web user."""
    folder = tmp_path_factory.mktemp("airflow")
    made = subprocess.run(
        [sys.executable, "-c", PREPARE], env=environment(folder), capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[-4000:]
    return folder


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "REVOPS_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "plugins"),
        "PYTHONWARNINGS": "ignore",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "no-plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API__SECRET_KEY": "a key of this test",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this test that is long enough for the algorithm, 64 bytes",
    }


@pytest.fixture
def server(home: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that people reach by the address of the parameter, with this machine as its proxy."""
    port = free_port()
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "revops.compose.api_server"],
            env={
                **environment(home),
                "AIRFLOW__API__BASE_URL": request.param,
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__WORKERS": "1",
                "REVOPS_TRUSTED_PROXIES": "127.0.0.1",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while True:
            try:
                httpx.get(f"{address}/api/v2/monitor/health", timeout=10, trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def logged_in(server: str, **headers: str) -> dict[str, Cookie]:
    """Log in as a browser does, with what a proxy adds; return the cookies that the server has set, by name."""
    # The jar would not give a Secure cookie back to this address, as no browser would.
    with httpx.Client(base_url=server, headers=headers, timeout=60, trust_env=False) as client:
        page = client.get(LOGIN)
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        assert token, page.text[:2000]
        given = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
        cookies = {cookie.name: cookie for cookie in client.cookies.jar}
        answer = client.post(
            LOGIN,
            data={"csrf_token": token[1], "username": "admin", "password": "hunter2-hunter2"},
            # Of https Flask's protection from forged forms wants the page that it came from.
            headers={"Cookie": given, "Referer": f"{headers.get('X-Forwarded-Proto', 'http')}://{headers['Host']}/"},
        )
        assert answer.status_code == httpx.codes.FOUND, answer.text[:2000]
        return {**cookies, **{cookie.name: cookie for cookie in client.cookies.jar}}


@pytest.mark.parametrize("server", ["https://revops.example.com"], indirect=True)
def test_cookies_are_secure_behind_the_proxy(server: str) -> None:
    cookies = logged_in(server, Host="revops.example.com", **{"X-Forwarded-Proto": "https"})
    assert {"session", "_token"} <= cookies.keys()
    assert {name: cookie.secure for name, cookie in cookies.items()} == dict.fromkeys(cookies, True)
    # A renewed one comes from another part of Airflow.
    with httpx.Client(base_url=server, timeout=60, trust_env=False) as client:
        spoiled = {"Cookie": "_token=spoiled", "Host": "revops.example.com"}
        renewed = client.get("/api/v2/dags", headers={**spoiled, "X-Forwarded-Proto": "https"})
        assert "; secure" in renewed.headers["set-cookie"].lower()


@pytest.mark.parametrize("server", ["http://localhost:8080"], indirect=True)
def test_without_tls_a_log_in_needs_no_secure_cookie(server: str) -> None:
    host = server.removeprefix("http://")
    cookies = logged_in(server, Host=host)
    assert {"session", "_token"} <= cookies.keys()
    assert not any(cookie.secure for cookie in cookies.values())
    # Nobody is a proxy here.
    pretended = logged_in(server, Host=host, **{"X-Forwarded-Proto": "https"})
    assert not any(cookie.secure for cookie in pretended.values())
