"""Fixtures of the database tests: one source and one warehouse for all of them, emptied after each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from builders import Extract
from psycopg import sql
from raw_tables import Warehouse

from revops.local.postgres import EmbeddedPostgres
from revops.local.sample import create
from revops.seeds import SEEDS
from tests.corpus.pipeline import Pipeline

# What a set-up has filled: kept from test to test.
SET_UP = ["ops.migration", "ops.seed", *(f"core.{seed.table}" for seed in SEEDS)]


@pytest.fixture(scope="session", autouse=True)
def _quick_server(postgres: EmbeddedPostgres) -> None:
    """Spare the tests' own server the disk: a power cut may cost it its data, no test relies on them."""
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("alter system set fsync = off")
        connection.execute("alter system set full_page_writes = off")
        # Its transactions, too, hold back the horizon from which on rows are read again.
        connection.execute("alter system set autovacuum = off")
        # Its log is on disk at once, so that loads never save an earlier horizon and count rows as read again.
        connection.execute("alter system set wal_writer_delay = '1ms'")
        connection.execute("select pg_reload_conf()")


@pytest.fixture(scope="session")
def _databases(postgres: EmbeddedPostgres, _template: str) -> Iterator[tuple[str, str]]:
    names = (f"db_source_{os.getpid()}", f"db_warehouse_{os.getpid()}")
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        for name, owner, template in zip(names, ("odoo", "revops"), ("template0", _template), strict=True):
            connection.execute(
                sql.SQL("create database {} owner {} template {}").format(
                    sql.Identifier(name), sql.Identifier(owner), sql.Identifier(template)
                )
            )
        yield names
        for name in names:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def source_dsn(postgres: EmbeddedPostgres, passwords: dict[str, str], _databases: tuple[str, str]) -> Iterator[str]:
    """The connection string of an empty source, as its owner's login."""
    dsn = postgres.conninfo(_databases[0], user="odoo", password=passwords["odoo"])
    yield dsn
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema public cascade; create schema public")


@pytest.fixture
def warehouse_dsn(postgres: EmbeddedPostgres, passwords: dict[str, str], _databases: tuple[str, str]) -> Iterator[str]:
    """The connection string of a migrated, empty warehouse, as its owner's login."""
    dsn = postgres.conninfo(_databases[1], user="revops", password=passwords["revops"])
    yield dsn
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables "
            "where schemaname in ('raw', 'core', 'search', 'ops') "
            "and schemaname || '.' || tablename <> all(%s)",
            (SET_UP,),
        ).fetchall()
        for schema, table in tables:
            if schema == "raw":
                connection.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(schema, table)))
        kept = [sql.Identifier(*row) for row in tables if row[0] != "raw"]
        # To empty what is empty costs as much, and most tests fill few tables.
        probes = [
            sql.SQL("select {} where exists (select from {})").format(number, table)
            for number, table in enumerate(kept)
        ]
        filled = [kept[number] for (number,) in connection.execute(sql.SQL(" union all ").join(probes))]
        if filled:
            connection.execute(sql.SQL("truncate {} restart identity cascade").format(sql.SQL(", ").join(filled)))


@pytest.fixture
def extract(source_dsn: str, warehouse_dsn: str) -> Iterator[Extract]:
    """An empty source and an empty warehouse, ready to load from one to the other."""
    made = Extract(source_dsn, warehouse_dsn)
    yield made
    made.close()


@pytest.fixture
def warehouse(warehouse_dsn: str) -> Iterator[Warehouse]:
    """An empty warehouse whose raw tables a test writes by hand."""
    made = Warehouse(warehouse_dsn)
    yield made
    made.close()


@pytest.fixture
def pipeline(empty_database: Callable[[], str], warehouse_dsn: str, tmp_path: Path) -> Pipeline:
    """Small sample sources and an empty warehouse."""
    made = Pipeline({source: empty_database() for source in ("odoo", "ace")}, warehouse_dsn)
    with made.source("odoo") as odoo, made.source("ace") as ace:
        create(odoo, ace, seed=7, today=date(2026, 11, 22), scale=0.05, truth_path=tmp_path / "truth.csv")
    return made


@pytest.fixture
def latin1(postgres: EmbeddedPostgres, passwords: dict[str, str], warehouse_dsn: str) -> Iterator[Extract]:
    """A source in another encoding than UTF-8: both servers' hashes of one text differ."""
    name = f"db_latin1_{os.getpid()}"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL(
                "create database {} owner odoo template template0 encoding 'LATIN1' locale_provider libc locale 'C'"
            ).format(sql.Identifier(name))
        )
        made = Extract(postgres.conninfo(name, user="odoo", password=passwords["odoo"]), warehouse_dsn)
        made.run("set client_encoding = 'UTF8'")
        yield made
        made.close()
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
