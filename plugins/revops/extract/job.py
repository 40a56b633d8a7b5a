"""One load under way: what it was asked for, its sessions, and what it knows so far."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from revops.extract.catalog import Relation
from revops.extract.durability import Written
from revops.extract.ledger import Ledger
from revops.extract.merge import Merged, Pipe
from revops.extract.raw_table import RawTable
from revops.extract.sessions import Route
from revops.extract.snapshot import SharedSnapshot
from revops.extract.window import Window
from revops.keyring import Keyring
from revops.sources import Source, Table


@dataclass(frozen=True)
class Order:
    """What a load is asked to do (see load.load_table)."""

    config: Source
    table: Table
    snapshot: SharedSnapshot | None = None
    full_refresh: bool = False
    accept_deletions: bool = False
    keyring: Keyring | None = None

    @property
    def name(self) -> str:
        return f"{self.config.source}.{self.table.name}"

    @property
    def most_deleted_share(self) -> float:
        share = self.table.max_deleted_share
        return self.config.max_deleted_share if share is None else share


@dataclass
class Job:
    """A load's sessions and findings.

    snapshot: the one that is read in, None for one of its own. bound: where a cursor may go on next time. written: how
    far the source's log had come after the snapshot. has_old_tokens: raw may hold tokens of another key than the one
    that writes.
    """

    order: Order
    route: Route
    source: psycopg.Connection
    warehouse: psycopg.Connection
    ledger: Ledger
    snapshot: SharedSnapshot | None
    bound: datetime | None = None
    written: Written | None = None
    window: Window = field(default_factory=lambda: Window(None))
    has_old_tokens: bool = False
    loads: int = 0
    is_compared: bool = False
    repaired: int = 0
    check_seconds: float = 0.0

    def pipe(self, relation: Relation, raw: RawTable) -> Pipe:
        return Pipe(
            self.source,
            self.warehouse,
            relation,
            raw,
            self.ledger.load_id,
            keyring=self.order.keyring,
            has_old_tokens=self.has_old_tokens,
            progress=self.ledger.progress,
        )

    @contextmanager
    def checking(self, phase: str) -> Iterator[None]:
        """Count the time of a comparison with the source apart from that of the load."""
        self.ledger.enter(phase)
        started = time.monotonic()
        try:
            yield
        finally:
            self.check_seconds += time.monotonic() - started


@dataclass(frozen=True)
class Outcome:
    """What a load did to raw; source_rows: what the source has in the snapshot, None where it was not counted."""

    merged: Merged
    deleted: int
    source_rows: int | None
