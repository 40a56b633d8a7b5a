"""The web UI in a real browser: a DAG is triggered by clicks and ends well; the nights of the other are shown."""

from __future__ import annotations

import shutil
import time

import pytest
from playwright.sync_api import Page, sync_playwright

from revops.local.airflow_server import AirflowServer
from tests.stack import Commands

pytestmark = [pytest.mark.web, pytest.mark.long]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RUN_TIMEOUT_S = 300


def _log_in(page: Page, url: str, password: str) -> None:
    page.goto(url)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/auth/login" not in address)


def _trigger(page: Page, url: str, dag_id: str) -> None:
    page.goto(f"{url}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Trigger").last.click()
    dialog.wait_for(state="detached")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_a_dag_is_triggered_in_the_grid(commands: Commands, web_address: str) -> None:
    server = AirflowServer(commands.stack)
    running = server.running()
    assert running is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        _log_in(page, web_address, commands.stack.passwords["web_admin"])
        with server.api(running) as api:
            before = {dag_id: set(_runs(api, dag_id)) for dag_id in ("ace",)}
            for dag_id in before:
                _trigger(page, web_address, dag_id)
            deadline = time.monotonic() + RUN_TIMEOUT_S
            states: dict[str, str] = {}
            while time.monotonic() < deadline and set(states.values()) != {"success"}:
                time.sleep(2)
                for dag_id, known in before.items():
                    new = {run: state for run, state in _runs(api, dag_id).items() if run not in known}
                    states[dag_id] = next(iter(new.values()), "none")
                assert "failed" not in states.values(), states
            assert states == {"ace": "success"}
        page.goto(f"{web_address}/dags/odoo")
        for group in ("extract", "check_raw", "transform", "check_core", "embed", "report"):
            page.get_by_text(group, exact=True).first.wait_for()
        folder = commands.stack.home / "screenshots"
        folder.mkdir(exist_ok=True)
        page.screenshot(path=folder / "grid.png")
        browser.close()


def _runs(api: object, dag_id: str) -> dict[str, str]:
    answer = api.client.get(f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})  # type: ignore[attr-defined]
    answer.raise_for_status()
    return {run["dag_run_id"]: run["state"] for run in answer.json()["dag_runs"]}
