"""Fixtures that all tests share: a real PostgreSQL and databases in it, each test's own."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from xdist.scheduler import LoadScopeScheduling

from revops.local import credentials
from revops.local.databases import ensure_logins
from revops.local.paths import state_home
from revops.local.ports import free_port
from revops.local.postgres import EmbeddedPostgres
from revops.local.stack import Stack
from revops.warehouse_setup import read_migrations, set_up_warehouse
from tests.stack import Commands

if TYPE_CHECKING:
    from tests.second_night import SecondNight

ROOT = Path(__file__).resolve().parents[1]
# Each process of pytest-xdist has a server of its own: a transaction of a neighbour would hold back its horizon.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
# Airflow writes its configuration where it is imported for the first time in a process.
os.environ.setdefault("AIRFLOW_HOME", str(state_home() / f"test-airflow-{WORKER}"))
MIGRATIONS = ROOT / "include" / "sql" / "migrations"
TEMPLATE = "warehouse_template"

_numbers = itertools.count()


class StackTogether(LoadScopeScheduling):
    """Each test to whichever process is free, but those of the whole stack to one: they share it, and its nights.

    The group marks of pytest-xdist 3.8 are silently without effect under pytest 9.2 (pytest-xdist issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return "stack" if nodeid.startswith(("tests/e2e/", "tests/web/")) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StackTogether:
    return StackTogether(config, log)


@pytest.fixture(scope="session")
def passwords() -> dict[str, str]:
    return credentials.load_or_create(state_home() / "test-credentials.json")


@pytest.fixture(scope="session")
def postgres(passwords: dict[str, str]) -> Iterator[EmbeddedPostgres]:
    """A running embedded server of the tests' own, with the logins of the stack."""
    server = EmbeddedPostgres(
        state_home() / f"test-postgres-{WORKER}", state_home() / "postgres-install", passwords["postgres"]
    )
    server.home.mkdir(parents=True, exist_ok=True)
    with (server.home / "users.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        server.start()
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            ensure_logins(connection, passwords)
            # Thousands of small statements a second would spend as long in the log; the test of it switches it on.
            connection.execute("alter system set log_statement = 'none'")
            connection.execute("select pg_reload_conf()")
        yield server
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another test session of this checkout still uses it
        server.stop()


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> Iterator[Callable[[], str]]:
    """A factory of new, empty databases owned by a plain login; dropped after the test."""
    names: list[str] = []

    def create() -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        _create(postgres, name, owner="odoo")
        names.append(name)
        return postgres.conninfo(name, user="odoo", password=passwords["odoo"])

    yield create
    for name in names:
        _drop(postgres, name)


@pytest.fixture(scope="session")
def _template(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> str:
    _drop(postgres, TEMPLATE)
    conninfo = postgres.conninfo(TEMPLATE, user="revops", password=passwords["revops"])
    set_up_warehouse(conninfo, read_migrations(MIGRATIONS), progress=lambda _: None)
    return TEMPLATE


@pytest.fixture
def warehouse_dsn(postgres: EmbeddedPostgres, passwords: dict[str, str], _template: str) -> Iterator[str]:
    """The connection string of a migrated, empty warehouse, as its owner's login."""
    name = f"warehouse_{os.getpid()}_{next(_numbers)}"
    _create(postgres, name, owner="revops", template=_template)
    yield postgres.conninfo(name, user="revops", password=passwords["revops"])
    _drop(postgres, name)


@pytest.fixture
def as_role(warehouse_dsn: str) -> Iterator[Callable[[str], psycopg.Connection]]:
    """A factory of sessions in the test's warehouse that hold the rights of one role, as tasks do."""
    opened: list[psycopg.Connection] = []

    def connect(role: str) -> psycopg.Connection:
        connection = psycopg.connect(make_conninfo(warehouse_dsn, options=f"-c role={role}"))
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """A whole stack of the tests' own, driven by the commands that people type; new for each test session."""
    home = state_home() / "e2e"
    own = Commands(Stack(home))
    own.run("stop")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    # The server's programs are the checkout's own; only the data is new.
    unpacked = state_home() / "postgres-install"
    if unpacked.exists():
        (home / "postgres-install").symlink_to(unpacked)
    yield own
    own.run("stop")


@pytest.fixture(scope="session")
def first_night(commands: Commands) -> str:
    """What `make demo` printed when it ran for the first time."""
    finished = commands.run("demo")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def web_address(commands: Commands) -> str:
    """Where the web UI is after `make start`; commands after it use this Airflow instead of starting one each."""
    port = free_port()
    finished = commands.run("start", "--web-port", str(port))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"http://localhost:{port}" in finished.stdout
    return f"http://localhost:{port}"


@pytest.fixture(scope="session")
def second_night(commands: Commands, first_night: str, web_address: str) -> SecondNight:
    """A night after the first, in the grid of the web UI."""
    from tests.second_night import spend  # a browser's library, which few tests need

    return spend(commands, web_address)


def _create(server: EmbeddedPostgres, name: str, *, owner: str, template: str = "template0") -> None:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} owner {} template {}").format(
                sql.Identifier(name), sql.Identifier(owner), sql.Identifier(template)
            )
        )


def _drop(server: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
