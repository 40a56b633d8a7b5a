"""Show DAG runs while they go on: a line for each task that ends."""

from __future__ import annotations

import time
from typing import Any

import httpx
from rich.console import Console

from revops.local.airflow_server import FINAL_RUN_STATES, Api, ServerError

POLL_S = 1.0
PATIENCE_S = 120.0
SIGNS = {
    "success": "[green]ok[/]",
    "failed": "[red]failed[/]",
    "upstream_failed": "[yellow]not run[/]",
    "skipped": "[dim]skipped[/]",
    "up_for_retry": "[yellow]again[/]",
}
LOG_LINES = 12


def watch_runs(api: Api, runs: dict[str, str], console: Console) -> dict[str, str]:
    """Follow runs (run id by DAG id) to their end and return their states.

    Each task is printed once when it ends; a task that will be tried again is printed at each try, a failed
    one with the end of its log. Raises ServerError when the scheduler is dead, for then they never end.
    """
    shown: set[tuple[str, str, int, str]] = set()
    states = dict.fromkeys(runs, "queued")
    answered = alive = time.monotonic()
    with console.status("running") as status:
        while any(state not in FINAL_RUN_STATES for state in states.values()):
            time.sleep(POLL_S)
            active: list[str] = []
            try:
                for dag_id, run_id in runs.items():
                    if states[dag_id] in FINAL_RUN_STATES:
                        continue
                    states[dag_id] = api.run_state(dag_id, run_id)
                    instances = api.task_instances(dag_id, run_id)
                    _show(api, instances, shown, console)
                    active += [f"{dag_id}.{i['task_id']}" for i in instances if i["state"] == "running"]
                if api.scheduler_is_alive():
                    alive = time.monotonic()
            except httpx.TransportError:
                # A busy machine may answer late; one that has stopped answering ends the watch.
                if time.monotonic() - answered > PATIENCE_S:
                    raise
                continue
            answered = time.monotonic()
            if answered - alive > PATIENCE_S:
                raise ServerError(
                    f"Airflow's scheduler has given no sign of life for {PATIENCE_S:.0f} s. "
                    "Remedy: run `make stop`, then the command again; what was loaded stays"
                )
            status.update("running: " + (", ".join(sorted(active)[:4]) or "waiting for the scheduler"))
    return states


def _show(api: Api, instances: list[dict[str, Any]], shown: set[tuple[str, str, int, str]], console: Console) -> None:
    for instance in sorted(instances, key=lambda item: str(item["end_date"])):
        state = str(instance["state"])
        mark = (instance["dag_id"], instance["task_id"], int(instance["try_number"]), state)
        if state not in SIGNS or mark in shown:
            continue
        shown.add(mark)
        seconds = f"{instance['duration']:6.1f} s" if instance.get("duration") is not None else " " * 8
        console.print(f"  {seconds}  {instance['dag_id']}.{instance['task_id']}  {SIGNS[state]}", highlight=False)
        if state == "failed":
            log = api.task_log(instance["dag_id"], instance["dag_run_id"], instance["task_id"], mark[2])
            for line in log[-LOG_LINES:]:
                console.print(f"              {line}", style="red", markup=False, highlight=False)
