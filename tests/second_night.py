"""The second night of the tests' stack: a day passes in the sources, and somebody triggers both DAGs in the web UI."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from dataclasses import dataclass

import psycopg
from playwright.sync_api import Page, sync_playwright

from revops.local import sample
from revops.local.airflow_server import AirflowServer, Api
from revops.local.commands import SEED
from tests import canary
from tests.stack import Commands
from tests.watcher import Watcher

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RUN_TIMEOUT_S = 420
DAGS = ("odoo", "ace")


@dataclass(frozen=True)
class SecondNight:
    """What was in the warehouse before, the states in which the runs ended, and what was seen meanwhile.

    Without a browser the API triggers.
    """

    leads_before: set[object]
    texts_before: set[object]
    states: dict[str, str]
    watcher: Watcher


def live_leads(commands: Commands) -> set[object]:
    """Return the ids of leads in raw that their source has."""
    rows = commands.query("revops_core", "select id from raw.odoo_crm_lead where _deleted_at is null")
    return {key for (key,) in rows}


def embedded_texts(commands: Commands) -> set[object]:
    """Return the hashes of all texts that have a vector."""
    return {key for (key,) in commands.query("revops_core", "select text_hash from search.embedding")}


def spend(commands: Commands, address: str) -> SecondNight:
    """Let a day pass, run both DAGs, and wait until they have ended."""
    before = live_leads(commands), embedded_texts(commands)
    _pass_a_day(commands)
    server = AirflowServer(commands.stack)
    running = server.running()
    assert running is not None
    watcher = Watcher(commands.stack, commands.stack.home / "watched")
    with server.api(running) as api, watcher:
        known = {dag_id: set(_runs(api, dag_id)) for dag_id in DAGS}
        if CHROMIUM is None:
            for dag_id in DAGS:
                api.trigger(dag_id)
        else:
            _click(commands, address)
        return SecondNight(*before, _wait(api, known), watcher)


def _pass_a_day(commands: Commands) -> None:
    stack = commands.stack
    with (
        psycopg.connect(stack.uri("odoo", "odoo")) as odoo,
        psycopg.connect(stack.uri("c303_prod_apn_01", "ace")) as ace,
    ):
        sample.advance(odoo, ace, seed=SEED, today=dt.datetime.now(dt.UTC).date(), truth_path=stack.truth)
        canary.plant(odoo, ace)


def _click(commands: Commands, address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        _log_in(page, address, commands.stack.passwords["web_admin"])
        for dag_id in DAGS:
            _trigger(page, address, dag_id)
        page.goto(f"{address}/dags/odoo")
        for group in ("extract", "check_raw", "transform", "check_core", "embed", "report"):
            page.get_by_text(group, exact=True).first.wait_for()
        folder = commands.stack.home / "screenshots"
        folder.mkdir(exist_ok=True)
        page.screenshot(path=folder / "grid.png")
        browser.close()


def _log_in(page: Page, address: str, password: str) -> None:
    page.goto(address)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/auth/login" not in url)


def _trigger(page: Page, address: str, dag_id: str) -> None:
    page.goto(f"{address}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Trigger").last.click()
    dialog.wait_for(state="detached")


def _wait(api: Api, known: dict[str, set[str]]) -> dict[str, str]:
    """Return the states of the runs that are new, as soon as all have ended."""
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while True:
        states = {
            dag_id: next((state for run, state in _runs(api, dag_id).items() if run not in runs), "none")
            for dag_id, runs in known.items()
        }
        if set(states.values()) <= {"success", "failed"} or time.monotonic() > deadline:
            return states
        time.sleep(2)


def _runs(api: Api, dag_id: str) -> dict[str, str]:
    answer = api.client.get(f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})
    answer.raise_for_status()
    return {run["dag_run_id"]: run["state"] for run in answer.json()["dag_runs"]}
