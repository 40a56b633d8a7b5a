"""Nights of a warehouse: loads of the tables that have changed, transforms, and what of both is left out."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring
from revops.sources import load_source
from revops.transform.definition import read_inputs
from revops.transform.run import TransformResult
from revops.transform.targets import core_tables
from tests.histories.business import REFUSALS, Application
from tests.histories.business_drift import ALTERATIONS
from tests.histories.business_rows import ROW_CHANGES
from tests.histories.core import SOURCES, Transforms
from tests.histories.loads import is_mended_by_retry

INCLUDE = Path(__file__).resolve().parents[2] / "include"
TRIES = 8
MOSTLY_ODOO = 0.75
# How often a change alters a table instead of its rows.
ALTERED = 0.2


@dataclass(frozen=True)
class Places:
    """The connection strings of both sources, as their owners' logins, and of the warehouse."""

    sources: dict[str, str]
    warehouse: str


class Nights:
    """Both sources, the warehouse, and what happens to them; everything follows from the random numbers.

    log: what was done, for a failure's message. is_new: the sources have just been made and were never loaded.
    """

    def __init__(self, places: Places, rng: random.Random, *, keyring: Keyring, is_new: bool) -> None:
        self.places = places
        self.rng = rng
        self.log: list[str] = []
        self._keyring = keyring
        self._runs = itertools.count(1)
        inputs = read_inputs(INCLUDE / "sql" / "core" / "inputs.yaml")
        self._configs = {source: load_source(source) for source in SOURCES}
        self._applications = {
            source: Application.open(source, places.sources[source], inputs, rng, is_new=is_new) for source in SOURCES
        }
        self._owner = psycopg.connect(places.warehouse, autocommit=True)
        # Nothing may depend on the server's time zone.
        options = "-c role=revops_transform -c timezone=Asia/Kathmandu"
        self._worker = psycopg.connect(make_conninfo(places.warehouse, options=options))
        self._transforms = Transforms(self._owner, self._worker, INCLUDE)

    def change(self) -> None:
        """Make one random change in one of the sources."""
        app = self._applications["odoo" if self.rng.random() < MOSTLY_ODOO else "ace"]
        known = ALTERATIONS if self.rng.random() < ALTERED else ROW_CHANGES
        change = self.rng.choices(list(known), weights=list(known.values()))[0]
        try:
            with app.connection.transaction():
                done = change(app)
        except REFUSALS as refusal:
            done = f"{change.__name__} refused: {type(refusal).__name__}"
        self.log.append(f"{app.name}: {done}")

    def load(self, *, left_out: float = 0.0) -> None:
        """Load what has changed; each table is left out with a chance, as when its load fails."""
        for app in self._applications.values():
            for table in [name for name in app.inputs if name in app.dirty]:
                if self.rng.random() >= left_out:
                    self._load_table(app, table)
                    app.dirty.remove(table)

    def transform(self, *, left_out: float = 0.0) -> None:
        """Transform some sources, each table left out with a chance; nothing and nobody is left out at 0."""
        sources = SOURCES if not left_out or self.rng.random() < 0.7 else (self.rng.choice(SOURCES),)
        run_id = f"night-{next(self._runs)}"
        for source in sources:
            for name in core_tables(source):
                if self.rng.random() >= left_out:
                    self._tell(source, self._transforms.run(name, source, run_id))
                else:
                    self.log.append(f"  {source}: core.{name} left out")

    def compare(self) -> None:
        """Catch up with everything; core must equal core rebuilt from scratch."""
        self.load()
        self.transform()
        incremental = self._transforms.read()
        self.log.append("rebuild")
        incremental.assert_equal(self._transforms.rebuild(f"night-{next(self._runs)}"))

    def close(self) -> None:
        for app in self._applications.values():
            app.close()
        self._worker.close()
        self._owner.close()

    def _load_table(self, app: Application, table: str) -> None:
        config = self._configs[app.name]
        ingest = make_conninfo(self.places.warehouse, options="-c role=revops_ingest")
        route = Route(
            source=partial(psycopg.connect, self.places.sources[app.name]), warehouse=partial(psycopg.connect, ingest)
        )
        for left in reversed(range(TRIES)):
            try:
                result = load_table(
                    route,
                    config=config,
                    table=config.table(table),
                    run_id=f"load-{next(self._runs)}",
                    accept_deletions=True,
                    keyring=self._keyring,
                )
            except Exception as error:
                if not is_mended_by_retry(error) or not left:
                    raise
            else:
                self.log.append(
                    f"  load {result.load_id} of {app.name}.{table}: {result.read} read, {result.inserted} inserted, "
                    f"{result.updated} updated, {result.deleted} deleted"
                )
                return

    def _tell(self, source: str, result: TransformResult) -> None:
        if result.full_reason not in (None, "the table has no scopes") or result.read != result.unchanged:
            self.log.append(
                f"  {source}: {result.target} {result.full_reason or 'incremental'}: {result.read} read, "
                f"{result.inserted} inserted, {result.updated} updated, {result.deleted} deleted, "
                f"{result.quarantined} in quarantine"
            )
