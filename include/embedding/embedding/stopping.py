"""A run that is told to stop ends at once, between two files."""

from __future__ import annotations

import os
import signal
import sys
import threading

# Held while a file is written, so that none is left half-written.
WRITING = threading.Lock()
# By then a disk that does not answer is left alone; the next run removes what was half-written.
PATIENCE_S = 5.0
SIGNALS = {signal.SIGTERM, signal.SIGINT}


def end_when_told() -> None:
    """End the process on SIGTERM or SIGINT with exit code 143 or 130; call it in the main thread.

    A thread hears of the signals: the main thread may be in the midst of a batch, which on a CPU takes seconds.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for expected in SIGNALS:
        # Without a handler the kernel would end the process itself, or, as process 1 of a container, not at all.
        signal.signal(expected, lambda *_: None)
    threading.Thread(target=_wait, args=(reader,), name="stop", daemon=True).start()


def _wait(reader: int) -> None:
    told = os.read(reader, 1)[0]
    WRITING.acquire(timeout=PATIENCE_S)
    print(
        f"embedding: stopped by {signal.Signals(told).name}; finished shards stay, the next run goes on after them",
        file=sys.stderr,
        flush=True,
    )
    os._exit(128 + told)
