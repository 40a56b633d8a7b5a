"""The connections file: what passes, Airflow reads; what does not is named by line and entry, never by a value."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from revops.connection_entries import FIELDS
from revops.connections_file import ConnectionFileError, read_connections

ODOO = "postgresql://reader:hunter2@odoo.example.com:5432/odoo?sslmode=verify-full"
ACE = {
    "conn_type": "postgres",
    "host": "ace.example.com",
    "login": "reader",
    "password": "hunter2:/@#",
    "port": 5432,
    "schema": "ace",
    "extra": {"sslmode": "verify-full", "connect_timeout": 3},
}
GOOD = {
    "connections.json": json.dumps({"odoo_source": ODOO, "ace_source": ACE}, indent=2),
    "connections.yaml": f"odoo_source: {ODOO}\nace_source:\n  conn_type: postgres\n  host: ace.example.com\n"
    "  login: reader\n  password: 'hunter2:/@#'\n  port: 5432\n  schema: ace\n  extra_dejson:\n    sslmode: require\n",
    "connections.env": f"# sources\nodoo_source={ODOO}\n\nace_source=postgres://reader:hunter2@ace.example.com/ace\n",
}
MALFORMED = [
    ("connections.json", '{"odoo_source": "x://hunter2"\n "x": 1}', ":2: not JSON"),
    ("connections.json", "", ":1: not JSON"),
    ("connections.json", '["hunter2"]', ":1: must be an object"),
    ("connections.json", '{"odoo": "x://hunter2",\n"odoo": "x://hunter2"}', ":2: odoo: is there twice"),
    ("connections.json", '{"a": {"conn_type": "x", "host": "hunter2",\n "host": "i"}}', "a: its field host is there"),
    ("connections.json", '{"a": {"conn_type": "x", "hosts": "hunter2"}}', "a: unknown field(s) hosts; there are"),
    ("connections.json", '{"a": {"conn_type": "x", "extra": {}, "extra_dejson": {}}}', "a: extra and extra_dejson"),
    ("connections.json", '{"a": {"conn_type": "x", "extra": "hunter2"}}', "a: extra must be an object"),
    ("connections.json", '{"a": {"conn_type": "x", "extra": [1]}}', "a: extra must be an object"),
    ("connections.json", '{"a": {"conn_type": "x", "password": 12345}}', "a: password must be a text"),
    ("connections.json", '{"a": {"conn_type": "x", "port": "hunter2"}}', "a: port must be a number"),
    ("connections.json", '{"a": {"conn_type": "x", "conn_id": "b"}}', "a: conn_id is another"),
    ("connections.json", '{"a": {"host": "hunter2"}}', "a: conn_type is missing"),
    ("connections.json", '{"a": {"uri": "x://hunter2", "host": "h"}}', "a: uri stands beside other fields"),
    ("connections.json", '{"a": ["x://hunter2", "y://h"]}', "a: must be one connection"),
    ("connections.json", '{"a": []}', "a: must be one connection"),
    ("connections.json", '{"a": 12345}', "a: must be a URI or an object"),
    ("connections.json", '{"a": null}', "a: must be a URI or an object"),
    ("connections.json", '{"a": "hunter2"}', "a: its URI must start with a type"),
    ("connections.json", '{"a": "postgres://u:hunter2@h:port/d"}', "a: its URI is malformed"),
    ("connections.json", '{"a": "postgres://u:hunter2@[h/d"}', "a: its URI is malformed"),
    ("connections.json", '{"a": "x://h/d://hunter2://f"}', "a: its URI holds another one"),
    ("connections.json", '{"a": "x://hunter2@y://h/d"}', "a: its URI holds another one"),
    ("connections.json", '{"a": "postgres://h/d?__extra__=hunter2"}', "a: __extra__ of its URI"),
    ("connections.json", '{"hunter2 @": "postgres://h/d"}', "an entry: is no connection id"),
    ("connections.yaml", "odoo_source: {x: y\nb: hunter2", ":2: not YAML"),
    ("connections.yaml", f"odoo_source: {ODOO}\nodoo_source: {ODOO}\n", ":2: odoo_source: is there twice"),
    ("connections.yaml", "a:\n  conn_type: x\n  password: *hunter2\n", ":3: not YAML: found undefined alias"),
    ("connections.yaml", "a:\n  conn_type: x\n  password: !hunter2 y\n", ":3: not YAML"),
    ("connections.yaml", "a:\n  conn_type: x\n  password: 2001-99-99\n", "put it in quotes"),
    ("connections.yaml", "a:\n  conn_type: x\n  password: 12345\n", "a: password must be a text"),
    ("connections.yaml", "12345: postgres://h/d\n", "an entry: is no connection id"),
    ("connections.yaml", "", ":1: must be a mapping"),
    ("connections.yaml", "hunter2", ":1: must be a mapping"),
    ("connections.env", "odoo_source=x://h\nhunter2\n", ":2: not ID=URI: there is no equal sign"),
    ("connections.env", "=postgres://hunter2@h/d", ":1: not ID=URI"),
    ("connections.env", "odoo_source=\n", ":1: not ID=URI"),
    ("connections.env", "odoo_source = postgres://hunter2@h/d", ":1: not ID=URI"),
    ("connections.env", "export odoo_source=postgres://hunter2@h/d", "an entry: is no connection id"),
    ("connections.env", "   \na=x://h", ":1: not ID=URI"),
    ("connections.env", f"a=x://h\na={ODOO}\n", ":2: a: is there twice"),
    ("connections.env", f'a="{ODOO}"\n', "a: its URI must start with a type"),
]  # fmt: skip


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", GOOD)
def test_what_airflow_reads_is_read(tmp_path: Path, name: str) -> None:
    from airflow.secrets.local_filesystem import load_connections_dict

    path = written(tmp_path, name, GOOD[name])
    assert list(read_connections(path)) == ["odoo_source", "ace_source"]
    theirs = load_connections_dict(str(path))
    assert theirs["ace_source"].host == "ace.example.com"
    assert read_connections(path)["odoo_source"] == ODOO


@pytest.mark.parametrize(("name", "text", "said"), MALFORMED)
def test_a_malformed_file_is_named_with_line_and_entry(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(ConnectionFileError) as caught:
        read_connections(path)
    told = str(caught.value)
    assert told.startswith(str(path))
    assert said in told
    assert "Remedy" in told
    assert not [value for value in ("hunter2", "12345", "99-99") if value in told]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "connections.json", '{"a": 1, "b": "hunter2", "c": {"port": "x"}}')
    with pytest.raises(ConnectionFileError) as caught:
        read_connections(path)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()[:-1]] == ["a", "b", "c", "c"]


def test_a_missing_an_unreadable_and_an_unknown_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match="can't be read: No such file or directory"):
        read_connections(tmp_path / "connections.json")
    with pytest.raises(ConnectionFileError, match=r"Airflow reads \.json"):
        read_connections(written(tmp_path, "connections.txt", "{}"))
    with pytest.raises(ConnectionFileError, match="not an absolute path"):
        read_connections(Path("connections.json"))
    (tmp_path / "latin.env").write_bytes(b"a=x://\xe4@h")
    with pytest.raises(ConnectionFileError, match="is not UTF-8, at byte 6"):
        read_connections(tmp_path / "latin.env")


def test_the_fields_are_airflows() -> None:
    from airflow.secrets.local_filesystem import get_connection_parameter_names

    assert get_connection_parameter_names() | {"extra_dejson"} == FIELDS


@pytest.mark.parametrize("name", GOOD)
def test_what_passes_airflow_reads_too(tmp_path: Path, name: str) -> None:
    """Files with single characters lost, doubled, swapped or changed: none may pass here and fail there in silence."""
    from airflow.secrets.local_filesystem import load_connections_dict

    chance = random.Random(name)
    path = tmp_path / name
    passed = refused = 0
    for _ in range(250):
        text = GOOD[name]
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(text))
            put = chance.choice(["", text[place] * 2, chance.choice("{}[]\"':=,\n\t #&*!|>%@`-?5xé "), text[place - 1]])
            text = text[:place] + put + text[place + 1 :]
        path.write_text(text)
        try:
            ours = read_connections(path)
        except ConnectionFileError:
            refused += 1
            continue
        passed += 1
        theirs = load_connections_dict(str(path))
        assert set(theirs) == set(ours), text
        for connection in theirs.values():
            connection.get_uri()
    assert passed > 20
    assert refused > 20
