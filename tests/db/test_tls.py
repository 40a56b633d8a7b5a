"""Sessions that are not encrypted and verified are refused by both sides, and the error says what to do."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL, NullPool, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from revops.errors import is_transient
from revops.hooks.postgres import connect, conninfo
from revops.local import credentials
from revops.local.postgres import EmbeddedPostgres
from revops.local.stack import Stack
from revops.quality.scan import ScanError, _run_soda

pytestmark = pytest.mark.db

PASSWORD = "correct horse battery staple"
STRICT = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
# The superuser keeps a way in, whatever a test does to the others' one.
SUPERUSERS_WAY = "host all postgres 127.0.0.1/32 scram-sha-256\n"


class Server:
    """A server of this module's own, whose TLS and access rules tests change."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self.is_changed = False
        with self._superuser() as session:
            session.execute(f"create role reader login password '{PASSWORD}'".encode())
            session.execute("set password_encryption = 'md5'")
            session.execute(f"create role old login password '{PASSWORD}'".encode())

    def configure(self, *, access: str = STRICT, **settings: str) -> None:
        """Change pg_hba.conf and settings; those that are not given are as the server was made."""
        self.is_changed = bool(settings) or access != STRICT
        (self.postgres.data / "pg_hba.conf").write_text(SUPERUSERS_WAY + access)
        with self._superuser() as session:
            before = session.execute("select pg_conf_load_time()").fetchone()
            session.execute("alter system reset all")
            for name, value in settings.items():
                session.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            session.execute("select pg_reload_conf()")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with self._superuser() as session:
                if session.execute("select pg_conf_load_time()").fetchone() != before:
                    return
        raise AssertionError("the server did not take its configuration")

    def _superuser(self) -> psycopg.Connection:
        dsn = make_conninfo(self.postgres.conninfo("postgres"), sslmode="prefer", channel_binding="prefer")
        return psycopg.connect(dsn, autocommit=True)

    def parameters(self, **changes: str) -> dict[str, Any]:
        """The reader's connection as Airflow's, with other extras."""
        known = conninfo_to_dict(self.postgres.conninfo("postgres"))
        extra = {"sslrootcert": known["sslrootcert"], **changes}
        return {
            "conn_type": "postgres",
            "host": extra.pop("host", "localhost"),
            "port": int(str(known["port"])),
            "schema": "postgres",
            "login": extra.pop("login", "reader"),
            "password": PASSWORD,
            "extra": {name: value for name, value in extra.items() if value},
        }


@pytest.fixture(scope="module")
def _server(postgres: EmbeddedPostgres) -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="revops-test-", dir="/var/tmp"))
    home.chmod(0o755)
    made = EmbeddedPostgres(home / "server", postgres.install, "quiet")
    made.start()
    yield Server(made)
    made.stop()
    shutil.rmtree(home)


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    """The server, as strict as it is made."""
    yield _server
    if _server.is_changed:
        _server.configure()


Open = Callable[..., psycopg.Connection]


@pytest.fixture
def open_session(server: Server, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a session exactly as a task does."""

    def opened(**changes: str) -> psycopg.Connection:
        monkeypatch.setenv("AIRFLOW_CONN_ODOO_SOURCE", json.dumps(server.parameters(**changes)))
        return connect("odoo_source", conninfo("odoo_source", application_name="revops:test"))

    return opened


def refused(open_session: Open, **changes: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        open_session(**changes)
    assert not is_transient(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_a_session_is_encrypted_verified_and_bound(open_session: Open) -> None:
    with open_session() as session:
        row = session.execute(
            "select ssl, version, bits >= 128 from pg_stat_ssl where pid = pg_backend_pid()"
        ).fetchone()
        assert row in ((True, "TLSv1.3", True), (True, "TLSv1.2", True))
        known = conninfo_to_dict(session.info.dsn)
        assert (known["sslmode"], known["channel_binding"]) == ("verify-full", "require")


def test_the_server_refuses_a_session_in_the_clear(postgres: EmbeddedPostgres) -> None:
    dsn = make_conninfo(postgres.conninfo("postgres"), channel_binding="disable")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry.*no encryption"):
        psycopg.connect(make_conninfo(dsn, sslmode="disable"))
    # Who asks for less is encrypted all the same.
    with psycopg.connect(make_conninfo(dsn, sslmode="allow")) as session:
        assert session.pgconn.ssl_in_use


def test_a_server_with_another_ca_is_refused(open_session: Open, postgres: EmbeddedPostgres) -> None:
    text = refused(open_session, sslrootcert=str(postgres.ca_certificate))
    assert "Remedy: TLS verification failed: set sslrootcert in the connection odoo_source to the CA" in text


def test_a_private_ca_is_not_among_those_of_the_machine(open_session: Open) -> None:
    assert "set sslrootcert in the connection odoo_source" in refused(open_session, sslrootcert="")


def test_a_ca_file_that_is_missing_is_named(open_session: Open) -> None:
    text = refused(open_session, sslrootcert="/no/such/ca.pem")
    assert 'root certificate file "/no/such/ca.pem" does not exist' in text
    assert "Remedy: TLS verification failed" in text


def test_a_server_of_another_name_is_refused(open_session: Open) -> None:
    text = refused(open_session, host="odoo.example.com", hostaddr="127.0.0.1")
    assert 'does not match host name "odoo.example.com"' in text
    assert "use the host name that the certificate was made for" in text


def test_a_tunnel_to_a_server_is_verified_by_the_servers_name(open_session: Open) -> None:
    with open_session(host="localhost", hostaddr="127.0.0.1") as session:
        assert session.pgconn.ssl_in_use


def test_a_server_without_tls_is_refused_by_us(server: Server, open_session: Open) -> None:
    server.configure(ssl="off", access=STRICT.replace("hostssl", "host"))
    text = refused(open_session)
    assert "Remedy: the server offers no TLS, and no session is opened without: switch ssl on" in text


def test_a_server_that_asks_for_the_password_itself_does_not_get_it(server: Server, open_session: Open) -> None:
    server.configure(access="hostssl all all 127.0.0.1/32 password\n")
    text = refused(open_session)
    assert "channel binding" in text
    assert "add channel_binding=prefer to the connection odoo_source" in text
    with open_session(channel_binding="prefer") as session:
        assert session.pgconn.ssl_in_use


def test_a_password_kept_as_md5_is_explained(server: Server, open_session: Open) -> None:
    server.configure(access="hostssl all all 127.0.0.1/32 md5\n")
    text = refused(open_session, login="old")
    assert "keep the login's password as scram-sha-256" in text
    with open_session(login="old", channel_binding="prefer") as session:
        assert session.pgconn.ssl_in_use


def test_a_server_with_an_older_tls_than_asked_for_is_refused(server: Server, open_session: Open) -> None:
    server.configure(ssl_max_protocol_version="TLSv1.2")
    assert "server and client have no version of TLS in common" in refused(
        open_session, ssl_min_protocol_version="TLSv1.3"
    )
    with open_session() as session:
        assert session.execute("select version from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (
            "TLSv1.2",
        )


def test_soda_verifies_the_warehouse_as_we_do(server: Server, warehouse_dsn: str) -> None:
    """By a driver of its own: where the server can't be verified, no check counts as evaluated."""
    other = server.postgres.ca_certificate
    for changes, words in (
        ({"sslrootcert": str(other)}, "certificate verify failed|signature failure"),
        ({"host": "warehouse.example.com", "hostaddr": "127.0.0.1"}, "does not match host name"),
    ):
        with pytest.raises(ScanError, match=words):
            _run_soda(make_conninfo(warehouse_dsn, **changes), layer="raw", source="odoo", found={}, asked={"t": []})


def test_airflows_metadata_engines_verify_as_we_do(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Both of them: the one by psycopg2, and the one that Airflow would make of it for asynchronous sessions."""
    stack = Stack(tmp_path)
    (tmp_path / "credentials.json").write_text(json.dumps(dict.fromkeys(credentials.NAMES, "x")))
    with mock.patch.object(EmbeddedPostgres, "port", return_value=postgres.port()):
        made = stack.environment(mail_port=1, web_port=2, own={})
    urls = {name: make_url(made[f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN{name}"]) for name in ("", "_ASYNC")}
    real = {"sslrootcert": str(postgres.ca_certificate)}
    known = conninfo_to_dict(postgres.conninfo("postgres"))
    for url in urls.values():
        right = url.set(username="postgres", password=str(known["password"]), database="postgres")
        assert _select_ssl(right.update_query_dict(real)) is True
        for wrong, words in (
            (right.update_query_dict({"sslrootcert": str(tmp_path / "none")}), "root certificate file"),
            (right.update_query_dict({**real, "hostaddr": "127.0.0.1"}).set(host="other"), "does not match host name"),
        ):
            with pytest.raises(Exception, match=words):
                _select_ssl(wrong)


def _select_ssl(url: URL) -> object:
    statement = text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    if url.drivername == "postgresql+psycopg2":
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            return connection.scalar(statement)

    async def ask() -> object:
        async with create_async_engine(url, poolclass=NullPool).connect() as connection:
            return await connection.scalar(statement)

    return asyncio.run(ask())
