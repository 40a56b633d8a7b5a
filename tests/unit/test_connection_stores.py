"""Stores of connections: the file that Airflow is told of is found, and each connection is in one place only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from revops import alerts
from revops.connection_stores import (
    BACKEND,
    check_connection,
    connections_of_files,
    files_named_by,
    files_of_airflow,
)
from revops.connections_file import ConnectionFileError
from revops.hooks.postgres import ConnectionSettingError, conninfo

URI = "postgresql://reader:hunter2@odoo.example.com:5432/odoo?sslmode=verify-full"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Airflow keeps what it has read of its configuration: forget it, before a test and after it."""
    from airflow.sdk.configuration import clear_secrets_backends_cache

    clear_secrets_backends_cache()
    yield
    clear_secrets_backends_cache()


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The connections file of this process's Airflow."""
    path = tmp_path / "connections.json"
    path.write_text(json.dumps({"odoo_source": URI}))
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", BACKEND)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps({"connections_file_path": str(path)}))
    return path


def test_a_file_is_found_as_airflow_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment, paths in (
        ({}, []),
        ({"AIRFLOW__SECRETS__BACKEND": "other.Backend", "AIRFLOW__SECRETS__BACKEND_KWARGS": "{"}, []),
        (
            {"AIRFLOW__SECRETS__BACKEND": BACKEND, "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"variables_file_path": "/v"}'},
            [],
        ),
        (
            {
                "AIRFLOW__SECRETS__BACKEND": BACKEND,
                "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"connections_file_path": "/a.json"}',
            },
            ["/a.json"],
        ),
        (
            {
                "AIRFLOW__SECRETS__BACKEND": BACKEND,
                "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"connections_file_path": "/a.json"}',
                "AIRFLOW__WORKERS__SECRETS_BACKEND": BACKEND,
                "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARG__CONNECTIONS_FILE_PATH": "/b.json",
            },
            ["/b.json", "/a.json"],
        ),
    ):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            assert [str(path) for path in files_named_by(environment)] == paths
            assert [str(path) for path in files_of_airflow()] == paths


@pytest.mark.parametrize("options", ["", "hunter2", "[]", "{}"])
def test_a_backend_without_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    # Airflow would warn at the most and ask the next store.
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", BACKEND)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", options)
    with pytest.raises(ConnectionFileError, match="AIRFLOW__SECRETS__BACKEND_KWARGS is no JSON object") as caught:
        conninfo("odoo_source", application_name="test")
    assert "hunter2" not in str(caught.value)


def test_the_file_is_read_anew_each_time(connections: Path) -> None:
    assert "host=odoo.example.com" in conninfo("odoo_source", application_name="test")
    connections.write_text(json.dumps({"odoo_source": URI.replace("odoo.example.com", "new.example.com")}))
    assert "host=new.example.com" in conninfo("odoo_source", application_name="test")


def test_a_malformed_file_fails_loudly_whatever_other_stores_say(
    connections: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import BaseHook

    connections.write_text(f'{{"odoo_source": "{URI}",}}')
    monkeypatch.setenv("AIRFLOW_CONN_ODOO_SOURCE", URI.replace("odoo.example.com", "wrong.example.com"))
    # So Airflow alone would go on, with another server.
    assert BaseHook.get_connection("odoo_source").host == "wrong.example.com"
    with pytest.raises(ConnectionFileError, match=r"connections\.json:1: not JSON, at column"):
        conninfo("odoo_source", application_name="test")


def test_a_fault_anywhere_in_the_file_counts(connections: Path) -> None:
    # It takes all of the file from Airflow.
    connections.write_text(json.dumps({"odoo_source": URI, "other": {"hosts": "hunter2"}}))
    with pytest.raises(ConnectionFileError, match="other: unknown field") as caught:
        conninfo("odoo_source", application_name="test")
    assert "hunter2" not in str(caught.value)


def test_a_connection_in_two_places_is_refused(connections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ODOO_SOURCE", URI)
    with pytest.raises(ConnectionFileError, match=r"connections\.json and the environment's AIRFLOW_CONN_ODOO_SOURCE"):
        conninfo("odoo_source", application_name="test")
    with pytest.raises(ConnectionFileError, match="AIRFLOW_CONN_ODOO_SOURCE"):
        connections_of_files(
            {
                "AIRFLOW__SECRETS__BACKEND": BACKEND,
                "AIRFLOW__SECRETS__BACKEND_KWARG__CONNECTIONS_FILE_PATH": str(connections),
                "AIRFLOW_CONN_ODOO_SOURCE": URI,
            }
        )
    # One that only the environment has is no fault.
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", URI)
    check_connection("revops_core")


def test_a_connection_that_the_file_lacks_names_it(connections: Path) -> None:
    with pytest.raises(ConnectionSettingError, match=f"or add it to {connections}"):
        conninfo("ace_source", application_name="test")


def test_mail_is_not_sent_by_a_server_from_elsewhere(connections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVOPS_ALERT_EMAIL", "data-team@example.com")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:9/?disable_ssl=true&disable_tls=true")
    connections.write_text("{")
    with pytest.raises(ConnectionFileError, match="not JSON"):
        alerts.send(subject="test", html="<p>test</p>")
