"""`make up` starts again what runs with older secrets than there are: all of it, nothing else, whatever was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from revops.compose import secrets
from revops.local.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = {"airflow-scheduler", "airflow-worker"}
SERVERS = {"warehouse", "metadata", "samples", "redis"}
# Service -> where its folder is seen; docker-proxy has none.
MOUNTS = {
    **{name: f"/run/secrets/{name}" for name in SERVERS},
    **dict.fromkeys(AIRFLOW, "/run/secrets/airflow"),
    "docker-proxy": "/var/run/docker.sock",
}
# Containers are the lines of a file, as our format of `docker inspect` prints them. Secrets are made for real.
DOCKER = """#!/bin/bash
printf '%s\\n' "$*" >>"$STATE/asked"
now=$(date -u +%FT%T.%NZ)
case " $* " in
    " compose version "*) echo 2.30.0 ;;
    *" config --services ") cut -d' ' -f1 "$STATE/wanted" ;;
    *" ps --format {{.Name}} "*) echo "all healthy" ;;
    *" stop "*) for name in ${*##* stop }; do sed -i "/^$name /d" "$STATE/running"; done ;;
    *" up --detach "*)
        while read -r name mount; do
            grep -q "^$name " "$STATE/running" || echo "$name $now $mount" >>"$STATE/running"
        done <"$STATE/wanted" ;;
    " ps --quiet "*) cut -d' ' -f1 "$STATE/running" ;;
    " inspect "*) cat "$STATE/running" ;;
    " run "*" --list-bundles ") ;;
    " run "*)
        while [ "$1" != -m ]; do shift; done
        for word in "$@"; do
            [ "$word" != /host ] || word=/
            words+=("$word")
        done
        exec "$PYTHON" "${words[@]}" ;;
esac
"""


class Checkout:
    """A checkout whose stack has been up for a moment, in front of an engine that is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.state = folder / "engine"
        self.state.mkdir()
        (self.state / "docker").write_text(DOCKER)
        (self.state / "docker").chmod(0o755)
        shutil.copytree(ROOT / "include" / "compose", self.folder / "include" / "compose")
        self.make_secrets()
        self.want(*MOUNTS)
        self.run(*MOUNTS)

    def want(self, *services: str) -> None:
        (self.state / "wanted").write_text("".join(f"{name} {MOUNTS[name]}\n" for name in services))

    def run(self, *services: str) -> None:
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        (self.state / "running").write_text("".join(f"{name} {started} {MOUNTS[name]}\n" for name in services))

    @property
    def running(self) -> set[str]:
        return {line.split()[0] for line in (self.state / "running").read_text().splitlines()}

    def make_secrets(self) -> None:
        assert secrets.main([str(self.secret("")), "--demo"]) == 0

    def secret(self, name: str) -> Path:
        return self.folder / "secrets" / name

    def up(self) -> tuple[set[str], str]:
        """Run it; return what was stopped, all of it before the start, and what was said."""
        (self.state / "asked").write_text("")
        ports = {name: str(free_port()) for name in ("WEB_PORT", "REVOPS_WAREHOUSE_PORT", "REVOPS_MAIL_PORT")}
        done = subprocess.run(
            ["include/compose/up"],
            cwd=self.folder,
            env={
                "PATH": f"{self.state}{os.pathsep}{os.defpath}",
                "STATE": str(self.state),
                "PYTHON": sys.executable,
                "PYTHONPATH": str(ROOT / "plugins"),
                "PROFILE": "demo,scale",
                "GPU": "0",
                **ports,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        asked = (self.state / "asked").read_text().splitlines()
        (start,) = [number for number, line in enumerate(asked) if " up --detach" in line]
        stops = [number for number, line in enumerate(asked) if " stop " in line]
        assert all(number < start for number in stops)
        return {name for number in stops for name in asked[number].partition(" stop ")[2].split()}, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("removed", "stopped"),
    [
        (None, set()),
        # The tasks read connections.json each time: none is cut off for it.
        ("warehouse/revops_password", {"warehouse"}),
        ("airflow/web_admin_password", set()),
        ("samples/server.crt", {"samples"}),
        ("metadata/airflow_password", {"metadata", *AIRFLOW}),
        ("redis/password", {"redis", *AIRFLOW}),
        ("ca/ca.key", {*SERVERS, *AIRFLOW}),
    ],
)
def test_those_are_started_again_whose_secrets_were_renewed(
    checkout: Checkout, removed: str | None, stopped: set[str]
) -> None:
    if removed:
        checkout.secret(removed).unlink()
    found, said = checkout.up()
    assert found == stopped
    assert checkout.running == set(MOUNTS)
    if removed and stopped and not removed.startswith("ca/"):
        assert f"{removed.partition('/')[0]} runs without what is new in secrets/{removed.replace('/', ': ')}" in said


def test_once_is_enough(checkout: Checkout) -> None:
    checkout.secret("warehouse/server.crt").unlink()
    assert checkout.up()[0] == {"warehouse"}
    assert checkout.up()[0] == set()


def test_what_a_run_wrote_that_was_killed_is_not_forgotten(checkout: Checkout) -> None:
    """Or `make secrets`: it writes, and somebody else starts."""
    checkout.secret("warehouse/revops_password").unlink()
    checkout.make_secrets()
    found, said = checkout.up()
    assert found == {"warehouse"}
    assert "secrets: complete, nothing to do" in said


def test_a_copy_with_its_old_time_is_as_new_as_its_place(checkout: Checkout) -> None:
    path = checkout.secret("warehouse/revops_password")
    old = path.read_bytes()
    path.write_bytes(b"0" * 40)
    checkout.make_secrets()
    checkout.run(*MOUNTS)
    path.write_bytes(old)
    os.utime(path, (0, 0))
    assert checkout.up()[0] == {"warehouse"}


def test_what_does_not_run_or_is_not_asked_for_is_left_alone(checkout: Checkout) -> None:
    checkout.run("metadata", "redis", "docker-proxy")
    checkout.want(*(set(MOUNTS) - {"redis"}))
    checkout.secret("ca/ca.key").unlink()
    assert checkout.up()[0] == {"metadata"}
    assert checkout.running == set(MOUNTS)
