"""One exported snapshot for all tables of a run: what is seen in it, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from builders import PEOPLE, Extract, counts, query

from revops.extract.snapshot import find_snapshot, hold_snapshot

pytestmark = pytest.mark.db


@pytest.fixture
def shared_snapshot(extract: Extract) -> Callable[[], str]:
    """A snapshot exported and held by a thread, as the snapshot task of a run does."""
    released = threading.Event()
    threads: list[threading.Thread] = []

    def export() -> str:
        thread = threading.Thread(
            target=hold_snapshot,
            args=(extract.connect_source(), extract.connect_ingest()),
            kwargs={
                "source_name": "odoo",
                "run_id": "shared",
                "is_done": lambda _: released.is_set(),
                "hold_s": 30,
            },
        )
        thread.start()
        threads.append(thread)
        snapshot = find_snapshot(extract.ingest, source_name="odoo", run_id="shared", wait_s=10)
        assert snapshot is not None
        return snapshot.name

    yield export
    released.set()
    for thread in threads:
        thread.join(timeout=10)


def test_rows_committed_after_the_export_are_not_seen(extract: Extract, shared_snapshot: Callable[[], str]) -> None:
    extract.run(PEOPLE + "; create table u (id integer primary key); insert into u values (1)")
    extract.load()
    at_export = extract.in_source()
    name = shared_snapshot()
    extract.run("insert into t (id, name) values (11, 'after'); update t set name = 'after' where id = 1")
    extract.run("delete from t where id = 2; insert into u values (2)")
    result = extract.load(snapshot=name)
    assert counts(result) == (0, 0, 0, 0, 0)
    assert extract.raw() == at_export
    extract.load("u", snapshot=name)
    assert extract.raw("u") == Counter([("1",)])
    load = extract.last_load()
    assert (load["snapshot"], load["is_shared_snapshot"]) == (name, True)
    # What the snapshot did not show comes with the next load.
    extract.load()
    extract.load("u")
    extract.assert_same()
    extract.assert_same("u")


def test_a_holder_locks_nothing_and_ends_when_all_is_read(extract: Extract, shared_snapshot: Callable[[], str]) -> None:
    extract.run(PEOPLE)
    shared_snapshot()
    extract.run("set lock_timeout = '500ms'; alter table t add column more integer")


def test_a_table_rewritten_after_the_export_is_not_taken_for_empty(
    extract: Extract, shared_snapshot: Callable[[], str]
) -> None:
    """To an older snapshot a table that ALTER TABLE rewrote or TRUNCATE emptied looks empty."""
    extract.run(PEOPLE)
    extract.load()
    name = shared_snapshot()
    extract.run("alter table t alter column id type bigint")
    extract.load(snapshot=name)
    extract.assert_same()
    assert query(extract.warehouse, "select count(*) from raw.odoo_t where _deleted_at is not null") == [(0,)]
    assert extract.last_load()["is_shared_snapshot"] is False


@pytest.mark.parametrize(
    "ddl",
    [
        "truncate t",
        "alter table t drop column name",
        "alter table t rename column name to title",
        "drop table t; create table t (id integer primary key); insert into t values (1)",
        "alter table t rename to u; create table t (id integer primary key, name text); insert into t values (1, 'x')",
    ],
)
def test_a_table_altered_after_the_export_is_read_as_it_is_now(
    extract: Extract, shared_snapshot: Callable[[], str], ddl: str
) -> None:
    extract.run(PEOPLE)
    extract.load()
    name = shared_snapshot()
    extract.run(ddl)
    extract.load(snapshot=name)
    kept = {row[0] for row in extract.in_source()}
    assert {row[0] for row in extract.raw()} == kept


def test_a_snapshot_whose_holder_has_ended_is_replaced_by_one_of_the_load(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(snapshot="00000003-0000001B-1")
    extract.assert_same()
    load = extract.last_load()
    assert (load["snapshot"], load["is_shared_snapshot"]) == (None, False)


def test_a_released_snapshot_is_not_offered(extract: Extract) -> None:
    hold_snapshot(
        extract.connect_source(),
        extract.connect_ingest(),
        source_name="odoo",
        run_id="over",
        is_done=lambda _: True,
        hold_s=30,
    )
    assert find_snapshot(extract.ingest, source_name="odoo", run_id="over", wait_s=5) is None
    assert find_snapshot(extract.ingest, source_name="odoo", run_id="never", wait_s=0) is None


def test_a_snapshot_is_held_no_longer_than_allowed(extract: Extract) -> None:
    started = time.monotonic()
    hold_snapshot(
        extract.connect_source(),
        extract.connect_ingest(),
        source_name="odoo",
        run_id="long",
        is_done=lambda _: False,
        hold_s=0.6,
    )
    assert 0.6 <= time.monotonic() - started < 5
    assert query(extract.warehouse, "select released_at is not null from ops.source_snapshot") == [(True,)]
