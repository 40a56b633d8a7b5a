"""Who writes into the source: one transaction after the other, some that stay open for long, several writers."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import psycopg
from psycopg.conninfo import make_conninfo

from tests.histories.alterations import alter
from tests.histories.changes import REFUSALS, change_rows, write, write_stamped
from tests.histories.tables import Plan, first_rows, plan_table, prepare_source

# Writers wait for each other, and for a loader, no longer than this.
LOCK_TIMEOUT = "50ms"


class Application:
    """The application that owns a source; everything that it does follows from its random numbers."""

    def __init__(self, dsn: str, rng: random.Random, *, name: str = "t") -> None:
        self.dsn = _own_dsn(dsn)
        self.rng = rng
        self.name = name
        self.log: list[str] = []
        self._late: list[psycopg.Connection] = []
        self._connection: psycopg.Connection | None = None

    @property
    def connection(self) -> psycopg.Connection:
        """A session of the application's own, opened anew when the last one has broken."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.dsn)
        return self._connection

    def create(self, *, rows: int, filler: int = 0, plan: Plan | None = None) -> Plan:
        """Create types and table in an empty source, with its first rows."""
        prepare_source(self.connection, self.rng)
        self.connection.commit()
        # Settings of the database hold for new sessions.
        self.connection.close()
        plan = plan or plan_table(self.rng, filler=filler)
        first_rows(self.connection, self.name, plan, rows=rows, salt=0)
        self.connection.commit()
        self.log.append(f"create {plan}")
        return plan

    def write(self, *, transactions: int = 1, operations: int = 3) -> None:
        """Change rows in a few transactions."""
        for _ in range(transactions):
            self.log += write(self.connection, self.rng, self.name, operations=operations)

    def write_stamped(self, *, transactions: int = 1) -> None:
        """Insert and update rows in a few transactions that stamp each row they touch."""
        for _ in range(transactions):
            try:
                write_stamped(self.connection, self.rng, self.name)
                self.connection.commit()
            except REFUSALS as refusal:
                # Rows that an open transaction has changed are locked.
                self.connection.rollback()
                self.log.append(f"refused: {type(refusal).__name__}")
            else:
                self.log.append("write stamped")

    def alter(self) -> None:
        """Alter the table once."""
        self.log.append(alter(self.connection, self.rng, self.name, lock_timeout=LOCK_TIMEOUT))

    def open_late(self) -> None:
        """Begin a transaction that changes rows and stays open."""
        connection = psycopg.connect(self.dsn)
        try:
            done = change_rows(connection, self.rng, self.name, is_long=True)
        except REFUSALS as refusal:
            connection.close()
            self.log.append(f"late transaction refused: {type(refusal).__name__}")
            return
        self._late.append(connection)
        self.log.append(f"open late: {', '.join(done)}")

    def finish_late(self, *, chance: float = 1.0) -> int:
        """End open transactions, each with this chance: most commit, some roll back. Return how many ended."""
        ended = 0
        for connection in list(self._late):
            if self.rng.random() >= chance:
                continue
            self._late.remove(connection)
            is_kept = self.rng.random() < 0.8
            with contextlib.suppress(psycopg.OperationalError):  # the server went down meanwhile
                connection.commit() if is_kept else connection.rollback()
            connection.close()
            self.log.append("late transaction " + ("committed" if is_kept else "rolled back"))
            ended += 1
        return ended

    @contextlib.contextmanager
    def writing(self, writers: int, *, alters: bool = False) -> Iterator[None]:
        """Let writers work at the same time as the block; a failure of theirs is raised at its end."""
        stop = threading.Event()
        failures: list[BaseException] = []
        seeds = [self.rng.random() for _ in range(writers)]

        def work(number: int, seed: float) -> None:
            try:
                self._write_until(stop, random.Random(seed), alters=alters and number == 0)
            except BaseException as failure:  # noqa: BLE001 - it is raised in the thread that waits
                failures.append(failure)

        threads = [threading.Thread(target=work, args=item) for item in enumerate(seeds)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]

    def reconnect(self, dsn: str) -> None:
        """Forget the sessions that were lost with a server; it may have come back under another port."""
        self.close()
        self.dsn = _own_dsn(dsn)

    def close(self) -> None:
        """Roll back what is open and end all sessions."""
        for connection in (*self._late, self._connection):
            if connection is not None:
                connection.close()
        self._late.clear()

    def _write_until(self, stop: threading.Event, rng: random.Random, *, alters: bool) -> None:
        while not stop.is_set():
            # A server that goes down takes its writers' transactions with it; they come back when it does.
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn) as connection:
                self._write_some(connection, stop, rng, alters=alters)
            stop.wait(0.05)

    def _write_some(
        self, connection: psycopg.Connection, stop: threading.Event, rng: random.Random, *, alters: bool
    ) -> None:
        while not stop.is_set():
            if alters and rng.random() < 0.2:
                done = [alter(connection, rng, self.name, lock_timeout=LOCK_TIMEOUT)]
            elif rng.random() < 0.3:
                done = self._write_slowly(connection, stop, rng)
            else:
                done = write(connection, rng, self.name)
            self.log += [f"meanwhile: {text}" for text in done]
            stop.wait(rng.choice((0.0, 0.005, 0.03)))

    def _write_slowly(self, connection: psycopg.Connection, stop: threading.Event, rng: random.Random) -> list[str]:
        """Keep a transaction open for a while: others begin and commit before it does."""
        try:
            done = change_rows(connection, rng, self.name, is_long=True)
            stop.wait(rng.uniform(0.02, 0.4))
            done += change_rows(connection, rng, self.name, is_long=True)
        except REFUSALS as refusal:
            connection.rollback()
            return [f"refused: {type(refusal).__name__}"]
        connection.commit() if rng.random() < 0.8 else connection.rollback()
        return [f"{text} (slowly)" for text in done]


def _own_dsn(dsn: str) -> str:
    return make_conninfo(dsn, application_name="application", options=f"-c lock_timeout={LOCK_TIMEOUT}")
