"""Following runs in the terminal: to their end, or until it is clear that there will be none."""

from __future__ import annotations

import httpx
import pytest
from rich.console import Console

from revops.local import watch
from revops.local.airflow_server import Api, ServerError


def api(*, scheduler: str, states: list[str]) -> Api:
    """Airflow's API with a scheduler in this state and a run that goes through these."""
    left = iter(states)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/monitor/health"):
            return httpx.Response(200, json={"scheduler": {"status": scheduler}})
        if request.url.path.endswith("/taskInstances"):
            return httpx.Response(200, json={"task_instances": []})
        return httpx.Response(200, json={"state": next(left, states[-1])})

    return Api(httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(answer)))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(watch, "PATIENCE_S", 0.2)


def test_a_run_is_followed_to_its_end() -> None:
    airflow = api(scheduler="healthy", states=["queued"] + ["running"] * 40 + ["success"])
    assert watch.watch_runs(airflow, {"odoo": "run"}, Console()) == {"odoo": "success"}


def test_a_dead_scheduler_ends_the_watch_with_a_remedy() -> None:
    with pytest.raises(ServerError, match=r"scheduler has given no sign of life.*make stop"):
        watch.watch_runs(api(scheduler="unhealthy", states=["running"]), {"odoo": "run"}, Console())


def test_a_run_that_ends_while_the_scheduler_is_late_is_no_error() -> None:
    airflow = api(scheduler="unhealthy", states=["running", "failed"])
    assert watch.watch_runs(airflow, {"odoo": "run"}, Console()) == {"odoo": "failed"}
