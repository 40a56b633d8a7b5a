"""Mode cursor: the rows that a timestamp names, from a moment on at which the source was at rest; the rest compared."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from builders import Extract, counts, query

from revops.extract import bound
from revops.extract.bound import read_cursor_bound
from revops.extract.errors import ExtractError
from revops.extract.sessions import Route
from revops.extract.snapshot import SharedSnapshot, exported_snapshot, find_snapshot, hold_snapshot
from revops.local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.db

CURSOR = {"mode": "cursor", "cursor": "at"}
# Stamped long before the test, so that a row is read again only where something else than the lag asks for it.
DEALS = (
    "create table t (id integer primary key, name text, at timestamptz);"
    "insert into t select n, 'name ' || n, now() - interval '1 day' from generate_series(1, 10) n"
)


@pytest.fixture
def superuser(extract: Extract, postgres: EmbeddedPostgres) -> Iterator[Callable[[str], psycopg.Connection]]:
    """Sessions in the source that may see what all others do, as a member of pg_read_all_stats may."""
    opened: list[psycopg.Connection] = []

    def connect(application: str) -> psycopg.Connection:
        dsn = postgres.conninfo(extract.source.info.dbname)
        opened.append(psycopg.connect(dsn, application_name=application))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def seeing(extract: Extract, superuser: Callable[[str], psycopg.Connection], monkeypatch: pytest.MonkeyPatch) -> Route:
    """A way into the source that tells how long its transactions run; without the allowance that hides seconds."""
    monkeypatch.setattr(bound, "REPORT_GAP", timedelta(0))
    return Route(lambda: superuser("revops:test"), extract.connect_ingest)


def clock(connection: psycopg.Connection) -> datetime:
    found: datetime = query(connection, "select clock_timestamp()")[0][0]
    return found


def test_only_rows_from_the_bound_on_are_read(extract: Extract, seeing: Route) -> None:
    extract.run(DEALS)
    extract.load(route=seeing, **CURSOR)
    extract.assert_same()
    assert extract.last_load()["full_read_reason"] == "first load"
    extract.run("insert into t values (11, 'new', now()); update t set name = 'changed', at = now() where id = 3")
    assert counts(extract.load(route=seeing, **CURSOR)) == (2, 1, 1, 0, 0)
    extract.assert_same()
    load = extract.last_load()
    assert (load["mode"], load["full_read_reason"], load["source_rows"]) == ("cursor", None, None)
    assert counts(extract.load(route=seeing, **CURSOR)) == (0, 0, 0, 0, 0)


def test_a_transaction_that_commits_late_is_found(extract: Extract, seeing: Route) -> None:
    """Its rows bear the moment at which it began, which is behind every row that has been read meanwhile."""
    extract.run(DEALS)
    extract.load(route=seeing, **CURSOR)
    late = extract.connect_source()
    late.execute("insert into t values (11, 'late', now()); update t set name = 'late', at = now() where id = 1")
    extract.run("insert into t values (12, 'younger', now())")
    extract.load(route=seeing, **CURSOR)
    extract.run("insert into t values (13, 'younger still', now())")
    extract.load(route=seeing, **CURSOR)
    extract.assert_same()
    late.commit()
    result = extract.load(route=seeing, **CURSOR)
    assert (result.inserted, result.updated) == (1, 1)
    extract.assert_same()
    # With nobody at work the source is at rest now: nothing is read again.
    assert counts(extract.load(route=seeing, **CURSOR)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("lag_s", "is_found"), [(3600, True), (0, False)])
def test_a_login_that_does_not_see_transactions_relies_on_the_lag(extract: Extract, lag_s: int, is_found: bool) -> None:
    extract.run(DEALS)
    late = extract.connect_source()
    late.execute("insert into t values (11, 'late', now())")
    extract.load(of_source={"cursor_lag_s": lag_s}, **CURSOR)
    began, read = clock(extract.source) - timedelta(seconds=lag_s), extract.watermark()["from"]
    assert timedelta(0) <= began - datetime.fromisoformat(read) < timedelta(seconds=20)
    late.commit()
    extract.load(of_source={"cursor_lag_s": lag_s}, **CURSOR)
    assert (("11",) in {row[:1] for row in extract.raw()}) is is_found
    # Whatever the lag was too short for comes with the next comparison.
    extract.load(of_source={"cursor_lag_s": lag_s}, compare_every_h=0, **CURSOR)
    extract.assert_same()


def test_the_bound_is_the_start_of_the_oldest_transaction_of_others(
    extract: Extract, superuser: Callable[[str], psycopg.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = superuser("revops:reader")
    ours = superuser("revops:other task")
    ours.execute("select 1")
    elsewhere = psycopg.connect(extract.warehouse_dsn)
    elsewhere.execute("select 1")
    before = clock(extract.source)
    at_rest = read_cursor_bound(reader)
    assert at_rest is not None
    # Neither our own session's transaction nor that of another database holds the cursor back.
    assert timedelta(0) <= at_rest + bound.REPORT_GAP - before < timedelta(seconds=5)
    elsewhere.close()
    idle = extract.connect_source()
    idle.execute("select 1")
    began = query(idle, "select now()")[0][0]
    second = extract.connect_source()
    second.execute("select 1")
    assert read_cursor_bound(reader) == began - bound.REPORT_GAP
    assert reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    monkeypatch.setattr(bound, "REPORT_GAP", timedelta(0))
    assert read_cursor_bound(reader) == began
    idle.rollback()
    assert read_cursor_bound(reader) == query(second, "select now()")[0][0]


def test_a_login_without_the_right_is_told_nothing(extract: Extract) -> None:
    assert read_cursor_bound(extract.reader) is None
    assert extract.reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_prepared_transaction_holds_the_cursor_back(postgres: EmbeddedPostgres) -> None:
    """It belongs to no session any more, and may commit days later."""
    home = Path(tempfile.mkdtemp(prefix="revops-test-", dir="/var/tmp"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home / "server", postgres.install, "quiet")
    try:
        server.start()
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("alter system set max_prepared_transactions = 5")
            connection.execute("create database other")
        server.stop()
        server.start()
        with (
            psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection,
            psycopg.connect(server.conninfo("other"), autocommit=True) as other,
            psycopg.connect(server.conninfo("postgres"), application_name="revops:t") as reader,
        ):
            other.execute("begin; create table u (at timestamptz); prepare transaction 'elsewhere'")
            connection.execute("create table t (at timestamptz)")
            connection.execute("begin; insert into t values (now()); prepare transaction 'late'")
            prepared = query(connection, "select prepared from pg_prepared_xacts where gid = 'late'")[0][0]
            assert read_cursor_bound(reader) == prepared - bound.REPORT_GAP
            connection.execute("commit prepared 'late'")
            after = clock(connection)
            found = read_cursor_bound(reader)
            assert found is not None
            assert found + bound.REPORT_GAP >= after
            other.execute("rollback prepared 'elsewhere'")
    finally:
        server.stop()
        shutil.rmtree(home)


@pytest.mark.parametrize(
    ("declared", "now"),
    [
        ("timestamptz", "now()"),
        ("timestamp", "now() at time zone 'UTC'"),
        ("timestamp(0)", "date_trunc('second', now() at time zone 'UTC') + interval '1 second'"),
        ("timestamptz(3)", "now() + interval '1 millisecond'"),
    ],
)
def test_cursors_with_and_without_zone(extract: Extract, seeing: Route, declared: str, now: str) -> None:
    extract.run(f"set timezone = 'Asia/Kathmandu'; {DEALS}; alter table t alter at type {declared}")
    # As Odoo does, a column without zone holds UTC, whatever the zone of the session that writes.
    extract.run(f"update t set at = {now} - interval '1 day'")
    extract.load(route=seeing, **CURSOR)
    late = extract.connect_source()
    late.execute(f"set timezone = 'America/Lima'; insert into t values (11, 'late', {now})")
    extract.load(route=seeing, **CURSOR)
    late.commit()
    extract.run(f"update t set name = 'changed', at = {now} where id = 2")
    assert counts(extract.load(route=seeing, **CURSOR)) == (2, 1, 1, 0, 0)
    extract.run("reset timezone")
    extract.assert_same()


def test_rows_without_a_stamp_are_read_every_time(extract: Extract, seeing: Route) -> None:
    extract.run(DEALS + "; update t set at = null where id <= 3; update t set at = 'infinity' where id = 4")
    extract.load(route=seeing, **CURSOR)
    extract.run("update t set name = 'changed' where id = 1; insert into t values (11, 'new', null)")
    extract.run("update t set name = 'changed' where id = 4")
    assert counts(extract.load(route=seeing, **CURSOR)) == (5, 1, 2, 2, 0)
    extract.assert_same()


def test_what_moved_no_cursor_is_repaired_by_the_comparison(extract: Extract, seeing: Route) -> None:
    """Rows updated by hand, inserted with an old stamp, deleted: the cursor shows none of them."""
    extract.run(DEALS)
    extract.load(route=seeing, **CURSOR)
    before = extract.everything()
    extract.run(
        "update t set name = 'silent' where id in (2, 3); insert into t select 11, 'old', at from t where id = 1"
    )
    extract.run("delete from t where id = 4")
    assert counts(extract.load(route=seeing, **CURSOR)) == (0, 0, 0, 0, 0)
    assert extract.last_load()["repaired"] == 0
    assert extract.everything() == before
    result = extract.load(route=seeing, compare_every_h=0, **CURSOR)
    assert (result.inserted, result.updated, result.deleted, result.repaired) == (1, 2, 1, 3)
    extract.assert_same()
    load = extract.last_load()
    assert (load["repaired"], load["source_rows"]) == (3, 10)
    assert extract.raw(where="_deleted_at is not null").total() == 1


def test_a_repair_reads_the_buckets_that_differ_and_no_others(extract: Extract, seeing: Route) -> None:
    extract.run(
        "create table t (id integer primary key, name text, at timestamptz);"
        "insert into t select n, 'name ' || n, now() - interval '1 day' from generate_series(1, 5000) n"
    )
    extract.load(route=seeing, **CURSOR)
    extract.run("update t set name = 'silent' where id = 77; update t set name = 'told', at = now() where id = 78")
    result = extract.load(route=seeing, compare_every_h=0, **CURSOR)
    assert (result.inserted, result.updated, result.repaired, result.deleted) == (0, 2, 1, 0)
    assert result.read < 500
    extract.assert_same()


def test_everything_is_compared_once_the_time_is_over(extract: Extract, seeing: Route) -> None:
    """By the source's clock, and counted from the last comparison."""
    extract.run(DEALS)
    extract.load(route=seeing, compare_every_h=2, **CURSOR)

    def compared_before(age: str) -> None:
        extract.warehouse.execute(
            "update ops.watermark set watermark = watermark || jsonb_build_object('compared_at', "
            "to_char(now() at time zone 'UTC' - %s::interval, 'YYYY-MM-DD\"T\"HH24:MI:SS'))",
            (age,),
        )

    extract.run("update t set name = 'silent' where id = 2")
    compared_before("1 hour 59 minutes")
    assert extract.load(route=seeing, compare_every_h=2, **CURSOR).repaired == 0
    compared_before("2 hours 1 minute")
    assert extract.load(route=seeing, compare_every_h=2, **CURSOR).repaired == 1
    extract.assert_same()
    extract.run("update t set name = 'silent too' where id = 3; delete from t where id = 4")
    result = extract.load(route=seeing, compare_every_h=2, **CURSOR)
    assert (result.repaired, result.deleted) == (0, 0)
    assert extract.load(route=seeing, full_refresh=True, compare_every_h=2, **CURSOR).deleted == 1
    extract.assert_same()


def test_a_source_without_common_hashes_is_read_in_full_where_it_is_to_be_compared(latin1: Extract) -> None:
    latin1.run(DEALS)
    latin1.load(**CURSOR)
    latin1.run("update t set name = 'silent' where id = 2; delete from t where id = 3")
    latin1.load(**CURSOR)
    assert ("2", "silent") not in {row[:2] for row in latin1.raw()}
    result = latin1.load(compare_every_h=0, **CURSOR)
    assert (result.updated, result.deleted, result.repaired) == (1, 1, 1)
    latin1.assert_same()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cursor": "name"}, r"public\.t: the cursor 'name' is of type text; it must be a timestamp.*`cursor`"),
        ({"cursor": "written"}, r"the cursor 'written' is no column that is read; it must be a timestamp"),
        ({"cursor": "at", "exclude_columns": ["at"]}, r"the cursor 'at' is no column that is read"),
    ],
)
def test_a_wrong_cursor_is_refused_at_the_first_load(extract: Extract, settings: dict[str, str], message: str) -> None:
    extract.run(DEALS)
    with pytest.raises(ExtractError, match=message):
        extract.load(mode="cursor", **settings)
    assert extract.last_load()["status"] == "failed"
    assert extract.raw_types() == {}


def test_another_mode_begins_with_a_full_read(extract: Extract, seeing: Route) -> None:
    extract.run(DEALS)
    extract.load(route=seeing)
    extract.run("update t set name = 'silent' where id = 2; delete from t where id = 3")
    extract.load(route=seeing, **CURSOR)
    assert extract.last_load()["full_read_reason"] == "the mode or the cursor was changed"
    extract.assert_same()
    extract.run("update t set name = 'silent too' where id = 4")
    extract.load(route=seeing)
    assert extract.last_load()["full_read_reason"] == "the mode was changed"
    extract.assert_same()


def test_in_a_shared_snapshot_its_bound_counts(
    extract: Extract, seeing: Route, superuser: Callable[[str], psycopg.Connection]
) -> None:
    """A table may be read long after the export: what was committed between them is behind the clock, not the bound."""
    extract.run(DEALS)
    extract.load(route=seeing, **CURSOR)
    at_export = extract.in_source()
    released: list[bool] = []

    def load_between(_: psycopg.Connection) -> bool:
        snapshot = find_snapshot(extract.ingest, source_name="odoo", run_id="shared", wait_s=5)
        assert snapshot is not None
        assert snapshot.cursor_bound is not None
        extract.run("insert into t values (11, 'after the export', now())")
        time.sleep(0.01)
        extract.load(route=seeing, snapshot=snapshot, **CURSOR)
        assert datetime.fromisoformat(extract.watermark()["from"]) == snapshot.cursor_bound
        released.append(True)
        return True

    hold_snapshot(
        superuser("revops:snapshot"),
        extract.connect_ingest(),
        source_name="odoo",
        run_id="shared",
        is_done=load_between,
        hold_s=30,
    )
    assert released
    assert extract.last_load()["is_shared_snapshot"] is True
    assert extract.raw() == at_export
    assert counts(extract.load(route=seeing, **CURSOR)) == (1, 1, 0, 0, 0)
    extract.assert_same()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_shared_snapshot_without_a_bound(extract: Extract, is_first: bool) -> None:
    """The lag counts from the export, not from the moment at which the table's turn comes."""
    extract.run(DEALS)
    settings = {"of_source": {"cursor_lag_s": 0, "snapshot_hold_s": 60}, **CURSOR}
    if not is_first:
        extract.load(**settings)
    at_export = extract.in_source()
    with exported_snapshot(extract.connect_reader, None) as name:
        extract.run("insert into t values (11, 'after the export', now()); update t set at = now() where id = 1")
        time.sleep(0.05)
        extract.load(snapshot=SharedSnapshot(name), **settings)
        # It is the shared snapshot that was read, and it alone.
        assert extract.last_load()["is_shared_snapshot"] is True
        assert extract.raw() == at_export
    extract.load(**settings)
    extract.assert_same()
