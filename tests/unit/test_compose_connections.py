"""Connections of the Compose stack: what .env says, as Airflow's own backend of files reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.secrets.local_filesystem import load_connections_dict

from revops.compose.connections import Connections, bundle_of, read_connections, write_connections
from revops.compose.files import SecretFiles, SecretsError
from revops.compose.secrets import bundles, read_dotenv

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
URI = "postgresql://r:p%40ss@odoo.example.com:5433/odoo?sslmode=verify-full&sslrootcert={}&application_name=a%20b"
OBJECT = {
    "conn_type": "postgres",
    "host": "ace.example.com",
    "login": "r",
    "password": "p@/:?",
    "schema": "ace",
    "port": "5434",
}
DEFAULTS = {"revops_core": "postgresql://revops:own@warehouse:5432/revops_core?sslmode=verify-full"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function that writes the connections of .env and returns what Airflow makes of the file."""

    def run(given: dict[str, str], host_root: Path = Path("/")) -> dict[str, Any]:
        with SecretFiles.opened(tmp_path / "secrets") as files:
            write_connections(files, read_connections(given, defaults=DEFAULTS), host_root=host_root)
        return dict(load_connections_dict(str(tmp_path / "secrets" / "airflow" / "connections.json")))

    return run


def test_a_certificate_file_of_the_host_is_copied_and_its_path_rewritten(
    read: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    host = tmp_path / "host"
    (host / "etc").mkdir(parents=True)
    (host / "etc" / "aws ca.pem").write_text(PEM)
    found = read({"AIRFLOW_CONN_ODOO_SOURCE": URI.format("/etc/aws%20ca.pem")}, host)["odoo_source"]
    assert (tmp_path / "secrets" / "airflow" / "ca-odoo_source.pem").read_text() == PEM
    assert found.extra_dejson == {
        "sslmode": "verify-full",
        "sslrootcert": "/run/secrets/airflow/ca-odoo_source.pem",
        "application_name": "a b",
    }
    assert (found.host, found.port, found.login, found.password) == ("odoo.example.com", 5433, "r", "p@ss")


def test_the_same_holds_for_connections_as_json(read: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    extra = {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "ca.pem")}
    for written in (extra, json.dumps(extra)):
        found = read({"AIRFLOW_CONN_ACE_SOURCE": json.dumps({**OBJECT, "extra": written})})["ace_source"]
        assert found.extra_dejson == {"sslmode": "verify-full", "sslrootcert": "/run/secrets/airflow/ca-ace_source.pem"}
        assert (found.host, found.port, found.password) == ("ace.example.com", 5434, "p@/:?")
    assert read({"AIRFLOW_CONN_ACE_SOURCE": json.dumps(OBJECT)})["ace_source"].schema == "ace"


def test_the_systems_certificates_stay_named_as_such(read: Callable[..., dict[str, Any]]) -> None:
    assert bundle_of(URI.format("system")) is None
    found = read({"AIRFLOW_CONN_ODOO_SOURCE": URI.format("system")})["odoo_source"]
    assert found.extra_dejson["sslrootcert"] == "system"


def test_a_renewed_certificate_file_is_copied_again(read: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    given = {"AIRFLOW_CONN_ODOO_SOURCE": URI.format(tmp_path / "ca.pem")}
    read(given)
    (tmp_path / "ca.pem").write_text(PEM + PEM)
    read(given)
    assert (tmp_path / "secrets" / "airflow" / "ca-odoo_source.pem").read_text() == PEM + PEM


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_warehouse_on_this_machine_is_the_stacks_own(read: Callable[..., dict[str, Any]], host: str) -> None:
    given = {"AIRFLOW_CONN_REVOPS_CORE": f"postgresql://revops:x@{host}:5432/revops_core"}
    assert read(given)["revops_core"].host == "warehouse"


def test_a_warehouse_elsewhere_is_the_users(read: Callable[..., dict[str, Any]]) -> None:
    given = {"AIRFLOW_CONN_REVOPS_CORE": "postgresql://revops:x@core.example.com/revops_core?sslmode=verify-full"}
    assert read(given)["revops_core"].host == "core.example.com"


def test_every_fault_is_named_at_once_and_no_password_shown() -> None:
    given = {
        "AIRFLOW_CONN_ODOO_SOURCE": "postgresql://r:hunter2@localhost/odoo",
        "AIRFLOW_CONN_ACE_SOURCE": json.dumps({**OBJECT, "password": "hunter2", "sslmode": "require"}),
        "AIRFLOW_CONN_REVOPS_CORE": "postgresql://r:hunter2@core.example.com/x?sslrootcert=ca.pem",
        "AIRFLOW_CONN_SMTP_DEFAULT": "http://u:hunter2@mail.example.com",
    }
    with pytest.raises(SecretsError) as refused:
        read_connections(given, defaults=DEFAULTS)
    lines = str(refused.value).splitlines()
    assert lines[0] == "in .env:"
    for line, variable, why in zip(
        lines[1:],
        given,
        ["in a container is the container itself", "'sslmode'", "an absolute path", "must start with smtp://"],
        strict=True,
    ):
        assert line.startswith(f"  {variable} ")
        assert why in line
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("extra", ["not json", "[1]"])
def test_an_extra_that_is_no_object_is_told(extra: str) -> None:
    given = {"AIRFLOW_CONN_ACE_SOURCE": json.dumps({**OBJECT, "extra": extra})}
    assert bundles(given) == []
    with pytest.raises(SecretsError, match="an extra that is no JSON object"):
        read_connections(given, defaults=DEFAULTS)


def test_a_placeholder_counts_as_nothing_only_where_something_stands_in() -> None:
    given = {"AIRFLOW_CONN_ODOO_SOURCE": "postgresql://r:CHANGE_ME@odoo.example.com/odoo"}
    sample = {"odoo_source": "postgresql://odoo_reader:x@samples/odoo"}
    assert read_connections(given, defaults=sample).found["odoo_source"] == sample["odoo_source"]
    with pytest.raises(SecretsError, match="AIRFLOW_CONN_ODOO_SOURCE still holds CHANGE_ME"):
        read_connections(given, defaults={})


def test_what_is_set_wins_over_the_sample(read: Callable[..., dict[str, Any]]) -> None:
    given = {"AIRFLOW_CONN_ODOO_SOURCE": "postgresql://r:x@odoo.example.com/odoo"}
    found = read_connections(given, defaults={"odoo_source": "postgresql://x@samples/odoo"})
    assert found.found["odoo_source"] == given["AIRFLOW_CONN_ODOO_SOURCE"]


def test_connections_of_other_ids_are_kept_and_dropped_ones_go(
    read: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    read({"AIRFLOW_CONN_ODOO_SOURCE": "postgresql://r:x@odoo.example.com/odoo"})
    path = tmp_path / "secrets" / "airflow" / "connections.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "slack": "http://slack.example.com"}))
    assert set(read({})) == {"revops_core", "slack"}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_malformed_file_is_told_and_not_overwritten(
    read: Callable[..., dict[str, Any]], tmp_path: Path, text: str
) -> None:
    read({})
    path = tmp_path / "secrets" / "airflow" / "connections.json"
    path.write_text(text)
    with pytest.raises(SecretsError, match=r"connections\.json .*Remedy"):
        read({})
    assert path.read_text() == text


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("no certificate", "PEM")])
def test_a_certificate_file_that_is_none_is_told(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    connections = Connections({"odoo_source": URI.format(path)}, {"odoo_source": path}, [])
    with SecretFiles.opened(tmp_path / "secrets") as files, pytest.raises(SecretsError, match=why):
        write_connections(files, connections, host_root=Path("/"))


def test_env_is_read_as_written(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REVOPS_INDEX_KEY=a${HOME}b\nEMPTY=\nQUOTED='x y'\n")
    assert read_dotenv(tmp_path / ".env") == {"REVOPS_INDEX_KEY": "a${HOME}b", "QUOTED": "x y"}
    assert read_dotenv(tmp_path / "missing") == {}
    assert "HOME" in os.environ
