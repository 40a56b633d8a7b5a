"""Rotation and reading from the shell, with progress for people."""

from __future__ import annotations

import getpass
import logging
import os
import time
from datetime import UTC, datetime

import structlog
from rich.console import Console

from revops.hooks.warehouse import connect_warehouse
from revops.keyring import Keyring
from revops.rotation.night import rotate
from revops.rotation.reading import read_value
from revops.rotation.record import Standing

# Where lines can't be rewritten one is printed so often.
LINE_S = 5.0


def _quiet() -> None:
    """Leave the screen to progress: Airflow, once it is imported, logs every line of ours there."""
    import airflow.sdk  # noqa: F401

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def show_rotation(console: Console, keyring: Keyring, *, forgotten: int | None = None) -> int:
    """Rotate and show how far it is; return the exit code. Raises what rotating raises."""
    _quiet()
    started = told = time.monotonic()
    with console.status("counting tokens") as status:

        def tell(standing: Standing) -> None:
            nonlocal told
            line = (
                f"raw.{standing.raw_table}: {standing.renewed:,} rows, {standing.rows_per_second:,} rows/s, "
                f"{standing.remaining:,} remaining"
            )
            status.update(line)
            if not console.is_terminal and time.monotonic() - told >= LINE_S:
                told = time.monotonic()
                console.print(line, highlight=False)

        run_id = f"shell__{datetime.now(UTC).isoformat(timespec='seconds')}"
        done, waiting = rotate(keyring, run_id=run_id, tell=tell, forgotten=forgotten)
    if done is None:
        raise AssertionError("a rotation that was asked for counts all tokens")
    for table, rows in done.rows.items():
        indexes = ", blind indexes computed anew" if table in done.indexed else ""
        console.print(f"raw.{table}: {rows:,} rows renewed{indexes}", highlight=False)
    for source in waiting:
        console.print(
            f"core has the old blind indexes of {source} until its next run: raw was not checked since it was loaded. "
            f"Remedy: make run DAG={source}",
            highlight=False,
        )
    console.print(f"{time.monotonic() - started:.1f} s. {done.remedy}", highlight=False)
    return 0


def show_value(console: Console, keyring: Keyring, *, table: str, column: str, key: str) -> int:
    """Print one value; return the exit code. Raises what reading raises."""
    _quiet()
    person = os.environ.get("SUDO_USER") or getpass.getuser()
    with connect_warehouse("revops_ingest", task="decrypt") as warehouse:
        value = read_value(warehouse, keyring, table=table, column=column, key=key, person=person)
    console.print("(null)" if value is None else value, markup=False, highlight=False, soft_wrap=True)
    return 0
