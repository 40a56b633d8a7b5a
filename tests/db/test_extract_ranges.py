"""First loads in ranges of pages: each commits, and a try that was cut off is gone on with, whatever happened since."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from builders import Extract, counts, query
from psycopg.conninfo import make_conninfo

from revops.extract import ranges
from revops.extract.errors import (
    ExtractError,
    LoadBusyError,
    SnapshotGoneError,
    TableChangedError,
    TooManyDeletionsError,
)
from revops.extract.sessions import Route
from revops.extract.snapshot import exported_snapshot

pytestmark = pytest.mark.db

RANGED: dict[str, Any] = {"of_source": {"ranged_above_mb": 0, "range_mb": 1}}
WHOLE: dict[str, Any] = {"of_source": {"ranged_above_mb": 1000}}
PAGES_A_RANGE = 4
LOADING = "loading odoo_t"
# Four rows a page: 160 rows are 40 pages or 10 ranges. An update finds no room beside the old version of its row.
LEADS = (
    "create table t (id integer primary key, name text, filler text);"
    "alter table t alter filler set storage plain;"
    "insert into t select n, 'name ' || n, repeat('x', 1800) from generate_series(1, 160) n"
)


class KilledError(Exception):
    """What ends a load in these tests, as if its worker had been killed."""


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a mebibyte be a few pages, so that small tables have many ranges."""
    monkeypatch.setattr(ranges, "MEBIBYTE", PAGES_A_RANGE * ranges.BLOCK_BYTES)


@pytest.fixture
def before_range(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[], Any]]:
    """What to do before the n-th range of all that are read from now on; key 0 counts them."""
    load_range = ranges._load_range
    todo: dict[int, Callable[[], Any]] = {}
    lock = threading.Lock()
    number = 0

    def counted(*arguments: Any) -> None:
        nonlocal number
        with lock:
            number += 1
            mine = number
        todo[0] = lambda: number
        if mine in todo:
            todo[mine]()
        load_range(*arguments)

    todo[0] = lambda: number
    monkeypatch.setattr(ranges, "_load_range", counted)
    return todo


def kill() -> None:
    raise KilledError


def committed(extract: Extract) -> int:
    """How many ranges are kept for the next try."""
    return int(query(extract.warehouse, "select count(*) from ops.load_range")[0][0])


def tables_in_raw(extract: Extract) -> set[str]:
    return {name for (name,) in query(extract.warehouse, "select tablename from pg_tables where schemaname = 'raw'")}


def cut_off(extract: Extract, before_range: dict[int, Callable[[], Any]], after: int = 3, **settings: Any) -> None:
    """Begin a first load and kill it when so many ranges are committed."""
    before_range[before_range[0]() + after + 1] = kill
    with pytest.raises(KilledError):
        extract.load(**(RANGED | settings))
    assert committed(extract) == after
    assert extract.raw_types() == {}


def test_a_load_in_ranges_equals_the_source(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    extract.run(LEADS)
    seen: list[tuple[set[str], int]] = []
    before_range[7] = lambda: seen.append((tables_in_raw(extract), committed(extract)))
    assert counts(extract.load(**RANGED)) == (160, 160, 0, 0, 0)
    extract.assert_same()
    # Half a table is not to be seen under the table's name.
    assert seen == [({LOADING}, 6)]
    assert tables_in_raw(extract) == {"odoo_t"}
    assert committed(extract) == 0
    load = extract.last_load()
    assert (load["ranges"], load["attempt"], load["status"], load["source_rows"]) == (10, 1, "succeeded", 160)
    assert load["bytes"] > 160 * 1800
    assert query(extract.warehouse, "select distinct _load_id from raw.odoo_t") == [(load["load_id"],)]
    assert query(
        extract.warehouse, "select count(*) from pg_index where indrelid = 'raw.odoo_t'::regclass and indisprimary"
    ) == [(1,)]
    assert extract.changes() == [("table_created", None, None, None)]
    # What comes later is found as after any first load.
    extract.run("update t set name = 'changed' where id = 5; delete from t where id = 6; insert into t values (500)")
    assert counts(extract.load(**RANGED)) == (2, 1, 1, 0, 1)
    extract.assert_same()


def test_a_real_mebibyte(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    extract.run("create table t (id integer primary key, name text)")
    extract.run("insert into t select n, md5(n::text) || repeat('x', 300) from generate_series(1, 9000) n")
    assert extract.load(of_source={"ranged_above_mb": 2, "range_mb": 1}).inserted == 9000
    assert extract.last_load()["ranges"] == 4
    extract.assert_same()


PARTITIONED = (
    "create table t (id integer primary key) partition by range (id);"
    "create table t_1 partition of t for values from (0) to (1000); insert into t select generate_series(1, 900)"
)


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        (LEADS, {"of_source": {"ranged_above_mb": 1, "range_mb": 1}}),
        ("create table t (id integer primary key)", {"of_source": {"ranged_above_mb": 1}}),
        ("create table t (id integer primary key)", RANGED),
        (
            "create table base (id integer); insert into base values (1); create materialized view t as table base",
            RANGED,
        ),
        (PARTITIONED, RANGED),
    ],
    ids=["large enough", "small", "empty", "view", "partitioned"],
)
def test_which_tables_are_cut(extract: Extract, table: str, settings: dict[str, Any]) -> None:
    extract.run(table)
    extract.load(**settings)
    extract.assert_same()
    assert (extract.last_load()["ranges"] is not None) == (table == LEADS)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_try_after_a_kill_reads_only_what_is_missing(
    extract: Extract, before_range: dict[int, Callable[[], Any]], workers: int
) -> None:
    extract.run(LEADS)
    if workers == 1:
        cut_off(extract, before_range)
        kept = 3
    else:
        before_range[8] = kill
        with pytest.raises(KilledError):
            extract.load(workers=workers, **RANGED)
        kept = committed(extract)
        assert 0 < kept < 10
    first = extract.last_load()
    assert (first["status"], first["attempt"]) == ("failed", 1)
    # A worker that is really killed can't say so.
    extract.warehouse.execute("update ops.load set status = 'running', error = null, finished_at = null")
    begun = before_range[0]()
    assert counts(extract.load(workers=workers, **RANGED)) == (160, 160, 0, 0, 0)
    extract.assert_same()
    assert before_range[0]() - begun == 10 - kept
    load = extract.last_load()
    assert (load["load_id"], load["attempt"], load["status"]) == (first["load_id"], 2, "succeeded")
    assert (load["ranges"], load["error"]) == (10, None)
    assert query(extract.warehouse, "select distinct _load_id from raw.odoo_t") == [(load["load_id"],)]
    assert committed(extract) == 0
    extract.run("update t set name = 'changed' where id = 5")
    assert counts(extract.load(**RANGED)) == (1, 0, 1, 0, 0)
    assert extract.last_load()["load_id"] > load["load_id"]


# Rows 1 to 48 are on the pages of the first three ranges, which are committed before the change.
CHANGES = {
    "update": "update t set name = 'changed' where id in (3, 40, 48, 49, 120, 160)",
    "update everything": "update t set name = name || '!'",
    "insert": "insert into t select n, 'new', repeat('y', 1800) from generate_series(1000, 1050) n",
    "delete": "delete from t where id in (1, 2, 3, 100, 160)",
    "delete and insert again": "delete from t where id in (5, 150); insert into t values (5, 'again'), (150, 'again')",
    "update the key": "update t set id = id + 5000 where id in (4, 40, 90, 155)",
    "exchange keys": "update t set id = -id where id in (10, 150); update t set id = 160 + id where id in (-10, -150)",
    "fill free pages": "delete from t where id between 20 and 40; vacuum t",
    "cut off pages": "delete from t where id > 140; vacuum t",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_between_the_tries_is_there(
    extract: Extract, before_range: dict[int, Callable[[], Any]], change: str
) -> None:
    extract.run(LEADS)
    cut_off(extract, before_range)
    for statement in CHANGES[change].split(";"):
        extract.run(statement)
    if "vacuum" in CHANGES[change]:
        extract.run("insert into t select n, 'refilled', repeat('z', 1800) from generate_series(2000, 2005) n")
    pages = query(extract.source, "select pg_relation_size('t') / 8192")[0][0]
    begun = before_range[0]()
    result = extract.load(**RANGED)
    extract.assert_same()
    # None of the first three is read again.
    assert before_range[0]() - begun == -(-pages // PAGES_A_RANGE) - 3
    assert extract.last_load()["attempt"] == 2
    assert result.read == result.inserted + result.updated + result.unchanged
    # The next load goes on from the snapshot that completed this one.
    extract.run("update t set name = 'later' where id = 130")
    assert counts(extract.load(**RANGED)) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_transactions_that_were_open_during_the_first_try(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    """They wrote on pages that are read already, and commit before or after the second try."""
    extract.run(LEADS)
    early, late = extract.connect_source(), extract.connect_source()
    early.execute("update t set name = 'early' where id in (2, 100); delete from t where id = 3")
    early.execute("insert into t values (1000, 'early')")
    late.execute("update t set name = 'late' where id in (4, 110); delete from t where id = 5")
    late.execute("insert into t values (1001, 'late')")
    extract.run("update t set name = 'younger, but seen' where id in (6, 120)")
    cut_off(extract, before_range)
    early.commit()
    extract.load(**RANGED)
    extract.assert_same()
    late.commit()
    assert counts(extract.load(**RANGED))[1:] == (1, 2, 2, 1)
    extract.assert_same()


def test_several_kills_and_changes_at_random(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    chance = random.Random(20261122)
    for _ in range(2):
        extract.run(f"drop table if exists t; {LEADS}")
        open_ones: list[psycopg.Connection] = []
        while True:
            before_range[before_range[0]() + chance.randrange(1, 8)] = kill
            try:
                extract.load(accept_deletions=True, workers=chance.choice([1, 2]), **RANGED)
                break
            except KilledError:
                pass
            for connection in open_ones:
                connection.commit()
            rows = [chance.randrange(1, 160) for _ in range(6)]
            late = extract.connect_source()
            late.execute("update t set name = name || ' late' where id = %s", (rows[0],))
            late.execute("insert into t values (%s, 'late') on conflict do nothing", (chance.randrange(1000, 9000),))
            open_ones = [late]
            extract.run(f"update t set name = name || '+' where id in ({rows[1]}, {rows[2]}) and id <> {rows[0]}")
            extract.run(f"delete from t where id in ({rows[3]}) and id <> {rows[0]}")
            extract.run(chance.choice(["vacuum t", "select 1", "analyze t"]))
        extract.assert_same()
        for connection in open_ones:
            connection.commit()
        extract.load(accept_deletions=True)
        extract.assert_same()
        extract.warehouse.execute("drop table raw.odoo_t; truncate ops.watermark")


@pytest.mark.parametrize(
    "change",
    [
        "vacuum full t",
        "truncate t; insert into t select n, 'other', repeat('x', 1800) from generate_series(1, 100) n",
        "alter table t add column more integer default 5",
        "alter table t alter column id type bigint",
        "alter table t drop constraint t_pkey",
        "drop table t; create table t (id integer primary key, name text, filler text); insert into t values (1)",
    ],
)
def test_a_table_that_was_altered_or_rewritten_between_the_tries_is_begun_anew(
    extract: Extract, before_range: dict[int, Callable[[], Any]], change: str
) -> None:
    extract.run(LEADS)
    cut_off(extract, before_range)
    for statement in change.split(";"):
        extract.run(statement)
    extract.run("insert into t (id) values (1001)")
    pages = query(extract.source, "select pg_relation_size('t') / 8192")[0][0]
    begun = before_range[0]()
    result = extract.load(**RANGED)
    extract.assert_same()
    assert before_range[0]() - begun == -(-pages // PAGES_A_RANGE)
    assert (result.read, result.deleted) == (extract.in_source().total(), 0)
    assert committed(extract) == 0
    assert tables_in_raw(extract) == {"odoo_t"}


def test_a_table_without_key(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    extract.run(LEADS.replace(" primary key", "") + "; insert into t select * from t where id < 20")
    before_range[6] = kill
    with pytest.raises(KilledError):
        extract.load(**RANGED)
    extract.run("update t set name = 'changed' where id = 3; delete from t where id = 4")
    begun = before_range[0]()
    result = extract.load(**RANGED)
    extract.assert_same()
    assert result.deleted == 0
    assert before_range[0]() - begun == extract.last_load()["ranges"] >= 10
    extract.run("delete from t where ctid = (select min(ctid) from t where id = 7)")
    assert extract.load(**RANGED).deleted == 1
    extract.assert_same()


def test_a_table_that_is_rewritten_while_it_is_read(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    extract.run(LEADS)
    before_range[6] = lambda: extract.run("vacuum full t")
    with pytest.raises(TableChangedError):
        extract.load(**RANGED)
    assert committed(extract) == 5
    extract.load(**RANGED)
    extract.assert_same()


def test_users_alter_the_table_between_two_ranges(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    """No lock outlasts a range."""
    extract.run(LEADS)
    before_range[6] = lambda: extract.run("set lock_timeout = '500ms'; alter table t add more integer default 5")
    with pytest.raises(TableChangedError):
        extract.load(**RANGED)
    assert committed(extract) == 5
    extract.load(**RANGED)
    extract.assert_same()


def test_rows_that_come_between_the_plan_and_the_snapshot(extract: Extract) -> None:
    """The table grows by pages after it was measured, and before the snapshot that the ranges are read in."""
    extract.run(LEADS)
    opened = 0

    def connect() -> psycopg.Connection:
        nonlocal opened
        opened += 1
        if opened == 2:
            extract.run("insert into t select n, 'new', repeat('y', 1800) from generate_series(1000, 1039) n")
        return extract.connect_reader()

    result = extract.load(route=Route(connect, extract.connect_ingest), **RANGED)
    assert result.read == 200
    extract.assert_same()


def test_a_shared_snapshot_whose_holder_ends_in_the_middle(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    extract.run(LEADS)
    holder = extract.connect_source()
    holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    name = query(holder, "select pg_export_snapshot()")[0][0]
    extract.run("update t set name = 'after the export' where id in (1, 100); delete from t where id = 2")
    before_range[6] = holder.rollback
    with pytest.raises(SnapshotGoneError):
        extract.load(snapshot=name, **RANGED)
    assert committed(extract) == 5
    assert extract.last_load()["is_shared_snapshot"] is True
    assert counts(extract.load(snapshot=name, **RANGED))[4] == 1
    extract.assert_same()
    load = extract.last_load()
    assert (load["attempt"], load["is_shared_snapshot"], load["snapshot"]) == (2, False, None)


def test_all_ranges_show_the_shared_snapshot(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    extract.run(LEADS)
    at_export = extract.in_source()
    with exported_snapshot(extract.connect_reader, None) as name:
        extract.run("update t set name = 'after the export' where id in (1, 100); delete from t where id = 2")
        before_range[6] = lambda: extract.run("insert into t values (1000); delete from t where id = 140")
        extract.load(snapshot=name, workers=2, **RANGED)
    assert extract.raw() == at_export
    assert extract.last_load()["is_shared_snapshot"] is True
    extract.load(**RANGED)
    extract.assert_same()


def test_a_try_that_takes_over_fences_the_one_before(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    """A worker loses its network for a while; when it comes back, another has finished its load."""
    extract.run(LEADS)
    seen = []

    def take_over() -> None:
        extract.run("update t set name = 'taken over' where id in (1, 150)")
        seen.append(extract.load(**RANGED).load_id)

    before_range[6] = take_over
    with pytest.raises(LoadBusyError, match="another load has taken over meanwhile"):
        extract.load(**RANGED)
    extract.assert_same()
    load = extract.last_load()
    assert (load["load_id"], load["attempt"], load["status"], load["error"]) == (seen[0], 2, "succeeded", None)
    assert committed(extract) == 0
    assert tables_in_raw(extract) == {"odoo_t"}


@pytest.mark.parametrize("how", ["small now", "absent"])
def test_ranges_that_are_needed_no_more_are_forgotten(
    extract: Extract, before_range: dict[int, Callable[[], Any]], how: str
) -> None:
    extract.run(LEADS)
    cut_off(extract, before_range, optional=True)
    begun = extract.last_load()["load_id"]
    if how == "absent":
        extract.run("alter table t rename to away")
        assert extract.load(optional=True, **RANGED).is_absent
        extract.run("alter table away rename to t")
    assert extract.load(optional=True, **WHOLE).load_id >= begun
    extract.assert_same()
    assert committed(extract) == 0
    assert tables_in_raw(extract) == {"odoo_t"}
    # A load that is complete keeps its record: the next one has its own.
    last = extract.last_load()["load_id"]
    assert extract.load(optional=True, **WHOLE).load_id > last
    statuses = query(extract.warehouse, "select status from ops.load order by load_id")
    assert statuses[-2:] == [("succeeded",), ("succeeded",)]


def test_rows_deleted_between_the_tries_in_numbers_need_consent(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    extract.run(LEADS)
    cut_off(extract, before_range, 8)
    extract.run("delete from t where id <= 100")
    with pytest.raises(TooManyDeletionsError, match=r"100 of 160 rows"):
        extract.load(**RANGED)
    assert extract.raw_types() == {}
    assert extract.load(accept_deletions=True, **RANGED).deleted == 100
    extract.assert_same()


@pytest.mark.parametrize("name", ["t (loading)", "loading t"])
def test_no_table_of_the_source_stands_in_the_way(
    extract: Extract, before_range: dict[int, Callable[[], Any]], name: str
) -> None:
    extract.run(f'create table "{name}" (id integer primary key); insert into "{name}" values (1)')
    extract.load(name)
    extract.run(LEADS)
    cut_off(extract, before_range)
    extract.load(name)
    extract.load(**RANGED)
    extract.assert_same(name)
    extract.assert_same()


def test_a_session_of_the_source_that_ends(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    extract.run(LEADS)
    connect, opened = extract.connect_reader, []

    def reader() -> psycopg.Connection:
        opened.append(connect())
        return opened[-1]

    def end() -> None:
        for connection in opened:
            extract.source.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))

    before_range[6] = end
    with pytest.raises(psycopg.OperationalError):
        extract.load(route=Route(reader, extract.connect_ingest), **RANGED)
    assert committed(extract) == 5
    extract.load(**RANGED)
    extract.assert_same()


def test_a_lost_answer_of_a_ranges_commit(extract: Extract) -> None:
    """The range is committed, but its worker does not know."""
    extract.run(LEADS)
    lost: list[str] = []

    class Forgetful(psycopg.Connection):
        def commit(self) -> None:
            is_range = self.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS and bool(
                self.execute("select 1 from ops.load_range where first_page = 20").fetchone()
            )
            super().commit()
            if is_range and not lost:
                lost.append("answer")
                raise psycopg.OperationalError("server closed the connection unexpectedly")

    dsn = make_conninfo(extract.warehouse_dsn, options="-c role=revops_ingest")
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        extract.load(route=Route(extract.connect_reader, lambda: Forgetful.connect(dsn)), **RANGED)
    assert committed(extract) == 6
    extract.load(**RANGED)
    extract.assert_same()


@contextmanager
def interrupted() -> Iterator[Callable[[], None]]:
    """Give what raises KilledError in the main thread, as a signal to a task does."""

    def handler(*_: object) -> None:
        raise KilledError

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_task_that_is_told_to_end_does_not_read_all_ranges_first(
    extract: Extract, before_range: dict[int, Callable[[], Any]]
) -> None:
    extract.run(LEADS)
    waiting = threading.Event()
    with interrupted() as interrupt:
        before_range[3] = interrupt
        before_range[5] = lambda: waiting.wait(0.3)
        with pytest.raises(KilledError):
            extract.load(**RANGED)
    assert committed(extract) < 10
    extract.load(**RANGED)
    extract.assert_same()


def test_a_failure_in_one_worker_stops_the_others(extract: Extract, before_range: dict[int, Callable[[], Any]]) -> None:
    extract.run(LEADS)
    before_range[4] = kill
    with pytest.raises(KilledError):
        extract.load(workers=3, **RANGED)
    assert committed(extract) <= 8
    assert extract.last_load()["status"] == "failed"


def test_a_mode_that_does_not_fit_is_told_before_the_first_range(extract: Extract) -> None:
    extract.run(LEADS)
    with pytest.raises(ExtractError, match="the cursor 'name' is of type text"):
        extract.load(mode="cursor", cursor="name", **RANGED)
    assert committed(extract) == 0
    assert tables_in_raw(extract) == set()


@pytest.mark.parametrize(
    "settings", [{"mode": "cursor", "cursor": "at"}, {"mode": "full"}, {"mode": "replace_period", "period": ["at"]}]
)
def test_every_mode_begins_and_resumes_in_ranges(
    extract: Extract, before_range: dict[int, Callable[[], Any]], settings: dict[str, Any]
) -> None:
    extract.run(LEADS + "; alter table t add at timestamptz")
    extract.run("update t set at = now() - interval '1 day'")
    pages = query(extract.source, "select pg_relation_size('t') / 8192")[0][0]
    cut_off(extract, before_range, pages // PAGES_A_RANGE - 5, **settings)
    # Neither has a new stamp: rows are told apart by their transactions until the first load is complete.
    extract.run("update t set name = 'silent' where id in (1, 2, 155); delete from t where id = 150")
    extract.load(**settings, **RANGED)
    extract.assert_same()
    extract.run("update t set name = 'told', at = now() where id = 5")
    extract.load(**settings, **RANGED)
    extract.assert_same()
