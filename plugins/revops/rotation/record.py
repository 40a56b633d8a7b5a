"""ops.key_rotation: how far the rotation of each table is, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import structlog

from revops.errors import describe
from revops.keyring import Keyring

log = structlog.get_logger(__name__)

TELL_S = 5.0
LOST = "the process was lost; what it had committed stays, and the next rotation goes on from there"


@dataclass
class Standing:
    """How far a table is: rows that were renewed, of how many, and since when."""

    raw_table: str
    rotation_id: int
    expected: int = 0
    renewed: int = 0
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rows_per_second(self) -> int:
        return round(self.renewed / self.seconds) if self.seconds > 0 else 0

    @property
    def remaining(self) -> int:
        return max(0, self.expected - self.renewed)


Tell = Callable[[Standing], None]


class Teller:
    """Says every few seconds how far a table is: in the log, and to who asked for it."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._told = time.monotonic()

    def progress(self, standing: Standing) -> None:
        if self._tell is not None:
            self._tell(standing)
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            pace = standing.rows_per_second
            log.info(
                "renewing",
                table=standing.raw_table,
                rows=standing.renewed,
                rows_per_second=pace,
                remaining=standing.remaining,
                seconds_left=round(standing.remaining / pace) if pace else None,
            )


def close_lost(warehouse: psycopg.Connection) -> None:
    """Close what killed processes have left open; who calls has made sure that nobody is at work. Commits."""
    warehouse.execute(
        "update ops.key_rotation set status = 'failed', error = %s, finished_at = clock_timestamp() "
        "where status = 'running'",
        (LOST,),
    )
    warehouse.commit()


def begin(
    warehouse: psycopg.Connection, keyring: Keyring, *, run_id: str, raw_table: str, expected: int, with_index: bool
) -> Standing:
    """Record that the rotation of a table begins; commits."""
    row = warehouse.execute(
        "insert into ops.key_rotation (run_id, raw_table, writing_key_id, with_index, status, rows_expected) "
        "values (%s, %s, %s, %s, 'running', %s) returning key_rotation_id",
        (run_id, raw_table, keyring.writing_id, with_index, expected),
    ).fetchone()
    warehouse.commit()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    return Standing(raw_table, int(row[0]), expected)


def write_progress(warehouse: psycopg.Connection, standing: Standing) -> None:
    """Write how far a table is, in the transaction of its rows. Does not commit."""
    warehouse.execute(
        "update ops.key_rotation set rows_renewed = %s, seconds = %s where key_rotation_id = %s",
        (standing.renewed, standing.seconds, standing.rotation_id),
    )


def succeed(warehouse: psycopg.Connection, standing: Standing, *, checked: int) -> None:
    """Record that no token of another key is left of so many. Does not commit."""
    write_progress(warehouse, standing)
    warehouse.execute(
        "update ops.key_rotation set status = 'succeeded', tokens_checked = %s, tokens_left = 0, "
        "finished_at = clock_timestamp() where key_rotation_id = %s",
        (checked, standing.rotation_id),
    )


def fail(warehouse: psycopg.Connection, standing: Standing, error: BaseException, *, left: int | None = None) -> None:
    """Record why a table was not brought to its end; commits."""
    warehouse.execute(
        "update ops.key_rotation set status = 'failed', error = %s, tokens_left = %s, seconds = %s, "
        "finished_at = clock_timestamp() where key_rotation_id = %s and status = 'running'",
        (describe(error), left, standing.seconds, standing.rotation_id),
    )
    warehouse.commit()
