"""Bring one table of raw to the writing key: batches of pages that commit one by one, then a count of all tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import errors, sql

from revops.extract.ledger import try_table_lock
from revops.extract.merge import token_key
from revops.extract.pages import BLOCK_BYTES, in_pages
from revops.extract.raw_table import read_raw_key
from revops.extract.stream import agree_on_text
from revops.keyring import HEADER_BYTES, Keyring, header_of
from revops.rotation import record
from revops.rotation.errors import RotationBusyError, RotationError
from revops.rotation.record import Standing, Teller
from revops.rotation.registry import TokenTable
from revops.rotation.renewal import Renewed, has_any, is_old, renew
from revops.rotation.vacuum import vacuum

log = structlog.get_logger(__name__)

# About a third of a second: a load that comes meanwhile waits no longer.
BATCH_ROWS = 5_000
MOST_PAGES = 1_024
# A renewed row is a new version of it. The room of old ones is used again once they are vacuumed: a table grows by this
# share at most, not to twice its size.
VACUUM_SHARE = 0.1
VACUUM_ROWS = 20_000
# Loads go first. Who waits for one asks again so often, and for so long.
POLL_S = 1.0
PATIENCE_S = 3600.0
# Rows that loads have moved meanwhile are found by the next pass.
MOST_PASSES = 5
# Not the two hours of a load: what holds a row here for longer is no load, and the batch is tried again.
LOCK_TIMEOUT = "5s"

Connect = Callable[[], psycopg.Connection]


@dataclass(frozen=True)
class Counted:
    """All tokens of a table, and those that the writing key has not written."""

    tokens: int
    left: int


class TableRotation:
    """The rotation of one table. connect: opens sessions with the rights of revops_ingest."""

    def __init__(
        self,
        connect: Connect,
        warehouse: psycopg.Connection,
        keyring: Keyring,
        table: TokenTable,
        *,
        with_index: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._connect = connect
        self._warehouse = warehouse
        self._keyring = keyring
        self._table = table
        self._with_index = with_index
        self._patience_s = patience_s
        self._condition = has_any(table.columns) if with_index else is_old(table.columns, keyring)
        self._raw = sql.Identifier("raw", table.raw_table)
        self._since_vacuum = 0

    def count(self) -> int:
        """Return how many rows are to be renewed; one scan, which holds up nobody."""
        row = self._warehouse.execute(
            sql.SQL("select count(*) from {} as t where {}").format(self._raw, self._condition)
        ).fetchone()
        self._warehouse.rollback()
        return int(row[0]) if row else 0

    def run(self, standing: Standing, teller: Teller, *, forgotten: int | None = None) -> Counted:
        """Renew all rows, prove by a count that none is left, and record it; commits.

        What is done already is seen from the tokens themselves, so that nothing is lost or done twice after a kill.
        forgotten: the id of a key whose tokens may be given up where they can't be read.
        Raises RotationError where tokens can't be read, RotationBusyError where loads hold the table for too long.
        """
        for _ in range(MOST_PASSES):
            renewed = self._pass(standing, teller)
            if renewed.unreadable and forgotten is not None:
                self.forget(forgotten)
                renewed = Renewed(renewed.rows)
            counted = self._settle(standing, renewed)
            if counted.left == 0 and not renewed.unreadable:
                if self._since_vacuum:
                    vacuum(self._connect, self._table.raw_table)
                return counted
            if renewed.unreadable:
                raise self._unreadable(renewed, counted)
        raise RotationBusyError(
            f"raw.{self._table.raw_table}: {counted.left} tokens of other keys came while it was renewed. Remedy: a "
            "worker still writes with the old key: restart it, then run `make rotate-keys` again."
        )

    def forget(self, key_id: int) -> int:
        """Empty the tokens of a key that nobody has any more, and have the table read again; return how many. Commits.

        Blind indexes stay: they still find what is equal.
        """
        self._begin(time.monotonic() + self._patience_s)
        forgotten = 0
        for column in self._table.columns:
            forgotten += self._warehouse.execute(
                sql.SQL("update {0} set {1} = null where substr({1}, 1, {2}) = {3}::bytea").format(
                    self._raw, sql.Identifier(column), HEADER_BYTES, sql.Literal(header_of(key_id))
                )
            ).rowcount
        self._warehouse.execute(
            "delete from ops.data_key_use where raw_table = %s and key_id = %s", (self._table.raw_table, key_id)
        )
        self._warehouse.execute(
            "delete from ops.watermark where source = %s and table_name = %s",
            (self._table.source, self._table.table_name),
        )
        self._warehouse.commit()
        log.warning("values were given up", table=self._table.raw_table, key_id=key_id, tokens=forgotten)
        return forgotten

    def _pass(self, standing: Standing, teller: Teller) -> Renewed:
        """Go through all pages that the table has now."""
        pages, width = self._measure()
        total = Renewed()
        first = 0
        while first < pages:
            last = first + width
            done = self._batch(in_pages(first, last), standing)
            total.rows += done.rows
            total.unreadable += done.unreadable
            total.unreadable_keys += done.unreadable_keys
            first = last
            if done.rows:
                teller.progress(standing)
                self._vacuum_when_due(pages, done.rows)
        return total

    def _batch(self, pages: sql.Composable, standing: Standing) -> Renewed:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                self._begin(deadline)
                done = renew(
                    self._warehouse,
                    self._keyring,
                    table=self._table.raw_table,
                    key=token_key(read_raw_key(self._warehouse, self._table.raw_table)),
                    columns=self._table.columns,
                    condition=pages + sql.SQL(" and ") + self._condition,
                    with_index=self._with_index,
                )
                if done.rows:
                    standing.renewed += done.rows
                    record.write_progress(self._warehouse, standing)
                self._warehouse.commit()
                return done
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                self._warehouse.rollback()
                self._require_patience(deadline)

    def _begin(self, deadline: float) -> None:
        """Begin a transaction that has the table's lock: loads of the table, which move its rows, are not at work."""
        is_told = False
        while not try_table_lock(self._warehouse, self._table.source, self._table.table_name):
            self._warehouse.rollback()
            if not is_told:
                log.info("waiting for a load of the table", table=self._table.raw_table)
                is_told = True
            self._require_patience(deadline)
            time.sleep(POLL_S)
        agree_on_text(self._warehouse)
        self._warehouse.execute("select set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))

    def _require_patience(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise RotationBusyError(
                f"raw.{self._table.raw_table} is held by somebody else for too long. Remedy: none needed, the next "
                "rotation goes on; if it stays so, look for revops:extract in pg_stat_activity."
            )

    def _settle(self, standing: Standing, renewed: Renewed) -> Counted:
        """Count all tokens while nobody writes, and where none is left record that only the writing key is in use."""
        self._begin(time.monotonic() + self._patience_s)
        counted = count_tokens(self._warehouse, self._keyring, self._table)
        if counted.left == 0 and not renewed.unreadable:
            for column, kind in self._table.columns.items():
                place = (self._table.raw_table, column)
                self._warehouse.execute(
                    "delete from ops.data_key_use where raw_table = %s and column_name = %s and key_id <> %s",
                    (*place, self._keyring.writing_id),
                )
                if self._with_index:
                    self._warehouse.execute(
                        "update ops.encrypted_column set kind = %s, index_fingerprint = %s "
                        "where raw_table = %s and column_name = %s",
                        (kind, self._keyring.index_fingerprint, *place),
                    )
            record.succeed(self._warehouse, standing, checked=counted.tokens)
            self._warehouse.commit()
        else:
            self._warehouse.rollback()
        return counted

    def _measure(self) -> tuple[int, int]:
        """Return how many pages the table has, and how many make a batch."""
        row = self._warehouse.execute(
            "select pg_relation_size(c.oid) / %s, c.reltuples, c.relpages from pg_class c "
            "where c.oid = to_regclass(%s)",
            (BLOCK_BYTES, self._raw.as_string(self._warehouse)),
        ).fetchone()
        self._warehouse.rollback()
        pages, rows, known = row or (0, 0, 0)
        per_page = rows / known if rows > 0 and known > 0 else 0
        width = round(BATCH_ROWS / per_page) if per_page else MOST_PAGES // 8
        return int(pages), min(MOST_PAGES, max(1, width))

    def _vacuum_when_due(self, pages: int, rows: int) -> None:
        self._since_vacuum += rows
        row = self._warehouse.execute(
            "select reltuples from pg_class where oid = to_regclass(%s)", (self._raw.as_string(self._warehouse),)
        ).fetchone()
        self._warehouse.rollback()
        all_rows = row[0] if row and row[0] > 0 else pages
        if self._since_vacuum >= max(VACUUM_ROWS, VACUUM_SHARE * all_rows):
            vacuum(self._connect, self._table.raw_table)
            self._since_vacuum = 0

    def _unreadable(self, renewed: Renewed, counted: Counted) -> RotationError:
        keys = "; ".join(dict.fromkeys(renewed.unreadable_keys)) or "-"
        return RotationError(
            f"raw.{self._table.raw_table}: {renewed.unreadable} token(s) of {', '.join(self._table.columns)} can't be "
            f"read although their keys are here, in rows by key: {keys}; {counted.left} are left on other keys. They "
            "were altered, or written for another row. Remedy: a run of the source with `full_refresh` writes those of "
            "rows that the source still has; then run `make rotate-keys` again. Keep the old key."
        )


def count_tokens(warehouse: psycopg.Connection, keyring: Keyring, table: TokenTable) -> Counted:
    """Count the tokens of a table by whether the writing key has written them; one scan."""
    header = sql.Literal(header_of(keyring.writing_id))
    every = sql.SQL(" + ").join(sql.SQL("count({})").format(sql.Identifier(name)) for name in table.columns)
    old = sql.SQL(" + ").join(
        sql.SQL("count(*) filter (where substr({}, 1, {}) <> {}::bytea)").format(
            sql.Identifier(name), HEADER_BYTES, header
        )
        for name in table.columns
    )
    row = warehouse.execute(
        sql.SQL("select {}, {} from {}").format(every, old, sql.Identifier("raw", table.raw_table))
    ).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return Counted(int(row[0]), int(row[1]))
