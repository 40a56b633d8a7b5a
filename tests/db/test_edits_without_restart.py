"""Edited connections and sources count from the next task on, in an Airflow that goes on running; faults stop it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from living_airflow import LivingAirflow
from psycopg.conninfo import conninfo_to_dict

pytestmark = pytest.mark.db

SOURCE = """
source: tiny
connection: tiny_source
schedule: "0 2 * * *"
tables:
  - name: deal
"""


def uri(dsn: str) -> str:
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    login = f"{parts['user']}:{quote(parts['password'], safe='')}"
    place = f"{parts['host']}:{parts['port']}/{parts['dbname']}"
    return f"postgresql://{login}@{place}?sslrootcert={quote(parts['sslrootcert'], safe='')}"


@pytest.fixture
def sources(empty_database: Callable[[], str]) -> dict[str, str]:
    """Three sources with the same tables; each names itself in its only row."""
    made = {name: empty_database() for name in ("first", "second", "wrong")}
    for name, dsn in made.items():
        with psycopg.connect(dsn) as source:
            source.execute("create table deal (id integer primary key, name text, note text)")
            source.execute("insert into deal values (1, %s, 'a note')", (name,))
            source.execute("create table stage (id integer primary key); insert into stage values (7)")
    return made


@pytest.fixture
def airflow(tmp_path: Path, sources: dict[str, str]) -> Iterator[LivingAirflow]:
    # The trap: an older connection of the same id that nobody has thought of.
    made = LivingAirflow(tmp_path, stored={"tiny_source": uri(sources["wrong"])})
    yield made
    made.close()


def test_edits_count_from_the_next_task_on(airflow: LivingAirflow, sources: dict[str, str], warehouse_dsn: str) -> None:
    def connect(source: str) -> None:
        connections = {"tiny_source": uri(sources[source]), "revops_core": uri(warehouse_dsn)}
        airflow.connections.write_text(json.dumps(connections, indent=2))

    def rows() -> list[tuple[object, ...]]:
        with psycopg.connect(warehouse_dsn) as warehouse:
            return warehouse.execute(
                "select t.name, to_jsonb(t) ? 'note' from raw.tiny_deal as t where _deleted_at is null"
            ).fetchall()

    table = airflow.include / "sources" / "tiny.yaml"
    table.write_text(SOURCE)
    connect("first")
    outcome = airflow.run()
    assert outcome.states == {"deal": "success"}, outcome.log[-4000:]
    assert rows() == [("first", True)]

    # Another server, without a restart.
    connect("second")
    assert airflow.run().states == {"deal": "success"}
    assert rows() == [("second", True)]

    # A malformed file: Airflow alone would take the connection that its database has.
    airflow.connections.write_text(airflow.connections.read_text()[:-3])
    outcome = airflow.run()
    assert outcome.states == {"deal": "failed"}
    assert f"{airflow.connections}:3: not JSON" in outcome.log
    assert rows() == [("second", True)]

    # A source's file: what is read of a table counts for the next task, a new table is the next run's task.
    connect("first")
    table.write_text(SOURCE + "    exclude_columns: [note]\n  - name: stage\n")
    assert airflow.run().states == {"deal": "success", "stage": "success"}
    assert rows() == [("first", False)]

    # A malformed one is named with line and field, and nothing runs by it.
    table.write_text(SOURCE + "    exclude_colums: [name]\n")
    outcome = airflow.run()
    assert outcome.states == {}
    assert f"{table}:7: tables.0.exclude_colums: Extra inputs are not permitted" in outcome.log
    assert rows() == [("first", False)]
