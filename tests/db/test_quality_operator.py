"""The tasks that check a layer: what they record, when they stop the run, and what is worth another try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from builders import query
from core_rows import CORE_TABLES, Core

from revops.operators import quality as operators
from revops.quality.scan import ScanError
from revops.sources import load_source

pytestmark = pytest.mark.db


@pytest.fixture
def core(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection], monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core(warehouse_dsn, as_role)
    monkeypatch.setattr(operators, "connect_warehouse", lambda role, **_: as_role(role))
    monkeypatch.setattr(operators, "warehouse_conninfo", lambda *_, **__: made.dsn)
    return made


def check_core(source: str = "odoo") -> Any:
    task = operators.QualityOperator(task_id="soda", source_name=source, layer="core", tables=CORE_TABLES[source])
    return task.execute({"run_id": "run"})  # type: ignore[typeddict-item]


def test_an_open_gate_lets_the_run_go_on(core: Core) -> None:
    facts = check_core()
    assert {name: facts[name] for name in ("status", "gate", "score")} == {
        "status": "passed",
        "gate": "open",
        "score": 1.0,
    }
    assert facts["checks"] == facts["evaluated"] > 100
    assert query(core.owner, "select run_id, source, layer, gate, score::text from ops.quality_run") == [
        ("run", "odoo", "core", "open", "1.000000000000")
    ]


def test_a_shut_gate_fails_the_task_for_good_and_is_on_record(core: Core) -> None:
    core.change("update core.odoo_opportunities set title = ' ' where source_id = '2'")
    core.change("delete from core.billing_usage where source_id = '3'")
    with pytest.raises(AirflowFailException) as stopped:
        check_core()
    lines = str(stopped.value).splitlines()
    assert lines[0].endswith("checks on core stop the run; nothing is embedded:")
    assert [line.split(" (")[0].strip() for line in lines[1:]] == [
        "core.odoo_opportunities: title is not blank",
        "core.billing_usage: each row of raw is here or in quarantine",
        "core.billing_usage: sums by month are those of raw, to the cent",
    ]
    assert all("first keys: " in line and "Remedy: " in line for line in lines[1:])
    assert query(core.owner, "select gate, status from ops.quality_run") == [("shut", "failed")]
    assert query(core.owner, "select table_name, check_name, key from ops.quality_failed_key order by 1, 2") == [
        ("billing_usage", "each row of raw is here or in quarantine", "3"),
        ("billing_usage", "sums by month are those of raw, to the cent", "2026-11"),
        ("odoo_opportunities", "title is not blank", "2"),
    ]
    # The run of the other source goes on.
    assert check_core("ace")["gate"] == "open"


def test_warnings_stop_nothing(core: Core) -> None:
    core.change("update core.odoo_opportunities set stage = null")
    facts = check_core()
    assert (facts["status"], facts["gate"]) == ("warned", "open")
    assert 0.9 < facts["score"] < 1


def test_tables_of_raw_that_must_be_there_and_are_not_shut_the_gate(core: Core) -> None:
    """The hand-written warehouse has two tables of ACE that the source's file marks as demanded, and lacks columns."""
    core.change("drop table raw.ace_apn_users")
    task = operators.QualityOperator(task_id="soda", source_name="ace", layer="raw")
    with pytest.raises(AirflowFailException, match=r"raw\.ace_apn_users: id is present .*: not evaluated"):
        task.execute({"run_id": "run"})  # type: ignore[typeddict-item]
    # The optional ones that are there are checked; what they lack is not held against them.
    outcomes = query(
        core.owner, "select distinct table_name, outcome from ops.quality_result where table_name = 'ace_apn_contacts'"
    )
    assert ("ace_apn_contacts", "pass") in outcomes
    assert ("ace_apn_contacts", "not_applicable") in outcomes
    demanded = {load_source("ace").raw_table(table) for table in load_source("ace").tables if not table.optional}
    assert demanded == {"ace_apn_opportunity", "ace_apn_users"}


def test_checks_of_core_name_their_tables(core: Core) -> None:
    task = operators.QualityOperator(task_id="soda", source_name="odoo", layer="core")
    with pytest.raises(ValueError, match="not named"):
        task.execute({"run_id": "run"})  # type: ignore[typeddict-item]


def test_a_soda_that_broke_down_is_tried_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has checked nothing: there is no record that could be taken for a result."""

    def broken(*_: Any, **__: Any) -> None:
        raise ScanError("Soda ended with code -9 and no results: no message")

    monkeypatch.setattr(operators, "scan_tables", broken)
    with pytest.raises(ScanError):
        check_core()
    assert query(core.owner, "select count(*) from ops.quality_run") == [(0,)]


def test_a_malformed_own_yaml_is_not_tried_again(core: Core, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "soda").mkdir()
    (tmp_path / "soda" / "own.yaml").write_text("fresh_within_h: soon\n")
    monkeypatch.setattr(operators, "INCLUDE", tmp_path)
    with pytest.raises(AirflowFailException, match=r"own\.yaml: fresh_within_h"):
        check_core()
