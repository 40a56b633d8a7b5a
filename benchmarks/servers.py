"""Two embedded servers of the benchmarks' own, source and target, set alike and emptied before each use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from revops.local.paths import state_home
from revops.local.postgres import EmbeddedPostgres

HOME = state_home() / "benchmark"
SHARED_BUFFERS = "1GB"
READER = "reader"
LOADER = "loader"

# As a production server has them; the same on both sides and for every contender. The embedded server sees to TLS.
SETTINGS = {
    "fsync": "on",
    "max_wal_size": "8GB",
    # Finished segments are kept for the next run: making new ones would cost the first contender only.
    "min_wal_size": "4GB",
    # Between runs we vacuum and checkpoint by hand: a run pays for what it does, not for what came before it.
    "autovacuum": "off",
    "checkpoint_timeout": "1d",
    "jit": "off",
    "default_toast_compression": "lz4",
    "timezone": "UTC",
}


@dataclass
class Server:
    """One running server with a login for contenders and a session for the benchmark itself."""

    name: str
    postgres: EmbeddedPostgres
    login: str
    password: str = field(default_factory=secrets.token_urlsafe)

    def start(self, shared_buffers: str) -> None:
        """Initialise and start it with SETTINGS and its login."""
        self.postgres.start()
        with self.admin() as connection:
            for name, value in {**SETTINGS, "shared_buffers": shared_buffers}.items():
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            verifier = connection.pgconn.encrypt_password(self.password.encode(), self.login.encode(), b"scram-sha-256")
            connection.execute(
                sql.SQL("create role {} login createdb createrole password {}").format(
                    sql.Identifier(self.login), sql.Literal(verifier.decode())
                )
            )
            # As the documentation asks of a source: a cursor must see how long the application's transactions run.
            connection.execute(sql.SQL("grant pg_read_all_stats to {}").format(sql.Identifier(self.login)))
        self.postgres.stop()
        self.postgres.start()

    def admin(self, database: str = "postgres") -> psycopg.Connection:
        """Open a session of the superuser, in autocommit."""
        return psycopg.connect(self.postgres.conninfo(database), autocommit=True)

    def url(self, database: str) -> str:
        """Return the URL for the contenders' login; TLS with the server's certificate verified, for whoever can."""
        known = conninfo_to_dict(self.postgres.conninfo(database))
        return (
            f"postgresql://{self.login}:{quote(self.password)}@{known['host']}:{known['port']}/{database}"
            f"?sslmode=verify-full&sslrootcert={quote(str(known['sslrootcert']))}"
        )

    def recreate(self, database: str, *, template: str = "template0") -> None:
        """Drop a database with everything in it and make it anew, owned by the login."""
        self.drop(database)
        with self.admin() as connection:
            connection.execute(
                sql.SQL("create database {} owner {} template {}").format(
                    sql.Identifier(database), sql.Identifier(self.login), sql.Identifier(template)
                )
            )

    def drop(self, database: str) -> None:
        """Drop a database where it exists."""
        with self.admin() as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))

    def checkpoint(self) -> None:
        """Write everything out, so that the next run doesn't pay for it."""
        with self.admin() as connection:
            connection.execute("checkpoint")

    def wait_until_idle(self) -> None:
        """Wait for the sessions of a client that has ended; their processor time counts when they are gone."""
        deadline = time.monotonic() + 30
        with self.admin() as connection:
            while time.monotonic() < deadline:
                row = connection.execute(
                    "select count(*) from pg_stat_activity "
                    "where backend_type in ('client backend', 'parallel worker') and pid <> pg_backend_pid()"
                ).fetchone()
                if row == (0,):
                    return
                time.sleep(0.01)
        raise TimeoutError(f"a session in the {self.name} server outlived its client by 30 s")

    @property
    def postmaster(self) -> int:
        return int((self.postgres.data / "postmaster.pid").read_text().splitlines()[0])


@dataclass(frozen=True)
class Servers:
    """The pair: rows go from source to target."""

    source: Server
    target: Server


@contextlib.contextmanager
def running_servers(*, space: int, shared_buffers: str = SHARED_BUFFERS) -> Iterator[Servers]:
    """Start both servers, empty; stop and remove them at the end, or at the next start after a crash.

    space: bytes that will be needed on disk. Exits where they are not free, or another benchmark runs in this checkout.
    """
    install = state_home() / "postgres-install"
    servers = Servers(
        *(
            Server(name, EmbeddedPostgres(HOME / name, install, secrets.token_urlsafe()), login)
            for name, login in (("source", READER), ("target", LOADER))
        )
    )
    with _alone():
        _remove(servers)
        free = shutil.disk_usage(state_home()).free
        if free < space:
            sys.exit(
                f"{state_home()} has {free >> 30} GiB free, {space >> 30} are needed. Remedy: fewer rows (ROWS=...)"
            )
        try:
            for server in (servers.source, servers.target):
                server.start(shared_buffers)
            yield servers
        finally:
            _remove(servers)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    # The folder itself is locked: a file would be left behind.
    state_home().mkdir(parents=True, exist_ok=True)
    folder = os.open(state_home(), os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another benchmark is running in this checkout: its figures and yours would both be wrong")
        yield
    finally:
        os.close(folder)


def _remove(servers: Servers) -> None:
    for server in (servers.source, servers.target):
        server.postgres.stop()
    shutil.rmtree(HOME, ignore_errors=True)


def scratch(name: str) -> Path:
    """Return an empty folder that a contender may call its home."""
    folder = HOME / "scratch" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
