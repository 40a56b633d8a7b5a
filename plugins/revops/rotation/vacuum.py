"""Give back the room that renewed rows have left, without standing in anybody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import psycopg
import structlog
from psycopg import errors, sql

log = structlog.get_logger(__name__)

POLL_S = 0.5
_IS_WAITED_FOR = (
    "select exists (select from pg_locks as w where not w.granted and pg_blocking_pids(w.pid) @> array[%s::int])"
)


def vacuum(connect: Callable[[], psycopg.Connection], table: str) -> bool:
    """Vacuum `raw.<table>` so that later batches use its room again; return whether it came to its end.

    A load that wants to alter the table would wait for it, and everybody behind the load: so it ends as soon as
    somebody waits. The next one, or autovacuum, does the rest.
    """
    with closing(connect()) as worker, closing(connect()) as watcher:
        worker.autocommit = watcher.autocommit = True
        over = threading.Event()
        thread = threading.Thread(target=_watch, args=(worker, watcher, over), name=f"vacuum:{table}", daemon=True)
        thread.start()
        try:
            # Without truncation, which takes the table for itself.
            worker.execute(sql.SQL("vacuum (skip_locked, truncate off) {}").format(sql.Identifier("raw", table)))
        except errors.QueryCanceled:
            log.info("vacuum gave way", table=table)
            return False
        finally:
            over.set()
            thread.join()
    return True


def _watch(worker: psycopg.Connection, watcher: psycopg.Connection, over: threading.Event) -> None:
    try:
        while not over.wait(POLL_S):
            if watcher.execute(_IS_WAITED_FOR, (worker.info.backend_pid,)).fetchone() == (True,):
                worker.cancel_safe()
                return
    except psycopg.Error:
        # The vacuum goes on: it holds up no more than one of autovacuum's that prevents wraparound.
        log.warning("nobody looks whether somebody waits for this vacuum", exc_info=True)
