"""The access log of a server without pgaudit: every statement by user, object and class, no value, and its mode."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import errors
from psycopg.conninfo import make_conninfo

from revops.access_log import AuditMode, describe_audit_mode, read_audit_mode, record_audit_mode
from revops.local.databases import ensure_logins
from revops.local.postgres import EmbeddedPostgres
from revops.local.server_settings import access_logs, read_messages, remove_old_logs, write_configuration

pytestmark = pytest.mark.db

DOCS = Path(__file__).resolve().parents[2] / "docs" / "security.md"
CANARY = "canary-7f3a@example.com"
Entry = dict[str, Any]

MERGE = (
    "merge into raw.odoo_t as t using (select 5 as id) as s on t.id = s.id when not matched then insert values (s.id)"
)
# class, role, statement, whether it is denied
STATEMENTS = (
    ("READ", "revops_quality", "select id from raw.odoo_t", False),
    ("READ", "revops_quality", "copy raw.odoo_t (id) to stdout", False),
    ("READ", "revops_quality", "declare c cursor for select id from raw.odoo_t; fetch 1 from c", False),
    ("READ", "revops_api", "select id from raw.odoo_t", True),
    ("READ", "revops_audit", "table core.account", True),
    ("WRITE", "revops_ingest", "insert into raw.odoo_t (id) select 3", False),
    ("WRITE", "revops_ingest", "update raw.odoo_t set name = name", False),
    ("WRITE", "revops_ingest", "delete from raw.odoo_t where id = 3", False),
    ("WRITE", "revops_ingest", "truncate raw.odoo_t", False),
    ("WRITE", "revops_quality", "delete from raw.odoo_t", True),
    ("WRITE", "revops_transform", "truncate core.account", True),
    ("WRITE", "revops_ingest", MERGE, False),
    ("FUNCTION", "revops_api", "select count(*) from search.hybrid('x', null, null, 1)", False),
    ("FUNCTION", "revops_ingest", "select core.plain_text('x')", True),
    ("FUNCTION", "revops_ingest", "do $$ begin perform id from raw.odoo_t; end $$", False),
    ("DDL", "revops_ingest", "create table raw.odoo_made (id integer)", False),
    ("DDL", "revops_ingest", "alter table raw.odoo_t add column more text", False),
    ("DDL", "revops_ingest", "drop table raw.odoo_t", False),
    ("DDL", "revops_api", "drop table core.account", True),
    ("DDL", "revops_quality", "create index on raw.odoo_t (name)", True),
    ("ROLE", "revops_ingest", "grant select on raw.odoo_t to revops_api", False),
    ("ROLE", "revops_api", "create role intruder", True),
    ("ROLE", "revops_api", "set role revops_nobody", True),
    ("MISC", "revops_api", "set statement_timeout = '1s'", False),
    ("MISC", "revops_ingest", "lock table raw.odoo_t in share mode", False),
    ("MISC", "revops_api", "lock table raw.odoo_t in access exclusive mode", True),
)  # fmt: skip


@pytest.fixture
def server(postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The tests' server with the log that every other server has."""
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as superuser:
        superuser.execute("alter system reset log_statement")
        superuser.execute("select pg_reload_conf()")
        yield postgres
        superuser.execute("alter system set log_statement = 'none'")
        superuser.execute("select pg_reload_conf()")


class Log:
    """What the log says since this was made."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.before = {path: path.stat().st_size for path in server.access_logs}

    def text(self) -> str:
        parts = []
        for path in self.server.access_logs:
            with path.open() as file:
                file.seek(self.before.get(path, 0))
                parts.append(file.read())
        return "".join(parts)

    def entries(self) -> list[Entry]:
        return [json.loads(line) for line in self.text().splitlines() if line.endswith("}")]

    def wait_for(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """The entries that are meant, as soon as there is one: the log is written by a process of its own."""
        deadline = time.monotonic() + 10
        while not (found := [entry for entry in self.entries() if wanted(entry)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@pytest.fixture
def raw_table(as_role: Callable[[str], psycopg.Connection]) -> None:
    ingest = as_role("revops_ingest")
    ingest.execute("create table raw.odoo_t (id integer primary key, name text)")
    ingest.execute("insert into raw.odoo_t values (1, 'a')")
    ingest.commit()
    ingest.close()


@pytest.mark.usefixtures("raw_table")
def test_statements_of_every_class_are_found_by_user_object_and_class(
    server: EmbeddedPostgres, warehouse_dsn: str
) -> None:
    log = Log(server)
    for number, (_, role, statement, is_denied) in enumerate(STATEMENTS):
        options = {"options": f"-c role={role}", "application_name": f"revops:statement {number}"}
        with psycopg.connect(make_conninfo(warehouse_dsn, **options)) as session:
            try:
                run(session, statement)
                assert not is_denied, statement
            except (errors.InsufficientPrivilege, errors.UndefinedObject, errors.InvalidParameterValue):
                assert is_denied, statement
            finally:
                session.rollback()
    last = f"revops:statement {len(STATEMENTS) - 1}"
    log.wait_for(lambda entry: entry.get("application_name") == last and "disconnection" in entry["message"])
    entries = log.entries()
    for number, (_, _, statement, is_denied) in enumerate(STATEMENTS):
        ours = [entry for entry in entries if entry.get("application_name") == f"revops:statement {number}"]
        told = [entry for entry in ours if statement in entry["message"] or statement in entry.get("statement", "")]
        assert told, statement
        assert {(entry["user"], entry["dbname"]) for entry in told} == {("revops", str(dbname(warehouse_dsn)))}
        denials = [entry for entry in ours if entry["error_severity"] == "ERROR"]
        assert bool(denials) is is_denied, statement
        assert all(entry["statement"] == statement for entry in denials)


def run(session: psycopg.Connection, statement: str) -> None:
    if statement.startswith("copy"):
        with session.cursor().copy(statement.encode()) as copy:
            assert list(copy)
    else:
        session.execute(statement.encode())


def dbname(dsn: str) -> object:
    return psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]


def test_sessions_and_failed_logins_are_found(server: EmbeddedPostgres, warehouse_dsn: str) -> None:
    log = Log(server)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(warehouse_dsn, password="wrong-canary"))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(warehouse_dsn, user="nobody_known"))
    with psycopg.connect(make_conninfo(warehouse_dsn, application_name="revops:who")):
        pass
    assert log.wait_for(lambda entry: 'password authentication failed for user "revops"' in entry["message"])
    assert log.wait_for(lambda entry: 'failed for user "nobody_known"' in entry["message"])
    authorized = log.wait_for(lambda entry: "connection authorized: user=revops" in entry["message"])
    assert all("SSL enabled (protocol=TLSv1." in entry["message"] for entry in authorized)
    assert log.wait_for(lambda entry: "disconnection: session time" in entry["message"])
    assert "wrong-canary" not in log.text()


@pytest.mark.usefixtures("raw_table")
def test_no_value_comes_into_the_log(server: EmbeddedPostgres, warehouse_dsn: str, passwords: dict[str, str]) -> None:
    """By whatever way values travel: bound, by COPY, in statements that fail, as passwords."""
    log = Log(server)
    with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_ingest"), autocommit=True) as session:
        session.execute("insert into raw.odoo_t values (7, %s)", (CANARY,))
        session.execute("select id from raw.odoo_t where name = %s", (CANARY,), prepare=True)
        with session.cursor() as cursor:
            cursor.executemany("update raw.odoo_t set name = %s where id = %s", [(CANARY, 7), (CANARY, 8)])
            with cursor.copy("copy raw.odoo_t from stdin") as copy:
                copy.write_row((9, CANARY))
        for statement, values in (
            ("insert into raw.odoo_t values (7, %s)", (CANARY,)),
            ("select %s::text::integer / 0 from raw.odoo_t where name = %s", ("12", CANARY)),
            ("select no_such(%s)", (CANARY,)),
        ):
            with pytest.raises(psycopg.Error):
                session.execute(statement, values)
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as superuser:
        ensure_logins(superuser, passwords)
        superuser.execute("select 'the end of it'")
    assert log.wait_for(lambda entry: "the end of it" in entry["message"])
    text = log.text()
    assert "insert into raw.odoo_t values (7, $1)" in text
    assert any('alter role "revops" login' in entry["message"] for entry in log.entries())
    assert CANARY not in text
    assert "SCRAM-SHA-256" not in text
    assert not [name for name, secret in passwords.items() if secret in text]


def settings(**changes: str) -> dict[str, str]:
    return {
        "log_statement": "none",
        "log_connections": "on",
        "log_min_error_statement": "error",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }


@pytest.mark.parametrize(
    ("found", "mode", "faults"),
    [
        (settings(log_statement="all"), "log_statement", []),
        (settings(pgaudit__log="all,-misc", pgaudit__log_parameter="off"), "pgaudit", []),
        (settings(pgaudit__log="read, write, ddl, role, function"), "pgaudit", []),
        (settings(pgaudit__log="write,ddl"), "pgaudit", ["pgaudit.log leaves out function, read, role"]),
        (settings(pgaudit__log="all", pgaudit__log_parameter="on"), "pgaudit", ["logged by pgaudit"]),
        (settings(pgaudit__log="none"), "none", ["neither pgaudit.log nor log_statement = all"]),
        (settings(pgaudit__log="misc"), "none", ["neither"]),
        (settings(pgaudit__log="none", log_statement="all"), "log_statement", []),
        (settings(log_statement="mod"), "none", ["log_statement = mod"]),
        (settings(log_statement="all", log_connections="off"), "log_statement", ["who connected"]),
        (settings(log_statement="all", log_min_error_statement="panic"), "log_statement", ["that are denied"]),
        (
            settings(log_statement="all", log_error_verbosity="default", log_parameter_max_length="-1"),
            "log_statement",
            ["log_parameter_max_length = -1: bound values", "log_error_verbosity = default: rows are quoted"],
        ),
    ],
)
def test_the_mode_is_told_by_the_servers_settings(found: dict[str, str], mode: str, faults: list[str]) -> None:
    class Session:
        """Answers as a server with these settings does; those of pgaudit exist nowhere here."""

        info = type("info", (), {"server_version": 170011})

        def execute(self, *_: object) -> Session:
            return self

        def fetchall(self) -> list[tuple[str, str]]:
            return sorted(found.items())

    read = read_audit_mode(Session())  # type: ignore[arg-type]
    assert (read.mode, read.server_version) == (mode, "17.11")
    assert len(read.faults) == len(faults)
    assert all(part in fault for part, fault in zip(faults, read.faults, strict=True))
    assert bool(describe_audit_mode(read.mode, read.faults)) is bool(faults)


def test_each_role_reads_the_mode_of_its_server(
    server: EmbeddedPostgres, as_role: Callable[[str], psycopg.Connection]
) -> None:
    for role in ("revops_ingest", "revops_quality", "revops_api", "revops_owner"):
        session = as_role(role)
        # What a session says itself is no setting of the server.
        session.execute("set pgaudit.log = 'all'")
        found = read_audit_mode(session)
        assert (found.mode, found.faults) == ("log_statement", ())
        assert found.settings["log_parameter_max_length"] == "0"


def test_a_change_of_the_mode_is_a_row(as_role: Callable[[str], psycopg.Connection]) -> None:
    ingest = as_role("revops_ingest")
    first = AuditMode("log_statement", {"log_statement": "all"}, (), "18.1")
    second = AuditMode("none", {"log_statement": "none"}, ("no",), "18.1")
    for found, run in ((first, None), (first, "one"), (first, "two"), (second, "three"), (first, "four")):
        record_audit_mode(ingest, found, run_id=run)
    rows = query(
        ingest, "select mode, first_run_id, last_run_id from ops.access_audit_mode order by access_audit_mode_id"
    )
    assert rows == [("log_statement", "one", "two"), ("none", "three", "three"), ("log_statement", "four", "four")]


def test_the_log_does_not_grow_for_ever(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with psycopg.connect(postgres.conninfo("postgres")) as session:
        names = {"log_rotation_age": "1d", "log_truncate_on_rotation": "on", "log_filename": "access-%a.log"}
        for name, value in names.items():
            assert session.execute(f"show {name}".encode()).fetchone() == (value,)
    (tmp_path / "log").mkdir()
    for name, days in (("access-Mon.json", 8), ("access-Tue.json", 1)):
        path = tmp_path / "log" / name
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    remove_old_logs(tmp_path)
    assert [path.name for path in access_logs(tmp_path)] == ["access-Tue.json"]


def test_a_data_directory_of_an_older_version_gets_the_settings(tmp_path: Path) -> None:
    main = tmp_path / "data" / "postgresql.conf"
    main.parent.mkdir()
    main.write_text("log_connections = off\n")
    for _ in range(2):
        write_configuration(tmp_path, tmp_path / "data")
    assert main.read_text() == "log_connections = off\n\ninclude 'revops.conf'\n"
    assert "log_statement = all" in (tmp_path / "data" / "revops.conf").read_text()


def test_what_the_server_says_of_itself_is_read_without_statements(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    lines = (
        {"error_severity": "LOG", "message": "database system is ready"},
        {"error_severity": "LOG", "message": "statement: select 1", "user": "revops"},
        {"error_severity": "PANIC", "message": "could not write: No space left on device", "user": "revops"},
    )
    log = "\n".join(json.dumps(line) for line in lines) + '\n{"error_seve'
    (tmp_path / "log" / "access-Mon.json").write_text(log)
    server = EmbeddedPostgres(tmp_path, tmp_path, "quiet")
    assert server._log_tail(5) == [
        "LOG: database system is ready",
        "PANIC: could not write: No space left on device",
    ]
    assert server.last_panic() == "could not write: No space left on device"
    assert read_messages(tmp_path, 1) == ["PANIC: could not write: No space left on device"]


def commands() -> list[str]:
    """The examples of docs/security.md for the embedded server's log."""
    section = DOCS.read_text().split("## Access log")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = next(block for block in blocks if "LOG=" in block).strip().splitlines()
    assert lines[0] == "LOG=.local/postgres/log"
    return [line for line in lines[1:] if not line.startswith("#")]


@pytest.mark.parametrize("command", commands())
@pytest.mark.usefixtures("raw_table")
def test_the_examples_of_the_documentation_find_something(
    server: EmbeddedPostgres, warehouse_dsn: str, command: str
) -> None:
    if command.startswith("jq") and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    log = Log(server)
    mark = f"mark {time.monotonic()}"
    for role, task, statement in (
        ("revops_ingest", "revops:extract:odoo.crm_lead", "create table raw.odoo_made (id integer)"),
        ("revops_api", "revops:search", "select * from core.account"),
        ("revops_api", mark, "delete from core.account"),
    ):
        options = {"options": f"-c role={role}", "application_name": task}
        with psycopg.connect(make_conninfo(warehouse_dsn, **options)) as session:
            with contextlib.suppress(errors.InsufficientPrivilege):
                session.execute(statement.encode())
            session.rollback()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(warehouse_dsn, password="wrong"))
    log.wait_for(lambda entry: "password authentication failed" in entry["message"])
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={"PATH": os.environ["PATH"], "LOG": str(server.home / "log")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_the_queries_of_the_documentation_run(warehouse_dsn: str) -> None:
    queries = [
        query for query in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL) if query.startswith("select")
    ]
    assert len(queries) >= 3
    with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_audit")) as session:
        for statement in queries:
            session.execute(statement.encode())
