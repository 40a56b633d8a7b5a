"""Ask both servers at once: a comparison takes as long as the slower one, not as both together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from revops.extract.merge import Pipe

S = TypeVar("S")
W = TypeVar("W")


def at_once(pipe: Pipe, of_source: Callable[[], S], of_warehouse: Callable[[], W]) -> tuple[S, W]:
    """Return what a query of the source and one of the warehouse find; each may only use the session of its side.

    Raises what either raises; the warehouse's query is cancelled when the source's fails.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="warehouse") as pool:
        found = pool.submit(of_warehouse)
        try:
            return of_source(), found.result()
        except BaseException:
            # Also where this thread is told to end: the pool waits for its query. A server that is gone has none.
            with contextlib.suppress(psycopg.Error):
                pipe.warehouse.cancel_safe()
            raise
