"""Which rows a load reads: all that were written since the last one, at any point of the 32-bit circle."""

from __future__ import annotations

import random

import psycopg
import pytest
from builders import Extract, query
from psycopg import sql

from revops.extract.catalog import Column, Relation
from revops.extract.window import XID_SPAN, Horizon, Window, plan_window, read_horizon

pytestmark = pytest.mark.db

CIRCLE = 1 << 32


def relation(kind: str = "r", key: tuple[str, ...] = ("id",)) -> Relation:
    return Relation("public", "t", kind, (Column("id", "integer"),), key, "here")


def plan(oldest: int, following: int, *, identity: str = "here") -> Window:
    saved = Horizon(oldest, oldest + 5, identity).as_watermark()
    return plan_window(relation(), mode="xid", saved=saved, now=Horizon(following, following, "here"))


def selected(connection: psycopg.Connection, window: Window, xids: list[int]) -> set[int]:
    """The transactions whose rows PostgreSQL itself selects by a window's condition."""
    assert window.condition is not None
    rows = connection.execute(
        sql.SQL(
            "select xid from (select xid, mod(xid, {}) as xmin from unnest({}::bigint[]) as xid) t where {}"
        ).format(CIRCLE, sql.Literal(xids), window.condition)
    ).fetchall()
    return {xid for (xid,) in rows}


@pytest.mark.parametrize(
    ("mode", "kind", "key", "saved", "reason"),
    [
        ("full", "r", ("id",), True, "mode full"),
        ("xid", "v", ("id",), True, "a view has no transaction ids"),
        ("xid", "m", ("id",), True, "a view has no transaction ids"),
        ("xid", "f", ("id",), True, "a view has no transaction ids"),
        ("xid", "r", (), True, "the table has no primary key"),
        ("xid", "r", ("id",), False, "first load"),
    ],
)
def test_full_reads_and_their_reasons(mode: str, kind: str, key: tuple[str, ...], saved: bool, reason: str) -> None:
    now = Horizon(100, 110, "here")
    window = plan_window(relation(kind, key), mode=mode, saved=now.as_watermark() if saved else None, now=now)
    assert window.is_full
    assert window.reason == reason


@pytest.mark.parametrize("kind", ["r", "p"])
def test_a_table_with_a_watermark_is_read_from_there(kind: str) -> None:
    now = Horizon(100, 110, "here")
    window = plan_window(relation(kind), mode="xid", saved=now.as_watermark(), now=now)
    assert not window.is_full
    assert window.reason is None


def test_another_identity() -> None:
    assert plan(100, 200, identity="elsewhere").reason == "the source table was re-created, restored or altered"


@pytest.mark.parametrize(
    ("oldest", "following"),
    [(200, 100), (100, 100 + XID_SPAN), (CIRCLE + 5, 5), (100, 100 + 10 * CIRCLE)],
)
def test_transactions_that_ran_backwards_or_too_far(oldest: int, following: int) -> None:
    assert plan(oldest, following).reason == "the last load is too many transactions ago"


@pytest.mark.parametrize(
    ("oldest", "following"),
    [
        (1000, 1010),
        (1000, 1000),
        (3, 10),
        (CIRCLE - 5, CIRCLE + 5),  # the counter runs over between the loads
        (CIRCLE - 1, CIRCLE),
        (7 * CIRCLE - 3, 7 * CIRCLE + 3),
        (CIRCLE // 2 - 4, CIRCLE // 2 + 4),
        (1000, 1000 + XID_SPAN - 1),
    ],
)
def test_bounds(extract: Extract, oldest: int, following: int) -> None:
    window = plan(oldest, following)
    inside = [oldest, oldest + 1, following - 1]
    before = [oldest - 1, oldest - 2, oldest - 1000, oldest - (1 << 30)]
    chosen = selected(extract.source, window, [xid for xid in inside + before if xid >= 0])
    assert {xid for xid in inside if oldest <= xid < following} <= chosen
    assert chosen.isdisjoint({xid for xid in before if xid >= 0 and xid != following - 1})


def test_no_row_since_the_horizon_is_left_out(extract: Extract) -> None:
    """Random horizons, anywhere on the circle: every later row is chosen, and of older ones none of 2^31 back."""
    chance = random.Random(20261122)
    for _ in range(150):
        oldest = chance.randrange(3, 5 * CIRCLE)
        if chance.random() < 0.3:
            oldest = chance.randrange(1, 5) * CIRCLE + chance.randrange(-50, 50)
        span = chance.choice([0, 1, 5, 1000, chance.randrange(XID_SPAN), XID_SPAN - 1])
        following = oldest + span
        since = [oldest + chance.randrange(span) for _ in range(20)] if span else []
        since += [oldest, following - 1] if span else []
        older = [oldest - 1 - chance.randrange(min(oldest, XID_SPAN - 1)) for _ in range(20)]
        chosen = selected(extract.source, plan(oldest, following), since + older)
        assert set(since) <= chosen, (oldest, span)
        assert chosen.isdisjoint(older), (oldest, span)


def test_a_horizon_stops_at_the_oldest_transaction_that_is_still_running(extract: Extract) -> None:
    extract.run("create table t (id integer primary key)")
    late = extract.connect_source()
    late.execute("insert into t values (1)")
    mine = query(late, "select pg_current_xact_id()::text::bigint")[0][0]
    extract.run("insert into t values (2)")
    horizon = read_horizon(extract.reader, relation())
    assert horizon.oldest_running <= mine < horizon.next
    assert horizon.as_watermark() == {
        "mode": "xid",
        "oldest_running": horizon.oldest_running,
        "next": horizon.next,
        "identity": "here",
    }
