"""OpenLineage events of real Airflow tasks, by the transports that docs/lineage.md explains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "p4ssword-of-the-warehouse"
DAG_FILE = f'''
from airflow.sdk import DAG, BaseOperator

from revops.lineage.edges import read_edges
from revops.lineage.openlineage import Copied, Database, extract_facets, openlineage_facets

WAREHOUSE = Database.of("host=warehouse.example port=5433 dbname=revops_core user=revops password={PASSWORD}")
STATEMENT = """
    select t.id as source_id, t.a as title, u.x from scoped_odoo_t as t
    left join odoo_u as u on t.id = u.id where t.b = %(source)s
"""


class Extract(BaseOperator):
    def execute(self, context):
        return 4

    def get_openlineage_facets_on_complete(self, task_instance):
        source = Database.of("postgresql://reader:{PASSWORD}@odoo.example/odoo")
        return extract_facets([Copied("public.t", "raw.odoo_t", 4, ("id",))], source=source, warehouse=WAREHOUSE)


class Transform(BaseOperator):
    def execute(self, context):
        inputs = {{"odoo_t": ("id", "a", "b"), "odoo_u": ("id", "x")}}
        self.edges = read_edges(STATEMENT, target="core.made", inputs=inputs, name="made.sql")

    def get_openlineage_facets_on_complete(self, task_instance):
        return openlineage_facets(self.edges, target="core.made", warehouse=WAREHOUSE, written=5)


with DAG("tiny", schedule=None) as dag:
    Extract(task_id="extract") >> Transform(task_id="transform")

if __name__ == "__main__":
    assert dag.test().state == "success"
'''


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow with a new metadata database and one DAG."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "tiny.py").write_text(DAG_FILE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "OPENLINEAGE"))}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT / "plugins"),
        "PYTHONWARNINGS": "ignore",
    }
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return environment


class Receiver:
    """A small HTTP server that keeps the events that are posted to it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.places: set[tuple[str, str | None]] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.places.add((self.path, self.headers.get("Authorization")))
                receiver.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(201)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def run(airflow: dict[str, str], **settings: str) -> str:
    finished = subprocess.run(
        [sys.executable, str(Path(airflow["AIRFLOW__CORE__DAGS_FOLDER"]) / "tiny.py")],
        env={**airflow, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-4000:]
    return finished.stdout + finished.stderr


def check(events: list[dict[str, Any]]) -> None:
    """The complete events of both tasks name the right datasets; none has a password."""
    done = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    assert set(done) == {"tiny", "tiny.extract", "tiny.transform"}
    assert {event["job"]["namespace"] for event in events} == {"revops"}
    warehouse = "postgres://warehouse.example:5433"

    def datasets(name: str, side: str) -> list[tuple[str, str]]:
        return [(item["namespace"], item["name"]) for item in done[name][side]]

    assert datasets("tiny.extract", "inputs") == [("postgres://odoo.example:5432", "odoo.public.t")]
    assert datasets("tiny.extract", "outputs") == [(warehouse, "revops_core.raw.odoo_t")]
    assert datasets("tiny.transform", "inputs") == [
        (warehouse, "revops_core.raw.odoo_t"),
        (warehouse, "revops_core.raw.odoo_u"),
    ]
    (made,) = done["tiny.transform"]["outputs"]
    assert (made["namespace"], made["name"]) == (warehouse, "revops_core.core.made")
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 5
    lineage = made["facets"]["columnLineage"]
    columns = {
        column: [(item["name"], item["field"], item["transformations"][0]["type"]) for item in fields["inputFields"]]
        for column, fields in lineage["fields"].items()
    }
    t, u = "revops_core.raw.odoo_t", "revops_core.raw.odoo_u"
    assert columns == {
        "source_id": [(t, "id", "DIRECT")],
        "title": [(t, "a", "DIRECT")],
        "x": [(t, "id", "INDIRECT"), (u, "id", "INDIRECT"), (u, "x", "DIRECT")],
    }
    assert [(item["name"], item["field"]) for item in lineage["dataset"]] == [(t, "b"), (t, "id"), (u, "id")]
    assert PASSWORD not in json.dumps(events)


@pytest.mark.long
def test_events_arrive_in_a_file(airflow: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    run(airflow, AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport), AIRFLOW__OPENLINEAGE__NAMESPACE="revops")
    check([json.loads(line) for line in path.read_text().splitlines()])


def test_events_arrive_at_a_server_whose_key_is_in_a_file(
    airflow: dict[str, str], receiver: Receiver, tmp_path: Path
) -> None:
    transport = {
        "type": "http",
        "url": f"http://127.0.0.1:{receiver.server.server_port}",
        "endpoint": "api/v1/lineage",
        "auth": {"type": "api_key", "apiKey": "key"},
    }
    path = tmp_path / "openlineage.yml"
    path.write_text(json.dumps({"transport": transport}))
    # As docker-compose.yaml passes what .env leaves out.
    rest = {"AIRFLOW__OPENLINEAGE__TRANSPORT": "", "AIRFLOW__OPENLINEAGE__DISABLED": "False"}
    run(airflow, AIRFLOW__OPENLINEAGE__CONFIG_PATH=str(path), AIRFLOW__OPENLINEAGE__NAMESPACE="revops", **rest)
    assert receiver.places == {("/api/v1/lineage", "Bearer key")}
    check(receiver.events)


@pytest.mark.long
def test_events_arrive_at_a_server_without_a_key(airflow: dict[str, str], receiver: Receiver) -> None:
    transport = {"type": "http", "url": f"http://127.0.0.1:{receiver.server.server_port}", "endpoint": "api/v1/lineage"}
    rest = {"AIRFLOW__OPENLINEAGE__CONFIG_PATH": "", "AIRFLOW__OPENLINEAGE__DISABLED": "False"}
    run(
        airflow,
        AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport),
        AIRFLOW__OPENLINEAGE__NAMESPACE="revops",
        **rest,
    )
    assert receiver.places == {("/api/v1/lineage", None)}
    check(receiver.events)


@pytest.mark.long
def test_nothing_is_sent_where_that_is_switched_off(airflow: dict[str, str], receiver: Receiver) -> None:
    transport = {"type": "http", "url": f"http://127.0.0.1:{receiver.server.server_port}"}
    run(airflow, AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport), AIRFLOW__OPENLINEAGE__DISABLED="true")
    assert receiver.events == []


@pytest.mark.long
def test_a_server_that_is_down_fails_no_task(airflow: dict[str, str], receiver: Receiver) -> None:
    receiver.server.shutdown()
    receiver.server.server_close()
    dead = {
        "type": "http",
        "url": f"http://127.0.0.1:{receiver.server.server_port}",
        "timeout": 1,
        "retry": {"total": 0},
    }
    assert "Failed to emit OpenLineage" in run(airflow, AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(dead))
