"""A watermark counts on nothing that the source could still forget in a crash."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from builders import Extract, query

from revops.extract import durability, load
from revops.extract.durability import wait_until_durable, written_position
from revops.extract.errors import NotDurableError

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text); insert into t select n, 'name' from generate_series(1, 5) n"
)


def ahead(connection: psycopg.Connection, *, by: int) -> str:
    """A position of the log that is so many bytes further than what has been written."""
    return str(query(connection, "select (pg_current_wal_insert_lsn() + %s::numeric)::text", by)[0][0])


def test_what_is_on_disk_is_not_waited_for(extract: Extract) -> None:
    extract.run("create table t (id int)")
    position = written_position(extract.reader)
    assert position is not None
    wait_until_durable(extract.reader, position)


def test_it_waits_until_the_log_has_come_so_far(extract: Extract) -> None:
    extract.run("create table t (text text)")
    position = ahead(extract.source, by=100_000)
    done = threading.Event()

    def wait() -> None:
        wait_until_durable(extract.reader, position)
        done.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    assert not done.is_set()
    with extract.connect_source() as writer:
        writer.execute("insert into t select repeat(md5(n::text), 10) from generate_series(1, 1000) n")
    waiter.join(timeout=10)
    assert done.is_set()


def test_a_load_whose_source_does_not_write_its_log_commits_nothing(
    extract: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract.run(PEOPLE)
    extract.load()
    before, watermark = extract.everything(), extract.watermark()
    extract.run("update t set name = 'new' where id = 1")
    with monkeypatch.context() as patched:
        patched.setattr(durability, "PATIENCE_S", 0.2)
        patched.setattr(load, "written_position", lambda source: ahead(source, by=1 << 40))
        with pytest.raises(NotDurableError, match="has not written its log to disk"):
            extract.load()
    assert (extract.everything(), extract.watermark()) == (before, watermark)
    extract.load()
    extract.assert_same()


def test_a_server_that_refuses_to_tell_is_not_waited_for(extract: Extract) -> None:
    """As managed servers with a storage of their own may; the reading transaction goes on."""
    extract.run(
        "create schema hidden; create function hidden.pg_current_wal_insert_lsn() returns pg_lsn language plpgsql "
        "as $$begin raise feature_not_supported; end$$"
    )
    with extract.connect_reader() as reader:
        reader.execute("set search_path = hidden, pg_catalog, public")
        reader.commit()
        assert written_position(reader) is None
        wait_until_durable(reader, None)
        assert reader.execute("select 1").fetchone() == (1,)
    extract.run("drop schema hidden cascade")
