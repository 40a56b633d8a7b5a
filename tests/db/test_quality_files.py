"""The files of include/soda: one for every table, every check evaluated on real tables, and true of a good source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import psycopg
import pytest
from builders import query
from psycopg.conninfo import make_conninfo

from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring, new_key
from revops.local.sample import create
from revops.naming import raw_table_name
from revops.quality.checks import DIMENSIONS, read_checks
from revops.quality.freshness import LOADED
from revops.quality.own_checks import check_raw
from revops.quality.own_config import read_own_checks
from revops.quality.results import ScanReport
from revops.quality.scan import scan_tables
from revops.quality.source_rows import NAME, raw_tables
from revops.seeds import SEEDS
from revops.sources import Source, load_source

pytestmark = pytest.mark.db

SODA = Path(__file__).resolve().parents[2] / "include" / "soda"
SOURCES = ("odoo", "ace")


def names(layer: str) -> set[str]:
    return {path.stem for path in (SODA / layer).glob("*.yml")}


def outcomes(report: ScanReport, *kinds: str) -> list[tuple[str, str]]:
    return [(result.check.table, result.check.name) for result in report.results if result.outcome in kinds]


def test_every_table_of_the_sources_has_a_file() -> None:
    assert names("raw") == {
        raw_table_name(source, table.name) for source in SOURCES for table in load_source(source).tables
    }


def test_every_table_of_core_has_a_file(warehouse_dsn: str) -> None:
    with psycopg.connect(warehouse_dsn) as owner:
        tables = query(
            owner,
            "select relname from pg_class where relnamespace = 'core'::regnamespace and relkind in ('r', 'p') "
            "and not relispartition",
        )
    assert names("core") == {name for (name,) in tables} - {seed.table for seed in SEEDS}


@pytest.mark.parametrize("layer", ["raw", "core"])
def test_every_file_checks_what_a_table_needs(layer: str) -> None:
    """Keys are present and unique, something refers to something, and nothing is from the future."""
    for path in (SODA / layer).glob("*.yml"):
        checks = read_checks(path)
        dimensions = {check.dimension for check in checks}
        assert dimensions >= {"completeness", "uniqueness"}, path.name
        assert dimensions <= set(DIMENSIONS)
        assert any(check.severity == "critical" for check in checks), path.name
        assert all(check.remedy for check in checks)
        # The checks that need no file are kept beside these.
        assert not {check.name for check in checks} & {NAME, LOADED}
    dated = {path.stem for path in (SODA / layer).glob("*.yml") if "in the past" in path.read_text()}
    # A link table has no dates, and a link's are those of its record.
    assert names(layer) - dated == ({"odoo_crm_tag_rel"} if layer == "raw" else {"account_link"})


def load_all(
    config: Source, *, source_dsn: str, as_role: Callable[[str], psycopg.Connection], warehouse_dsn: str
) -> None:
    ingest = make_conninfo(warehouse_dsn, options="-c role=revops_ingest")
    route = Route(source=lambda: psycopg.connect(source_dsn), warehouse=lambda: psycopg.connect(ingest))
    keyring = Keyring.parse(f"1:{new_key()}", new_key())
    for table in config.tables:
        load_table(route, config=config, table=table, run_id="night", keyring=keyring)


def test_raw_of_the_sample_sources_passes_and_leaves_no_check_out(
    empty_database: Callable[[], str],
    warehouse_dsn: str,
    as_role: Callable[[str], psycopg.Connection],
    tmp_path: Path,
) -> None:
    """All tables as real loads make them: every column that a check names is there, and no gate shuts on good data."""
    dsns = {source: empty_database() for source in SOURCES}
    with (
        psycopg.connect(dsns["odoo"], autocommit=True) as odoo,
        psycopg.connect(dsns["ace"], autocommit=True) as ace,
    ):
        create(odoo, ace, seed=7, today=date(2026, 11, 22), scale=0.05, truth_path=tmp_path / "truth.csv")
    own = read_own_checks(SODA / "own.yaml")
    dsn = make_conninfo(warehouse_dsn, options="-c role=revops_quality -c timezone=UTC")
    quality = as_role("revops_quality")
    for source in SOURCES:
        config = load_source(source)
        load_all(config, source_dsn=dsns[source], as_role=as_role, warehouse_dsn=warehouse_dsn)
        tables = raw_tables(quality, config)
        assert list(tables) == [config.raw_table(table) for table in config.tables]
        scanned = scan_tables(dsn, layer="raw", source=source, tables=list(tables), folder=SODA / "raw")
        report = scanned.joined(check_raw(quality, source=source, tables=tables, own=own))
        assert report.errors == ""
        assert outcomes(report, "fail", "not_evaluated") == []
        # Odoo renamed one column between versions 14 and 16.
        absent = [("odoo_crm_lead", "lost_reason_id refers to odoo_crm_lost_reason")] if source == "odoo" else []
        assert outcomes(report, "not_applicable") == absent
        assert (report.gate, report.evaluated) == ("open", len(report.applicable))
        declared = sum(len(read_checks(SODA / "raw" / f"{table}.yml")) for table in tables)
        assert len(report.results) == declared + 2 * len(tables)
        assert report.score is not None
        assert report.score > 0.95
