"""The checks before a start, against real servers: what is well is said, what is not with its remedy."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from psycopg.conninfo import conninfo_to_dict

from revops.embedding.encoder import EncoderError, Model
from revops.local.ports import free_port
from revops.local.postgres import EmbeddedPostgres
from revops.preflight import server_certificate
from revops.preflight.databases import check_source, check_warehouse, describe_session
from revops.preflight.outcome import CheckError
from revops.preflight.services import Encoding
from revops.warehouse_setup import SetupError

pytestmark = pytest.mark.db

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "REVOPS_ALERT_EMAIL": "data-team@example.com",
    "REVOPS_EMBEDDING_PYTHON": str(ROOT / ".venv-embedding" / "bin" / "python"),
    "REVOPS_EMBEDDING_MODEL": "/models/there-is-none",
    "REVOPS_EMBEDDING_HANDOFF": "/var/lib/revops/embedding",
}
SMTP = "smtp://127.0.0.1:{port}/?disable_ssl=true&disable_tls=true&timeout=5&retry_limit=0"


def uri(dsn: str, **changes: str) -> str:
    parts = {**{name: str(value) for name, value in conninfo_to_dict(dsn).items()}, **changes}
    login = f"{parts['user']}:{quote(parts['password'], safe='')}"
    place = f"{parts['host']}:{parts['port']}/{parts['dbname']}"
    return f"postgresql://{login}@{place}?sslrootcert={quote(parts['sslrootcert'], safe='')}"


def preflight(environment: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [sys.executable, "-m", "revops.preflight", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "REVOPS_"))},
            **SETTINGS,
            **environment,
            "PYTHONPATH": str(ROOT / "plugins"),
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout.splitlines()


@pytest.fixture
def reader(postgres: EmbeddedPostgres, passwords: dict[str, str], source_dsn: str) -> str:
    """The connection string of a login that may only read its source."""
    database = str(conninfo_to_dict(source_dsn)["dbname"])
    with psycopg.connect(postgres.conninfo(database), autocommit=True) as superuser:
        superuser.execute("revoke create on schema public from public")
        superuser.execute("grant usage on schema public to odoo_reader")
    return postgres.conninfo(database, user="odoo_reader", password=passwords["odoo_reader"])


def test_all_that_is_well_is_said_in_a_line_each(warehouse_dsn: str, reader: str, tmp_path: Path) -> None:
    port = free_port()
    connections = {
        "revops_core": uri(warehouse_dsn),
        "odoo_source": uri(reader),
        "ace_source": uri(reader),
        "smtp_default": SMTP.format(port=port),
    }
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(connections))
    environment = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(path)}),
    }
    wanted = ["settings", "connections", "sources", "revops_core", "ace_source", "odoo_source", "smtp_default"]
    sink = Controller(SimpleNamespace(), hostname="127.0.0.1", port=port)
    # The mail server comes late: it is waited for.
    late = threading.Timer(5, sink.start)
    late.start()
    code, lines = preflight(environment, "--wait", "60", *(f"--only={name}" for name in wanted))
    late.join()
    sink.stop()
    assert code == 0, lines
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in wanted]
    told = {line.split()[1]: line for line in lines[:-1]}
    assert f"{path}: revops_core, odoo_source, ace_source, smtp_default" in told["connections"]
    assert "PostgreSQL 18" in told["revops_core"]
    assert "TLSv1.3, verify-full; all " in told["revops_core"]
    assert "odoo_reader may only read" in told["odoo_source"]
    assert "takes our mail, not encrypted" in told["smtp_default"]
    assert lines[-1] == "all 7 checks passed"


def test_all_that_is_wrong_is_told_with_its_remedy_and_no_password(warehouse_dsn: str, reader: str) -> None:
    environment = {
        "AIRFLOW_CONN_REVOPS_CORE": uri(warehouse_dsn, password="hunter2"),
        "AIRFLOW_CONN_ODOO_SOURCE": uri(reader, port=str(free_port())),
        "AIRFLOW_CONN_ACE_SOURCE": uri(reader) + "&sslmode=require",
        "AIRFLOW_CONN_SMTP_DEFAULT": SMTP.format(port=free_port()),
        "REVOPS_ALERT_EMIAL": "hunter2@example.com",
    }
    code, lines = preflight(environment)
    text = "\n".join(lines)
    assert code == 1
    states = {line.split()[1]: line.split()[0] for line in lines if line.startswith(("ok ", "failed "))}
    well = ["connections", "sources"]
    assert states == {
        **dict.fromkeys(well, "ok"),
        **dict.fromkeys(["settings", "revops_core", "ace_source", "odoo_source", "smtp_default", "encoder"], "failed"),
        "service": "failed",
    }
    assert "REVOPS_ALERT_EMIAL is read by nobody: did you mean REVOPS_ALERT_EMAIL?" in text
    assert "password authentication failed" in text
    assert "says sslmode=require, by which its server is not verified" in text
    assert "Connection refused" in text
    assert text.count("Remedy: ") >= 5
    assert "hunter2" not in text.replace("hunter2@example.com", "")
    assert lines[-1].startswith("7 of 9 checks failed: settings, revops_core, ")


def test_what_is_not_needed_is_told_and_keeps_nothing_from_starting() -> None:
    environment = {"AIRFLOW_CONN_SMTP_DEFAULT": SMTP.format(port=free_port())}
    code, lines = preflight(environment, "--only=connections", "--only=smtp_default", "--needed=connections")
    assert code == 0
    assert any(line.startswith("failed ") and "smtp_default" in line for line in lines)
    assert lines[-1] == "1 of 2 checks failed: smtp_default"


def test_an_unknown_check_is_refused_and_the_others_are_named() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "revops.preflight", "--only", "warehous"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "'revops_core'" in ended.stderr


def test_a_warehouse_that_is_still_to_be_made_or_migrated_is_a_warning(
    warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri(warehouse_dsn))
    assert check_warehouse().warnings == ()
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri(warehouse_dsn, dbname="there_is_none"))
    (warning,) = check_warehouse().warnings
    assert "the database there_is_none is still to be made. Remedy: `make setup`" in warning
    with psycopg.connect(warehouse_dsn) as warehouse:
        last = warehouse.execute(
            "delete from ops.migration where name like '0014%' returning name, checksum"
        ).fetchone()
        warehouse.commit()
        monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri(warehouse_dsn))
        try:
            (warning,) = check_warehouse().warnings
            assert "1 of " in warning
            assert "migrations are still to be applied" in warning
            warehouse.execute("insert into ops.migration (name, checksum) values ('0099_later.sql', 'x')")
            warehouse.commit()
            with pytest.raises(SetupError, match="migrations that this checkout lacks: 0099_later"):
                check_warehouse()
        finally:
            warehouse.execute("delete from ops.migration where name = '0099_later.sql'")
            warehouse.execute("insert into ops.migration (name, checksum) values (%s, %s)", last)


def test_a_server_that_is_away_may_come_and_a_wrong_password_does_not(
    warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changes, may_pass in (({"port": str(free_port())}, True), ({"password": "hunter2"}, False)):
        monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri(warehouse_dsn, **changes))
        with pytest.raises(CheckError, match="Remedy: ") as caught:
            check_warehouse()
        assert caught.value.may_pass is may_pass
        assert "hunter2" not in str(caught.value)


def test_a_login_that_can_write_is_a_warning_or_refused(source_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ODOO_SOURCE", uri(source_dsn))
    (warning,) = check_source("odoo_source").warnings
    assert "the login odoo is not read-only: it " in warning
    monkeypatch.setenv("REVOPS_REQUIRE_READ_ONLY_SOURCE", "true")
    with pytest.raises(CheckError, match="the login odoo is not read-only") as caught:
        check_source("odoo_source")
    assert not caught.value.may_pass


def test_a_certificate_that_ends_soon_is_a_warning(
    warehouse_dsn: str, reader: str, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the server shows, whatever file lies there by now; an embedded server's holds for ten years."""
    certificate = x509.load_pem_x509_certificate((postgres.home / "tls" / "server.crt").read_bytes())
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    for name, dsn in (("REVOPS_CORE", warehouse_dsn), ("ODOO_SOURCE", reader)):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", uri(dsn))
    for days, warnings in ((-1, 0), (1, 1)):
        monkeypatch.setattr(server_certificate, "SOON", left + dt.timedelta(days=days))
        for outcome in (check_warehouse(), check_source("odoo_source")):
            assert len(outcome.warnings) == warnings
            for warning in outcome.warnings:
                assert f"ends on {certificate.not_valid_after_utc:%Y-%m-%d}, in {left.days} days" in warning
                assert "Remedy: renew it" in warning


def test_a_certificate_that_can_not_be_seen_is_told(warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_certificate, "SSL_REQUEST", bytes.fromhex("0000000804d21630"))  # GSSENCRequest
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", uri(warehouse_dsn))
    (warning,) = check_warehouse().warnings
    assert "holds could not be seen: the server offers no encryption" in warning


def test_a_session_that_the_server_has_unencrypted_is_refused() -> None:
    """As behind a pooler that encrypts on one side only: the client sees TLS, the server does not."""
    answer = SimpleNamespace(fetchone=lambda: (False, None))
    info = SimpleNamespace(parameter_status=lambda _: "17.6", host="pooler.example.com")
    behind: Any = SimpleNamespace(execute=lambda _: answer, info=info)
    with pytest.raises(CheckError, match="not encrypted"):
        describe_session(behind)


def test_an_encoder_without_its_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "elsewhere")
    with pytest.raises(EncoderError, match="/models/there-is-none"):
        Encoding().check_encoder()


def test_a_search_service_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for name, value in {**SETTINGS, "REVOPS_EMBEDDING_URL": url, "AIRFLOW__SECRETS__BACKEND": "elsewhere"}.items():
        monkeypatch.setenv(name, value)
    encoding = Encoding()
    # What the encoder would say: it is another test's.
    encoding.__dict__["_model"] = Model("tiny", "key", 8, 8)
    with pytest.raises(CheckError, match=f"{url} can't be reached") as caught:
        encoding.check_service()
    assert caught.value.may_pass
    monkeypatch.delenv("REVOPS_EMBEDDING_URL")
    assert "none: REVOPS_EMBEDDING_URL is not set" in Encoding().check_service().text
