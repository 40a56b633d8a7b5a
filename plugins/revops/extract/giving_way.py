"""Let go of a source table as soon as one of its users waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import structlog

from revops.errors import is_transient
from revops.extract.errors import GaveWayError

log = structlog.get_logger(__name__)

# Short loads end before anybody notices them, and need no second session.
PATIENCE_S = 2.0
POLL_S = 1.0

_IS_WAITED_FOR = (
    "select exists (select from pg_locks as w where not w.granted and pg_blocking_pids(w.pid) @> array[%s::int])"
)


@contextmanager
def giving_way(connect: Callable[[], psycopg.Connection], reader: psycopg.Connection, *, table: str) -> Iterator[None]:
    """End the reader's session when somebody waits for a lock that it holds; raises GaveWayError then.

    An ALTER TABLE that waits for a reader makes everybody else wait for that table: a long COPY would stop the users'
    work. So a second session, which `connect` opens, looks every second once reading takes longer than PATIENCE_S.
    Ending the reader's session frees the lock at once, also while rows are merged on the other side.
    """
    over = threading.Event()
    gave_way = threading.Event()
    process = reader.info.backend_pid
    watcher = threading.Thread(
        target=_watch, args=(connect, process, over, gave_way), name=f"give-way:{table}", daemon=True
    )
    watcher.start()
    try:
        yield
    except psycopg.Error as error:
        if gave_way.is_set() and is_transient(error):
            raise GaveWayError(
                f"{table}: reading was stopped, since somebody waited for a lock on the table. "
                "Remedy: none needed, the task tries again"
            ) from None
        raise
    finally:
        over.set()
        watcher.join()


def _watch(
    connect: Callable[[], psycopg.Connection], process: int, over: threading.Event, gave_way: threading.Event
) -> None:
    if over.wait(PATIENCE_S):
        return
    try:
        with closing(connect()) as session:
            session.autocommit = True
            while not over.wait(POLL_S):
                if session.execute(_IS_WAITED_FOR, (process,)).fetchone() == (True,):
                    gave_way.set()
                    session.execute("select pg_terminate_backend(%s)", (process,))
                    return
    except psycopg.Error:
        # The load itself goes on: its lock_timeout and statement_timeout still bound what it can hold up.
        log.warning("nobody looks whether users of the source wait for this load", exc_info=True)
