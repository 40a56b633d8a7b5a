"""Rotation and reading as people and tasks ask for them: with the settings of a task and keys in files."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from airflow.sdk.exceptions import AirflowFailException
from builders import Extract, query
from psycopg.conninfo import conninfo_to_dict
from rotating import Keys, key_ids

from revops.keyring import DATA_KEYS, DATA_KEYS_FILE, INDEX_KEY, INDEX_KEY_FILE
from revops.operators import extract as operators
from revops.rotation.__main__ import main
from revops.rotation.night import rotate_when_due

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, email text);"
    "insert into t select n, 'name ' || n, 'mail-' || n || '@example.com' from generate_series(1, 10) n"
)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def key_file(extract: Extract, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the data keys, with the settings of a task around it."""
    given = {name: str(value) for name, value in conninfo_to_dict(extract.warehouse_dsn).items()}
    extras = "&".join(f"{name}={quote(given[name], safe='')}" for name in ("sslmode", "sslrootcert") if name in given)
    uri = f"postgresql://{given['user']}:{quote(given['password'], safe='')}@{given['host']}:{given['port']}"
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", f"{uri}/{given['dbname']}?{extras}")
    for variable in (DATA_KEYS, INDEX_KEY):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(DATA_KEYS_FILE, str(tmp_path / "data_keys"))
    monkeypatch.setenv(INDEX_KEY_FILE, str(tmp_path / "index_key"))
    # Wide enough that no sentence is broken.
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "data_keys").write_text(f"1:{keys.data[1]}\n")
    (tmp_path / "index_key").write_text(f"{keys.indexes[0]}\n")
    # The commands quieten the log of the whole process.
    logging = structlog.get_config()
    yield tmp_path / "data_keys"
    structlog.configure(**logging)


def test_a_key_in_a_file_takes_effect_and_the_commands_say_what_may_go(
    extract: Extract, keys: Keys, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    capsys.readouterr()
    key_file.write_text(f"2:{keys.data[2]},1:{keys.data[1]}")
    assert main(["rotate"]) == 0
    said = capsys.readouterr().out
    assert "raw.odoo_t: 10 rows renewed\n" in said
    assert "All 10 tokens are of key 2. Remove key 1 from REVOPS_DATA_KEYS" in said
    assert key_ids(extract.warehouse) == {2: 10}
    key_file.write_text(f"2:{keys.data[2]}")
    assert main(["rotate"]) == 0
    assert "All 10 tokens are of key 2; REVOPS_DATA_KEYS holds no other key." in capsys.readouterr().out
    assert main(["decrypt", "odoo_t", "email", "7"]) == 0
    assert capsys.readouterr().out == "mail-7@example.com\n"
    assert query(extract.warehouse, "select raw_table, column_name, row_key, person from ops.value_reading") == [
        ("odoo_t", "email", "7", os.environ.get("SUDO_USER") or getpass.getuser())
    ]
    key_file.write_text(f"3:{keys.data[3]}")
    assert main(["rotate"]) == 1
    assert capsys.readouterr().out.startswith("error: REVOPS_DATA_KEYS lacks key 2")
    assert main(["rotate", "--forget", "2"]) == 0
    assert key_ids(extract.warehouse) == {}


def test_the_night_rotates_when_there_is_another_key(extract: Extract, keys: Keys, key_file: Path) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    assert rotate_when_due(run_id="idle") == {"rows": 0, "tokens": 0}
    key_file.write_text(f"2:{keys.data[2]},1:{keys.data[1]}")
    assert rotate_when_due(run_id="night") == {"rows": 10, "tokens": 10, "retired": [1], "core_waits": []}
    assert query(extract.warehouse, "select run_id, status from ops.key_rotation") == [("night", "succeeded")]


def test_no_task_of_a_run_loads_anything_while_a_key_is_missing(
    extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever table needs it: a run that joins tables must have all of them."""
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    monkeypatch.setattr(operators, "connect_warehouse", lambda *_, **__: extract.connect_ingest())
    monkeypatch.setattr(operators, "SNAPSHOT_WAIT_S", 0.0)
    monkeypatch.setattr(operators, "_keyring", lambda _: keys.ring(2))
    loaded: list[Any] = []
    monkeypatch.setattr(operators, "load_table", lambda *_, **order: loaded.append(order))
    task = operators.ExtractOperator(task_id="crm_lead", source_name="odoo", entry="crm_lead")
    context: Any = {"run_id": "run", "params": {}, "ti": SimpleNamespace(try_number=1, max_tries=3)}
    with pytest.raises(AirflowFailException, match=r"lacks key 1, with which values of raw\.odoo_t \(email\)"):
        task.execute(context)
    assert loaded == []
    monkeypatch.setattr(operators, "_keyring", lambda _: keys.ring(1, index=1))
    with pytest.raises(AirflowFailException, match=r"REVOPS_INDEX_KEY is not the key .* raw\.odoo_t"):
        task.execute(context)
    assert loaded == []
