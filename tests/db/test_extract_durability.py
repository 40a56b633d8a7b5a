"""A watermark counts on nothing that the source could still forget in a crash."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from builders import Extract, counts, query

from revops.extract import load
from revops.extract.durability import Written, durable_horizon, read_written
from revops.extract.window import Horizon

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text); insert into t select n, 'name' from generate_series(1, 5) n"
)


def ahead(connection: psycopg.Connection) -> str:
    """A position that the log will not reach."""
    return str(query(connection, "select (pg_current_wal_insert_lsn() + 1099511627776::numeric)::text")[0][0])


def next_xid(connection: psycopg.Connection) -> int:
    return int(query(connection, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0])


def checkpoint(extract: Extract, superuser: psycopg.Connection) -> None:
    extract.run("create table if not exists touched (id int); insert into touched values (1)")
    superuser.execute("checkpoint")


@pytest.fixture
def superuser(extract: Extract, postgres: Any) -> Any:
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        yield connection


def test_what_is_on_disk_is_counted_on(extract: Extract) -> None:
    extract.run("create table t (id int)")
    written = read_written(extract.reader)
    assert written is not None
    horizon = Horizon(next_xid(extract.source), next_xid(extract.source), "here")
    assert durable_horizon(extract.reader, horizon, written) == horizon


def test_the_checkpoint_bounds_what_is_not(extract: Extract, superuser: psycopg.Connection) -> None:
    checkpoint(extract, superuser)
    since = next_xid(extract.source)
    extract.run("create table t (id int)")
    written = read_written(extract.reader)
    assert written is not None
    assert written.durable_xid == since
    horizon = Horizon(since + 1, since + 1, "here")
    lost = replace(written, position=ahead(extract.source), deadline=time.monotonic() + 0.2)
    assert durable_horizon(extract.reader, horizon, lost) == Horizon(since, since + 1, "here")


def test_a_horizon_before_the_checkpoint_needs_no_log(extract: Extract, superuser: psycopg.Connection) -> None:
    checkpoint(extract, superuser)
    written = read_written(extract.reader)
    assert written is not None
    horizon = Horizon(written.durable_xid, written.durable_xid + 9, "here")
    assert durable_horizon(extract.reader, horizon, replace(written, position=ahead(extract.source))) == horizon


def test_rows_since_the_checkpoint_are_read_again(
    extract: Extract, superuser: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log was not on disk when a load ended: what was seen is not trusted to have been before."""

    def unwritten(source: psycopg.Connection) -> Written:
        return Written(ahead(source), since, time.monotonic())

    extract.run(PEOPLE)
    checkpoint(extract, superuser)
    since = next_xid(extract.source)
    extract.run("update t set name = 'new' where id = 1")
    with monkeypatch.context() as patched:
        patched.setattr(load, "read_written", unwritten)
        assert extract.load().read == 5
    extract.run("update t set name = 'newer' where id = 2")
    # read, inserted, updated, unchanged, deleted: row 1 once more, and not written again.
    assert counts(extract.load()) == (2, 0, 1, 1, 0)
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    extract.assert_same()


def test_of_a_server_that_refuses_to_tell_everything_is_counted_on(extract: Extract) -> None:
    """As managed servers with a storage of their own may; the reading transaction goes on."""
    extract.run(
        "create schema hidden; create function hidden.pg_current_wal_insert_lsn() returns pg_lsn language plpgsql "
        "as $$begin raise feature_not_supported; end$$"
    )
    horizon = Horizon(5, 7, "here")
    with extract.connect_reader() as reader:
        reader.execute("set search_path = hidden, pg_catalog, public")
        reader.commit()
        assert read_written(reader) is None
        assert durable_horizon(reader, horizon, None) == horizon
        assert reader.execute("select 1").fetchone() == (1,)
    extract.run("drop schema hidden cascade")
