"""Two loads at a time, and sessions, servers or locks that fail: raw stays whole and the record says what was."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from builders import BIG, PEOPLE, Extract, query, source_config
from psycopg.conninfo import make_conninfo

from revops.extract.errors import LoadBusyError
from revops.extract.load import load_table

pytestmark = pytest.mark.db


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
