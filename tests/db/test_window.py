"""Which rows a load reads: all that were written since the last one, at any point of the 32-bit circle."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from builders import Extract, query
from psycopg import sql

from revops.extract.catalog import Column, Relation
from revops.extract.errors import ExtractError
from revops.extract.window import (
    XID_SPAN,
    Horizon,
    Window,
    cursor_watermark,
    plan_window,
    read_horizon,
    xid_watermark,
)
from revops.sources import Table

pytestmark = pytest.mark.db

CIRCLE = 1 << 32
# PostgreSQL gives out no smaller transaction ids; three have a meaning of their own.
FIRST_XID = 3
BY_XID = Table(name="t")
BY_CURSOR = Table(name="t", mode="cursor", cursor="at")


def relation(kind: str = "r", key: tuple[str, ...] = ("id",), at: str = "timestamp with time zone") -> Relation:
    columns = (Column("id", "integer", "integer"), Column("at", at, at))
    return Relation(1, "public", "t", kind, columns, key, "here", rows=0, pages=0)


def plan(oldest: int, following: int, *, identity: str = "here") -> Window:
    saved = xid_watermark(Horizon(oldest, oldest + 5, identity))
    return plan_window(relation(), BY_XID, saved=saved, now=Horizon(following, following, "here"))


def present(connection: psycopg.Connection) -> int:
    """The next transaction id that the server will give out."""
    return int(query(connection, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0])


def selected(connection: psycopg.Connection, window: Window, xids: list[int]) -> set[int]:
    """The transactions whose rows PostgreSQL itself selects by a window's condition."""
    assert window.condition is not None
    rows = connection.execute(
        sql.SQL(
            "select xid from (select xid, mod(xid, {0})::text::xid as xmin from unnest({1}::bigint[]) as xid) as t"
            " where {2}"
        ).format(CIRCLE, sql.Literal([xid for xid in xids if xid % CIRCLE >= FIRST_XID]), window.condition)
    ).fetchall()
    return {xid for (xid,) in rows}


def real(xids: list[int]) -> set[int]:
    return {xid for xid in xids if xid % CIRCLE >= FIRST_XID}


@pytest.mark.parametrize(
    ("mode", "kind", "key", "saved", "reason"),
    [
        ("full", "r", ("id",), True, "mode full"),
        ("xid", "v", ("id",), True, "a view has no transaction ids"),
        ("xid", "m", ("id",), True, "a view has no transaction ids"),
        ("xid", "f", ("id",), True, "a view has no transaction ids"),
        ("xid", "r", ("id",), False, "first load"),
        ("xid", "r", (), False, "first load"),
        ("cursor", "r", ("id",), False, "first load"),
        ("cursor", "r", ("id",), True, "the mode or the cursor was changed"),
        ("replace_period", "r", ("id",), False, "first load"),
        ("replace_period", "v", ("id",), True, "a view has no transaction ids"),
    ],
)
def test_full_reads_and_their_reasons(mode: str, kind: str, key: tuple[str, ...], saved: bool, reason: str) -> None:
    now = Horizon(100, 110, "here")
    columns: dict[str, Any] = {"cursor": {"cursor": "at"}, "replace_period": {"period": ("at",)}}.get(mode, {})
    table = Table.model_validate({"name": "t", "mode": mode, **columns})
    window = plan_window(relation(kind, key), table, saved=xid_watermark(now) if saved else None, now=now)
    assert window.is_full
    assert window.reason == reason


@pytest.mark.parametrize("kind", ["r", "p"])
def test_a_table_with_a_watermark_is_read_from_there(kind: str) -> None:
    now = Horizon(100, 110, "here")
    window = plan_window(relation(kind), BY_XID, saved=xid_watermark(now), now=now)
    assert not window.is_full
    assert window.reason is None
    assert window.changed == window.condition


def test_another_identity() -> None:
    assert plan(100, 200, identity="elsewhere").reason == "the source table was re-created, restored or altered"


def test_a_watermark_of_mode_cursor_is_none_of_mode_xid() -> None:
    now = Horizon(100, 110, "here")
    saved = cursor_watermark(now, BY_CURSOR, datetime(2026, 11, 22, tzinfo=UTC))
    assert plan_window(relation(), BY_XID, saved=saved, now=now).reason == "the mode was changed"


@pytest.mark.parametrize(
    ("oldest", "following"),
    [(200, 100), (100, 100 + XID_SPAN), (CIRCLE + 5, 5), (100, 100 + 10 * CIRCLE)],
)
def test_transactions_that_ran_backwards_or_too_far(oldest: int, following: int) -> None:
    assert plan(oldest, following).reason == "the last load is too many transactions ago"


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("span", [0, 1, 10, 100_000, XID_SPAN // 2, XID_SPAN - 1])
def test_bounds(extract: Extract, epoch: int, span: int) -> None:
    """The horizon lies so many transactions back from the server's present, at times before it ran over."""
    with extract.source.transaction():
        now = present(extract.source) + (epoch + 1) * CIRCLE
        oldest = now - span
        window = plan(oldest, now)
        inside = [oldest, oldest + 1, now - 1][: min(span, 3)]
        before = [oldest - 1, oldest - 2, oldest - 1000, oldest - XID_SPAN + 1]
        assert selected(extract.source, window, inside + before) == real(inside)


def test_no_row_since_the_horizon_is_left_out(extract: Extract) -> None:
    """Random horizons, anywhere on the circle: every later row is chosen, and of older ones none of 2^30 back."""
    chance = random.Random(20261122)
    for _ in range(100):
        with extract.source.transaction():
            now = present(extract.source) + chance.randrange(1, 6) * CIRCLE
            span = chance.choice([0, 1, 5, 1000, chance.randrange(XID_SPAN), XID_SPAN - 1])
            oldest = now - span
            since = [oldest + chance.randrange(span) for _ in range(20)] if span else []
            older = [oldest - 1 - chance.randrange(XID_SPAN - 1) for _ in range(20)]
            assert selected(extract.source, plan(oldest, now), since + older) == real(since), (oldest, span)


@pytest.mark.parametrize("oldest", [CIRCLE, CIRCLE + 1, CIRCLE + 2])
def test_a_horizon_at_an_id_with_a_meaning_of_its_own_leaves_nothing_out(extract: Extract, oldest: int) -> None:
    with extract.source.transaction():
        now = present(extract.source)
        since = [now - 1, now - 2, FIRST_XID]
        assert selected(extract.source, plan(oldest, oldest + 100), since) == set(since)


def test_real_rows_are_chosen_by_their_transactions(extract: Extract) -> None:
    """What was written before, also in a transaction that ended late; what was updated; in subtransactions, too."""
    extract.run("create table t (id integer primary key); insert into t select generate_series(1, 5)")
    late = extract.connect_source()
    late.execute("insert into t values (10); savepoint a; insert into t values (11); release a")
    extract.run("insert into t values (6)")
    saved = xid_watermark(read_horizon(extract.reader, relation()))
    extract.reader.rollback()
    late.commit()
    extract.run("update t set id = id where id = 2; begin; insert into t values (12); savepoint a;")
    extract.run("insert into t values (13); rollback to a; insert into t values (14); commit")
    extract.run("vacuum freeze t")
    now = read_horizon(extract.reader, relation())
    window = plan_window(relation(), BY_XID, saved=saved, now=now)
    assert window.condition is not None
    found = extract.reader.execute(sql.SQL("select id from t where {}").format(window.condition)).fetchall()
    # 6 was committed, but is younger than the oldest transaction that was running.
    assert {number for (number,) in found} == {2, 6, 10, 11, 12, 14}


def test_a_horizon_stops_at_the_oldest_transaction_that_is_still_running(extract: Extract) -> None:
    extract.run("create table t (id integer primary key)")
    late = extract.connect_source()
    late.execute("insert into t values (1)")
    mine = query(late, "select pg_current_xact_id()::text::bigint")[0][0]
    extract.run("insert into t values (2)")
    horizon = read_horizon(extract.reader, relation())
    assert horizon.oldest_running <= mine < horizon.next
    assert xid_watermark(horizon) == {
        "mode": "xid",
        "oldest_running": horizon.oldest_running,
        "next": horizon.next,
        "identity": "here",
    }


@pytest.mark.parametrize("declared", ["timestamp with time zone", "timestamp without time zone", "timestamp(0)"])
def test_a_cursor_goes_on_where_the_source_was_at_rest(extract: Extract, declared: str) -> None:
    """The bound belongs to the window, what is before does not, and a row without a stamp always does."""
    now = Horizon(100, 110, "here")
    bound = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
    window = plan_window(
        relation(at=declared.replace("timestamp(0)", "timestamp(0) without time zone")),
        BY_CURSOR,
        saved=cursor_watermark(now, BY_CURSOR, bound.astimezone()),
        now=now,
    )
    assert window.condition is not None
    extract.run(f"set timezone = 'UTC'; create table t (id integer, at {declared})")
    extract.run(
        "insert into t values (1, '2026-11-22 09:59:59'), (2, '2026-11-22 10:00:00'), (3, '2026-11-22 10:00:01'),"
        " (4, null), (5, 'infinity'), (6, '-infinity')"
    )
    found = extract.source.execute(sql.SQL("select id from t where {}").format(window.condition)).fetchall()
    assert {number for (number,) in found} == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"cursor": "other"}, "the mode or the cursor was changed"),
        ({"mode": "xid"}, "the mode or the cursor was changed"),
        ({"identity": "elsewhere"}, "the source table was re-created, restored or altered"),
    ],
)
def test_a_cursor_that_can_not_go_on(changed: dict[str, str], reason: str) -> None:
    now = Horizon(100, 110, "here")
    saved = cursor_watermark(now, BY_CURSOR, datetime(2026, 11, 22, tzinfo=UTC)) | changed
    assert plan_window(relation(), BY_CURSOR, saved=saved, now=now).reason == reason


@pytest.mark.parametrize(
    ("relation_", "message"),
    [
        (
            relation(at="date"),
            r"public\.t: the cursor 'at' is of type date; it must be a timestamp.*`cursor`.*mode xid",
        ),
        (relation(at="text"), r"the cursor 'at' is of type text"),
        (relation(key=()), r"public\.t has no primary key.*mode xid or full"),
        (relation("v", ()), r"public\.t has no primary key"),
    ],
)
def test_a_column_that_can_be_no_cursor(relation_: Relation, message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        plan_window(relation_, BY_CURSOR, saved=None, now=Horizon(1, 1, "here"))


def test_a_cursor_that_is_not_there() -> None:
    table = Table(name="t", mode="cursor", cursor="written")
    with pytest.raises(ExtractError, match=r"the cursor 'written' is no column that is read; it must be a timestamp"):
        plan_window(relation(), table, saved=None, now=Horizon(1, 1, "here"))
