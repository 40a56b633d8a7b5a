"""`make setup` on a real server: whole or not at all, once or many times, and clear about what is wrong."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from builders import query
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.local.postgres import EmbeddedPostgres
from revops.warehouse_setup import Migration, SetupError, read_migrations, set_up_warehouse

pytestmark = pytest.mark.db

FOLDER = Path(__file__).resolve().parents[2] / "include" / "sql" / "migrations"
MIGRATIONS = read_migrations(FOLDER)
NAMES = [migration.name for migration in MIGRATIONS]
SCHEMAS = "select nspname from pg_namespace where nspname in ('raw', 'core', 'search', 'ops') order by 1"


def set_up(dsn: str, migrations: list[Migration] = MIGRATIONS) -> list[str]:
    return set_up_warehouse(dsn, migrations, progress=lambda _: None)


def content(dsn: str) -> Counter[tuple[str, ...]]:
    """Every table, column, constraint, index and right of a warehouse, and the migrations applied."""
    with psycopg.connect(dsn) as connection:
        rows = query(
            connection,
            "select 'column', attrelid::regclass::text, attname || ' ' || format_type(atttypid, atttypmod) "
            "from pg_attribute join pg_class c on c.oid = attrelid "
            "where relnamespace::regnamespace::text in ('raw', 'core', 'search', 'ops') and attnum > 0 "
            "union all select 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint "
            "where connamespace::regnamespace::text in ('raw', 'core', 'search', 'ops') "
            "union all select 'right', oid::regclass::text, coalesce(relacl::text, '') from pg_class "
            "where relnamespace::regnamespace::text in ('raw', 'core', 'search', 'ops') "
            "union all select 'default', defaclnamespace::regnamespace::text, defaclacl::text from pg_default_acl "
            "union all select 'schema', nspname, nspacl::text from pg_namespace "
            "where nspname in ('raw', 'core', 'search', 'ops')",
        )
        if query(connection, "select to_regclass('ops.migration') is not null") == [(True,)]:
            rows += query(connection, "select 'migration', name, checksum from ops.migration")
        return Counter(rows)


@pytest.fixture
def new_dsn(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> Iterator[Callable[[], str]]:
    """A factory of connection strings to databases that do not exist yet."""
    names: list[str] = []

    def name() -> str:
        names.append(f"Setup {len(names)}")
        return make_conninfo(
            postgres.conninfo("postgres", user="revops", password=passwords["revops"]), dbname=names[-1]
        )

    yield name
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        for created in names:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(created)))


def test_fresh_set_up_and_a_second_one(new_dsn: Callable[[], str]) -> None:
    dsn = new_dsn()
    said: list[str] = []
    assert set_up_warehouse(dsn, MIGRATIONS, progress=said.append) == NAMES
    assert "creating database Setup 0" in said
    assert [line.removeprefix("applying ") for line in said if line.startswith("applying ")] == NAMES
    with psycopg.connect(dsn) as connection:
        assert query(connection, SCHEMAS) == [("core",), ("ops",), ("raw",), ("search",)]
        stored = query(connection, "select name, checksum, applied_by from ops.migration order by name")
        assert stored == [(migration.name, migration.checksum, "revops") for migration in MIGRATIONS]
        # No table belongs to the login itself.
        assert query(
            connection,
            "select distinct tableowner from pg_tables where schemaname in ('core', 'search', 'ops')",
        ) == [("revops_owner",)]
    before = content(dsn)
    assert set_up(dsn) == []
    assert content(dsn) == before


def test_six_at_once(new_dsn: Callable[[], str]) -> None:
    dsn = new_dsn()
    applied: list[list[str]] = []
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def run() -> None:
        start.wait()
        try:
            applied.append(set_up(dsn))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(applied) == [[], [], [], [], [], NAMES]
    with psycopg.connect(dsn) as connection:
        assert [name for (name,) in query(connection, "select name from ops.migration order by name")] == NAMES


def test_two_databases_of_one_server_at_once(new_dsn: Callable[[], str]) -> None:
    """Roles belong to the whole server: two set-ups grant the same ones."""
    dsns = [new_dsn(), new_dsn(), new_dsn()]
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda dsn=dsn: applied.append(set_up(dsn))) for dsn in dsns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert applied == [NAMES] * 3
    assert content(dsns[0]) == content(dsns[1]) == content(dsns[2])


@pytest.mark.parametrize("position", [1, len(MIGRATIONS)])
def test_a_failure_in_the_middle_leaves_nothing(new_dsn: Callable[[], str], position: int) -> None:
    dsn = new_dsn()
    bad = Migration(f"{position + 1:04d}_bad.sql", "create table core.half (id integer); select 1 / 0")
    with pytest.raises(SetupError, match="division by zero"):
        set_up(dsn, [*MIGRATIONS[:position], bad])
    assert content(dsn) == Counter()
    # And the next set-up with good files succeeds.
    assert set_up(dsn) == NAMES


def test_a_new_migration_that_fails_leaves_the_warehouse_as_it_was(new_dsn: Callable[[], str]) -> None:
    dsn = new_dsn()
    set_up(dsn)
    before = content(dsn)
    good = Migration("0098_good.sql", "set local role revops_owner; create table core.more (id integer)")
    bad = Migration("0099_bad.sql", "alter table core.account drop column name cascade; select nothing")
    with pytest.raises(SetupError, match="nothing"):
        set_up(dsn, [*MIGRATIONS, good, bad])
    assert content(dsn) == before
    assert set_up(dsn, [*MIGRATIONS, good]) == [good.name]


def test_a_changed_migration_is_refused(new_dsn: Callable[[], str]) -> None:
    dsn = new_dsn()
    set_up(dsn)
    before = content(dsn)
    changed = [*MIGRATIONS[:-1], Migration(NAMES[-1], MIGRATIONS[-1].statement + "\n-- a word more")]
    with pytest.raises(SetupError, match=rf"{NAMES[-1]} differs.*git checkout.*new migration"):
        set_up(dsn, changed)
    assert content(dsn) == before


def test_a_warehouse_newer_than_the_checkout_is_refused(new_dsn: Callable[[], str]) -> None:
    dsn = new_dsn()
    set_up(dsn)
    with pytest.raises(SetupError, match=rf"lacks: {NAMES[-1]}.*update the checkout"):
        set_up(dsn, MIGRATIONS[:-1])


def test_a_hand_made_schema_with_a_table_survives(
    new_dsn: Callable[[], str], empty_database: Callable[[], str]
) -> None:
    dsn = new_dsn()
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute('create database "Setup 0"')
    with psycopg.connect(dsn) as connection:
        connection.execute("create schema raw; create table raw.mine (id integer, text text)")
        connection.execute("insert into raw.mine values (1, 'kept'), (2, null)")
    assert set_up(dsn) == NAMES
    with psycopg.connect(dsn) as connection:
        assert query(connection, "select id, text from raw.mine order by id") == [(1, "kept"), (2, None)]


def test_numbers_of_migrations(tmp_path: Path) -> None:
    def write(*names: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in names:
            (folder / name).write_text("select 1")
        return folder

    assert [m.name for m in read_migrations(write("0002_b.sql", "0001_a.sql", "notes.md"))] == [
        "0001_a.sql",
        "0002_b.sql",
    ]
    for names in (
        (),
        ("0001_a.sql", "0003_c.sql"),
        ("0001_a.sql", "0002_b.sql", "0002_c.sql"),
        ("0002_a.sql",),
        ("1_a.sql",),
        ("0001_a.sql", "second.sql"),
    ):
        with pytest.raises(SetupError, match="without gaps"):
            read_migrations(write(*names))


def test_connection_failures_say_what_to_do(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> None:
    dsn = postgres.conninfo("nowhere", user="revops", password=passwords["revops"])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        for parameters, expected in (
            ({"port": closed}, "nothing listens on that host and port"),
            ({"password": "wrong-secret"}, "user or password is wrong"),
            ({"user": "nobody_known"}, "user or password is wrong"),
            ({"host": "no-such-host.invalid"}, "the host name is wrong or DNS does not know it"),
            ({"sslmode": "disable", "channel_binding": "disable"}, "hostssl all all"),
            ({"sslrootcert": "/nowhere/ca.crt"}, "TLS verification failed"),
        ):
            with pytest.raises(SetupError) as failure:
                set_up(make_conninfo(dsn, **parameters))
            message = str(failure.value)
            assert expected in message
            assert "AIRFLOW_CONN_REVOPS_CORE" in message or "hostssl" in message
            assert "wrong-secret" not in message
            assert passwords["revops"] not in message


def test_a_login_that_may_not_create_what_is_needed(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> None:
    dsn = postgres.conninfo("nowhere", user="odoo", password=passwords["odoo"])
    with pytest.raises(SetupError, match=r"permission denied to create database(.|\n)*CREATEDB"):
        set_up(dsn)


def test_a_login_that_may_not_create_roles(empty_database: Callable[[], str]) -> None:
    """The server has the roles already; a login without rights in them is told which right it lacks."""
    dsn = empty_database()
    with pytest.raises(SetupError, match=r"Remedy: .*CREATEROLE"):
        set_up(dsn)
    assert content(dsn) == Counter()


# role -> statements that it may run and such that it may not.
RIGHTS: dict[str, tuple[list[str], list[str]]] = {
    "revops_ingest": (
        [
            "create table raw.new (id integer primary key); insert into raw.new values (1); drop table raw.new",
            "insert into ops.load (source, table_name, run_id, mode, status) values ('a', 'b', 'c', 'xid', 'running')",
            "create temp table scratch (id integer)",
            "select * from ops.quality_run",
        ],
        [
            "select * from core.account",
            "insert into core.account (source_system, source_id) values ('odoo', '1')",
            "create table core.new (id integer)",
            "select * from search.document",
            "delete from ops.load",
            "insert into ops.transform_run (run_id, source, target, status) values ('a', 'odoo', 'b', 'running')",
            "create schema mine",
            "create table public.mine (id integer)",
            "update ops.migration set checksum = ''",
        ],
    ),
    "revops_transform": (
        [
            "select * from raw.sample",
            "insert into ops.transform_run (run_id, source, target, status) values ('a', 'odoo', 'b', 'running')",
            "update core.account set name = name",
            "delete from core.account",
            "create temp table scratch (id integer)",
        ],
        [
            "insert into raw.sample values (2)",
            "delete from raw.sample",
            "create table raw.new (id integer)",
            "drop table raw.sample",
            "select * from search.document",
            "truncate core.account",
            "alter table core.account add column more integer",
            "delete from ops.quarantine",
            "update ops.load set status = 'failed'",
        ],
    ),
    "revops_embed": (
        [
            "select * from core.account",
            "delete from search.document",
            "select * from search.hybrid('x', null, null, 1)",
            "insert into ops.transform_run (run_id, source, target, status) values ('a', 'odoo', 'b', 'running')",
        ],
        [
            "select * from raw.sample",
            "update core.account set name = ''",
            "delete from core.odoo_opportunities",
            "create table search.new (id integer)",
            "insert into ops.quality_run (run_id) values ('a')",
        ],
    ),
    "revops_quality": (
        ["select * from raw.sample", "select * from core.account", "select * from search.document"],
        [
            "insert into raw.sample values (2)",
            "update core.account set name = ''",
            "delete from search.document",
            "delete from ops.quality_result",
        ],
    ),
    "revops_api": (
        [
            "select * from core.account",
            "select * from search.document",
            "select * from ops.quality_run",
            "select * from search.hybrid('x', null, null, 1)",
        ],
        [
            "select * from raw.sample",
            "update core.account set name = ''",
            "insert into core.account (source_system, source_id) values ('odoo', '1')",
            "delete from search.document",
            "insert into ops.load (source, table_name, run_id, mode, status) values ('a', 'b', 'c', 'd', 'running')",
        ],
    ),
    "revops_audit": (
        ["select * from ops.load", "select * from ops.quarantine"],
        [
            "select * from raw.sample",
            "select * from core.account",
            "select * from search.document",
            "update ops.load set status = 'failed'",
        ],
    ),
}


@pytest.mark.parametrize("role", list(RIGHTS))
def test_what_each_role_may_do(as_role: Callable[[str], psycopg.Connection], role: str) -> None:
    with as_role("revops_ingest") as ingest:
        ingest.execute("create table raw.sample (id integer); insert into raw.sample values (1)")
    may, may_not = RIGHTS[role]
    connection = as_role(role)
    assert query(connection, "select current_user") == [(role,)]
    for statement in may:
        connection.execute(statement)
        connection.rollback()
    for statement in may_not:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
        connection.rollback()
    # No role may read what a stranger may not connect to at all, nor take up another role's rights.
    for other in set(RIGHTS) - {role}:
        assert query(connection, "select pg_has_role(%s, %s, 'usage')", role, other) == [(False,)]


def test_rights_in_the_database_itself(new_dsn: Callable[[], str], passwords: dict[str, str]) -> None:
    dsn = new_dsn()
    set_up(dsn)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(make_conninfo(dsn, user="odoo_reader", password=passwords["odoo_reader"])).close()
    scratch = "create temp table scratch (id integer)"
    for role in ("revops_api", "revops_audit"):
        with psycopg.connect(make_conninfo(dsn, options=f"-c role={role}")) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(scratch)
            connection.rollback()
    for role in ("revops_ingest", "revops_transform", "revops_embed", "revops_quality"):
        with psycopg.connect(make_conninfo(dsn, options=f"-c role={role}")) as connection:
            connection.execute(scratch)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("create schema mine")
            connection.rollback()
