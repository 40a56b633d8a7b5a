"""The lineage of the project's own SQL files, whole, and as PostgreSQL sees it.

tests/db/lineage holds the edges of each file as they were reviewed. After a change of a SQL file:
`RENEW_LINEAGE=1 pytest tests/db/test_lineage_files.py`, then read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql

from revops.lineage.edges import SCOPED, Edge, read_edges
from revops.lineage.grain import GRAINS
from revops.lineage.record import read_columns

pytestmark = pytest.mark.db

SQL = Path(__file__).resolve().parents[2] / "include" / "sql"
REVIEWED = Path(__file__).resolve().parent / "lineage"
FILES = sorted(
    path for schema in ("core", "search") for path in (SQL / schema).glob("*.sql") if path.stem.count(".") == 0
)
NAMES = [f"{path.parent.name}.{path.stem}" for path in FILES]
INPUTS: dict[str, dict[str, str]] = yaml.safe_load((SQL / "core" / "inputs.yaml").read_text())


@pytest.fixture
def warehouse(warehouse_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_dsn) as connection:
        yield connection
        connection.rollback()


def edges_of(warehouse: psycopg.Connection, path: Path, source: str | None = None) -> tuple[Edge, ...]:
    return read_edges(
        path.read_text(),
        target=f"{path.parent.name}.{path.stem}",
        inputs={**INPUTS, **read_columns(warehouse)},
        name=str(path),
        parameters={"source": source} if source else None,
    )


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_edges_are_those_that_were_reviewed(warehouse: psycopg.Connection, path: Path) -> None:
    reviewed = REVIEWED / f"{path.parent.name}.{path.stem}.txt"
    lines = [
        f"{edge.output_column:<24} {'<-' if edge.kind == 'value' else '<?'} {edge.input_relation}.{edge.input_column}"
        for edge in sorted(edges_of(warehouse, path), key=lambda edge: (edge.output_column, edge.kind != "value", edge))
    ]
    if os.environ.get("RENEW_LINEAGE"):
        reviewed.parent.mkdir(exist_ok=True)
        reviewed.write_text("\n".join(lines) + "\n")
    assert reviewed.read_text().splitlines() == lines


def test_nothing_is_reviewed_that_is_not_there() -> None:
    assert sorted(path.stem for path in REVIEWED.glob("*.txt")) == sorted(NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_postgresql_reads_the_same_columns(warehouse: psycopg.Connection, path: Path) -> None:
    """A view depends on the columns that its query names; those that only a star brings along may be left unused."""
    for table, columns in INPUTS.items():
        listed = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(declared.rstrip("?")))  # type: ignore[arg-type]
            for name, declared in {**columns, "_load_id": "bigint", "_deleted_at": "timestamptz"}.items()
        )
        for name in (table, f"{SCOPED}{table}"):
            warehouse.execute(sql.SQL("create temp table {} ({})").format(sql.Identifier(name), listed))
    statement = path.read_text().replace("%(source)s", "'odoo'").replace("%%", "%")
    warehouse.execute(f"create temp view made as {statement}".encode())
    rows = warehouse.execute(
        "select distinct n.nspname, c.relname, a.attname from pg_rewrite r "
        "join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid "
        "join pg_class c on d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid > 0 "
        "join pg_namespace n on n.oid = c.relnamespace "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid "
        "where r.ev_class = 'pg_temp.made'::regclass and c.oid <> 'pg_temp.made'::regclass"
    ).fetchall()
    read = {
        (f"core.{table}" if schema == "core" else f"raw.{table.removeprefix(SCOPED)}", column)
        for schema, table, column in rows
    }
    named = {(edge.input_relation, edge.input_column) for edge in edges_of(warehouse, path) if edge.input_column != "*"}
    assert named <= read
    if ".*" not in statement:
        assert named == read


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_column_that_is_no_constant_has_an_edge(warehouse: psycopg.Connection, path: Path) -> None:
    target = f"{path.parent.name}.{path.stem}"
    made = {edge.output_column for edge in edges_of(warehouse, path)} - {"*"}
    columns = read_columns(warehouse).get(target, ())
    assert made <= set(columns) or path.parent.name == "search"
    constant = {"source_system", "transform_run_id", "issues", "is_archived", "is_technical", "entity"}
    assert set(columns) - constant <= made


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_grain_of_a_table_is_among_what_its_file_reads(warehouse: psycopg.Connection, path: Path) -> None:
    target = f"{path.parent.name}.{path.stem}"
    for source in ("odoo", "ace"):
        read = {(edge.input_relation, edge.input_column) for edge in edges_of(warehouse, path, source)}
        grains = [grain for grain in GRAINS[target] if grain.is_of(source)]
        if read:
            assert grains
            assert {(grain.relation, column) for grain in grains for column in grain.key} <= read


def test_there_is_a_grain_for_every_file_and_no_other() -> None:
    assert set(GRAINS) == set(NAMES)
