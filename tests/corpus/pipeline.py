"""Both sources and a warehouse, and the steps of a night one by one, as the operators take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring, new_key
from revops.quality.own_checks import check_core, check_raw
from revops.quality.own_config import read_own_checks
from revops.quality.results import ScanReport
from revops.quality.scan import scan_tables
from revops.quality.source_rows import raw_tables
from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables

SODA = INCLUDE / "soda"


class Pipeline:
    """sources and warehouse: connection strings, of the sources' owners and of the warehouse's."""

    def __init__(self, sources: dict[str, str], warehouse: str) -> None:
        self.sources = sources
        self._warehouse = warehouse
        self.keyring = Keyring.parse(f"1:{new_key()}", new_key())
        self._own = read_own_checks(SODA / "own.yaml")

    def as_role(self, role: str) -> psycopg.Connection:
        """Open a session in the warehouse with the rights of a role; as a context manager it closes."""
        return psycopg.connect(self._dsn(role))

    def source(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.sources[name], autocommit=True)

    def load(self, source: str, *tables: str, accept_deletions: bool = False) -> None:
        """Load the tables, all that the source lists where none are named."""
        config = load_source(source)
        ingest = self._dsn("revops_ingest")
        route = Route(source=lambda: psycopg.connect(self.sources[source]), warehouse=lambda: psycopg.connect(ingest))
        for table in config.tables:
            if not tables or table.name in tables:
                load_table(
                    route,
                    config=config,
                    table=table,
                    run_id="night",
                    keyring=self.keyring,
                    accept_deletions=accept_deletions,
                )

    def check_raw(self, source: str, *, soda: Path = SODA) -> ScanReport:
        with self.as_role("revops_quality") as quality:
            tables = raw_tables(quality, load_source(source))
            quality.rollback()
            scanned = self._scan("raw", source, list(tables), soda)
            return scanned.joined(check_raw(quality, source=source, tables=tables, own=self._own))

    def transform(self, source: str) -> None:
        with self.as_role("revops_transform") as worker:
            for name in core_tables(source):
                transform_table(worker, target=TARGETS[name], source=source, run_id="night", include=INCLUDE)

    def check_core(self, source: str, *, soda: Path = SODA) -> ScanReport:
        tables = core_tables(source)
        with self.as_role("revops_quality") as quality:
            scanned = self._scan("core", source, tables, soda)
            return scanned.joined(check_core(quality, source=source, tables=tables, own=self._own))

    def _scan(self, layer: str, source: str, tables: list[str], soda: Path) -> ScanReport:
        return scan_tables(self._dsn("revops_quality"), layer=layer, source=source, tables=tables, folder=soda / layer)

    def _dsn(self, role: str) -> str:
        return make_conninfo(self._warehouse, options=f"-c role={role} -c timezone=UTC")


Copies = Callable[[], Pipeline]
