"""A user of the source who waits for a table that is being read gets it within seconds; the load tries again later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from builders import Extract, query

from revops.extract import giving_way, stream
from revops.extract.errors import GaveWayError
from revops.extract.ledger import Ledger
from revops.extract.sessions import Route

pytestmark = pytest.mark.db

BIG = (
    "create table t (id integer primary key, name text);"
    "insert into t select n, repeat(md5(n::text), 20) from generate_series(1, 20000) n"
)
SLOW_READ_S = 20.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "PATIENCE_S", 0.05)
    monkeypatch.setattr(giving_way, "POLL_S", 0.05)


@pytest.fixture
def slow_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Stop each stream after its first rows, until the event is set or time is up."""
    go_on = threading.Event()
    monkeypatch.setattr(stream, "PROGRESS_S", 0.0)
    monkeypatch.setattr(Ledger, "progress", lambda *_: go_on.wait(SLOW_READ_S))
    yield go_on
    go_on.set()


class User:
    """Somebody who runs a statement in a session of the source's own, and how long that took."""

    def __init__(self, extract: Extract, statement: str) -> None:
        self.seconds: float | None = None
        self.error: psycopg.Error | None = None
        self._session = extract.connect_source(autocommit=True)
        self._statement = statement
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self._session.execute("set lock_timeout = '10s'")
            self._session.execute(self._statement)  # type: ignore[arg-type]
        except psycopg.Error as error:
            self.error = error
        self.seconds = time.monotonic() - started

    def wait(self) -> None:
        self._thread.join(15)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_copying(extract: Extract) -> bool:
    statement = (
        "select exists (select from pg_stat_activity where datname = current_database() "
        "and application_name = 'reader' and state = 'active' and query ilike 'copy%%')"
    )
    return query(extract.source, statement) == [(True,)]


def load_in_background(extract: Extract) -> tuple[threading.Thread, list[BaseException | None]]:
    outcome: list[BaseException | None] = []

    def load() -> None:
        try:
            extract.load()
            outcome.append(None)
        except (GaveWayError, psycopg.Error) as error:
            outcome.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("is_first", [True, False])
def test_an_alter_table_goes_through_while_a_long_read_is_on(
    extract: Extract, slow_read: threading.Event, is_first: bool
) -> None:
    extract.run(BIG)
    if not is_first:
        slow_read.set()
        extract.load()
        slow_read.clear()
        extract.run("update t set name = name || 'x'")
    before = None if is_first else extract.everything()
    thread, outcome = load_in_background(extract)
    wait_until(lambda: is_copying(extract))
    user = User(extract, "alter table t add column more integer default 5")
    user.start()
    user.wait()
    assert user.error is None
    assert user.seconds is not None
    assert user.seconds < 5
    # The user does not wait for the load's own end, either.
    slow_read.set()
    thread.join(15)
    (error,) = outcome
    assert isinstance(error, GaveWayError)
    assert "odoo.t: reading was stopped, since somebody waited for a lock on the table" in str(error)
    load = extract.last_load()
    assert load["status"] == "failed"
    assert "GaveWayError" in load["error"]
    if is_first:
        assert extract.raw_types() == {}
    else:
        assert extract.everything() == before
    extract.load()
    extract.assert_same()


def test_a_lock_that_is_held_while_rows_are_merged_is_given_up_too(extract: Extract) -> None:
    """The reader has sent everything and is idle, but its transaction still holds the table."""
    extract.run(BIG)
    extract.load()
    extract.run("update t set name = 'changed' where id < 10")
    other = extract.connect_ingest()
    other.execute("lock table raw.odoo_t in share row exclusive mode")
    thread, outcome = load_in_background(extract)
    wait_until(
        lambda: bool(
            query(extract.warehouse, "select 1 from pg_locks where not granted and relation = 'raw.odoo_t'::regclass")
        )
    )
    user = User(extract, "alter table t add column more integer")
    user.start()
    user.wait()
    assert user.error is None
    other.rollback()
    thread.join(15)
    assert isinstance(outcome[0], GaveWayError)
    extract.load()
    extract.assert_same()


def test_a_view_lets_go_of_the_tables_below_it(extract: Extract) -> None:
    extract.run(
        "create table base (id integer primary key); insert into base select generate_series(1, 2000);"
        "create view t as select id, pg_sleep(0.01)::text as slow from base"
    )
    thread, outcome = load_in_background(extract)
    wait_until(lambda: is_copying(extract))
    user = User(extract, "alter table base add column more integer")
    user.start()
    user.wait()
    assert user.error is None
    thread.join(15)
    assert isinstance(outcome[0], GaveWayError)
    extract.run("delete from base where id > 20")
    extract.load()
    extract.assert_same()


def test_users_who_wait_for_each_other_do_not_end_a_load(extract: Extract, slow_read: threading.Event) -> None:
    extract.run(BIG + "; create table u (id integer)")
    holder = extract.connect_source()
    holder.execute("lock table u in access exclusive mode")
    thread, outcome = load_in_background(extract)
    wait_until(lambda: is_copying(extract))
    user = User(extract, "alter table u add column more integer")
    user.start()
    wait_until(lambda: bool(query(extract.source, "select 1 from pg_locks where not granted")))
    # Others read and write the table meanwhile, without a wait.
    extract.run("set lock_timeout = '500ms'; update t set name = 'users work on' where id = 1; select count(*) from t")
    time.sleep(0.3)
    slow_read.set()
    thread.join(15)
    assert outcome == [None]
    holder.rollback()
    user.wait()
    assert user.error is None
    extract.load()
    extract.assert_same()


def test_a_load_whose_watcher_can_not_connect_goes_on(extract: Extract, slow_read: threading.Event) -> None:
    extract.run(BIG)
    opened = []

    def connect() -> psycopg.Connection:
        if opened:
            slow_read.set()
            raise psycopg.OperationalError("FATAL: too many connections for role")
        opened.append(extract.connect_reader())
        return opened[0]

    extract.load(route=Route(connect, extract.connect_ingest))
    assert slow_read.is_set()
    extract.assert_same()


def test_a_quick_load_needs_no_second_session(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "PATIENCE_S", 30.0)
    opened = []

    def connect() -> psycopg.Connection:
        opened.append(extract.connect_reader())
        return opened[-1]

    extract.run(BIG)
    started = time.monotonic()
    extract.load(route=Route(connect, extract.connect_ingest))
    assert len(opened) == 1
    # Nor does the load wait for the watcher.
    assert time.monotonic() - started < 10
