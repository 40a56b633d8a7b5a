"""The Compose stack of a copy of this checkout, with names, ports and volumes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from docker import APIClient
from docker.errors import NotFound

from revops.keyring import Keyring
from revops.local.airflow_server import Api
from revops.local.ports import free_port
from tests.docker.checkout import copy_checkout

TAG = "test"
# How much slower than two idle cores this machine may be; for a machine that has other work.
PATIENCE = float(os.environ.get("REVOPS_TEST_PATIENCE", "1"))
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
DATABASES = ("warehouse", "metadata", "samples")
# The service in which tasks run, without workers.
RUN_TASKS = "airflow-scheduler"
# Database -> the service that holds it, the login that a test takes and the role that it adopts.
LOGINS = {
    "revops_core": ("warehouse", "revops", "revops_ingest"),
    "odoo": ("samples", "odoo", "odoo"),
    "c303_prod_apn_01": ("samples", "ace", "ace"),
}


@dataclass
class Start:
    """How a container came up: seconds until it was healthy, or had ended well, and processor seconds until then."""

    began: float
    ready: float
    cpu: float | None

    @property
    def seconds(self) -> float:
        return self.ready - self.began


@dataclass
class ComposeStack:
    """One stack; `folder` is its checkout."""

    folder: Path
    engine: APIClient
    project: str
    web_port: int = field(default_factory=free_port)
    warehouse_port: int = field(default_factory=free_port)
    mail_port: int = field(default_factory=free_port)
    starts: dict[str, Start] = field(default_factory=dict)

    @classmethod
    def of_this_checkout(cls, folder: Path, engine: APIClient, project: str) -> ComposeStack:
        copy_checkout(folder)
        return cls(folder, engine, project)

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, engine: APIClient, profile: str) -> Iterator[ComposeStack]:
        """Yield a stack that came up from nothing; nothing of it is left afterwards."""
        made = cls.of_this_checkout(folder, engine, f"revops-test-{uuid.uuid4().hex[:6]}")
        try:
            made.up(profile)
            yield made
        finally:
            down = made.make("down", "VOLUMES=1", "YES=1")
        assert down.returncode == 0, down.stdout
        assert made.containers() == []
        left = engine.volumes(filters={"label": [f"{PROJECT}={made.project}"]})
        assert not left["Volumes"]

    def make(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run make in the checkout; its output is for the assertion's message."""
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={**self.environment, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900 * PATIENCE,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "REVOPS", "COMPOSE", "PYTEST", "MAKE", "MFLAGS"))
        }
        return {
            **inherited,
            "COMPOSE_PROJECT_NAME": self.project,
            "REVOPS_TAG": TAG,
            "WEB_PORT": str(self.web_port),
            "REVOPS_WAREHOUSE_PORT": str(self.warehouse_port),
            "REVOPS_MAIL_PORT": str(self.mail_port),
            "REVOPS_SAMPLE_SCALE": "0.25",
            "WAIT_S": str(int(300 * PATIENCE)),
            "QUIET": "1",
        }

    def up(self, profile: str) -> None:
        """Start it and take the times of its containers."""
        with self._watched():
            done = self.make("up", f"PROFILE={profile}")
        assert done.returncode == 0, done.stdout[-6000:]

    # --- Containers ------------------------------------------------------------------------------------------------

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What the engine knows of the containers, those that have ended too."""
        labels = [f"{PROJECT}={self.project}", *([f"{SERVICE}={service}"] if service else [])]
        found = []
        for listed in self.engine.containers(all=True, filters={"label": labels}):
            with contextlib.suppress(NotFound):
                found.append(self.engine.inspect_container(listed["Id"]))
        return sorted(found, key=lambda container: str(container["Name"]))

    def container(self, service: str) -> dict[str, Any]:
        (found,) = self.containers(service)
        return found

    def services(self) -> dict[str, dict[str, Any]]:
        """The first container of each service that goes on running."""
        found = {}
        for container in self.containers():
            if not is_one_shot(container):
                found.setdefault(service_of(container), container)
        return found

    def execute(self, container: str, *command: str, user: str = "") -> tuple[int, str]:
        """Run a command in a container; return its exit code and its output."""
        made = self.engine.exec_create(container, list(command), user=user)["Id"]
        output = self.engine.exec_start(made).decode(errors="replace")
        return int(self.engine.exec_inspect(made)["ExitCode"] or 0), output

    def kill(self, container: dict[str, Any]) -> None:
        """End a container's first process by -9, as the kernel would; `docker kill` would count as a stop."""
        config = self.engine.create_host_config(
            pid_mode="host", cap_drop=["ALL"], cap_add=["KILL"], network_mode="none"
        )
        killer = self.engine.create_container(
            f"revops-postgres:{TAG}",
            entrypoint=["bash", "-c", f"kill -9 {container['State']['Pid']}"],
            user="0",
            host_config=config,
        )["Id"]
        try:
            self.engine.start(killer)
            assert self.engine.wait(killer)["StatusCode"] == 0, self.engine.logs(killer)
        finally:
            self.engine.remove_container(killer, v=True, force=True)

    def wait_for_restart(self, container: dict[str, Any], *, timeout: float = 60) -> float:
        """Wait until a killed container is healthy again; return after how many seconds."""
        began = time.monotonic()
        while True:
            now = self.engine.inspect_container(container["Id"])
            if now["State"]["StartedAt"] != container["State"]["StartedAt"] and _health(now) == "healthy":
                return time.monotonic() - began
            assert time.monotonic() - began < timeout * PATIENCE, (service_of(container), now["State"])
            time.sleep(0.5)

    def copy_volume(self, name: str, folder: Path) -> list[Path]:
        """Copy a volume's files, as root sees them, into a folder; return their paths."""
        volume = f"{self.project}_{name}"
        # nocopy: an empty volume takes on the owner of the folder that it is mounted over.
        config = self.engine.create_host_config(binds=[f"{volume}:/volume:ro,nocopy"], network_mode="none")
        holder = self.engine.create_container(f"revops-postgres:{TAG}", host_config=config)["Id"]
        try:
            folder.mkdir(parents=True)
            subprocess.run(["docker", "cp", "--quiet", f"{holder}:/volume/.", str(folder)], check=True)
        finally:
            self.engine.remove_container(holder, v=True)
        return [path for path in folder.rglob("*") if path.is_file()]

    # --- Databases -------------------------------------------------------------------------------------------------

    def query(self, database: str, statement: str, *, role: str | None = None) -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with self.connect(database, role=role) as connection:
            return connection.execute(statement.encode()).fetchall()

    def connect(self, database: str, *, role: str | None = None) -> psycopg.Connection:
        """Open a session; the host reaches a container at its address in the internal network."""
        service, login, default = LOGINS[database]
        networks = self.container(service)["NetworkSettings"]["Networks"]
        return psycopg.connect(
            host=service,
            hostaddr=networks[f"{self.project}_{service}"]["IPAddress"],
            dbname=database,
            user=login,
            password=self.secret(f"{service}/{login}_password"),
            sslmode="verify-full",
            sslrootcert=str(self.folder / "secrets" / "ca" / "ca.crt"),
            channel_binding="require",
            options=f"-c role={role or default}",
        )

    def psql(self, service: str, statement: str) -> str:
        """Return what a statement of the superuser prints, who gets in from inside the container only."""
        code, output = self.execute(self.container(service)["Id"], "revops-psql", "-XAtqc", statement)
        assert code == 0, output
        return output

    @property
    def keyring(self) -> Keyring:
        return Keyring.parse(self.secret("airflow/data_keys"), self.secret("airflow/index_key"))

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    # --- Runs ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def api(self) -> Iterator[Api]:
        """A session of Airflow's REST API, logged in as the web user."""
        base = f"http://127.0.0.1:{self.web_port}"
        with httpx.Client(base_url=base, timeout=60 * PATIENCE, trust_env=False) as client:
            answer = client.post(
                "/auth/token", json={"username": "admin", "password": self.secret("airflow/web_admin_password")}
            )
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield Api(client)

    def start_runs(self, *dag_ids: str, conf: dict[str, Any] | None = None) -> dict[str, str]:
        with self.api() as api:
            for dag_id in dag_ids:
                api.wait_for_dag(dag_id, timeout_s=120 * PATIENCE)
            return {dag_id: api.trigger(dag_id, conf=conf) for dag_id in dag_ids}

    def wait_for_task(self, dag_id: str, run_id: str, *, group: str, state: str = "running") -> dict[str, Any]:
        """Wait until a task of a group is in a state; return it."""
        deadline = time.monotonic() + 300 * PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError), self.api() as api:
                for instance in api.task_instances(dag_id, run_id):
                    if instance["task_id"].startswith(f"{group}.") and instance["state"] == state:
                        return instance
            time.sleep(0.5)
        raise AssertionError(f"no task of {dag_id} {group} was {state}")

    def wait_for_runs(self, runs: dict[str, str], *, timeout: float = 900) -> dict[str, str]:
        """Wait until all have ended; return their states. The API server itself may be away for a while."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError), self.api() as api:
                states = {dag_id: api.run_state(dag_id, run_id) for dag_id, run_id in runs.items()}
                if set(states.values()) <= {"success", "failed"}:
                    return states
            time.sleep(2)
        raise AssertionError(f"the runs have not ended: {states}")

    def assert_succeeded(self, runs: dict[str, str]) -> None:
        states = self.wait_for_runs(runs)
        with self.api() as api:
            told = [
                (dag_id, instance["task_id"], api.task_log(dag_id, run_id, instance["task_id"], instance["try_number"]))
                for dag_id, run_id in runs.items()
                for instance in api.task_instances(dag_id, run_id)
                if instance["state"] == "failed"
            ]
        assert states == dict.fromkeys(runs, "success"), told

    # --- Times -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                with contextlib.suppress(NotFound):
                    self._look()
            self._look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(30)

    def _look(self) -> None:
        for container in self.containers():
            name, state = str(container["Name"]).removeprefix(f"/{self.project}-"), container["State"]
            if name in self.starts:
                continue
            if _health(container) == "healthy":
                first = next(entry["End"] for entry in state["Health"]["Log"] if entry["ExitCode"] == 0)
                usage = self.engine.stats(container["Id"], stream=False, one_shot=True)["cpu_stats"]["cpu_usage"]
                self.starts[name] = Start(_time(state["StartedAt"]), _time(first), usage["total_usage"] / 1e9)
            elif is_one_shot(container) and state["Status"] == "exited" and state["ExitCode"] == 0:
                self.starts[name] = Start(_time(state["StartedAt"]), _time(state["FinishedAt"]), None)


def service_of(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"][SERVICE])


def is_one_shot(container: dict[str, Any]) -> bool:
    return bool(container["HostConfig"]["RestartPolicy"]["Name"] == "on-failure")


def _health(container: dict[str, Any]) -> str | None:
    found: str | None = (container["State"].get("Health") or {}).get("Status")
    return found


def _time(written: str) -> float:
    # Nanoseconds are more than Python reads.
    moment, _, zone = written.partition(".")
    fraction = "".join(character for character in zone if character.isdigit())[:6] if "+" not in zone else zone[:6]
    if "+" in zone:
        return datetime.fromisoformat(f"{moment}.{zone[:6]}+{zone.partition('+')[2]}").timestamp()
    return datetime.fromisoformat(f"{moment}.{fraction}+00:00").timestamp()


def show_json(value: object) -> str:
    return json.dumps(value, indent=1, default=str)
