"""The embedded server: started once for all who ask, whole after every kind of death, closed to strangers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.local.postgres import EmbeddedPostgres, PostgresError

pytestmark = pytest.mark.db


@pytest.fixture(scope="module")
def server(postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, in a folder that the server's account may enter; it shares the binaries only."""
    home = Path(tempfile.mkdtemp(prefix="revops-test-", dir="/var/tmp"))
    home.chmod(0o755)
    made = EmbeddedPostgres(home / "server", postgres.install, "quiet")
    yield made
    made.stop()
    shutil.rmtree(home)


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.conninfo("postgres"), autocommit=True)


def write_row(server: EmbeddedPostgres) -> list[int]:
    """Commit one more row; return all of them."""
    with connect(server) as connection:
        connection.execute("create table if not exists kept (n integer generated always as identity)")
        connection.execute("insert into kept default values")
    return rows(server)


def rows(server: EmbeddedPostgres) -> list[int]:
    with connect(server) as connection:
        return [n for (n,) in connection.execute("select n from kept order by n")]


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def processes(server: EmbeddedPostgres) -> list[int]:
    """The processes of the server, as they work in its data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == server.data:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(server: EmbeddedPostgres) -> None:
    deadline = time.monotonic() + 10
    while processes(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(server) == []


def test_first_start_by_two_at_once(server: EmbeddedPostgres) -> None:
    ports: list[int] = []
    threads = [threading.Thread(target=lambda: ports.append(server.start())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ports) == 3
    assert set(ports) == {server.port()}
    assert write_row(server) == [1]


def test_start_is_idempotent(server: EmbeddedPostgres) -> None:
    port = server.start()
    pid = postmaster(server)
    assert server.start() == port
    assert postmaster(server) == pid


def test_stop_and_start_keep_port_and_rows(server: EmbeddedPostgres) -> None:
    port = server.start()
    before = write_row(server)
    assert server.stop() is True
    assert server.port() is None
    assert server.stop() is False
    with pytest.raises(PostgresError, match="does not run; start it with"):
        server.conninfo("postgres")
    assert server.start() == port
    assert rows(server) == before


def test_settings_that_must_hold(server: EmbeddedPostgres) -> None:
    server.start()
    with connect(server) as connection:
        for name, value in (
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("data_checksums", "on"),
            ("ssl", "on"),
            ("password_encryption", "scram-sha-256"),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
        ):
            assert connection.execute(f"show {name}").fetchone() == (value,), name
        assert connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone() in (
            (True, "TLSv1.3"),
            (True, "TLSv1.2"),
        )
    assert (server.data.stat().st_mode & 0o077) == 0
    assert ((server.home / "tls" / "server.key").stat().st_mode & 0o077) == 0


def test_the_whole_server_killed(server: EmbeddedPostgres) -> None:
    server.start()
    before = write_row(server)
    with contextlib.closing(psycopg.connect(server.conninfo("postgres"))) as open_one:
        open_one.execute("insert into kept default values")
        kill(processes(server))
        wait_until_gone(server)
    assert server.port() is None
    server.start()
    # Committed rows are there, the open transaction's is not.
    assert rows(server) == before


def test_only_the_postmaster_killed_while_a_session_works(server: EmbeddedPostgres) -> None:
    server.start()
    before = write_row(server)
    busy = connect(server)
    pid = busy.info.backend_pid

    def work() -> None:
        with pytest.raises(psycopg.OperationalError):
            busy.execute("do $$ begin loop end loop; end $$")

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    with connect(server) as other:
        while time.monotonic() < deadline:
            if other.execute("select state from pg_stat_activity where pid = %s", (pid,)).fetchone() == ("active",):
                break
    dead = postmaster(server)
    kill([dead])
    while dead in processes(server):
        time.sleep(0.01)
    assert pid in processes(server)
    server.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
    busy.close()
    assert pid not in processes(server)
    assert rows(server) == before


def test_stale_pid_file_of_a_process_that_is_another_now(server: EmbeddedPostgres) -> None:
    server.start()
    before = write_row(server)
    text = (server.data / "postmaster.pid").read_text()
    server.stop()
    lines = text.splitlines()
    lines[0] = str(os.getpid())
    (server.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    assert server.port() is None
    server.start()
    assert rows(server) == before
    # And this process, whose id the file named, has been left alone.
    assert postmaster(server) != os.getpid()


@pytest.mark.parametrize("content", ["99999999\n", "", "\n", "cut o"])
def test_pid_file_of_a_process_that_is_no_more(server: EmbeddedPostgres, content: str) -> None:
    """A power cut leaves the file behind, whole or not."""
    server.start()
    before = write_row(server)
    server.stop()
    (server.data / "postmaster.pid").write_text(content)
    server.start()
    assert rows(server) == before


def test_port_taken_by_somebody_else(server: EmbeddedPostgres) -> None:
    port = server.start()
    before = write_row(server)
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert server.start() != port
        assert rows(server) == before
    assert server.start() == server.port()


def test_an_interrupted_first_start_is_taken_up_again(server: EmbeddedPostgres) -> None:
    home = server.home.parent / "interrupted"
    partial = home / "data.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    (home / "tls").mkdir()
    (home / "tls" / "ca.crt").write_text("half a certif")
    other = EmbeddedPostgres(home, server.install, "quiet")
    try:
        other.start()
        assert write_row(other) == [1]
    finally:
        other.stop()


def test_connections_without_encryption_are_refused(server: EmbeddedPostgres) -> None:
    server.start()
    dsn = make_conninfo(server.conninfo("postgres"), sslmode="disable", channel_binding="disable")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry.*no encryption"):
        psycopg.connect(dsn)


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(make_conninfo(server.conninfo("postgres"), password=password))


def test_another_servers_certificate_is_refused(server: EmbeddedPostgres, postgres: EmbeddedPostgres) -> None:
    server.start()
    dsn = make_conninfo(server.conninfo("postgres"), sslrootcert=str(postgres.ca_certificate))
    with pytest.raises(psycopg.OperationalError, match=r"certificate verify failed|signature failure"):
        psycopg.connect(dsn)


def test_passwords_are_not_in_the_log(server: EmbeddedPostgres) -> None:
    server.start()
    with connect(server) as connection:
        connection.execute("create role stranger login")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select %s nonsense from nowhere nothing", ("secret-value",))
        connection.execute("drop role stranger")
    log = "".join(path.read_text() for path in (server.log, *server.access_logs))
    assert "nonsense" in log
    assert "secret-value" not in log
    assert not (server.home / "password").exists()
