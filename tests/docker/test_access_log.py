"""The image of the warehouse: pgaudit finds every statement by user, object and class, and no value is in its log."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from revops.access_log import read_audit_mode
from revops.compose.secrets import main as make_secrets
from revops.sources import INCLUDE
from revops.warehouse_setup import read_migrations, set_up_warehouse

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "revops-postgres:test"
CANARY = "canary-7f3a@example.com"
READY_S = 90
OWNER = 50000

MERGE = (
    "merge into raw.odoo_t as t using (select 5 as id) as s on t.id = s.id when not matched then insert values (s.id)"
)
# class, object, role, statement
ALLOWED = (
    ("READ", "raw.odoo_t", "revops_quality", "select id from raw.odoo_t"),
    # A cursor, a function and TRUNCATE name their object in the statement alone.
    ("READ", "", "revops_quality", "declare c cursor for select id from raw.odoo_t"),
    ("READ", "raw.odoo_t", "revops_ingest", "do $$ begin perform id from raw.odoo_t; end $$"),
    ("READ", "core.account", "revops_api", "select name from core.account"),
    ("READ", "search.document", "revops_api", "select * from search.hybrid('x', null, null, 1)"),
    ("WRITE", "raw.odoo_t", "revops_ingest", "insert into raw.odoo_t (id) select 3"),
    ("WRITE", "raw.odoo_t", "revops_ingest", "update raw.odoo_t set name = name"),
    ("WRITE", "raw.odoo_t", "revops_ingest", "delete from raw.odoo_t where id = 3"),
    ("WRITE", "", "revops_ingest", "truncate raw.odoo_t"),
    ("WRITE", "raw.odoo_t", "revops_ingest", MERGE),
    ("WRITE", "core.account", "revops_transform", "update core.account set name = name"),
    ("FUNCTION", "search.hybrid", "revops_api", "select * from search.hybrid('x', null, null, 1)"),
    ("FUNCTION", "", "revops_ingest", "do $$ begin perform id from raw.odoo_t; end $$"),
    ("DDL", "raw.odoo_made", "revops_ingest", "create table raw.odoo_made (id integer)"),
    ("DDL", "raw.odoo_t", "revops_ingest", "alter table raw.odoo_t add column more text"),
    ("DDL", "raw.odoo_t", "revops_ingest", "drop table raw.odoo_t"),
    ("ROLE", "", "revops_ingest", "grant select on raw.odoo_t to revops_api"),
)
DENIED = (
    ("revops_api", "select id from raw.odoo_t"),
    ("revops_audit", "table core.account"),
    ("revops_quality", "delete from raw.odoo_t"),
    ("revops_transform", "truncate core.account"),
    ("revops_ingest", "select core.plain_text('x')"),
    ("revops_api", "drop table core.account"),
    ("revops_api", "create role intruder"),
    ("revops_api", "copy (select 1) to program 'id'"),
)


@dataclass(frozen=True)
class Warehouse:
    """A container of the image with a warehouse that is set up."""

    name: str
    dsn: str

    def session(self, role: str, application: str = "revops:test") -> psycopg.Connection:
        return psycopg.connect(make_conninfo(self.dsn, options=f"-c role={role}", application_name=application))

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + 15
        while words not in (log := self.log()):
            assert time.monotonic() < deadline, f"{words!r} is not in the log"
            time.sleep(0.2)
        return log


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, engine: object) -> Iterator[Warehouse]:
    built = subprocess.run(
        ["docker", "build", "-q", "-t", IMAGE, str(INCLUDE / "postgres")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-3000:]
    secrets = tmp_path_factory.mktemp("access") / "secrets"
    secrets.mkdir(mode=0o700)
    assert make_secrets([str(secrets), "--demo"]) == 0
    account = os.getuid() or OWNER
    if os.getuid() == 0:
        for path in (secrets, *secrets.rglob("*")):
            os.chown(path, account, 0)
    name = f"revops-test-access-{uuid.uuid4().hex[:8]}"
    started = subprocess.run(
        [
            *(
                "docker",
                "run",
                "--detach",
                "--name",
                name,
                "--user",
                f"{account}:0",
                "--env",
                "REVOPS_SERVER=warehouse",
            ),
            *("--volume", f"{secrets / 'warehouse'}:/run/secrets/warehouse:ro", "--publish", "127.0.0.1::5432", IMAGE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    try:
        address = subprocess.run(
            ["docker", "port", name, "5432/tcp"], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        dsn = make_conninfo(
            host="localhost",
            port=address.rpartition(":")[2],
            dbname="revops_core",
            user="revops",
            password=(secrets / "warehouse" / "revops_password").read_text().strip(),
            sslmode="verify-full",
            sslrootcert=str(secrets / "airflow" / "ca.crt"),
            channel_binding="require",
        )
        _wait_until_ready(name, dsn)
        set_up_warehouse(dsn, read_migrations(INCLUDE / "sql" / "migrations"), progress=lambda _: None)
        made = Warehouse(name, dsn)
        with made.session("revops_ingest") as ingest:
            ingest.execute("create table raw.odoo_t (id integer primary key, name text)")
        yield made
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def _wait_until_ready(name: str, dsn: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            psycopg.connect(dsn).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                logs = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
                raise AssertionError(f"{error}\n{logs.stdout[-2000:]}{logs.stderr[-2000:]}") from error
            time.sleep(0.5)


def test_the_mode_is_pgaudit_without_a_fault(warehouse: Warehouse) -> None:
    with warehouse.session("revops_api") as session:
        found = read_audit_mode(session)
    assert (found.mode, found.faults) == ("pgaudit", ())
    with warehouse.session("revops_audit") as session:
        assert session.execute("select mode, faults from ops.access_audit_mode").fetchall() == [("pgaudit", [])]


def test_statements_of_every_class_are_found_by_user_object_and_class(warehouse: Warehouse) -> None:
    for number, (_, _, role, statement) in enumerate(ALLOWED):
        with warehouse.session(role, f"revops:allowed {number}") as session:
            session.execute(statement.encode())
            session.rollback()
    with warehouse.session("revops_api", "revops:end of allowed") as session:
        session.execute("select 1 from core.account limit 0")
    log = warehouse.wait_for("revops:end of allowed").splitlines()
    for number, (kind, thing, _, statement) in enumerate(ALLOWED):
        lines = [line for line in log if f" revops@revops_core revops:allowed {number} " in line and "AUDIT: " in line]
        fields = [line.split("AUDIT: SESSION,")[1].split(",") for line in lines]
        found = [field for field in fields if field[2] == kind and field[5] == thing]
        assert found, (kind, thing, statement, lines)


def test_what_is_denied_is_found_with_its_statement(warehouse: Warehouse) -> None:
    for number, (role, statement) in enumerate(DENIED):
        with warehouse.session(role, f"revops:denied {number}") as session:
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement.encode())
            session.rollback()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(warehouse.dsn, password="wrong"))
    log = warehouse.wait_for("password authentication failed").splitlines()
    for number, (_, statement) in enumerate(DENIED):
        lines = [line for line in log if f" revops@revops_core revops:denied {number} " in line]
        assert any("ERROR:  " in line and "denied" in line for line in lines), statement
        assert any(line.endswith(f"STATEMENT:  {statement}") for line in lines), statement


def test_no_value_comes_into_the_log_or_the_statistics(warehouse: Warehouse) -> None:
    with warehouse.session("revops_ingest", "revops:values") as session:
        session.execute("insert into raw.odoo_t values (7, %s)", (CANARY,))
        session.execute("select id from raw.odoo_t where name = %s", (CANARY,), prepare=True)
        with session.cursor().copy("copy raw.odoo_t from stdin") as copy:
            copy.write_row((9, CANARY))
        session.execute("savepoint s")
        for statement in ("insert into raw.odoo_t values (7, %s)", "select no_such(%s)"):
            with pytest.raises(psycopg.Error):
                session.execute(statement, ("7" if "7, %s" in statement else CANARY,))
            session.execute("rollback to s")
        session.commit()
        shown = session.execute("select string_agg(query, ' ') from public.pg_stat_statements").fetchone()
    with warehouse.session("revops_api") as session:
        session.execute("select * from search.hybrid(%s, null, null, 5)", (CANARY,))
    log = warehouse.wait_for("revops:values")
    assert CANARY not in log
    assert "SCRAM-SHA-256" not in log
    assert shown is not None
    assert "insert into raw.odoo_t values" in shown[0]
    assert CANARY not in shown[0]


def commands() -> list[str]:
    """The examples of docs/security.md for a container's log."""
    section = (ROOT / "docs" / "security.md").read_text().split("## Access log")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = next(block for block in blocks if "docker compose logs" in block).strip().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("command", commands())
def test_the_examples_of_the_documentation_find_something(warehouse: Warehouse, command: str) -> None:
    with warehouse.session("revops_ingest") as session:
        session.execute("grant select on raw.odoo_t to revops_api")
        session.rollback()
    with warehouse.session("revops_api") as session:
        session.execute("select name from core.account")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("delete from core.account")
    logs = f"docker logs {warehouse.name} 2>&1"
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("docker compose logs --no-log-prefix warehouse", logs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()
