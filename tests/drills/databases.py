"""A source and two warehouses on two servers, emptied for each seed; and the connection strings that tasks use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from revops.local import credentials
from revops.local.paths import state_home
from revops.warehouse_setup import read_migrations, set_up_warehouse
from tests.drills import ROOT
from tests.drills.server import Server

SOURCE = "drill_source"
WAREHOUSE = "drill_warehouse"
# Takes the same loads undisturbed and before the other, which tells how long they take and what they do when.
SHADOW = "drill_shadow"
MIGRATIONS = ROOT / "include" / "sql" / "migrations"
# `make clean` removes test-*.
HOME = "test-drills"


@dataclass(frozen=True)
class Databases:
    """Two servers with the drills' databases; the logins are those of the embedded stack."""

    source: Server
    warehouse: Server
    passwords: dict[str, str]

    @classmethod
    def start(cls) -> Databases:
        """Start both servers and create what is missing."""
        home = state_home() / HOME
        passwords = credentials.load_or_create(home / "credentials.json")
        install = state_home() / "postgres-install"
        made = cls(
            Server(home / "source", install, passwords["postgres"]),
            Server(home / "warehouse", install, passwords["postgres"]),
            passwords,
        )
        made.source.start()
        made.warehouse.start()
        for login in ("odoo", "odoo_reader"):
            made.source.create_login(login, passwords[login])
        made.warehouse.create_login("revops", passwords["revops"], "createdb createrole")
        _recreate(made.source, SOURCE, owner="odoo")
        made.recreate_warehouse(SHADOW)
        made.recreate_warehouse()
        return made

    def stop(self) -> None:
        self.source.postgres.stop()
        self.warehouse.postgres.stop()

    def recreate_warehouse(self, name: str = WAREHOUSE, *, tablespace: str = "pg_default") -> None:
        """Create a warehouse anew and migrate it."""
        _recreate(self.warehouse, name, owner="revops", tablespace=tablespace)
        set_up_warehouse(self.owner_dsn(name), read_migrations(MIGRATIONS), progress=lambda _: None)

    def empty(self) -> None:
        """Empty source and warehouses; sessions that a drill has left behind are ended."""
        for server, names in ((self.source, (SOURCE,)), (self.warehouse, (WAREHOUSE, SHADOW))):
            for name in names:
                with server.connect(name) as connection:
                    _end_sessions(connection)
                    _empty_source(connection) if name == SOURCE else _empty_warehouse(connection)

    def application_dsn(self) -> str:
        """The source as its application sees it, which may write and alter."""
        return self.source.postgres.conninfo(SOURCE, user="odoo", password=self.passwords["odoo"])

    def owner_dsn(self, database: str = WAREHOUSE) -> str:
        """A warehouse as its owner's login."""
        return self.warehouse.postgres.conninfo(database, user="revops", password=self.passwords["revops"])

    def task_dsns(self, database: str = WAREHOUSE) -> tuple[str, str]:
        """Source and warehouse exactly as the task of table `t` connects to them: settings, options, role."""
        os.environ.setdefault("AIRFLOW_HOME", str(state_home() / HOME / "airflow"))
        os.environ["AIRFLOW_CONN_ODOO_SOURCE"] = self._uri(self.source, SOURCE, "odoo_reader")
        os.environ["AIRFLOW_CONN_REVOPS_CORE"] = self._uri(self.warehouse, database, "revops")
        from revops.hooks import source, warehouse

        return (
            _dsn_of(source, lambda: source.connect_source("odoo_source", task="extract:odoo.t")),
            _dsn_of(warehouse, lambda: warehouse.connect_warehouse("revops_ingest", task="extract:odoo.t")),
        )

    def _uri(self, server: Server, database: str, login: str) -> str:
        query = {"sslmode": "verify-full", "sslrootcert": str(server.postgres.ca_certificate)}
        password = quote(self.passwords[login])
        return f"postgresql://{login}:{password}@127.0.0.1:{server.postgres.port()}/{database}?{urlencode(query)}"


def _dsn_of(module: object, connect: Callable[[], object]) -> str:
    # The hook's own function, stopped where it would open the session.
    with mock.patch.object(module, "connect", lambda _, dsn: dsn):
        return str(connect())


def _recreate(server: Server, name: str, *, owner: str, tablespace: str = "pg_default") -> None:
    with server.connect("postgres") as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("create database {} owner {} template template0 tablespace {}").format(
                sql.Identifier(name), sql.Identifier(owner), sql.Identifier(tablespace)
            )
        )


def _end_sessions(connection: psycopg.Connection) -> None:
    connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )


def _empty_source(connection: psycopg.Connection) -> None:
    connection.execute(
        "drop schema public cascade; create schema public authorization odoo; "
        "grant usage on schema public to odoo_reader; "
        "alter default privileges for role odoo in schema public grant select on tables to odoo_reader"
    )


def _empty_warehouse(connection: psycopg.Connection) -> None:
    tables = connection.execute(
        "select schemaname, tablename from pg_tables "
        "where schemaname = 'raw' or schemaname = 'ops' and tablename <> 'migration'"
    ).fetchall()
    for schema, table in tables:
        if schema == "raw":
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier(schema, table)))
    kept = sql.SQL(", ").join(sql.Identifier(*row) for row in tables if row[0] == "ops")
    connection.execute(sql.SQL("truncate {} restart identity cascade").format(kept))
