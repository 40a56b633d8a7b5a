"""The bounded pool of the warehouse: its bound, and what it survives."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from revops.hooks.pool import PoolExhaustedError, WarehousePool
from revops.local.postgres import EmbeddedPostgres
from revops.settings import Settings

pytestmark = pytest.mark.db

WHO = "select pg_backend_pid()"


def settings(**limits: float) -> Settings:
    made: Settings = Settings.model_construct(
        **{"pool_size": 2, "pool_timeout_s": 0.3, "pool_lifetime_s": 1800.0, **limits}  # type: ignore[arg-type]
    )
    return made


def as_connection(dsn: str, **changes: object) -> str:
    parts = conninfo_to_dict(dsn)
    fields = {
        "conn_type": "postgres",
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "schema": parts["dbname"],
        "login": parts["user"],
        "password": parts["password"],
        "extra": {"sslrootcert": parts["sslrootcert"]},
    }
    return json.dumps({**fields, **changes})


@pytest.fixture
def make_pool(warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WarehousePool]]:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", as_connection(warehouse_dsn))
    made: list[WarehousePool] = []

    def make(**limits: float) -> WarehousePool:
        made.append(WarehousePool(settings(**limits), task="test-pool"))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def sessions(warehouse_dsn: str) -> list[int]:
    with psycopg.connect(warehouse_dsn) as observer:
        rows = observer.execute("select pid from pg_stat_activity where application_name = 'revops:test-pool'")
        return [pid for (pid,) in rows]


def backend(pool: WarehousePool) -> int:
    with pool.session() as session:
        row = session.execute(WHO).fetchone()
    assert row is not None
    return int(row[0])


def test_sessions_are_shared_and_hold_one_role(make_pool: Callable[..., WarehousePool], warehouse_dsn: str) -> None:
    pool = make_pool()
    assert {backend(pool) for _ in range(5)} == set(sessions(warehouse_dsn))
    assert len(sessions(warehouse_dsn)) == 1
    with pool.session() as session:
        assert session.execute("select current_user").fetchone() == ("revops_api",)
        assert session.pgconn.ssl_in_use
        with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
            session.execute("create table raw.mine ()")


def test_sessions_are_opened_as_all_others_are(
    make_pool: Callable[..., WarehousePool], warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the connection names a pooler, statements set the role; test_pooler.py has a real one."""
    authority = conninfo_to_dict(warehouse_dsn)["sslrootcert"]
    connection = as_connection(warehouse_dsn, extra={"sslrootcert": authority, "pooler": "session"})
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", connection)
    pool = make_pool(pool_timeout_s=5)
    with pool.session() as session:
        found = session.execute("select current_user, current_setting('revops.pooler', true)").fetchone()
    assert found == ("revops_api", None)


def test_never_more_sessions_than_the_bound(make_pool: Callable[..., WarehousePool], warehouse_dsn: str) -> None:
    pool = make_pool(pool_size=3, pool_timeout_s=30)
    most = 0

    def ask(_: int) -> None:
        nonlocal most
        with pool.session() as session:
            session.execute("select pg_sleep(0.02)")
            most = max(most, len(sessions(warehouse_dsn)))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(ask, range(24)))
    assert most == 3


def test_an_exhausted_pool_says_so_and_when_to_come_again(make_pool: Callable[..., WarehousePool]) -> None:
    pool = make_pool(pool_size=1, pool_timeout_s=0.2)
    with pool.session():
        started = time.monotonic()
        with pytest.raises(PoolExhaustedError, match=r"all 1 sessions of test-pool.*raise REVOPS_POOL_SIZE") as caught:
            backend(pool)
        assert 0.15 < time.monotonic() - started < 5
    assert caught.value.retry_after_s == 1
    assert backend(pool)


def test_a_queue_that_is_too_long_is_refused_at_once(make_pool: Callable[..., WarehousePool]) -> None:
    pool = make_pool(pool_size=1, pool_timeout_s=30)
    with ThreadPoolExecutor(9) as threads:
        with pool.session():
            waiting = [threads.submit(backend, pool) for _ in range(9)]
            (refused,) = wait(waiting, timeout=10, return_when=FIRST_COMPLETED).done
            assert "too many wait for one already" in str(refused.exception())
        # The others waited, and are served.
        assert len({one.result(timeout=30) for one in waiting if one is not refused}) == 1


def test_an_error_gives_the_session_back_clean(make_pool: Callable[..., WarehousePool], warehouse_dsn: str) -> None:
    pool = make_pool(pool_size=1)
    for _ in range(3):
        with pytest.raises(errors.DivisionByZero), pool.session() as session:
            session.execute("select 1 / 0")
    assert backend(pool) in sessions(warehouse_dsn)


def test_a_restart_of_the_server_is_not_seen_by_later_queries(
    make_pool: Callable[..., WarehousePool], postgres: EmbeddedPostgres, warehouse_dsn: str
) -> None:
    pool = make_pool(pool_size=2, pool_timeout_s=5)
    before = backend(pool)
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as superuser:
        # What a restart does to a session.
        superuser.execute("select pg_terminate_backend(%s, 5000)", (before,))
    assert backend(pool) != before
    assert 1 <= len(sessions(warehouse_dsn)) <= 2


def test_a_server_that_is_away_is_told_and_found_again(
    make_pool: Callable[..., WarehousePool], postgres: EmbeddedPostgres, warehouse_dsn: str
) -> None:
    pool = make_pool(pool_size=2, pool_timeout_s=0.5)
    before = backend(pool)
    database = sql.Identifier(str(conninfo_to_dict(warehouse_dsn)["dbname"]))
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as superuser:
        superuser.execute(sql.SQL("alter database {} allow_connections false").format(database))
        try:
            superuser.execute("select pg_terminate_backend(%s, 5000)", (before,))
            with pytest.raises(psycopg.OperationalError, match=r"not currently accepting connections[\s\S]*Remedy"):
                backend(pool)
        finally:
            superuser.execute(sql.SQL("alter database {} allow_connections true").format(database))
    deadline = time.monotonic() + 20
    while True:
        try:
            assert backend(pool) != before
            break
        except (psycopg.OperationalError, PoolExhaustedError):
            assert time.monotonic() < deadline


def test_an_edited_connection_counts_from_the_next_session_on(
    make_pool: Callable[..., WarehousePool],
    postgres: EmbeddedPostgres,
    warehouse_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = make_pool()
    before = backend(pool)
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", as_connection(warehouse_dsn, password="wrong"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        backend(pool)
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", as_connection(warehouse_dsn))
    assert backend(pool) != before


def test_a_session_is_opened_anew_after_its_time(make_pool: Callable[..., WarehousePool]) -> None:
    pool = make_pool(pool_lifetime_s=0.2, pool_timeout_s=5)
    first = backend(pool)
    time.sleep(0.4)
    assert backend(pool) != first


def test_a_forked_process_has_sessions_of_its_own(make_pool: Callable[..., WarehousePool], warehouse_dsn: str) -> None:
    pool = make_pool(pool_timeout_s=10)
    ours = backend(pool)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, f"{backend(pool)} {backend(pool)}".encode())
            pool.close()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = [int(pid) for pid in pipe.read().split()]
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 2
    assert theirs[0] == theirs[1] != ours
    assert backend(pool) == ours
    assert sessions(warehouse_dsn) == [ours]


def test_a_closed_pool_leaves_no_session_and_opens_again(
    make_pool: Callable[..., WarehousePool], warehouse_dsn: str
) -> None:
    pool = make_pool()
    backend(pool)
    pool.close()
    deadline = time.monotonic() + 10
    while sessions(warehouse_dsn):
        assert time.monotonic() < deadline
    assert backend(pool)
