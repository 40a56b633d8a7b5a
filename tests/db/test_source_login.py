"""Whether the login of a source may only read: by its catalogue, recorded, and refused where that is demanded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revops.extract.source_login import WritingLoginError, find_write_rights, record_source_login
from revops.hooks.source import connect_source
from revops.local.databases import grant_reading
from revops.local.postgres import EmbeddedPostgres
from revops.settings import REQUIRE_READ_ONLY_SOURCE, SettingsError

pytestmark = pytest.mark.db

PASSWORD = "reads-only"
TABLES = (
    "create table deal (id integer primary key, name text); create sequence numbers; create schema billing; "
    "create table billing.line (id integer primary key, amount numeric); create view open_deal as select * from deal"
)


class Source:
    """A source with a login of a test's own; `grant` is said by a superuser in its database."""

    def __init__(self, postgres: EmbeddedPostgres, database: str, login: str) -> None:
        self.login = login
        self.dsn = postgres.conninfo(database, user=login, password=PASSWORD)
        self.superuser = psycopg.connect(postgres.conninfo(database), autocommit=True)

    def grant(self, statements: str) -> None:
        named = statements.replace("LOGIN", self.login)
        self.superuser.execute(named.encode())

    def rights(self) -> list[str]:
        with psycopg.connect(make_conninfo(self.dsn, options="-c default_transaction_read_only=on")) as session:
            return find_write_rights(session)


@pytest.fixture
def source(postgres: EmbeddedPostgres, source_dsn: str) -> Iterator[Source]:
    """A source with tables in two schemas and a login as `docs/security.md` has it made."""
    database = str(conninfo_to_dict(source_dsn)["dbname"])
    with psycopg.connect(source_dsn) as owner:
        owner.execute(TABLES)
    made = Source(postgres, database, f"reader_{database}")
    made.grant(f"create role LOGIN login password '{PASSWORD}'; create role LOGIN_group nologin")
    made.grant("revoke create on schema public from public; grant usage on schema public, billing to LOGIN")
    made.grant("grant select on all tables in schema public, billing to LOGIN")
    yield made
    made.grant("drop schema billing cascade; drop table deal cascade")
    made.grant("drop owned by LOGIN; drop owned by LOGIN_group; drop role LOGIN, LOGIN_group")
    made.superuser.close()


def test_a_login_that_may_only_read_has_no_other_right(source: Source) -> None:
    assert source.rights() == []


def test_the_readers_of_the_samples_may_only_read(
    postgres: EmbeddedPostgres, passwords: dict[str, str], empty_database: Callable[[], str]
) -> None:
    for owner, reader in (("odoo", "odoo_reader"), ("ace", "ace_reader")):
        name = str(conninfo_to_dict(empty_database())["dbname"])
        with psycopg.connect(postgres.conninfo(name), autocommit=True) as superuser:
            superuser.execute(
                sql.SQL("alter database {} owner to {}").format(sql.Identifier(name), sql.Identifier(owner))
            )
        grant_reading(postgres.conninfo("postgres"), name, owner=owner, reader=reader)
        with psycopg.connect(postgres.conninfo(name, user=owner, password=passwords[owner])) as application:
            application.execute(TABLES)
        with psycopg.connect(postgres.conninfo(name, user=reader, password=passwords[reader])) as session:
            assert find_write_rights(session) == []
            assert session.execute("select count(*) from deal").fetchone() == (0,)


@pytest.mark.parametrize(
    ("statement", "rights"),
    [
        ("alter role LOGIN superuser", ["is a superuser"]),
        ("alter role LOGIN createrole", ["may create roles"]),
        ("alter role LOGIN createdb", ["may create databases"]),
        ("alter role LOGIN replication", ["may replicate"]),
        ("grant insert on deal to LOGIN", ["may write to public.deal"]),
        ("grant update on billing.line to LOGIN", ["may write to billing.line"]),
        ("grant delete on open_deal to LOGIN", ["may write to public.open_deal"]),
        ("grant truncate on deal to LOGIN", ["may write to public.deal"]),
        ("grant trigger on deal to LOGIN", ["may write to public.deal"]),
        ("grant update (name) on deal to LOGIN", ["may write to columns of public.deal"]),
        ("grant insert on deal to public", ["may write to public.deal"]),
        ("grant usage on sequence numbers to LOGIN", ["may advance sequence public.numbers"]),
        ("grant create on schema billing to LOGIN", ["may create objects in schema billing"]),
        ("alter table deal owner to LOGIN", ["owns public.deal", "may write to public.deal"]),
        (
            "alter schema billing owner to LOGIN",
            ["owns schema billing", "may create objects in schema billing"],
        ),
        (
            "grant pg_write_all_data to LOGIN",
            [
                "has the rights of pg_write_all_data",
                "may advance sequence public.numbers",
                "may write to 3 of them, such as billing.line",
            ],
        ),
        ("grant pg_execute_server_program to LOGIN", ["has the rights of pg_execute_server_program"]),
        ("grant pg_signal_backend to LOGIN", ["has the rights of pg_signal_backend"]),
        # What it gets only by SET ROLE is in its hands all the same.
        (
            "alter role LOGIN noinherit; grant insert on deal to LOGIN_group; grant LOGIN_group to LOGIN",
            ["may write to public.deal"],
        ),
        ("alter role LOGIN_group createrole; grant LOGIN_group to LOGIN", ["may create roles"]),
    ],
)
def test_each_right_to_write_is_found(source: Source, statement: str, rights: list[str]) -> None:
    source.grant(statement)
    assert source.rights() == rights


def test_rights_that_let_nobody_write_are_none(source: Source) -> None:
    source.grant("grant pg_read_all_data, pg_read_all_stats, pg_monitor to LOGIN")
    source.grant("grant references on deal to LOGIN; grant connect on database postgres to LOGIN")
    assert source.rights() == []


def test_a_login_that_can_write_is_refused_where_that_is_demanded(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = conninfo_to_dict(source.dsn)
    monkeypatch.setenv(
        "AIRFLOW_CONN_ODOO_SOURCE",
        json.dumps(
            {
                "conn_type": "postgres",
                "host": known["host"],
                "port": int(str(known["port"])),
                "schema": known["dbname"],
                "login": source.login,
                "password": PASSWORD,
                "extra": {"sslrootcert": known["sslrootcert"]},
            }
        ),
    )
    monkeypatch.setenv(REQUIRE_READ_ONLY_SOURCE, "true")
    connect_source("odoo_source", task="test").close()
    source.grant("grant update on deal to LOGIN")
    with pytest.raises(WritingLoginError) as caught:
        connect_source("odoo_source", task="test")
    assert f"the login {source.login} is not read-only: it may write to public.deal. Remedy: " in str(caught.value)
    connect_source("odoo_source", task="test", may_write=True).close()
    monkeypatch.setenv(REQUIRE_READ_ONLY_SOURCE, "off")
    connect_source("odoo_source", task="test").close()
    monkeypatch.setenv(REQUIRE_READ_ONLY_SOURCE, "perhaps")
    with pytest.raises(SettingsError, match="REVOPS_REQUIRE_READ_ONLY_SOURCE is neither true nor false"):
        connect_source("odoo_source", task="test")


def test_what_changes_is_recorded(as_role: Callable[[str], psycopg.Connection]) -> None:
    warehouse = as_role("revops_ingest")
    for run, login, rights in (
        ("one", "reader", []),
        ("two", "reader", []),
        ("three", "reader", ["is a superuser"]),
        ("four", "other", ["is a superuser"]),
    ):
        record_source_login(warehouse, source="odoo", login=login, rights=rights, run_id=run)
        record_source_login(warehouse, source="ace", login="same", rights=[], run_id=run)
    rows = warehouse.execute(
        "select source, login, is_read_only, first_run_id, last_run_id from ops.source_login "
        "order by source, source_login_id"
    ).fetchall()
    assert rows == [
        ("ace", "same", True, "one", "four"),
        ("odoo", "reader", True, "one", "two"),
        ("odoo", "reader", False, "three", "three"),
        ("odoo", "other", False, "four", "four"),
    ]
