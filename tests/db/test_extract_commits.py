"""Commits whose answer is lost, that are refused, or that never arrived: each is a load once or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest
from builders import PEOPLE, Extract, counts, query
from psycopg.conninfo import make_conninfo

from revops.extract.errors import LoadBusyError
from revops.extract.sessions import Route

pytestmark = pytest.mark.db


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
