"""The DAGs as Airflow reads them: shape, schedule, retries, alerts, and how little reading them costs."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization

from revops import alerts
from revops.pools import read_pools

ROOT = Path(__file__).resolve().parents[2]
DAG_FOLDER = ROOT / "dags"
HEADINGS = ("**What**", "**Reads**", "**Writes**", "**When**", "**Re-run**", "**If it fails**")

CORE_TABLES = {
    "odoo": [
        *("account_record", "account_link", "account", "aws_account", "contact", "app_user"),
        *("odoo_opportunities", "bill_line", "billing_usage"),
    ],
    "ace": ["account_record", "account_link", "account", "contact", "app_user", "ace_opportunities"],
}
SCHEDULES = {"odoo": (2, 0), "ace": (2, 15)}
BILLING = {
    "extract.c_billing_internal_cur",
    "extract.c_billing_bill_line",
    "extract.c_billing_bill",
    "extract.c_billing_spp_bill",
}
CHECKS = {
    "raw": ["check_raw.soda", "check_raw.profile"],
    "core": ["check_core.soda", "check_core.profile"],
}
HEAVY = ("pandas", "pyarrow", "numpy", "torch", "transformers", "soda", "FlagEmbedding", "pgvector")


def extracted_tables(source: str) -> list[str]:
    content = yaml.safe_load((ROOT / "include" / "sources" / f"{source}.yaml").read_text())
    return [table["name"] for table in content["tables"]]


def expected_edges(source: str) -> set[tuple[str, str]]:
    """The shape of a source's DAG, written down a second time on purpose."""
    edges = {(f"extract.{table}", check) for table in extracted_tables(source) for check in CHECKS["raw"]}
    # Of core's tables only the accounts are made from each other.
    accounts = [f"transform.{table}" for table in ("account_record", "account_link", "account")]
    edges |= set(itertools.pairwise(accounts))
    others = [name for table in CORE_TABLES[source] if (name := f"transform.{table}") not in accounts]
    edges |= {(check, first) for check in CHECKS["raw"] for first in (accounts[0], *others)}
    edges |= {(last, check) for check in CHECKS["core"] for last in (accounts[-1], *others)}
    edges |= {(check, "embed.documents") for check in CHECKS["core"]}
    steps = [f"embed.{step}" for step in ("documents", "model", "export", "encode", "load")]
    return edges | set(itertools.pairwise([*steps, "report"]))


def test_all_files_are_read_without_an_error(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {"odoo", "ace", "warehouse_setup", "warehouse_care"}


def test_every_file_yields_a_dag(bag: Any) -> None:
    files = {path.name for path in DAG_FOLDER.glob("**/*.py")}
    assert files == {Path(dag.fileloc).name for dag in bag.dags.values()}


@pytest.mark.parametrize("dag_id", ["odoo", "ace", "warehouse_setup", "warehouse_care"])
def test_serialisation_keeps_tasks_and_edges(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert edges(restored) == edges(dag)
    assert set(restored.task_ids) == set(dag.task_ids)


def edges(dag: Any) -> set[tuple[str, str]]:
    return {(task.task_id, after) for task in dag.tasks for after in task.downstream_task_ids}


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_shape_of_a_source_dag(bag: Any, source: str) -> None:
    dag = bag.dags[source]
    assert edges(dag) == expected_edges(source)
    # The snapshot is held beside the tables: an edge between them would let neither begin, or hold nothing.
    assert set(dag.task_ids) == {"snapshot", *(task for edge in expected_edges(source) for task in edge)}


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_report_is_a_teardown_that_leaves_a_failed_run_failed(bag: Any, source: str) -> None:
    report = bag.dags[source].get_task("report")
    assert report.is_teardown
    assert not report.on_failure_fail_dagrun
    assert report.upstream_task_ids == {"embed.load"}


@pytest.mark.parametrize(
    ("source", "task_id", "assets"),
    [
        ("odoo", "transform.odoo_opportunities", {"core.odoo_opportunities"}),
        ("ace", "transform.ace_opportunities", {"core.ace_opportunities"}),
        ("odoo", "embed.load", {"search.embedding"}),
        ("ace", "embed.load", {"search.embedding"}),
    ],
)
def test_assets(bag: Any, source: str, task_id: str, assets: set[str]) -> None:
    assert {asset.name for asset in bag.dags[source].get_task(task_id).outlets} == assets


def test_billing_starts_first(bag: Any) -> None:
    tasks = {task.task_id: task for task in bag.dags["odoo"].tasks if task.task_id.startswith("extract.")}
    assert set(tasks) >= BILLING
    assert {str(task.weight_rule) for task in tasks.values()} == {"absolute"}
    others = max(task.priority_weight for task_id, task in tasks.items() if task_id not in BILLING)
    assert min(tasks[task_id].priority_weight for task_id in BILLING) > others
    # Only the snapshot, which all tables wait for, stands before them.
    snapshot = bag.dags["odoo"].get_task("snapshot")
    assert snapshot.priority_weight > max(task.priority_weight for task in tasks.values())


def test_every_pool_is_made_by_the_stack(bag: Any) -> None:
    named = {task.pool for dag in bag.dags.values() for task in dag.tasks} - {"default_pool"}
    assert named == set(read_pools())


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_extraction_is_limited_by_the_pool_of_its_source(bag: Any, source: str) -> None:
    pools = {task.pool for task in bag.dags[source].tasks if task.task_id.startswith("extract.")}
    assert pools == {f"{source}_source"}


@pytest.mark.parametrize("dag_id", ["odoo", "ace", "warehouse_setup", "warehouse_care"])
def test_runs_never_overlap_or_catch_up(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.max_active_runs == 1
    assert dag.catchup is False
    assert "revops" in dag.tags
    assert len(dag.tags) > 1


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_switching_a_dag_on_starts_nothing_before_the_night(bag: Any, source: str) -> None:
    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(bag.dags[source]))
    before = datetime.now(UTC)
    following = restored.next_dagrun_info(last_automated_run_info=None)
    assert following is not None
    assert before < following.run_after <= datetime.now(UTC) + timedelta(days=1)
    assert (following.run_after.hour, following.run_after.minute) == SCHEDULES[source]
    assert all(task.start_date is None for task in restored.tasks)


def test_setup_runs_only_by_hand(bag: Any) -> None:
    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(bag.dags["warehouse_setup"]))
    assert restored.next_dagrun_info(last_automated_run_info=None) is None


@pytest.mark.parametrize("dag_id", ["odoo", "ace", "warehouse_setup", "warehouse_care"])
def test_tasks_retry_time_out_and_alert(bag: Any, dag_id: str) -> None:
    for task in bag.dags[dag_id].tasks:
        assert task.retries >= (0 if task.is_teardown else 1), task.task_id
        assert task.retry_exponential_backoff >= 2, task.task_id
        assert task.retry_delay < task.max_retry_delay, task.task_id
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=2), task.task_id
        assert list(task.on_failure_callback) == [alerts.task_failed], task.task_id


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_a_failed_run_alerts_even_when_its_task_was_killed(bag: Any, source: str) -> None:
    dag = bag.dags[source]
    assert list(dag.on_failure_callback) == [alerts.run_failed]
    longest = max(task.execution_timeout for task in dag.tasks)
    assert longest < dag.dagrun_timeout < timedelta(days=1)


def test_snapshot_is_given_up_only_after_it_was_released(bag: Any) -> None:
    for source in ("odoo", "ace"):
        content = yaml.safe_load((ROOT / "include" / "sources" / f"{source}.yaml").read_text())
        timeout = bag.dags[source].get_task("snapshot").execution_timeout
        assert timeout > timedelta(seconds=content["snapshot_hold_s"])


def test_full_refresh_is_a_choice_and_off(bag: Any) -> None:
    for source in ("odoo", "ace"):
        parameter = bag.dags[source].params.get_param("full_refresh")
        assert parameter.value is False
        assert parameter.schema["type"] == "boolean"


@pytest.mark.parametrize("dag_id", ["odoo", "ace", "warehouse_setup", "warehouse_care"])
def test_documentation_answers_the_six_questions(bag: Any, dag_id: str) -> None:
    doc = bag.dags[dag_id].doc_md
    positions = [doc.find(heading) for heading in HEADINGS]
    assert -1 not in positions
    assert positions == sorted(positions)


@pytest.mark.parametrize("source", ["odoo", "ace"])
def test_documentation_names_what_the_dag_writes_and_when(bag: Any, source: str) -> None:
    doc = bag.dags[source].doc_md
    hour, minute = SCHEDULES[source]
    assert f"{hour:02d}:{minute:02d} UTC" in doc
    for written in (f"raw.{source}_*", *(f"core.{table}" for table in CORE_TABLES[source]), "search.embedding"):
        assert f"`{written}`" in doc


def test_care_comes_every_night_after_the_sources_and_starts_nothing_by_itself(bag: Any) -> None:
    dag = bag.dags["warehouse_care"]
    assert set(dag.task_ids) == {"rotate_keys", "prune"}
    # One that fails does not keep the other from its turn.
    assert edges(dag) == set()
    assert "05:30 UTC" in dag.doc_md
    restored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    following = restored.next_dagrun_info(last_automated_run_info=None)
    assert following is not None
    assert (following.run_after.hour, following.run_after.minute) == (5, 30)
    assert following.run_after > datetime.now(UTC)
    for task in dag.tasks:
        assert task.retries >= 1
        assert timedelta(0) < task.execution_timeout < dag.dagrun_timeout
        assert list(task.on_failure_callback) == [alerts.task_failed]
    assert list(dag.on_failure_callback) == [alerts.run_failed]


PARSE = """
import json, socket, sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import BaseHook, Variable, Connection
import airflow.settings

def refuse(*args, **kwargs):
    raise AssertionError("reading a DAG file must not need a connection, a variable or the network")

loaded = set(sys.modules)
for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
BaseHook.get_connection = Connection.get = Variable.get = refuse
airflow.settings.Session = airflow.settings.NonScopedSession = refuse

from pathlib import Path
folder = Path(airflow.settings.DAGS_FOLDER)
bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
print(json.dumps({
    "dags": sorted(bag.dags),
    "errors": bag.import_errors,
    "heavy": sorted(name for name in HEAVY if name in sys.modules),
    "new": sorted(set(sys.modules) - loaded),
}))
"""


@pytest.fixture(scope="module")
def parsed(probe: Callable[[str], Any]) -> Any:
    """What reading all DAG files does in a process that can reach nothing."""
    return probe(f"HEAVY = {HEAVY!r}\n{PARSE}")


def test_reading_the_files_needs_no_connection_variable_or_network(parsed: Any) -> None:
    assert parsed["errors"] == {}
    assert parsed["dags"] == ["ace", "odoo", "warehouse_care", "warehouse_setup"]


def test_reading_the_files_imports_nothing_heavy(parsed: Any) -> None:
    assert parsed["heavy"] == []
    assert "revops.source_dag" in parsed["new"]
    assert not [name for name in parsed["new"] if name.startswith("revops.local")]


PLUGINS = """
import json, sys
import importlib.util
from airflow import plugins_manager, settings
from pathlib import Path
plugins_manager.ensure_plugins_loaded()
package = Path(settings.PLUGINS_FOLDER) / "revops"
stems = {path.stem for path in package.rglob("*.py")} - {"__init__", "__main__"}
taken = {name: getattr(sys.modules[name], "__file__", None) for name in stems if name in sys.modules}
print(json.dumps({
    "stems": sorted(stems),
    "taken": {name: file for name, file in taken.items() if str(file or "").startswith(str(package))},
    "errors": plugins_manager.get_import_errors(),
    "package": sorted(name for name in sys.modules if name.split(".")[0] == "revops"),
    "preloaded": sorted({"docker", "psycopg", "sqlglot"} & set(sys.modules)),
}))
"""


def test_airflow_does_not_run_the_package_as_plugins(probe: Callable[[str], Any]) -> None:
    # Airflow executes every other file below plugins/ under its bare stem: an `errors` or `search` of ours would
    # replace whatever module has that name.
    result = probe(PLUGINS)
    assert {"errors", "search", "report", "transform"} <= set(result["stems"])
    assert result["taken"] == {}
    # The scheduler forks tasks with what plugins import: libraries, but no code that somebody may be editing.
    assert result["preloaded"] == ["docker", "psycopg", "sqlglot"]
    assert result["package"] == []
    assert result["errors"] == {}


def test_dag_files_hold_wiring_only() -> None:
    for path in DAG_FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path.name
        assert len(path.read_text().splitlines()) <= 80, path.name
