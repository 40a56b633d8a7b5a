"""Passwords and keys of the embedded stack: made once, kept, completed, and passed on where they belong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from revops.keyring import DATA_KEYS, INDEX_KEY, Keyring
from revops.local.credentials import NAMES, load_or_create
from revops.local.stack import Stack


def test_they_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "credentials.json"
    made = load_or_create(path)
    assert set(made) == set(NAMES)
    assert len(set(made.values())) == len(NAMES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path) == made
    Keyring.parse(made["data_keys"], made["index_key"])


def test_an_older_file_is_completed_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    old = {name: f"old-{name}" for name in NAMES if name not in ("data_keys", "index_key")}
    path.write_text(json.dumps(old))
    made = load_or_create(path)
    assert {name: made[name] for name in old} == old
    Keyring.parse(made["data_keys"], made["index_key"])
    assert load_or_create(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_first_runs_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    code = "import sys, pathlib, json; from revops.local.credentials import load_or_create; "
    code += "print(json.dumps(load_or_create(pathlib.Path(sys.argv[1]))))"
    command = [sys.executable, "-c", code, str(path)]
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(plugins)}) for _ in range(4)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert all(answer == json.loads(path.read_text()) for answer in answers)


def test_the_embedded_warehouse_has_keys_of_its_own(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    keys = stack.encryption_keys({})
    assert keys == stack.encryption_keys({})
    Keyring.from_environment(keys)


def test_a_warehouse_of_the_users_own_gets_no_keys_that_make_clean_removes(tmp_path: Path) -> None:
    assert Stack(tmp_path).encryption_keys({"AIRFLOW_CONN_REVOPS_CORE": "postgresql://h/d"}) == {}


def test_airflow_gets_the_keys_and_the_users_own_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path)
    monkeypatch.setattr(Stack, "sample_connections", lambda _: {})
    monkeypatch.setattr(Stack, "_uri", lambda *_: "postgresql+psycopg2://h/airflow")
    environment = stack.environment(mail_port=25, web_port=8080, own={INDEX_KEY: "own"})
    assert environment[DATA_KEYS] == stack.passwords["data_keys"]
    assert environment[INDEX_KEY] == "own"
