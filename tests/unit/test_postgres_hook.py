"""Airflow connections become libpq connection strings: TLS by default, passwords unharmed."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from revops.hooks import tls
from revops.hooks.postgres import ConnectionSettingError, conninfo
from revops.hooks.source import connect_source
from revops.hooks.warehouse import connect_warehouse, warehouse_conninfo


def parameters(uri: str, monkeypatch: pytest.MonkeyPatch, *, application_name: str = "test") -> dict[str, str]:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri)
    parsed = conninfo_to_dict(conninfo("revops_core", application_name=application_name))
    return {name: str(value) for name, value in parsed.items()}


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1", "localhost", "127.0.0.1", "[::1]"])
def test_every_session_is_encrypted_and_verified(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    found = parameters(f"postgresql://u:p@{host}:5432/d?sslrootcert=%2Fca.pem", monkeypatch)
    assert found["sslmode"] == "verify-full"
    assert found["sslrootcert"] == "/ca.pem"
    assert found["channel_binding"] == "require"
    assert found["ssl_min_protocol_version"] == "TLSv1.2"
    assert found["gssencmode"] == "disable"


@pytest.mark.parametrize("host", ["/var/run/postgresql", "@abstract"])
def test_a_socket_of_this_machine_needs_no_tls(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    connection = {"conn_type": "postgres", "host": host, "schema": "d"}
    for extra in ({}, {"sslmode": "require", "channel_binding": "require", "sslrootcert": "/ca.pem"}):
        found = parameters(json.dumps({**connection, "extra": extra}), monkeypatch)
        assert found["host"] == host
        assert not [name for name in found if name.startswith("ssl") or name == "channel_binding"]


@pytest.mark.parametrize("host", ["db.example.com", "localhost"])
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "nonsense"])
def test_a_weaker_sslmode_is_refused(monkeypatch: pytest.MonkeyPatch, host: str, mode: str) -> None:
    with pytest.raises(ConnectionSettingError, match=f"'revops_core' says sslmode={mode}.*leave sslmode out.*hostaddr"):
        parameters(f"postgresql://u:hunter2@{host}/d?sslmode={mode}&sslrootcert=%2Fca.pem", monkeypatch)


def test_a_tunnel_keeps_the_name_that_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parameters("postgresql://u:p@db.example.com:6543/d?hostaddr=127.0.0.1", monkeypatch)
    assert (found["host"], found["hostaddr"], found["port"]) == ("db.example.com", "127.0.0.1", "6543")
    assert found["sslmode"] == "verify-full"


@pytest.mark.parametrize("extra", ["", "&sslrootcert=system"])
def test_without_a_ca_those_of_the_machine_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, extra: str) -> None:
    uri = f"postgresql://u:p@db.example.com/d?connect_timeout=3{extra}"
    trusted = tmp_path / "trusted.pem"
    trusted.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    assert parameters(uri, monkeypatch)["sslrootcert"] == str(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setattr(tls, "SYSTEM_AUTHORITIES", (str(trusted),))
    assert parameters(uri, monkeypatch)["sslrootcert"] == str(trusted)
    monkeypatch.setattr(tls, "SYSTEM_AUTHORITIES", (str(tmp_path / "none"),))
    with pytest.raises(ConnectionSettingError, match=r"'revops_core' names no CA.*Remedy: add sslrootcert="):
        parameters(uri, monkeypatch)
    if not extra:
        monkeypatch.setenv("PGSSLROOTCERT", "/of/the/process.pem")
        assert parameters(uri, monkeypatch)["sslrootcert"] == "/of/the/process.pem"


@pytest.mark.parametrize("binding", ["prefer", "disable"])
def test_a_pooler_without_channel_binding_can_be_named(monkeypatch: pytest.MonkeyPatch, binding: str) -> None:
    found = parameters(f"postgresql://u:p@proxy.example.com/d?channel_binding={binding}", monkeypatch)
    assert (found["channel_binding"], found["sslmode"]) == (binding, "verify-full")


@pytest.mark.parametrize(
    "setting", ["ssl_min_protocol_version=TLSv1", "ssl_min_protocol_version=TLSv1.1", "channel_binding=off"]
)
def test_settings_that_weaken_are_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    with pytest.raises(ConnectionSettingError, match=f"'revops_core' says {setting}. Remedy: leave it out"):
        parameters(f"postgresql://u:p@db.example.com/d?{setting}", monkeypatch)
    found = parameters("postgresql://u:p@db.example.com/d?ssl_min_protocol_version=TLSv1.3", monkeypatch)
    assert found["ssl_min_protocol_version"] == "TLSv1.3"


@pytest.mark.parametrize(
    "password", ["p@ss/word", "a:b#c?d%e&f=g", 'it\'s \\ a "quote"', "pass word", "pässwörd🔑", "%41"]
)
def test_special_characters_survive_in_uri_and_json(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    uri = f"postgresql://user%40corp:{quote(password, safe='')}@db.example.com:6432/revops_core"
    as_json = {
        "conn_type": "postgres",
        "host": "db.example.com",
        "login": "user@corp",
        "password": password,
        "port": 6432,
        "schema": "revops_core",
    }
    for written in (uri, json.dumps(as_json)):
        found = parameters(written, monkeypatch)
        assert found["password"] == password
        assert (found["user"], found["host"], found["port"]) == ("user@corp", "db.example.com", "6432")
        assert found["dbname"] == "revops_core"


def test_a_connection_without_login_or_port_leaves_them_to_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parameters("postgresql://db.example.com/d", monkeypatch)
    assert found["port"] == "5432"
    assert "user" not in found
    assert "password" not in found


def test_a_network_that_dies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = parameters("postgresql://u:p@db.example.com/d", monkeypatch)
    assert int(found["connect_timeout"]) <= 10
    assert found["keepalives"] == "1"
    assert int(found["tcp_user_timeout"]) <= 30_000
    changed = parameters("postgresql://u:p@db.example.com/d?connect_timeout=3", monkeypatch)
    assert changed["connect_timeout"] == "3"


def test_extras_that_are_not_libpqs_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's own hook knows extras such as `cursor` or `iam`; libpq would refuse the whole string.
    found = parameters("postgresql://u:p@db.example.com/d?cursor=dictcursor&options=-crole%3Dpostgres", monkeypatch)
    assert "cursor" not in found
    assert found["options"] == ""


@pytest.mark.parametrize("length", [10, 63, 64, 200])
def test_the_application_name_is_cut_to_what_postgresql_keeps(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    found = parameters("postgresql://u:p@h/d", monkeypatch, application_name="n" * length)
    assert found["application_name"] == "n" * min(length, 63)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mysql://u:hunter2@h/d", "is of type 'mysql'"),
        ("postgresql://u:hunter2@h", "needs a host and a database"),
        ("postgresql://u:hunter2@/d", "needs a host and a database"),
        ("postgresql://u:hunter2@h:port/d", "is not defined, or is malformed"),
        ("postgresql://u:hunter2/x@h:5432/d", "is not defined, or is malformed"),
        ('{"conn_type": "postgres", "password": "hunter2"', "is not defined, or is malformed"),
    ],
)
def test_what_can_not_work_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch, uri: str, reason: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri)
    with pytest.raises(ConnectionSettingError) as caught:
        conninfo("revops_core", application_name="test")
    assert "'revops_core'" in str(caught.value)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_connection_that_is_not_defined_names_the_variable() -> None:
    with pytest.raises(ConnectionSettingError, match="Remedy: set AIRFLOW_CONN_ACE_SOURCE=postgresql://"):
        conninfo("ace_source", application_name="test")


def test_a_role_comes_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", "postgresql://u:p@db.example.com/d")
    options = str(conninfo_to_dict(warehouse_conninfo("revops_api", task="t"))["options"])
    assert "-c role=revops_api" in options
    assert "-c default_transaction_read_only=on" in options
    assert "role" not in str(conninfo_to_dict(warehouse_conninfo(None, task="t")).get("options", ""))


@pytest.mark.db
def test_a_session_in_a_source_can_not_write(warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ODOO_SOURCE", as_json(warehouse_dsn))
    with connect_source("odoo_source", task="extract:odoo.crm_lead") as connection:
        name = connection.execute("show application_name").fetchone()
        assert name == ("revops:extract:odoo.crm_lead",)
        assert connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("create table public.mine (id integer)")


@pytest.mark.db
@pytest.mark.parametrize(
    "role", ["revops_ingest", "revops_transform", "revops_embed", "revops_quality", "revops_api", "revops_audit"]
)
def test_a_session_in_the_warehouse_holds_one_role(
    warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", as_json(warehouse_dsn))
    with connect_warehouse(role, task="test") as connection:  # type: ignore[arg-type]
        assert connection.execute("select current_user").fetchone() == (role,)
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            connection.execute("drop schema ops cascade")


def as_json(conninfo_text: str) -> str:
    """A libpq connection string as an Airflow connection."""
    parts = conninfo_to_dict(conninfo_text)
    connection = {
        "conn_type": "postgres",
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "schema": parts["dbname"],
        "login": parts["user"],
        "password": parts["password"],
    }
    extra = {name: parts[name] for name in ("sslmode", "sslrootcert", "channel_binding") if name in parts}
    return json.dumps({**connection, "extra": extra})
