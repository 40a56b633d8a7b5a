"""Loads from a real source into a real warehouse: raw equals the source, whatever happens in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import Extract, counts, query, source_config
from psycopg.conninfo import make_conninfo

from revops.extract import ledger, stream
from revops.extract.errors import ExtractError, LoadBusyError, TableMissingError
from revops.extract.ledger import Ledger, record_given_up
from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.extract.snapshot import find_snapshot, hold_snapshot

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, written timestamp default now());"
    "insert into t (id, name) select n, 'name ' || n from generate_series(1, 10) n"
)


def test_first_load_equals_the_source(extract: Extract) -> None:
    extract.run(PEOPLE)
    assert counts(extract.load()) == (10, 10, 0, 0, 0)
    extract.assert_same()
    load = extract.last_load()
    assert (load["status"], load["full_read_reason"], load["source_rows"]) == ("succeeded", "first load", 10)
    assert load["bytes"] > 0
    assert load["finished_at"] >= load["started_at"]
    assert query(extract.warehouse, "select distinct _load_id, _deleted_at from raw.odoo_t") == [
        (load["load_id"], None)
    ]
    assert query(extract.warehouse, "select load_id from ops.watermark") == [(load["load_id"],)]


def test_second_load_reads_nothing(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    before = extract.everything()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.last_load()["full_read_reason"] is None
    assert extract.everything() == before


def test_an_update_that_touches_no_timestamp_is_found(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("update t set name = 'silent' where id = 4")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_a_row_written_back_to_its_old_value_is_read_but_not_written(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    before = extract.everything()
    extract.run("update t set name = name where id <= 3")
    assert counts(extract.load()) == (3, 0, 0, 3, 0)
    assert extract.everything() == before


def test_a_transaction_open_during_a_load_is_found_by_the_next(extract: Extract) -> None:
    extract.run(PEOPLE)
    late = extract.connect_source()
    late.execute("insert into t (id, name) values (11, 'late')")
    late.execute("update t set name = 'late too' where id = 1")
    late.execute("delete from t where id = 2")
    # Younger transactions finish before the older one does.
    extract.run("insert into t (id, name) values (12, 'younger')")
    assert counts(extract.load()) == (11, 11, 0, 0, 0)
    extract.assert_same()
    extract.run("insert into t (id, name) values (13, 'younger still')")
    extract.load()
    late.commit()
    result = extract.load()
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    extract.assert_same()


def test_insert_update_delete_and_revive(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("insert into t (id, name) values (11, 'new'); update t set name = 'changed' where id = 2")
    extract.run("delete from t where id in (3, 4)")
    assert counts(extract.load()) == (2, 1, 1, 0, 2)
    extract.assert_same()
    load_id = extract.last_load()["load_id"]
    gone = "select id, name, _load_id from raw.odoo_t where _deleted_at is not null order by id"
    assert query(extract.warehouse, gone) == [(3, "name 3", load_id), (4, "name 4", load_id)]
    # The same row comes back with the same values: it lives again all the same.
    extract.run("insert into t select 3, 'name 3', written from t where id = 1")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()
    assert query(extract.warehouse, gone) == [(4, "name 4", load_id)]


def test_a_deleted_row_is_marked_once(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("delete from t where id = 3")
    extract.load()
    before = extract.everything()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.everything() == before


def test_all_rows_deleted_and_truncated(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("truncate t")
    assert counts(extract.load()) == (0, 0, 0, 0, 10)
    assert extract.raw() == extract.in_source() == Counter()
    extract.run("insert into t (id, name) values (1, 'again')")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


@pytest.mark.parametrize(
    "changes",
    [
        "delete from t where id in (2, 3); insert into t (id, name) values (11, 'a'), (12, 'b')",
        "delete from t where id in (1, 10); insert into t (id, name) values (0, 'a'), (11, 'b')",
        "update t set id = id + 100 where id in (5, 6)",
        "update t set id = -id",
    ],
)
def test_as_many_rows_deleted_as_inserted(extract: Extract, changes: str) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run(changes)
    result = extract.load()
    assert result.inserted == result.deleted > 0
    extract.assert_same()


def test_a_row_missing_in_raw_is_noticed_and_full_refresh_mends_it(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("delete from raw.odoo_t where id = 7")
    extract.ingest.commit()
    before = extract.everything()
    with pytest.raises(ExtractError, match=r"raw\.odoo_t lacks 1 row\(s\) of the source by id: 7\..*full_refresh"):
        extract.load()
    assert extract.last_load()["status"] == "failed"
    assert extract.everything() == before
    assert counts(extract.load(full_refresh=True)) == (10, 1, 0, 9, 0)
    extract.assert_same()


def test_a_key_exchanged_in_raw_is_noticed_by_the_digest(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("update raw.odoo_t set id = 99 where id = 7")
    extract.ingest.commit()
    with pytest.raises(ExtractError, match=r"lacks 1 row\(s\) of the source by id: 7\."):
        extract.load()


def test_full_refresh_corrects_values_changed_in_raw(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("update raw.odoo_t set name = 'wrong' where id = 7")
    extract.ingest.commit()
    with pytest.raises(ExtractError, match=r"differs from the source in column\(s\) name by id: 7\..*full_refresh"):
        extract.load()
    assert counts(extract.load(full_refresh=True)) == (10, 0, 1, 9, 0)
    assert extract.last_load()["full_read_reason"] == "full_refresh was asked for"
    extract.assert_same()


def test_mode_full_reads_every_row_each_time(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(mode="full")
    extract.run("update t set name = 'x' where id = 1")
    assert counts(extract.load(mode="full")) == (10, 0, 1, 9, 0)
    extract.assert_same()


def test_composite_key(extract: Extract) -> None:
    # The key's order is not the columns' order, and one column has no other data.
    extract.run(
        "create table t (tag integer, lead integer, primary key (lead, tag));"
        "insert into t select tag, lead from generate_series(1, 5) lead, generate_series(1, 4) tag"
    )
    extract.load()
    extract.run("delete from t where lead = 2 and tag > 1; insert into t values (9, 1), (9, 2), (9, 3)")
    assert counts(extract.load()) == (3, 3, 0, 0, 3)
    extract.assert_same()
    extract.run("insert into t values (2, 2)")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_text_key(extract: Extract) -> None:
    extract.run(
        "create table t (id text primary key, n integer);"
        "insert into t values ('O1', 1), ('O10', 2), ('', 3), (E'tab\\tkey', 4), ('Ω', 5), ('\\N', 6)"
    )
    extract.load()
    extract.assert_same()
    extract.run("update t set id = 'O2' where id = 'O1'; delete from t where id = ''; update t set n = 0 where n = 6")
    assert counts(extract.load()) == (2, 1, 1, 0, 2)
    extract.assert_same()


NAMES = (
    "Mixed Case",
    "select",
    'a"b',
    "a%sb",
    "a%b",
    "{}",
    "a'b",
    "t",
    "k",
    "excluded",
    "staging",
    "ctid_",
    "é",
    " ",
    "n" * 63,
)


def test_hostile_names(extract: Extract) -> None:
    table = 'Order "Lines" %s'
    quoted = table.replace('"', '""')
    columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" text' for name in NAMES)
    extract.run(f'create table "{quoted}" ("Order" integer, "User" integer, {columns}, primary key ("User", "Order"))')
    values = ", ".join(f"'{number}'" for number in range(len(NAMES)))
    extract.run(f'insert into "{quoted}" select n, n, {values} from generate_series(1, 3) n')
    extract.load(table)
    extract.assert_same(table)
    extract.run(f'update "{quoted}" set "select" = \'new\' where "Order" = 1; delete from "{quoted}" where "User" = 2')
    assert counts(extract.load(table)) == (1, 0, 1, 0, 1)
    extract.assert_same(table)
    assert [name for name in extract.raw_types(table) if not name.startswith("_")] == ["Order", "User", *NAMES]


def test_table_names_too_long_for_raw_stay_apart(extract: Extract) -> None:
    names = ["a" * 62 + end for end in "xy"]
    for name in names:
        extract.run(f"create table {name} (id integer primary key); insert into {name} values ({ord(name[-1])})")
        extract.load(name)
    assert query(extract.warehouse, "select count(*) from pg_tables where schemaname = 'raw'") == [(2,)]


def test_rows_of_a_table_without_key_are_matched_by_content(extract: Extract) -> None:
    extract.run("create table t (n integer, name text); insert into t values (1, 'a'), (1, 'a'), (null, null)")
    extract.load()
    extract.assert_same()
    extract.run("delete from t where ctid = (select min(ctid) from t where n = 1); insert into t values (2, 'b')")
    result = extract.load()
    assert counts(result) == (3, 1, 0, 2, 1)
    extract.assert_same()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.raw(where="_deleted_at is not null") == Counter([("1", "a")])
    extract.run("truncate t")
    extract.load()
    assert extract.raw() == Counter()


def test_empty_source_table(extract: Extract) -> None:
    extract.run("create table t (id integer primary key, name text)")
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert list(extract.raw_types()) == ["id", "name", "_loaded_at", "_load_id", "_deleted_at"]
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    extract.run("insert into t values (1, 'a')")
    assert counts(extract.load()) == (1, 1, 0, 0, 0)
    extract.assert_same()


def test_excluded_columns_never_arrive(extract: Extract) -> None:
    extract.run(
        "create table t (id integer primary key, Name text, password text, Access_Token text, note text);"
        "insert into t values (1, 'a', 'secret-1', 'secret-2', 'secret-3')"
    )
    settings = {"exclude_everywhere": ("*.password", "*.access_token"), "exclude_columns": ["not*"]}
    extract.load(**settings)
    assert list(extract.raw_types()) == ["id", "name", "_loaded_at", "_load_id", "_deleted_at"]
    extract.run("insert into t values (2, 'b', 'secret-4', 'secret-5', 'secret-6')")
    extract.load(**settings)
    extract.assert_same(without=("password", "access_token", "note"))
    # Nor are they mentioned anywhere else in the warehouse.
    assert "secret" not in str(query(extract.warehouse, "select to_jsonb(l)::text from ops.load l"))


def test_an_excluded_key_column_is_refused(extract: Extract) -> None:
    extract.run(PEOPLE)
    with pytest.raises(ExtractError, match=r"odoo\.t: exclude_columns names the key column.*id.*include/sources/odoo"):
        extract.load(exclude_columns=["i?"])
    assert extract.last_load()["status"] == "failed"
    assert extract.raw_types() == {}


def test_a_table_whose_columns_are_all_excluded_is_refused(extract: Extract) -> None:
    extract.run("create table t (a text, b text); insert into t values ('secret', 'secret')")
    with pytest.raises(ExtractError, match=r"odoo\.t: no column is left.*include/sources/odoo\.yaml"):
        extract.load(exclude_columns=["*"])


@pytest.mark.parametrize("name", ["_load_id", "_loaded_at", "_deleted_at"])
def test_a_column_with_a_name_that_revops_needs(extract: Extract, name: str) -> None:
    extract.run(f"create table t (id integer primary key, {name} integer); insert into t values (1, 2)")
    with pytest.raises(ExtractError, match=rf"column\(s\) \['{name}'\].*exclude_columns"):
        extract.load()
    assert extract.last_load()["status"] == "failed"
    # The remedy that the message names is one.
    extract.load(exclude_columns=[name])
    extract.assert_same(without=(name,))


def test_an_optional_table_is_absent_and_recorded_once(extract: Extract) -> None:
    for _ in range(2):
        result = extract.load(optional=True)
        assert result.is_absent
        assert counts(result) == (0, 0, 0, 0, 0)
        assert extract.last_load()["status"] == "absent"
    assert extract.changes() == [("table_absent", None, None, None)]
    extract.run(PEOPLE)
    extract.load(optional=True)
    extract.assert_same()
    assert [change for change, *_ in extract.changes()] == ["table_absent", "table_created"]


def test_a_table_that_goes_away_keeps_its_rows_in_raw_and_is_recorded_when_it_returns(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(optional=True)
    before = extract.everything()
    extract.run("alter table t rename to away")
    assert extract.load(optional=True).is_absent
    assert extract.everything() == before
    extract.run("alter table away rename to t; delete from t where id = 1; update t set name = 'x' where id = 2")
    assert counts(extract.load(optional=True)) == (1, 0, 1, 0, 1)
    extract.assert_same()
    assert [change for change, *_ in extract.changes()] == ["table_created", "table_absent", "table_returned"]


def test_a_missing_table_that_is_not_optional(extract: Extract) -> None:
    with pytest.raises(TableMissingError, match=r"no table public\.t or public\.u.*alternatives.*optional: true"):
        extract.load(alternatives=["u"])
    load = extract.last_load()
    assert load["status"] == "failed"
    assert "public.t or public.u" in load["error"]


def test_alternatives_are_tried_in_their_order(extract: Extract) -> None:
    for number, name in enumerate(("third", "second")):
        extract.run(f"create table {name} (id integer primary key); insert into {name} values ({number})")
    settings = {"alternatives": ["second", "third"]}
    extract.load("first", **settings)
    assert extract.raw("first") == extract.in_source("second")
    # The better name appears: another table, so every row is read again.
    extract.run("create table first (id integer primary key); insert into first values (7), (8)")
    extract.load("first", **settings)
    assert extract.raw("first") == extract.in_source("first")
    assert extract.last_load()["full_read_reason"] == "the source table was re-created, restored or altered"


def test_no_right_to_select(extract: Extract, passwords: dict[str, str]) -> None:
    extract.run(PEOPLE + "; grant usage on schema public to odoo_reader")
    dsn = make_conninfo(extract.source_dsn, user="odoo_reader", password=passwords["odoo_reader"])
    route = Route(lambda: psycopg.connect(dsn), extract.connect_ingest)
    with pytest.raises(ExtractError, match=r'may not read public\.t.*GRANT SELECT ON public\."t"'):
        extract.load(route=route)
    assert extract.last_load()["status"] == "failed"
    extract.run("grant select on t to odoo_reader")
    extract.load(route=route)
    extract.assert_same()


def test_rows_hidden_by_a_policy_are_not_taken_for_deleted(extract: Extract, passwords: dict[str, str]) -> None:
    extract.run(PEOPLE + "; grant usage on schema public to odoo_reader; grant select on t to odoo_reader")
    dsn = make_conninfo(extract.source_dsn, user="odoo_reader", password=passwords["odoo_reader"])
    route = Route(lambda: psycopg.connect(dsn), extract.connect_ingest)
    extract.load(route=route)
    before = extract.everything()
    extract.run("alter table t enable row level security; create policy half on t using (id > 5)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        extract.load(route=route)
    assert extract.everything() == before


def test_two_loads_of_one_table_at_once(extract: Extract) -> None:
    extract.run(PEOPLE)
    with psycopg.connect(make_conninfo(extract.warehouse_dsn, options="-c role=revops_ingest")) as other:
        other.execute("select pg_advisory_xact_lock(hashtextextended('load:odoo.t', 0))")
        with pytest.raises(LoadBusyError, match=r"odoo\.t is being loaded by another run"):
            extract.load()
        assert extract.last_load()["status"] == "failed"
    extract.load()
    extract.assert_same()


def test_of_loads_at_once_one_goes_through_and_the_others_say_busy(extract: Extract) -> None:
    extract.run("create table t as select n as id, repeat('x', 200) as text from generate_series(1, 30000) n")
    extract.run("alter table t add primary key (id)")
    outcomes: list[str] = []
    start = threading.Barrier(3)

    def load() -> None:
        start.wait()
        try:
            extract.load()
            outcomes.append("loaded")
        except LoadBusyError:
            outcomes.append("busy")

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "loaded" in outcomes
    assert set(outcomes) <= {"loaded", "busy"}
    assert len(outcomes) == 3
    extract.assert_same()
    statuses = [status for (status,) in query(extract.warehouse, "select status from ops.load")]
    assert sorted(statuses) == sorted({"loaded": "succeeded", "busy": "failed"}[outcome] for outcome in outcomes)


def test_a_load_that_lost_its_turn_gives_way_to_a_newer_one(extract: Extract) -> None:
    """A worker pauses between opening its load and taking the lock; meanwhile a newer load commits."""
    extract.run(PEOPLE)
    extract.load()
    slow = extract.connect_ingest()
    row = slow.execute(
        "insert into ops.load (source, table_name, run_id, mode, status) "
        "values ('odoo', 't', 'old', 'xid', 'running') returning load_id"
    ).fetchone()
    slow.commit()
    assert row is not None
    extract.load()
    assert query(extract.warehouse, "select status, error from ops.load where load_id = %s", row[0]) == [
        ("failed", "the worker was lost; nothing was committed")
    ]


BIG = (
    "create table t (id integer primary key, text text);"
    "insert into t select n, md5(n::text) || repeat('x', 300) from generate_series(1, 60000) n"
)


def _terminate(dsn: str, application: str, query_like: str, done: threading.Event) -> None:
    """End the session of an application while it runs a statement like the one given."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = %s and datname = current_database() and state = 'active' and query ilike %s",
                (application, query_like),
            ).fetchall()
            if found:
                done.set()
                return


@pytest.mark.parametrize("first", [True, False])
def test_source_session_ended_during_the_copy(extract: Extract, first: bool) -> None:
    extract.run(BIG)
    if not first:
        extract.load()
        extract.run("update t set text = text || 'y'; delete from t where id = 1")
    before = None if first else extract.everything()
    watermark = extract.watermark()
    done = threading.Event()
    killer = threading.Thread(target=_terminate, args=(extract.source_dsn, "reader", "copy (%", done))
    killer.start()
    with pytest.raises(psycopg.OperationalError):
        extract.load()
    killer.join()
    assert done.is_set()
    load = extract.last_load()
    assert (load["status"], load["rows_read"]) == ("failed", None)
    assert load["error"]
    assert load["finished_at"] is not None
    if first:
        assert extract.raw_types() == {}
    else:
        assert extract.everything() == before
    assert extract.watermark() == watermark
    extract.load()
    extract.assert_same()


def test_warehouse_session_ended_is_recorded_by_the_ledgers_own_session(extract: Extract) -> None:
    extract.run(BIG)
    done = threading.Event()
    killer = threading.Thread(target=_terminate, args=(extract.warehouse_dsn, "ingest", "copy %", done))
    killer.start()
    with pytest.raises(psycopg.OperationalError):
        extract.load()
    killer.join()
    assert done.is_set()
    lost = extract.last_load()
    assert (lost["status"], lost["rows_read"]) == ("failed", None)
    assert extract.raw_types() == {}
    assert "closed" in lost["error"] or "terminat" in lost["error"]
    extract.load()
    extract.assert_same()


def test_a_failure_in_the_warehouse_leaves_raw_as_it_was(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("alter table raw.odoo_t add constraint planted check (name <> 'poison')")
    extract.ingest.commit()
    before, watermark, changes = extract.everything(), extract.watermark(), extract.changes()
    extract.run(
        "alter table t add column extra integer; delete from t where id = 1; update t set name = 'poison' where id = 2"
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        extract.load()
    load = extract.last_load()
    assert load["status"] == "failed"
    # The message names the constraint; the row's values are nobody's business.
    assert "planted" in load["error"]
    assert "poison" not in load["error"]
    assert "name 2" not in load["error"]
    assert extract.everything() == before
    assert "extra" not in extract.raw_types()
    assert (extract.watermark(), extract.changes()) == (watermark, changes)
    extract.ingest.execute("alter table raw.odoo_t drop constraint planted")
    extract.ingest.commit()
    extract.load()
    extract.assert_same()


def test_a_locked_source_table_is_given_up_quickly(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    other = extract.connect_source()
    other.execute("lock table t in access exclusive mode")
    config = source_config().model_copy(update={"lock_timeout_s": 1})
    started = time.monotonic()
    with pytest.raises(psycopg.errors.LockNotAvailable):
        load_table(extract.route, config=config, table=config.tables[0], run_id="locked")
    assert time.monotonic() - started < 4
    other.rollback()
    extract.load()
    extract.assert_same()


def test_the_read_leaves_no_transaction_open_in_the_source(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    assert (
        query(
            extract.source,
            "select state from pg_stat_activity where application_name = 'reader' and datname = current_database() "
            "and state <> 'idle'",
        )
        == []
    )
    # No lock is left, so that the application may alter its table at once.
    extract.run("set lock_timeout = '500ms'; alter table t add column more integer")


def test_loads_add_up(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("update t set name = 'x' where id < 4; update t set name = name where id = 9")
    extract.run("insert into t (id) values (20); delete from t where id = 10")
    extract.load()
    load = extract.last_load()
    kinds = ("rows_read", "inserted", "updated", "unchanged", "deleted", "quarantined", "source_rows")
    assert [load[kind] for kind in kinds] == [5, 1, 3, 1, 1, 0, 10]
    # The warehouse itself refuses a load that does not add up.
    with pytest.raises(psycopg.errors.CheckViolation):
        extract.warehouse.execute("update ops.load set inserted = inserted + 1 where load_id = %s", (load["load_id"],))


def test_a_run_that_gives_up_says_so(extract: Extract) -> None:
    config = source_config()
    error = psycopg.OperationalError("the source is down")
    record_given_up(extract.ingest, config=config, table=config.tables[0], run_id="r1", error=error)
    load = extract.last_load()
    assert (load["status"], load["is_final"], load["run_id"]) == ("failed", True, "r1")
    assert "the source is down" in load["error"]
    with pytest.raises(TableMissingError) as failure:
        extract.load()
    run_id = extract.last_load()["run_id"]
    record_given_up(extract.ingest, config=config, table=config.tables[0], run_id=run_id, error=failure.value)
    assert query(extract.warehouse, "select count(*), bool_and(is_final) from ops.load") == [(2, True)]


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


def commits_with(extract: Extract, commit: Callable[[psycopg.Connection, Callable[[], None]], None]) -> Route:
    """A way whose warehouse sessions commit as the function does; it is given the session and the real commit."""

    class Session(psycopg.Connection):
        def commit(self) -> None:
            commit(self, super().commit)

    dsn = make_conninfo(extract.warehouse_dsn, options="-c role=revops_ingest", application_name="ingest")
    return Route(extract.connect_reader, lambda: Session.connect(dsn))


def lose_answer() -> None:
    raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_whose_answer_is_lost_is_a_load(extract: Extract, is_first: bool) -> None:
    def commit(_: psycopg.Connection, real: Callable[[], None]) -> None:
        real()
        lose_answer()

    extract.run(PEOPLE)
    if not is_first:
        extract.load()
        extract.run("update t set name = 'x' where id = 1; delete from t where id = 2; insert into t (id) values (11)")
    result = extract.load(route=commits_with(extract, commit))
    assert counts(result) == ((10, 10, 0, 0, 0) if is_first else (2, 1, 1, 0, 1))
    extract.assert_same()
    load = extract.last_load()
    assert (load["load_id"], load["status"], load["error"]) == (result.load_id, "succeeded", None)
    assert counts(extract.load()) == (0, 0, 0, 0, 0)


def test_a_commit_that_is_still_under_way_is_waited_for(extract: Extract) -> None:
    """The connection is lost while the server writes: it commits a moment after its client has given up."""
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute(
        "create or replace function raw.tarry() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.7); return null; end $$;"
        "create constraint trigger tarry after update on raw.odoo_t deferrable initially deferred "
        "for each row execute function raw.tarry()"
    )
    extract.ingest.commit()

    def commit(session: psycopg.Connection, _: Callable[[], None]) -> None:
        session.pgconn.send_query(b"commit")
        session.pgconn.flush()
        time.sleep(0.1)
        lose_answer()

    extract.run("update t set name = 'x' where id = 1")
    assert counts(extract.load(route=commits_with(extract, commit))) == (1, 0, 1, 0, 0)
    extract.assert_same()
    assert extract.last_load()["status"] == "succeeded"
    extract.ingest.execute("drop function raw.tarry cascade")
    extract.ingest.commit()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_that_never_arrived_is_no_load(extract: Extract, is_first: bool) -> None:
    def commit(session: psycopg.Connection, _: Callable[[], None]) -> None:
        session.close()
        lose_answer()

    extract.run(PEOPLE)
    if not is_first:
        extract.load()
        extract.run("update t set name = 'x' where id = 1; delete from t where id = 2")
    before = None if is_first else (extract.everything(), extract.watermark())
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        extract.load(route=commits_with(extract, commit))
    load = extract.last_load()
    assert (load["status"], "closed the connection" in load["error"]) == ("failed", True)
    if is_first:
        assert extract.raw_types() == {}
        assert extract.watermark() is None
    else:
        assert (extract.everything(), extract.watermark()) == before
    extract.load()
    extract.assert_same()


def test_a_commit_that_the_server_refuses_is_no_load(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute(
        "create table raw.names (name text primary key); insert into raw.names select name from raw.odoo_t;"
        "alter table raw.odoo_t add foreign key (name) references raw.names deferrable initially deferred"
    )
    extract.ingest.commit()
    before = extract.everything()
    extract.run("update t set name = 'unheard of' where id = 1")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        extract.load()
    assert extract.everything() == before
    load = extract.last_load()
    assert (load["status"], "unheard of" in load["error"]) == ("failed", False)


@pytest.mark.parametrize("is_answered", [True, False])
def test_the_ledgers_session_is_lost_with_the_commit(extract: Extract, is_answered: bool) -> None:
    """Nobody can tell then what became of the load, unless its COMMIT was answered; the next one is right anyway."""

    def commit(session: psycopg.Connection, real: Callable[[], None]) -> None:
        real()
        extract.warehouse.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name = 'ingest' and pid <> %s",
            (session.info.backend_pid,),
        )
        if not is_answered:
            lose_answer()

    extract.run(PEOPLE)
    if is_answered:
        assert extract.load(route=commits_with(extract, commit)).inserted == 10
    else:
        with pytest.raises(psycopg.OperationalError, match="closed the connection"):
            extract.load(route=commits_with(extract, commit))
    extract.assert_same()
    assert extract.last_load()["status"] == "succeeded"
    assert counts(extract.load()) == (0, 0, 0, 0, 0)


def test_a_load_that_was_taken_over_writes_nothing(extract: Extract) -> None:
    """Its session in the warehouse is cut, which it does not notice yet; the next load finds the lock free."""
    extract.run(PEOPLE)
    extract.load()
    taken_over = []

    def connect() -> psycopg.Connection:
        if not taken_over:
            taken_over.append(True)
            extract.run("update t set name = 'quick' where id = 1")
            with pytest.raises(LoadBusyError):
                extract.load()
            extract.warehouse.execute(
                "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory' and granted "
                "and database = (select oid from pg_database where datname = current_database())"
            )
            extract.load()
        return extract.connect_reader()

    with pytest.raises(psycopg.OperationalError):
        extract.load(route=Route(connect, extract.connect_ingest))
    extract.assert_same()
    assert query(extract.warehouse, "select load_id, status from ops.load where load_id > 1 order by 1") == [
        (2, "failed"),
        (3, "failed"),
        (4, "succeeded"),
    ]
    assert query(extract.warehouse, "select error from ops.load where load_id = 2") == [
        ("the worker was lost; nothing was committed",)
    ]
    assert query(extract.warehouse, "select load_id from ops.watermark") == [(4,)]


def test_a_running_load_tells_others_how_far_it_is(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TELL_S", 0.0)
    monkeypatch.setattr(stream, "PROGRESS_S", 0.0)
    seen: list[tuple[Any, ...]] = []
    columns = "status, phase, rows_read, bytes, expected_rows, format, full_read_reason, seconds"

    update = Ledger._update

    def told(self: Ledger, **facts: Any) -> None:
        update(self, **facts)
        seen.extend(query(extract.warehouse, f"select {columns} from ops.load order by load_id desc limit 1"))

    monkeypatch.setattr(Ledger, "_update", told)
    extract.run(f"{BIG}; analyze t")
    extract.load()
    phases = list(dict.fromkeys(phase for _, phase, *_ in seen))
    assert phases == ["reading", "indexing", "comparing"]
    assert {status for status, *_ in seen} == {"running"}
    reading = [row for row in seen if row[1] == "reading" and row[2] is not None]
    assert len(reading) > 10
    assert [row[2] for row in reading] == sorted(row[2] for row in reading)
    assert 0 < reading[0][2] < 5000
    assert 59_000 < reading[-1][2] <= 60_001
    assert all(row[3] > 300 * row[2] for row in reading)
    assert {row[4:7] for row in reading} == {(60_000, "binary", "first load")}
    assert reading[-1][7] > 0
    seen.clear()
    extract.run("update t set text = 'x' where id <= 100")
    extract.load()
    assert list(dict.fromkeys(phase for _, phase, *_ in seen)) == ["reading", "merging", "comparing"]
    # How many rows have changed is known when they have been read.
    assert {row[4] for row in seen} == {None}
    load = extract.last_load()
    assert (load["status"], load["phase"], load["rows_read"]) == ("succeeded", None, 100)


MEMORY = """
import json, sys
import psycopg
from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.sources import Source

dsns = json.loads(sys.stdin.read())
config = Source.model_validate(
    {"source": "odoo", "connection": "x", "schedule": "@daily", "tables": [{"name": "t"}]}
)
route = Route(lambda: psycopg.connect(dsns[0]), lambda: psycopg.connect(dsns[1]))
result = load_table(route, config=config, table=config.tables[0], run_id="run")
assert result.read == 300_000 and result.bytes > 300_000_000, result
# Not getrusage: its peak counts what the process that started this one had in memory.
status = open("/proc/self/status").read()
print("peak", status.split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_table(extract: Extract) -> None:
    extract.run("create table t (id integer primary key, text text); alter table t alter text set storage plain")
    extract.run("insert into t select n, repeat(md5(n::text), 31) from generate_series(1, 300000) n")
    ingest = make_conninfo(extract.warehouse_dsn, options="-c role=revops_ingest")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=json.dumps([extract.source_dsn, ingest]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "plugins")},
    )
    assert done.returncode == 0, done.stderr
    peak_kb = int(done.stdout.rsplit("peak", 1)[1])
    assert peak_kb < 150_000
    assert extract.last_load()["inserted"] == 300_000
