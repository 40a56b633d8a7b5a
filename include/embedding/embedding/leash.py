"""An encoder ends with whoever started it: a pipe tells, which only that process holds open."""

from __future__ import annotations

import os
import threading

from embedding.errors import ExitCode
from embedding.stopping import PATIENCE_S, WRITING


def end_with_stdin() -> None:
    """From now on end this process, between two files, when its standard input is closed.

    The kernel closes a pipe when the process at its other end dies in whatever way; Docker closes a container's input
    when the client that is attached to it goes away. Had it died before this call, the first read would tell.
    """
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="leash", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    WRITING.acquire(timeout=PATIENCE_S)
    os._exit(ExitCode.ABANDONED)
