"""Backups that were restored: everything in the warehouse is there again, and the next night goes on from it."""

from __future__ import annotations

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
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from vectors import SMALL, add_documents, load_texts, query_of

from revops.embedding.models import register_model, switch_model
from revops.keyring import Keyring, TokenError, new_key
from revops.local.paths import server_account, state_home
from revops.local.postgres import EmbeddedPostgres
from revops.search import find_documents
from revops.warehouse_setup import read_migrations, set_up_warehouse
from tests.conftest import MIGRATIONS, ROOT, WORKER
from tests.corpus.pipeline import Pipeline

pytestmark = pytest.mark.db

SCRIPTS = ROOT / "deploy" / "backup"
PASSWORD = "only-for-this-test"
TEXTS = ["Kubernetes for a bank\nContainers on EKS", "Data centre exit\nServers move before the lease ends"]

RIGHTS = """
select 'schema', nspname, nspacl::text[], pg_get_userbyid(nspowner) from pg_namespace where nspname = any(%(schemas)s)
union all
select 'relation', oid::regclass::text, relacl::text[], pg_get_userbyid(relowner)
from pg_class where relnamespace::regnamespace::text = any(%(schemas)s) and relkind in ('r', 'p', 'v', 'm', 'S')
union all
select 'function', oid::regprocedure::text, proacl::text[], pg_get_userbyid(proowner)
from pg_proc where pronamespace::regnamespace::text = any(%(schemas)s)
union all
select 'default', defaclnamespace::regnamespace::text || ' ' || defaclobjtype::text, defaclacl::text[],
    pg_get_userbyid(defaclrole)
from pg_default_acl
union all
select 'member', roleid::regrole::text || ' of ' || member::regrole::text, array[set_option::text], admin_option::text
from pg_auth_members where roleid::regrole::text like 'revops%%'
union all
select 'database', '', datacl::text[], pg_get_userbyid(datdba) from pg_database where datname = current_database()
"""
SCHEMAS = ["raw", "core", "search", "ops"]


class Server:
    """A server of the test's own, and the backup scripts as the account that it runs as."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres = EmbeddedPostgres(home, state_home() / "postgres-install", PASSWORD)

    def start(self, **settings: str) -> None:
        """Start it, with settings that hold from the first start on."""
        self.postgres.start()
        with self.connect() as connection:
            for name, value in {"fsync": "off", "full_page_writes": "off", **settings}.items():
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        self.postgres.stop()
        with (self.postgres.data / "pg_hba.conf").open("a") as rules:
            rules.write("hostssl replication all 127.0.0.1/32 scram-sha-256\n")
        self.postgres.start()

    def connect(self, database: str = "postgres", **parameters: str) -> psycopg.Connection:
        return psycopg.connect(self.postgres.conninfo(database, **parameters), autocommit=True)

    def create_login(self, name: str, rights: str) -> None:
        with self.connect() as connection:
            statement = sql.SQL("create role {} login password {} " + rights)
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(PASSWORD)))


def run_script(name: str, *arguments: str | Path, conninfo: str = "", folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of deploy/backup as the servers' account; `folder` holds a copy that the account may read."""
    copy = folder / "scripts"
    if not copy.exists():
        shutil.copytree(SCRIPTS, copy)
    parts = conninfo_to_dict(conninfo) if conninfo else {}
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    names |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "channel_binding": "PGCHANNELBINDING"}
    install = state_home() / "postgres-install"
    account = server_account()
    identity: dict[str, Any] = (
        {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    return subprocess.run(
        ["bash", str(copy / name), *map(str, arguments)],
        env={
            "PATH": f"{install / 'bin'}{os.pathsep}{os.defpath}",
            "LD_LIBRARY_PATH": str(install / "lib"),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            **{names[key]: str(value) for key, value in parts.items() if key in names},
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account may write, as pytest's own may not be entered by it."""
    home = state_home() / f"backup-{WORKER}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    account = server_account()
    if os.geteuid() == 0:
        os.chown(home, account.uid, account.gid)
    yield home
    shutil.rmtree(home)


@pytest.fixture
def server(folder: Path, postgres: EmbeddedPostgres) -> Iterator[Callable[[str], Server]]:
    """A factory of servers; they end with the test."""
    made: list[Server] = []

    def create(name: str) -> Server:
        made.append(Server(folder / name))
        return made[-1]

    yield create
    for one in made:
        one.postgres.stop()


def rows_of(connection: psycopg.Connection) -> dict[str, tuple[int, str | None]]:
    """Every table of the warehouse: how many rows, and a digest of all of them; and where its sequences are."""
    tables = connection.execute(
        "select schemaname, tablename from pg_tables where schemaname = any(%s) order by 1, 2", (SCHEMAS,)
    ).fetchall()
    found: dict[str, tuple[int, str | None]] = {}
    for table in tables:
        query = sql.SQL("select count(*), md5(string_agg(t::text, E'\\n' order by t::text)) from only {} as t")
        (count, digest) = connection.execute(query.format(sql.Identifier(*table))).fetchall()[0]
        found[".".join(table)] = (count, digest)
    sequences = "select schemaname || '.' || sequencename, coalesce(last_value, 0) from pg_sequences order by 1"
    found |= {name: (value, "") for name, value in connection.execute(sequences).fetchall()}
    return found


def rights_of(connection: psycopg.Connection) -> set[tuple[Any, ...]]:
    rows = connection.execute(RIGHTS, {"schemas": SCHEMAS}).fetchall()
    return {(kind, name, tuple(sorted(rights or [])), owner) for kind, name, rights, owner in rows}


def indexes_of(connection: psycopg.Connection) -> set[tuple[Any, ...]]:
    return set(
        connection.execute(
            "select schemaname, indexname, indexdef from pg_indexes where schemaname = any(%s)", (SCHEMAS,)
        ).fetchall()
    )


def hits_of(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(make_conninfo(dsn, options="-c role=revops_api")) as api:
        found = find_documents(api, "data centre", query_of(TEXTS[1]), limit=5)
    return [(hit.entity_id, hit.title, round(hit.score, 6), hit.reasons) for hit in found]


def test_a_restored_warehouse_is_the_one_that_was_dumped(
    pipeline: Pipeline, warehouse_dsn: str, folder: Path, server: Callable[[str], Server], tmp_path: Path
) -> None:
    for source in ("odoo", "ace"):
        pipeline.load(source)
        pipeline.transform(source)
    with pipeline.as_role("revops_embed") as embed:
        add_documents(embed, TEXTS)
        load_texts(embed, tmp_path / "vectors", TEXTS)
        switch_model(embed, register_model(embed, SMALL))
    name = str(conninfo_to_dict(warehouse_dsn)["dbname"])
    with psycopg.connect(warehouse_dsn) as connection:
        rows, rights, indexes = rows_of(connection), rights_of(connection), indexes_of(connection)
    assert rows["raw.odoo_crm_lead"][0] > 0
    assert rows["core.bill_line"][0] > 0
    hits = hits_of(warehouse_dsn)
    assert hits

    # The owner's login, which is no superuser, can read all of it.
    dumped = run_script("dump", folder / "backup", name, conninfo=warehouse_dsn, folder=folder)
    assert dumped.returncode == 0, dumped.stderr
    again = run_script("dump", folder / "backup", name, conninfo=warehouse_dsn, folder=folder)
    assert again.returncode == 1
    assert "never overwritten" in again.stderr
    assert PASSWORD not in (folder / "backup" / "roles.sql").read_text()
    assert "SCRAM" not in (folder / "backup" / "roles.sql").read_text()

    other = server("other")
    other.start()
    for login, options in (("superuser", {}), ("plain", {"user": "revops", "password": PASSWORD})):
        if login == "plain":
            # As on RDS: the same login as the old server's, without the rights of a superuser.
            _forget(other, name)
        other.create_login("revops", "createdb createrole")
        restored = run_script(
            "restore", folder / "backup", conninfo=other.postgres.conninfo("postgres", **options), folder=folder
        )
        assert restored.returncode == 0, restored.stderr
        with other.connect(name) as connection:
            assert rows_of(connection) == rows, login
            assert indexes_of(connection) == indexes, login
            assert rights_of(connection) == rights, login
        dsn = other.postgres.conninfo(name, user="revops", password=PASSWORD)
        assert hits_of(dsn) == hits, login

    refused = run_script(
        "restore", folder / "backup", conninfo=other.postgres.conninfo("postgres", **options), folder=folder
    )
    assert refused.returncode == 1
    assert f"has a database {name} already" in refused.stderr
    with other.connect(name) as connection:
        assert rows_of(connection) == rows
    _assert_only_the_keys_read(dsn, pipeline.keyring)
    _assert_the_next_night_goes_on(Pipeline(pipeline.sources, dsn, keyring=pipeline.keyring), dsn, rows)


def _forget(server: Server, database: str) -> None:
    """Drop the restored database and everything cluster-wide that came with it."""
    with server.connect() as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))
        roles = connection.execute("select rolname from pg_roles where rolname like 'revops%'").fetchall()
        for (role,) in roles:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def _assert_only_the_keys_read(dsn: str, keyring: Keyring) -> None:
    with psycopg.connect(dsn) as connection:
        (key, token) = connection.execute(
            "select id, email from raw.odoo_res_partner where email is not null limit 1"
        ).fetchall()[0]
    place = {"table": "odoo_res_partner", "column": "email", "key_text": str(key)}
    address = keyring.decrypt(token, **place)
    assert "@" in address
    assert address.encode() not in token
    with pytest.raises(TokenError):
        Keyring.parse(f"1:{new_key()}", new_key()).decrypt(token, **place)


def _assert_the_next_night_goes_on(night: Pipeline, dsn: str, before: dict[str, tuple[int, str | None]]) -> None:
    """The sources have gone on meanwhile: only what is new is read, and core has it."""
    with night.source("odoo") as odoo:
        (lead,) = odoo.execute(
            "update crm_lead set name = 'renamed after the backup' where id = "
            "(select max(id) from crm_lead) returning id"
        ).fetchall()[0]
    with psycopg.connect(dsn) as connection:
        (last,) = connection.execute("select max(load_id) from ops.load").fetchall()[0]
    for source in ("odoo", "ace"):
        night.load(source)
        night.transform(source)
    with psycopg.connect(dsn) as connection:
        loads = dict(
            connection.execute(
                "select source || '_' || table_name, updated + inserted + deleted from ops.load where load_id > %s "
                "and status = 'succeeded' and updated + inserted + deleted > 0",
                (last,),
            ).fetchall()
        )
        found = connection.execute(
            "select title from core.odoo_opportunities where source_id = %s", (str(lead),)
        ).fetchall()
    assert loads == {"odoo_crm_lead": 1}
    assert found == [("renamed after the backup",)]


def lay_out(server: Server, base: Path, *arguments: str | Path, folder: Path) -> None:
    """Make a server's data directory from a base backup and start it; its certificates are the first server's."""
    laid = run_script("recover", base, server.postgres.data, *arguments, folder=folder)
    assert laid.returncode == 0, laid.stderr
    (server.home / "tls").symlink_to(folder / "original" / "tls")
    server.postgres.start()


def switch_archive_on(server: Server, archive: Path, folder: Path) -> None:
    """Do what docs/backup.md says for the time after a recovery."""
    page = (ROOT / "docs" / "backup.md").read_text().partition("`archive recovery complete`; where")[2]
    (statements,) = re.findall(r"```sql\n(.*?);\n```", page.partition("## Drill")[0], re.DOTALL)
    there = statements.replace("/scripts/archive-wal", f"bash ''{folder}/scripts/archive-wal''")
    there = there.replace("/archive/after-2026-11-23", f"''{archive}''")
    assert f"''{archive}''" in there
    with server.connect() as connection:
        for statement in there.split(";"):
            connection.execute(statement.encode())
    server.postgres.stop()
    server.postgres.start()


@pytest.mark.long
def test_a_dropped_table_comes_back_from_the_archive(folder: Path, server: Callable[[str], Server]) -> None:
    """Point-in-time recovery: a base backup, what was written after it, and the moment before the mistake; twice."""
    archive, next_archive = folder / "archive", folder / "next archive"
    account = server_account()
    shutil.copytree(SCRIPTS, folder / "scripts")
    for made in (archive, next_archive):
        made.mkdir()
        if os.geteuid() == 0:
            os.chown(made, account.uid, account.gid)
    original = server("original")
    original.start(archive_mode="on", archive_command=f"bash '{folder}/scripts/archive-wal' %p %f '{archive}'")
    original.create_login("revops", "createdb createrole")
    dsn = original.postgres.conninfo("revops_core", user="revops", password=PASSWORD)
    set_up_warehouse(dsn, read_migrations(MIGRATIONS), progress=lambda _: None)
    copied = run_script("base-backup", folder / "base", conninfo=original.postgres.conninfo("postgres"), folder=folder)
    assert copied.returncode == 0, copied.stderr

    with original.connect("revops_core") as connection:
        connection.execute("create table raw.after_the_base as select generate_series(1, 1000) as id")
        before = rows_of(connection)
        (moment,) = connection.execute("select clock_timestamp()::text").fetchall()[0]
        time.sleep(0.01)
        connection.execute("drop table raw.after_the_base, ops.watermark")
        connection.execute("select pg_switch_wal()")
    original.postgres.stop()
    assert list(archive.glob("*.partial")) == []

    recovered = server("recovered")
    lay_out(recovered, folder / "base", archive, moment, folder=folder)
    with recovered.connect("revops_core") as connection:
        assert rows_of(connection) == before
        assert connection.execute("select pg_is_in_recovery()").fetchone() == (False,)
        connection.execute("insert into raw.after_the_base values (0)")
        assert connection.execute("show archive_mode").fetchone() == ("off",)
    refused = run_script("recover", folder / "base", recovered.postgres.data, archive, folder=folder)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr

    # The next disaster has an archive again, and a beginning of its own.
    switch_archive_on(recovered, next_archive, folder)
    with recovered.connect() as connection:
        assert connection.execute("show archive_mode").fetchone() == ("on",)
        left = "select name from pg_file_settings where name ~ '^(recovery|restore)' or error is not null"
        assert connection.execute(left).fetchall() == []
        # A target that nobody has reset is in each later base backup.
        connection.execute(sql.SQL("alter system set recovery_target_time = {}").format(sql.Literal(moment)))
    conninfo = recovered.postgres.conninfo("postgres")
    copied = run_script("base-backup", folder / "next base", conninfo=conninfo, folder=folder)
    assert copied.returncode == 0, copied.stderr
    with recovered.connect("revops_core") as connection:
        connection.execute("create table raw.after_the_recovery as select generate_series(1, 1000) as id")
        before = rows_of(connection)
        connection.execute("select pg_switch_wal()")
    recovered.postgres.stop()
    assert before["raw.after_the_base"][0] == 1001

    again = server("again")
    lay_out(again, folder / "next base", next_archive, folder=folder)
    with again.connect("revops_core") as connection:
        assert rows_of(connection) == before
        assert connection.execute("select pg_is_in_recovery()").fetchone() == (False,)


def test_a_damaged_backup_is_not_restored(folder: Path, postgres: EmbeddedPostgres, warehouse_dsn: str) -> None:
    name = str(conninfo_to_dict(warehouse_dsn)["dbname"])
    dumped = run_script("dump", folder / "backup", name, conninfo=warehouse_dsn, folder=folder)
    assert dumped.returncode == 0, dumped.stderr
    damaged = max((folder / "backup" / "database").iterdir(), key=lambda path: path.stat().st_size)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = run_script("restore", folder / "backup", conninfo=postgres.conninfo("postgres"), folder=folder)
    assert refused.returncode == 1
    assert "is not what was written" in refused.stderr


def test_the_archive_keeps_what_it_has(folder: Path) -> None:
    (folder / "segment").write_bytes(b"first")
    (folder / "archive").mkdir()
    os.chmod(folder / "archive", 0o777)  # noqa: PTH101
    for content, expected in ((b"first", 0), (b"first", 0), (b"other", 1)):
        (folder / "segment").write_bytes(content)
        finished = run_script(
            "archive-wal", folder / "segment", "000000010000000000000001", folder / "archive", folder=folder
        )
        assert finished.returncode == expected, finished.stderr
        assert (folder / "archive" / "000000010000000000000001").read_bytes() == b"first"
