"""The local command line, as far as it goes without starting Airflow."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from revops.connection_stores import BACKEND
from revops.keyring import DATA_KEYS
from revops.local.__main__ import _parser
from revops.local.commands import CommandError, _only_one
from revops.local.postgres import EmbeddedPostgres
from revops.local.stack import WEB_PORT, Stack, own_settings, set_connections

ROOT = Path(__file__).resolve().parents[2]


def command_line(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "revops.local", *arguments],
        env={
            "PATH": os.defpath,
            "PYTHONPATH": str(ROOT / "plugins"),
            "REVOPS_HOME": str(home),
            "AIRFLOW_HOME": str(home / "airflow"),
            "PYTHONWARNINGS": "ignore",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_command_of_the_makefile_is_known(tmp_path: Path) -> None:
    called = set(re.findall(r"\$\(LOCAL\) ([a-z]+)", (ROOT / "Makefile").read_text()))
    assert called >= {"demo", "start", "stop", "run", "task", "setup", "psql", "search"}
    listed = command_line("--help", home=tmp_path)
    assert listed.returncode == 0
    assert set(re.findall(r"^    ([a-z]+) ", listed.stdout, re.MULTILINE)) == called


def test_arguments() -> None:
    parser = _parser()
    assert parser.parse_args(["start"]).web_port == WEB_PORT
    assert parser.parse_args(["start", "--web-port", "9090"]).web_port == 9090
    run = parser.parse_args(["run", "odoo"])
    assert run.dag == "odoo"
    task = parser.parse_args(["task", "odoo", "extract.crm_lead"])
    assert (task.dag, task.task) == ("odoo", "extract.crm_lead")
    assert parser.parse_args(["search", "kubernetes for a bank"]).query == "kubernetes for a bank"


def test_psql_gets_its_options_as_they_are() -> None:
    # argparse would take `-Atc` for an option of its own: the Makefile ends those with `--`.
    assert "$(LOCAL) psql -- $(ARGS)" in (ROOT / "Makefile").read_text()
    assert _parser().parse_args(["psql", "--", "-Atc", "select 1"]).arguments == ["-Atc", "select 1"]
    assert _parser().parse_args(["psql", "--"]).arguments == []


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["run"], ["task", "odoo"], ["start", "--web-port", "http"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_second_command_of_the_same_checkout_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    with _only_one(stack, "demo"):
        expected = (
            rf"another make demo, run or start of this checkout is at work \(process {os.getpid()}\)\. "
            "Remedy: wait for it, or end it; then try again"
        )
        with pytest.raises(CommandError, match=expected), _only_one(stack, "demo"):
            pytest.fail("two commands at a time")
    with _only_one(stack, "demo"):
        pass


def test_a_lock_that_a_killed_command_left_behind_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "demo.lock").write_text("999999")
    with _only_one(Stack(tmp_path), "demo"):
        assert (tmp_path / "demo.lock").read_text() == str(os.getpid())


def test_the_command_line_says_it_in_one_sentence(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        result = command_line("demo", home=tmp_path)
    assert result.returncode == 1
    assert "error: another make demo, run or start of this checkout is at work (process 4711)." in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_malformed_settings_end_in_a_sentence(tmp_path: Path) -> None:
    result = command_line("setup", home=tmp_path, AIRFLOW_CONN_REVOPS_CORE="mysql://u:hunter2@h/d")
    assert result.returncode == 1
    assert "error: connection 'revops_core' is of type 'mysql'" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert "hunter2" not in result.stdout + result.stderr


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# a comment\n"
        "REVOPS_ALERT_EMAIL=file@example.com\n"
        'AIRFLOW_CONN_ODOO_SOURCE="postgresql://reader:p%40ss#1@h:5432/odoo?sslmode=require"\n'
        "AIRFLOW_CONN_ACE_SOURCE=\n"
        "REVOPS_HOME=/somewhere\n"
        "SHELL=/bin/false\n"
    )
    monkeypatch.setenv("REVOPS_ALERT_EMAIL", "environment@example.com")
    monkeypatch.setenv("AIRFLOW__API__WORKERS", "2")
    monkeypatch.setenv("REVOPS_EMBEDDING_MODEL", "")
    own = own_settings(dotenv=dotenv)
    own.pop("REVOPS_HOME", None)
    assert own == {
        "REVOPS_ALERT_EMAIL": "environment@example.com",
        "AIRFLOW_CONN_ODOO_SOURCE": "postgresql://reader:p%40ss#1@h:5432/odoo?sslmode=require",
        "AIRFLOW__API__WORKERS": "2",
    }


def test_the_file_counts_where_the_environment_is_silent(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("REVOPS_ALERT_EMAIL=file@example.com\n")
    assert own_settings(dotenv=dotenv) == {"REVOPS_ALERT_EMAIL": "file@example.com"}


def test_without_a_file_only_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ACE_SOURCE", "postgresql://h/d")
    assert own_settings(dotenv=tmp_path / "none") == {"AIRFLOW_CONN_ACE_SOURCE": "postgresql://h/d"}


def in_a_file(tmp_path: Path, **connections: str) -> dict[str, str]:
    """The settings of somebody who has connections in a file."""
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(connections))
    return {
        "AIRFLOW__SECRETS__BACKEND": BACKEND,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(path)}),
    }


def test_the_samples_leave_the_connections_of_a_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the environment besides would be in two places, and stop the tasks."""
    monkeypatch.setattr(EmbeddedPostgres, "port", lambda _: 5432)
    stack, own = Stack(tmp_path), in_a_file(tmp_path, revops_core="postgresql://h/own")
    assert set_connections({**own, "AIRFLOW_CONN_ACE_SOURCE": "x"}) == {
        "AIRFLOW_CONN_ACE_SOURCE",
        "AIRFLOW_CONN_REVOPS_CORE",
    }
    environment = stack.environment(mail_port=25, web_port=8080, own=own)
    assert "127.0.0.1:5432/odoo" in environment["AIRFLOW_CONN_ODOO_SOURCE"]
    assert "AIRFLOW_CONN_REVOPS_CORE" not in environment
    # Nor does it make keys for a warehouse that is not its own.
    assert DATA_KEYS not in environment


def test_a_malformed_connections_file_ends_in_a_sentence(tmp_path: Path) -> None:
    own = in_a_file(tmp_path, revops_core="postgresql://u:hunter2@h:port/d")
    result = command_line("setup", home=tmp_path, **own)
    assert result.returncode == 1
    assert f"error: {tmp_path}/connections.json: revops_core: its URI is malformed" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert "hunter2" not in result.stdout + result.stderr


def test_the_warehouse_of_a_connections_file_is_the_one_that_is_set_up(tmp_path: Path) -> None:
    own = in_a_file(tmp_path, revops_core="postgresql://u:hunter2@127.0.0.1:9/mine?sslrootcert=%2Fetc%2Fhosts")
    result = command_line("setup", home=tmp_path, **own)
    assert result.returncode == 1
    assert "mine on 127.0.0.1:9" in result.stdout
    assert not (tmp_path / "postgres").exists()
