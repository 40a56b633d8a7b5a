"""Only processes of this stack are ever ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from revops.local.airflow_server import AirflowServer, _session
from revops.local.stack import Stack

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def _running_file(home: Path, pid: int) -> None:
    (home / "airflow").mkdir(parents=True)
    state = {"airflow_pid": pid, "mail_pid": pid, "web_port": 1, "mail_port": 2, "settings_digest": "x"}
    (home / "airflow" / "running.json").write_text(json.dumps(state))


def test_a_number_that_another_session_has_now_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        _running_file(tmp_path, stranger.pid)
        assert AirflowServer(Stack(tmp_path)).running() is None
        assert not AirflowServer(Stack(tmp_path)).stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_stacks_own_session_is_ended(tmp_path: Path) -> None:
    own = subprocess.Popen(SLEEP, start_new_session=True, env={**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow")})
    # A process that has just been started has no environment yet: the kernel writes it last.
    while not (Path("/proc") / str(own.pid) / "environ").read_bytes():
        time.sleep(0.01)
    _running_file(tmp_path, own.pid)
    assert AirflowServer(Stack(tmp_path)).stop()
    assert own.wait() != 0


def test_a_process_that_wrote_over_its_environment_is_ended_too(tmp_path: Path) -> None:
    """Airflow's API server shows a title of its own in `ps`, which the kernel keeps where the environment was."""
    titled = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import setproctitle, time;"
        "setproctitle.setproctitle(chr(97) * 4000); time.sleep(60)']); time.sleep(60)"
    )
    own = subprocess.Popen(
        [sys.executable, "-c", titled],
        start_new_session=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow")},
    )
    deadline = time.monotonic() + 20
    while len(_session(own.pid)) < 2 or all("aaaa" not in _title(pid) for pid in _session(own.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    _running_file(tmp_path, own.pid)
    assert AirflowServer(Stack(tmp_path)).stop()
    own.wait()
    assert _session(own.pid) == []


def _title(pid: int) -> str:
    return (Path("/proc") / str(pid) / "cmdline").read_text(errors="replace")
