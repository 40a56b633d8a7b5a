"""Airflow as background processes of this checkout, and its REST API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from revops.local.paths import CHECKOUT
from revops.local.ports import free_port, is_free
from revops.local.processes import carries
from revops.local.stack import Stack
from revops.pools import read_pools

MAIL_SINK = CHECKOUT / "include" / "mail" / "mail_sink.py"
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 30
LOG_TAIL_LINES = 25
FINAL_RUN_STATES = ("success", "failed")


class ServerError(RuntimeError):
    """Airflow does not start, stop or answer; the message says why and what to do."""


@dataclass(frozen=True)
class Running:
    """Airflow and its mail sink as they run: process ids, ports, and a digest of the settings they were started with.

    is_new: started by this very call.
    """

    airflow_pid: int
    mail_pid: int
    web_port: int
    mail_port: int
    settings_digest: str
    is_new: bool = False


@dataclass(frozen=True)
class AirflowServer:
    """The Airflow of one stack."""

    stack: Stack

    @property
    def log(self) -> Path:
        return self.stack.airflow_home / "standalone.log"

    @property
    def _state(self) -> Path:
        return self.stack.airflow_home / "running.json"

    def running(self) -> Running | None:
        """Return what runs, or None; a state file that a crash left behind counts as nothing."""
        try:
            running = Running(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return running if _is_alive(running.airflow_pid, "airflow") else None

    def start(self, own: Mapping[str, str], *, web_port: int | None = None) -> Running:
        """Start Airflow (scheduler, DAG processor, API server, triggerer) and a mail sink; wait until they are healthy.

        web_port: None for a free one. Does nothing when it runs already with the same settings.
        Raises ServerError, e.g. when the port is taken or when it runs with other settings.
        """
        digest = hashlib.sha256(json.dumps(sorted(own.items())).encode()).hexdigest()
        if (running := self.running()) is not None:
            if running.settings_digest == digest:
                return running
            raise ServerError("Airflow runs already, with other settings. Remedy: `make stop`, then try again.")
        if web_port is not None and not is_free(web_port):
            raise ServerError(
                f"port {web_port} is in use. Remedy: choose another, e.g. `make start WEB_PORT={web_port + 1}`."
            )
        web, mail = web_port or free_port(), free_port()
        self.stack.write_web_users()
        environment = self.stack.environment(mail_port=mail, web_port=web, own=own)
        mail_process = self._spawn_mail_sink(mail, environment)
        airflow_process = self._spawn([str(_airflow_program()), "standalone"], environment, self.log)
        running = Running(airflow_process.pid, mail_process.pid, web, mail, digest)
        self._state.write_text(json.dumps(asdict(running)))
        try:
            self._wait_until_healthy(airflow_process, web)
            with self.api(running) as api:
                api.set_pools()
        except BaseException:
            self.stop()
            raise
        return replace(running, is_new=True)

    def stop(self) -> bool:
        """End all processes that `start` made; return whether there were any."""
        try:
            running = Running(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return False
        ended = self._end_session(running.airflow_pid)
        self._end_session(running.mail_pid)
        self._state.unlink(missing_ok=True)
        return ended

    def _end_session(self, leader: int) -> bool:
        """End every process of a session: politely, then with -9. Airflow's children start process groups of their own.

        Only a session that was started for this stack is ended: after a crash the number may be another one's. One
        member tells, since those that write their own title into `ps` have lost their environment there.
        """
        mark = f"AIRFLOW_HOME={self.stack.airflow_home}".encode()
        members = _session(leader)
        if not any(carries(pid, mark) for pid in members):
            return False
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while remaining := _session(leader):
            if time.monotonic() > deadline:
                for pid in remaining:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            _reap()
            time.sleep(0.2)
        return True

    @contextlib.contextmanager
    def api(self, running: Running) -> Iterator[Api]:
        """Open a session of the REST API as the web user."""
        base = f"http://127.0.0.1:{running.web_port}"
        with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
            answer = client.post(
                "/auth/token", json={"username": "admin", "password": self.stack.passwords["web_admin"]}
            )
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield Api(client)

    @contextlib.contextmanager
    def mail_sink(self) -> Iterator[int]:
        """Yield the port of the running mail sink, or of one that runs meanwhile."""
        if (running := self.running()) is not None:
            yield running.mail_port
            return
        port = free_port()
        process = self._spawn_mail_sink(port, os.environ)
        try:
            yield port
        finally:
            process.terminate()
            process.wait()

    def _spawn_mail_sink(self, port: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        place = ["--host", "127.0.0.1", "--smtp-port", str(port), "--web-port", "0"]
        command = [sys.executable, str(MAIL_SINK), *place, "--folder", str(self.stack.mail_folder)]
        return self._spawn(command, environment, self.stack.airflow_home / "mail-sink.log")

    def _spawn(self, command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        self.stack.airflow_home.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"Airflow ended with code {process.returncode}.\n{self._log_tail()}")
            with contextlib.suppress(httpx.HTTPError, ValueError):
                health = httpx.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5, trust_env=False).json()
                parts = ("metadatabase", "scheduler", "dag_processor")
                if all((health.get(part) or {}).get("status") == "healthy" for part in parts):
                    return
            time.sleep(0.5)
        raise ServerError(f"Airflow is not healthy after {START_TIMEOUT_S} s.\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"End of {self.log}:\n" + "\n".join(lines)


@dataclass(frozen=True)
class Api:
    """The calls of Airflow's REST API that the local commands need."""

    client: httpx.Client

    def set_pools(self) -> None:
        """Create the pools that the DAGs name, or set their size."""
        for name, pool in read_pools().items():
            body = {"name": name, **pool.model_dump()}
            answer = self.client.post("/api/v2/pools", json=body)
            if answer.status_code == httpx.codes.CONFLICT:
                answer = self.client.patch(f"/api/v2/pools/{name}", json=body)
            answer.raise_for_status()

    def wait_for_dag(self, dag_id: str, *, timeout_s: float = 120) -> None:
        """Wait until a DAG has been parsed; raises ServerError with its import errors when it never is."""
        deadline = time.monotonic() + timeout_s
        while self.client.get(f"/api/v2/dags/{dag_id}").status_code != httpx.codes.OK:
            errors = self.client.get("/api/v2/importErrors").json().get("import_errors", [])
            if errors:
                texts = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
                raise ServerError(f"DAG files can't be imported:\n{texts}")
            if time.monotonic() > deadline:
                known = [item["dag_id"] for item in self.client.get("/api/v2/dags").json().get("dags", [])]
                raise ServerError(f"there is no DAG {dag_id!r}; DAGs: {', '.join(sorted(known)) or 'none'}")
            time.sleep(0.5)

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None) -> str:
        """Switch a DAG on and start a run; return its run id."""
        self.client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()
        body = {"logical_date": None, "conf": dict(conf or {})}
        answer = self.client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if answer.is_error:
            raise ServerError(f"the run of {dag_id} was refused: {answer.text}")
        return str(answer.json()["dag_run_id"])

    def end_unfinished_runs(self, dag_id: str) -> list[str]:
        """Mark runs that an interrupted Airflow left behind as failed, which lets a new one start; return their ids."""
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        answer = self.client.get(path, params={"state": ["running", "queued"], "limit": 100})
        answer.raise_for_status()
        ended = [str(run["dag_run_id"]) for run in answer.json()["dag_runs"]]
        for run_id in ended:
            self.client.patch(f"{path}/{run_id}", json={"state": "failed"}).raise_for_status()
        return ended

    def scheduler_is_alive(self) -> bool:
        """Tell whether the scheduler has given a sign of life lately, as Airflow itself judges."""
        answer = self.client.get("/api/v2/monitor/health")
        answer.raise_for_status()
        return (answer.json().get("scheduler") or {}).get("status") == "healthy"

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state."""
        answer = self.client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        answer.raise_for_status()
        return str(answer.json()["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        answer = self.client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
        answer.raise_for_status()
        instances: list[dict[str, Any]] = answer.json()["task_instances"]
        return instances

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[str]:
        """Return the messages of a task's log, without Airflow's own frame around them; errors with what they say."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self.client.get(path, headers={"Accept": "application/json"})
        answer.raise_for_status()
        lines: list[str] = []
        for entry in answer.json()["content"]:
            if (
                isinstance(entry, dict)
                and entry.get("logger")
                and entry.get("level") in ("warning", "error", "critical")
            ):
                lines.append(str(entry["event"]))
                lines += [f"{detail['exc_type']}: {detail['exc_value']}" for detail in entry.get("error_detail") or ()][
                    :1
                ]
        return lines


def _airflow_program() -> Path:
    return Path(sys.executable).with_name("airflow")


def _is_alive(pid: int, word: str) -> bool:
    # A pid may have been given to another process since: its command line tells.
    try:
        return word in (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False


def _session(leader: int) -> list[int]:
    """Return the live processes of a session."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    members.append(int(entry.name))
    return members


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
