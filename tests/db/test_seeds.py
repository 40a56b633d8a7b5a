"""Seed files in a warehouse: loaded when they differ, whole or not at all, by one loader at a time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from revops.local.postgres import EmbeddedPostgres
from revops.seeds import SEEDS, SeedError, load_seeds
from revops.warehouse_setup import SEEDS as FOLDER
from revops.warehouse_setup import SetupError, read_migrations, set_up_warehouse

pytestmark = pytest.mark.db

MIGRATIONS = Path(__file__).resolve().parents[2] / "include" / "sql" / "migrations"
DATABASE = "db_seeds"


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, passwords: dict[str, str], _template: str) -> Iterator[str]:
    """A warehouse of the test's own: the seeds of the shared one stay as they are."""
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(DATABASE))
        connection.execute(drop)
        connection.execute(
            sql.SQL("create database {} owner revops template {}").format(
                sql.Identifier(DATABASE), sql.Identifier(_template)
            )
        )
        yield postgres.conninfo(DATABASE, user="revops", password=passwords["revops"])
        connection.execute(drop)


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[..., psycopg.Connection]]:
    opened: list[psycopg.Connection] = []

    def open_session(role: str = "revops_transform", *, autocommit: bool = False) -> psycopg.Connection:
        opened.append(psycopg.connect(make_conninfo(dsn, options=f"-c role={role}"), autocommit=autocommit))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "seeds"))


def append(folder: Path, file: str, line: str) -> None:
    with (folder / file).open("a") as opened:
        opened.write(f"{line}\n")


def content(connection: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the seed tables and of ops.seed, with its place: a row written anew has another."""
    tables = [*(f"core.{seed.table}" for seed in SEEDS), "ops.seed"]
    found = {table: query(connection, f"select ctid::text, t.* from {table} as t order by 1") for table in tables}
    connection.rollback()
    return found


def test_a_set_up_warehouse_has_what_the_files_say(connect: Callable[..., psycopg.Connection]) -> None:
    warehouse = connect()
    rules = [
        line.split()[0]
        for line in (FOLDER / "public_suffix_list.dat").read_text().splitlines()
        if line and not line.startswith("//")
    ]
    wildcards = [rule for rule in rules if rule.startswith("*.")]
    parents = {rule.removeprefix("*.") for rule in wildcards} - set(rules)
    assert query(warehouse, "select kind, count(*) from core.public_suffix group by kind order by kind") == [
        ("exception", sum(rule.startswith("!") for rule in rules)),
        ("rule", sum(rule[0] not in "!*" for rule in rules) + len(parents)),
        ("wildcard", len(wildcards)),
    ]
    domains = [tuple(line.split(",")) for line in (FOLDER / "shared_domain.csv").read_text().splitlines()[1:]]
    assert query(warehouse, 'select domain, kind from core.shared_domain order by domain collate "C"') == sorted(
        domains
    )
    assert query(
        warehouse,
        "select value, array_agg(spelling order by spelling) from core.ace_value_map "
        "where field = 'review_status' group by value order by value",
    ) == [
        ("Action Required", ["Action Required"]),
        ("Approved", ["Approved"]),
        ("In review", ["In review"]),
        ("Pending Submission", ["Draft", "Pending Submission"]),
        ("Rejected", ["Rejected"]),
        ("Submitted", ["Submitted"]),
    ]
    assert query(
        warehouse,
        "select place, form, is_exact, word, is_attached from core.legal_form "
        "where form in ('gmbh and co kg', 's p a', 'SpA', '株式会社', '株', 'as') order by form collate \"C\", place",
    ) == [
        ("end", "SpA", True, "spa", False),
        ("end", "as", False, "as", False),
        ("end", "gmbh and co kg", False, "kg", False),
        ("end", "s p a", False, "a", False),
        ("end", "株", False, "株", False),
        ("start", "株", False, "株", False),
        ("end", "株式会社", False, "株式会社", True),
        ("start", "株式会社", False, "株式会社", True),
    ]
    counts = query(warehouse, "select table_name, rows from ops.seed order by table_name")
    assert counts == sorted(
        (seed.table, query(warehouse, f"select count(*) from core.{seed.table}")[0][0]) for seed in SEEDS
    )


def test_nothing_is_written_while_the_files_say_the_same(
    connect: Callable[..., psycopg.Connection], folder: Path
) -> None:
    warehouse = connect()
    before = content(warehouse)
    assert load_seeds(warehouse, FOLDER) is False
    domains = folder / "shared_domain.csv"
    domains.write_bytes(domains.read_bytes().replace(b"\n", b"\r\n"))
    assert load_seeds(warehouse, folder) is False
    assert content(warehouse) == before


@pytest.mark.parametrize(
    ("file", "line", "call", "before", "after"),
    [
        ("ace_value.csv", "stage,Parked,On ice|Waiting", "core.ace_value('stage', 'ON-ICE')", "ON-ICE", "ON-ICE"),
        ("ace_value.csv", "stage,Parked,On ice|Waiting", "core.ace_value('stage', 'on  ICE')", "on  ICE", "Parked"),
        ("ace_value.csv", "stage,Parked,", "core.is_ace_value('stage', 'Parked')", False, True),
        ("ace_value.csv", "deal_size,Large,Big", "core.ace_value('deal_size', 'BIG')", None, "Large"),
        ("legal_form.csv", "Q.Z.,end,any,", "core.normalised_name('Acme Q. Z.')", "acme qz", "acme"),
        ("legal_form.csv", "Qz,start,exact,", "core.normalised_name('Qz Acme')", "qz acme", "acme"),
        ("legal_form.csv", "Qz,start,exact,", "core.normalised_name('QZ Acme')", "qz acme", "qz acme"),
        ("legal_form.csv", "学校法人,either,any,", "core.normalised_name('学校法人京都')", "学校法人京都", "京都"),
        ("shared_domain.csv", "acme.com,shared host", "core.registrable_domain('www.acme.com')", "acme.com", None),
        ("shared_domain.csv", "käse.de,shared host", "core.registrable_domain('käse.de')", "xn--kse-qla.de", None),
        ("shared_domain.csv", "a.acme.com,directory", "core.registrable_domain('b.acme.com')", "acme.com", "acme.com"),
        ("shared_domain.csv", "a.acme.com,directory", "core.registrable_domain('x.a.acme.com')", "acme.com", None),
    ],
)  # fmt: skip
def test_an_edited_file_is_taken_and_the_other_tables_are_not_touched(
    connect: Callable[..., psycopg.Connection], folder: Path, file: str, line: str, call: str, before: Any, after: Any
) -> None:
    warehouse = connect()
    if before is not None:
        assert query(warehouse, f"select {call}") == [(before,)]
        warehouse.rollback()
    old = content(warehouse)
    append(folder, file, line)
    assert load_seeds(warehouse, folder) is True
    assert query(connect("revops_api"), f"select {call}") == [(after,)]
    new = content(warehouse)
    table = next(seed.table for seed in SEEDS if seed.file == file)
    assert [name for name in old if old[name] != new[name]] == [f"core.{table}", "ops.seed"]
    assert query(warehouse, "select table_name from ops.seed where loaded_at >= now() - interval '1 minute' "
                 "and checksum <> all(%s)", [row[2] for row in old["ops.seed"]]) == [(table,)]  # fmt: skip
    warehouse.rollback()
    # And back again: what a file no longer says is gone.
    assert load_seeds(warehouse, FOLDER) is True
    assert [row[1:] for row in content(warehouse)[f"core.{table}"]] != [row[1:] for row in new[f"core.{table}"]]
    assert load_seeds(warehouse, FOLDER) is False
    if before is not None:
        assert query(warehouse, f"select {call}") == [(before,)]


def test_a_new_list_is_taken(connect: Callable[..., psycopg.Connection], folder: Path) -> None:
    warehouse = connect()
    path = folder / "public_suffix_list.dat"
    path.write_text(path.read_text().replace("\ngithub.io\n", "\n*.acme.example\n!city.acme.example\n"))
    sites = ["x.github.io", "a.b.acme.example", "b.acme.example", "acme.example", "x.city.acme.example"]
    asked = "select t, core.registrable_domain(t) from unnest(%s::text[]) as u (t)"
    assert query(warehouse, asked, sites) == [
        ("x.github.io", "x.github.io"),
        *((site, "acme.example") for site in sites[1:]),
    ]
    warehouse.rollback()
    assert load_seeds(warehouse, folder) is True
    assert query(warehouse, asked, sites) == [
        ("x.github.io", "github.io"),
        ("a.b.acme.example", "a.b.acme.example"),
        ("b.acme.example", None),
        ("acme.example", None),
        ("x.city.acme.example", "city.acme.example"),
    ]


def test_rows_that_are_lost_come_back(connect: Callable[..., psycopg.Connection]) -> None:
    warehouse = connect()
    warehouse.execute("delete from core.legal_form where form = 'inc'")
    warehouse.commit()
    assert load_seeds(warehouse, FOLDER) is True
    assert query(warehouse, "select core.normalised_name('Acme Inc')") == [("acme",)]
    warehouse.rollback()
    assert load_seeds(warehouse, FOLDER) is False


MALFORMED = [
    ("legal_form.csv", "XYZ,nowhere,any,", "place 'nowhere' is none of"),
    ("legal_form.csv", "---,end,any,", "'---' has neither letter nor digit. Remedy: correct it, or delete the line"),
    ("ace_value.csv", "stage,Won,closed lost", "'closed lost' stands for 'Closed Lost' in line 8 and for 'Won' here"),
    ("ace_value.csv", "stage,On–Hold,\nstage,ON_hold - x,On-hold", "'On-hold' stands for 'On–Hold' in line"),
    ("shared_domain.csv", "gmail,free mail", "'gmail' is no domain. Remedy: write it like gmail.com"),
    ("shared_domain.csv", "https://x.com/,free mail", "'https://x.com/' is no domain"),
    ("shared_domain.csv", "a@acme.com,free mail", "'a@acme.com' is no domain"),
    ("shared_domain.csv", "a.b.c.d.e.f.g.h.i.com,free mail", "'a.b.c.d.e.f.g.h.i.com' is no domain"),
    ("shared_domain.csv", "co.uk,free mail", r"below co\.uk everybody registers names.*Remedy: name the domains"),
]


@pytest.mark.parametrize(("file", "line", "expected"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_file_changes_nothing(
    connect: Callable[..., psycopg.Connection], folder: Path, file: str, line: str, expected: str
) -> None:
    warehouse = connect()
    before = content(warehouse)
    # Tables before the malformed one would have changed, too.
    suffixes = folder / "public_suffix_list.dat"
    suffixes.write_text(suffixes.read_text().replace("\ngithub.io\n", "\n"))
    append(folder, file, line)
    with pytest.raises(SeedError, match=expected) as raised:
        load_seeds(warehouse, folder)
    assert str(folder / file) in str(raised.value)
    assert warehouse.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert content(warehouse) == before


def test_a_malformed_file_stops_the_set_up(dsn: str, folder: Path) -> None:
    append(folder, "legal_form.csv", "XYZ,end,any")
    with pytest.raises(SetupError, match=r"legal_form\.csv, line \d+: 3 values instead of 4.*Remedy"):
        set_up_warehouse(dsn, read_migrations(MIGRATIONS), progress=lambda _: None, seeds=folder)


def test_the_set_up_takes_an_edited_file(dsn: str, folder: Path) -> None:
    append(folder, "legal_form.csv", "XYZ,end,any,")
    said: list[str] = []
    for _ in range(2):
        assert set_up_warehouse(dsn, read_migrations(MIGRATIONS), progress=said.append, seeds=folder) == []
    assert [line for line in said if line.startswith("loaded")] == [f"loaded {folder.parent.name}/seeds"]
    with psycopg.connect(dsn) as connection:
        assert query(connection, "select core.normalised_name('Acme XYZ')") == [("acme",)]


def test_two_loaders_at_once(connect: Callable[..., psycopg.Connection], folder: Path) -> None:
    append(folder, "ace_value.csv", "stage,Parked,")
    outcomes: list[bool] = []
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run(warehouse: psycopg.Connection) -> None:
        start.wait()
        try:
            outcomes.append(load_seeds(warehouse, folder))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=run, args=(connect(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(outcomes) == [False, False, False, True]
    assert query(connect(), "select count(*) from core.ace_value_map where value = 'Parked'") == [(1,)]


def test_a_loader_waits_for_one_that_has_not_committed_and_readers_do_not(
    connect: Callable[..., psycopg.Connection], folder: Path
) -> None:
    append(folder, "ace_value.csv", "stage,Parked,")
    first, second, reader = connect(), connect(), connect("revops_api")
    first.execute("select 1")
    assert load_seeds(first, folder) is True
    # The first's caller is in a transaction: nothing is to be seen of it yet, and nothing keeps readers waiting.
    reader.execute("set statement_timeout = '10s'")
    reader.commit()
    assert query(reader, "select core.is_ace_value('stage', 'Parked')") == [(False,)]
    reader.rollback()
    second.execute("set lock_timeout = '300ms'")
    second.commit()
    with pytest.raises(errors.LockNotAvailable):
        load_seeds(second, folder)
    first.commit()
    assert query(reader, "select core.is_ace_value('stage', 'Parked')") == [(True,)]
    assert load_seeds(second, folder) is False


def test_it_commits_unless_the_session_is_in_a_transaction(
    connect: Callable[..., psycopg.Connection], folder: Path
) -> None:
    other = connect()
    known = "select core.is_ace_value('stage', 'Parked')"
    append(folder, "ace_value.csv", "stage,Parked,")
    inside = connect()
    inside.execute("select 1")
    assert load_seeds(inside, folder) is True
    inside.rollback()
    assert query(other, known) == [(False,)]
    other.rollback()
    for autocommit in (False, True):
        alone = connect(autocommit=autocommit)
        assert load_seeds(alone, folder) is True
        alone.close()
        assert query(other, known) == [(True,)]
        other.rollback()
        assert load_seeds(other, FOLDER) is True


def test_who_may_load(connect: Callable[..., psycopg.Connection], folder: Path) -> None:
    append(folder, "ace_value.csv", "stage,Parked,")
    for role in ("revops_quality", "revops_embed"):
        with pytest.raises(errors.InsufficientPrivilege):
            load_seeds(connect(role), folder)
    assert load_seeds(connect("revops_owner"), folder) is True
