"""Progress of the local commands: a line for each step, with its time and what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console


@contextlib.contextmanager
def step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Print a step when it is done; what the block hands over stands behind it."""
    started = time.monotonic()
    outcome: list[str] = []
    with console.status(title):
        yield outcome.append
    text = f"  [dim]{outcome[-1]}[/]" if outcome else ""
    console.print(f"{time.monotonic() - started:6.1f} s  {title}{text}", highlight=False)
