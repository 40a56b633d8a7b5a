"""Sessions in the warehouse that many short queries share: never more than so many, whoever asks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from revops.hooks.pooler import Session
from revops.hooks.postgres import connect
from revops.hooks.warehouse import CONNECTION_ID, Role, warehouse_conninfo
from revops.settings import Settings

# Without queries no session is kept: several of Airflow's processes may have a pool each.
_IDLE_S = 60.0
# Of those who wait for a session so many for each that there is; the next one is refused at once.
_WAITING = 8
_WORKERS = 2


class PoolExhaustedError(RuntimeError):
    """All sessions are in use; retry_after_s says when to ask again."""

    def __init__(self, text: str, *, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class WarehousePool:
    """A bounded pool of sessions with the rights of one role. Opened by its first use, in each process anew.

    A session is tried before it is handed out, so that a server's restart is not seen by queries after it. An edited
    connection counts from the next session on. Threads may share a pool; a forked process has one of its own.
    For programs that live long, such as a console; a command that asks once opens one session instead.
    """

    def __init__(self, settings: Settings, *, role: Role = "revops_api", task: str = "console") -> None:
        self._size = settings.pool_size
        self._timeout_s = settings.pool_timeout_s
        self._lifetime_s = settings.pool_lifetime_s
        self._role: Role = role
        self._task = task
        self._dsn = ""
        self._in_use = 0
        self._pool: ConnectionPool | None = None
        self._lock = threading.Lock()
        self._inherited: list[ConnectionPool] = []
        _pools.add(self)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        """Yield a session; commits where the block ends well, else rolls back.

        Raises PoolExhaustedError where none becomes free in time, psycopg.OperationalError where the server can't be
        reached, PoolerError where a pooler gives it other rights, and what `warehouse_conninfo` raises.
        """
        pool, connection = self._take()
        try:
            # In a pool this ends the transaction and leaves the session open.
            with connection:
                yield connection
        finally:
            with self._lock:
                self._in_use -= 1
            pool.putconn(connection)

    def close(self) -> None:
        """Close all sessions; the next use opens the pool again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _current(self) -> ConnectionPool:
        """Return the open pool; a new one where the connection was edited."""
        dsn = warehouse_conninfo(self._role, task=self._task)
        with self._lock:
            if self._pool is not None and dsn == self._dsn:
                return self._pool
        return self._renewed(dsn)

    def _renewed(self, dsn: str) -> ConnectionPool:
        """Replace the pool; a session of the old one ends when it is given back."""
        with self._lock:
            old, self._dsn, self._pool = self._pool, dsn, self._opened(dsn)
            new = self._pool
        if old is not None:
            old.close()
        return new

    def _opened(self, dsn: str) -> ConnectionPool:
        return ConnectionPool(
            dsn,
            connection_class=Session,
            name=f"revops:{self._task}",
            min_size=0,
            max_size=self._size,
            timeout=self._timeout_s,
            max_waiting=self._size * _WAITING,
            max_lifetime=self._lifetime_s,
            max_idle=min(_IDLE_S, self._lifetime_s),
            check=ConnectionPool.check_connection,
            num_workers=_WORKERS,
            open=True,
        )

    def _take(self) -> tuple[ConnectionPool, psycopg.Connection]:
        pool = self._current()
        try:
            connection: psycopg.Connection = pool.getconn(self._timeout_s)
        except TooManyRequests:
            raise self._exhausted("and too many wait for one already") from None
        except PoolTimeout:
            pool, connection = self._taken_anew()
        with self._lock:
            self._in_use += 1
        return pool, connection

    def _taken_anew(self) -> tuple[ConnectionPool, psycopg.Connection]:
        """Tell an exhausted pool from a server that is away, or was: the pool then waits before it tries again."""
        with self._lock:
            is_exhausted, dsn = self._in_use >= self._size, self._dsn
        why = f"and none became free within {self._timeout_s:g} s"
        if is_exhausted:
            raise self._exhausted(why)
        # The pool does not say why no session could be opened: this does.
        connect(CONNECTION_ID, dsn).close()
        pool = self._renewed(dsn)
        try:
            return pool, pool.getconn(self._timeout_s)
        except PoolTimeout:
            raise self._exhausted(why) from None

    def _exhausted(self, why: str) -> PoolExhaustedError:
        return PoolExhaustedError(
            f"all {self._size} sessions of {self._task} in the warehouse are in use, {why}. "
            "Remedy: try again in a moment; if it stays so, raise REVOPS_POOL_SIZE, and see pg_stat_activity for what "
            f"application revops:{self._task} is busy with.",
            retry_after_s=max(1, round(self._timeout_s)),
        )

    def _forget(self) -> None:
        """Leave the parent's sessions to it, in a process that was forked: both would talk through one socket."""
        self._lock = threading.Lock()
        self._in_use = 0
        if self._pool is not None:
            # Kept, for what is collected is closed.
            self._inherited.append(self._pool)
            self._pool = None


_pools: WeakSet[WarehousePool] = WeakSet()


def _forget_all() -> None:
    for pool in _pools:
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
