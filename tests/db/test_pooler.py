"""Sessions through a real pgbouncer: each has the role it asked for, or there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from revops.hooks import pooler
from revops.hooks.pool import WarehousePool
from revops.hooks.postgres import ConnectionSettingError
from revops.hooks.warehouse import connect_warehouse, warehouse_conninfo
from revops.local.paths import server_account, state_home
from revops.local.ports import free_port
from revops.local.postgres import EmbeddedPostgres
from revops.quality.scan import scan_tables
from revops.settings import Settings
from revops.sources import INCLUDE
from revops.transform.targets import core_tables
from tests.conftest import WORKER
from tests.corpus.pipeline import Pipeline

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
pytestmark = [
    pytest.mark.db,
    pytest.mark.long,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: apt-get install pgbouncer"),
]

# As docs/pgbouncer.md says; TLS to both sides, verified.
CONFIGURATION = """
[databases]
{database} = host=127.0.0.1 port={server_port} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
default_pool_size = {size}
server_reset_query = discard all
auth_type = scram-sha-256
auth_file = {folder}/users.txt
client_tls_sslmode = require
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
server_tls_sslmode = verify-full
server_tls_ca_file = {folder}/ca.crt
ignore_startup_parameters = {ignored}
logfile = {folder}/pgbouncer.log
"""


@pytest.fixture
def pooled(
    postgres: EmbeddedPostgres, passwords: dict[str, str], warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """A function that starts a pgbouncer before the warehouse and points the connection `revops_core` at it."""
    folder = state_home() / f"pgbouncer-{WORKER}"
    processes: list[subprocess.Popen[bytes]] = []

    def start(mode: str, *, ignored: str = "extra_float_digits", extra: str | None = None, size: int = 20) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(postgres.home / "tls", folder)
        database = str(conninfo_to_dict(warehouse_dsn)["dbname"])
        port = free_port()
        (folder / "users.txt").write_text(f'"revops" "{passwords["revops"]}"\n')
        (folder / "pgbouncer.ini").write_text(
            CONFIGURATION.format(
                database=database,
                server_port=postgres.port(),
                port=port,
                mode=mode,
                folder=folder,
                ignored=ignored,
                size=size,
            )
        )
        account = server_account()
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.uid, account.gid)
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        processes.append(
            subprocess.Popen([str(PROGRAM), "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, **identity)
        )
        _wait_for(folder / "pgbouncer.log", port)
        connection = {
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": port,
            "schema": database,
            "login": "revops",
            "password": passwords["revops"],
            "extra": {
                "sslmode": "verify-full",
                "sslrootcert": str(folder / "ca.crt"),
                # It ends at pgbouncer, which offers none.
                "channel_binding": "prefer",
                **({} if extra is None else {"pooler": extra}),
            },
        }
        monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", json.dumps(connection))
        return warehouse_conninfo(None, task="test")

    yield start
    for process in processes:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for(log: Path, port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} dbname=nowhere user=nobody connect_timeout=1").close()
        except psycopg.OperationalError as error:
            if "refused" not in str(error):
                return
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.02)


def test_a_session_keeps_its_role_and_what_it_holds(pooled: Callable[..., str]) -> None:
    pooled("session", extra="session")
    with connect_warehouse("revops_ingest", task="one") as one, connect_warehouse("revops_api", task="two") as two:
        for connection, role in ((one, "revops_ingest"), (two, "revops_api")):
            assert connection.execute("select current_user, current_setting('timezone')").fetchone() == (role, "UTC")
            connection.commit()
        with pytest.raises(errors.ReadOnlySqlTransaction):
            two.execute("create temporary table mine (id integer)")
        one.execute("create temporary table mine as select generate_series(1, 1000) as id")
        one.execute("select pg_advisory_lock(1)")
        one.commit()
        for _ in range(10):  # psycopg prepares what comes a sixth time
            assert one.execute("select count(*) from mine where id > %s", (0,)).fetchone() == (1000,)
            one.commit()
        with one.cursor("rows") as cursor:
            cursor.execute("select id from mine")
            assert len(cursor.fetchmany(10)) == 10
        with one.cursor().copy("copy (select id from mine) to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 1000
        assert one.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (1,)


def test_nothing_of_a_session_is_left_for_the_next_client(
    pooled: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is one session: full, it can't be asked whether it shares, and does not."""
    monkeypatch.setattr(pooler, "PROBE_TIMEOUT_S", 0.3)
    dsn = pooled("session", extra="session", size=1)
    with connect_warehouse("revops_ingest", task="one") as one:
        one.execute("create temporary table mine (id integer)")
        one.execute("select pg_advisory_lock(1)")
    with pooler.open_session(dsn) as next_client:
        found = next_client.execute(
            "select current_user, to_regclass('mine')::text, "
            "(select count(*) from pg_locks where locktype = 'advisory'), current_setting('statement_timeout')"
        ).fetchone()
    assert found == ("revops", None, 0, "0")


def test_a_night_through_the_pooler(pooled: Callable[..., str], pipeline: Pipeline) -> None:
    pooled("session", extra="session")
    pipeline.load("ace")
    pipeline.transform("ace")
    report = scan_tables(
        warehouse_conninfo("revops_quality", task="check"),
        layer="core",
        source="ace",
        tables=core_tables("ace"),
        folder=INCLUDE / "soda" / "core",
    )
    assert report.errors == ""
    assert {result.outcome for result in report.results} <= {"pass", "warn", "not_applicable"}


def test_ignored_options_never_run_as_the_login(pooled: Callable[..., str]) -> None:
    """Told to ignore `options`, pgbouncer gives the rights of all roles to whoever asked for one."""
    dsn = pooled("session", ignored="extra_float_digits,options")
    with psycopg.connect(f"{dsn} options='-c role=revops_api'") as unguarded:
        assert unguarded.execute("select current_user").fetchone() == ("revops",)
    with pytest.raises(pooler.PoolerError, match="asked for role=revops_api and has none"):
        connect_warehouse("revops_api", task="test")
    with pytest.raises(Exception, match="asked for role=revops_quality"):
        scan_tables(
            warehouse_conninfo("revops_quality", task="check"),
            layer="core",
            source="ace",
            tables=["ace_opportunities"],
            folder=INCLUDE / "soda" / "core",
        )


def shared_pool() -> closing[WarehousePool]:
    settings = Settings.model_construct(pool_size=2, pool_timeout_s=2.0, pool_lifetime_s=1800.0)
    return closing(WarehousePool(settings, task="test-shared"))


def test_the_sessions_of_a_pool_have_the_role_that_they_asked_for(pooled: Callable[..., str]) -> None:
    pooled("session", extra="session")
    with shared_pool() as pool, pool.session() as one, pool.session() as two:
        for session in (one, two):
            found = session.execute("select current_user, current_setting('statement_timeout')").fetchone()
            assert found == ("revops_api", "15s")
            assert session.pgconn.ssl_in_use
        with pytest.raises(errors.ReadOnlySqlTransaction):
            one.execute("create temporary table mine (id integer)")


@pytest.mark.parametrize(
    ("mode", "extra", "why"),
    [
        ("session", None, "asked for role=revops_api and has none"),
        ("transaction", "session", "several clients at a time"),
    ],
)
def test_a_pool_hands_out_no_session_with_other_rights(
    pooled: Callable[..., str], mode: str, extra: str | None, why: str
) -> None:
    pooled(mode, ignored="extra_float_digits,options", extra=extra)
    with shared_pool() as pool, pytest.raises(pooler.PoolerError, match=why), pool.session():
        pass


def test_a_pooler_that_was_not_told_of_is_refused(pooled: Callable[..., str]) -> None:
    pooled("session")
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter") as caught:
        connect_warehouse("revops_api", task="test")
    assert "pooler=session" in str(caught.value)


def test_a_pooler_that_shares_sessions_is_refused(pooled: Callable[..., str]) -> None:
    pooled("transaction", extra="session")
    with pytest.raises(pooler.PoolerError, match="several clients at a time"):
        connect_warehouse("revops_ingest", task="test")


def test_another_pool_mode_is_refused_where_it_is_written(pooled: Callable[..., str]) -> None:
    with pytest.raises(ConnectionSettingError, match="pool_mode = session"):
        pooled("session", extra="transaction")
