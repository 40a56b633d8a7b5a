"""Tables that are wrong as a whole: emptied, halved, renamed, without keys; and checks that can't be evaluated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from builders import query

from revops.extract.errors import TooManyDeletionsError
from revops.quality.anomaly import TableEmptiedError, judge, require_rows
from revops.quality.anomaly_config import read_anomaly_config
from revops.quality.metrics import measure_tables
from revops.quality.results import ScanReport
from revops.transform.errors import TransformError
from tests.corpus.pipeline import SODA, Pipeline
from tests.corpus.planting import open_source

pytestmark = pytest.mark.db


def change(pipeline: Pipeline, source: str, statement: str) -> None:
    with pipeline.source(source) as connection:
        connection.execute(statement.encode())


def outcomes(report: ScanReport, table: str) -> dict[str, str]:
    """Outcome by name of a table's checks that did not pass."""
    return {one.check.name: one.outcome for one in report.results if one.check.table == table and one.outcome != "pass"}


def live(pipeline: Pipeline, table: str) -> list[tuple[Any, ...]]:
    with pipeline.as_role("revops_quality") as quality:
        return query(quality, f"select to_jsonb(t)::text from raw.{table} t where _deleted_at is null order by 1")


def test_null_and_duplicate_keys(pipeline: Pipeline) -> None:
    with pipeline.source("odoo") as odoo:
        open_source(odoo)
        odoo.execute("alter table crm_lead drop constraint crm_lead_pkey; alter table crm_lead alter id drop not null")
        odoo.execute("update crm_lead set id = null where id = (select min(id) from crm_lead)")
        odoo.execute("insert into crm_lead select * from crm_lead where id = (select max(id) from crm_lead)")
    pipeline.load("odoo")
    report = pipeline.check_raw("odoo")
    found = outcomes(report, "odoo_crm_lead")
    assert (found["id is present"], found["id is unique"]) == ("fail", "fail")
    assert (report.gate, report.evaluated) == ("shut", len(report.applicable))


@pytest.mark.parametrize(
    ("source", "table", "statement"),
    [
        ("odoo", "crm_lead", "delete from crm_lead where id % 2 = 0"),
        ("odoo", "c_billing_bill_line", "delete from c_billing_bill_line"),
    ],
    ids=["half the rows", "an empty table"],
)
def test_a_source_that_has_lost_rows_stops_at_the_load(
    pipeline: Pipeline, source: str, table: str, statement: str
) -> None:
    pipeline.load(source)
    before = live(pipeline, f"{source}_{table}")
    assert before
    change(pipeline, source, statement)
    with pytest.raises(TooManyDeletionsError):
        pipeline.load(source, table)
    assert live(pipeline, f"{source}_{table}") == before


def measure(pipeline: Pipeline, run_id: str) -> None:
    config = read_anomaly_config()
    tables = ["raw.odoo_crm_lead", "raw.odoo_crm_stage"]
    with pipeline.as_role("revops_quality") as quality:
        measure_tables(quality, source="odoo", run_id=run_id, tables=tables, config=config)
        require_rows(judge(quality, source="odoo", run_id=run_id, config=config, tables=tables))


@pytest.mark.long
def test_deletions_that_were_accepted_meet_the_floor(pipeline: Pipeline) -> None:
    pipeline.load("odoo")
    measure(pipeline, "first")
    change(pipeline, "odoo", "delete from crm_lead")
    pipeline.load("odoo", "crm_lead", accept_deletions=True)
    with pytest.raises(TableEmptiedError, match=r"raw\.odoo_crm_lead had [0-9,]+ rows and has none"):
        measure(pipeline, "second")
    report = pipeline.check_raw("odoo")
    assert outcomes(report, "odoo_crm_lead")["has rows"] == "fail"
    assert report.gate == "shut"


@pytest.mark.long
def test_a_renamed_column_shuts_the_gate(pipeline: Pipeline) -> None:
    pipeline.load("odoo")
    change(pipeline, "odoo", "alter table crm_lead rename column type to lead_kind")
    pipeline.load("odoo", "crm_lead")
    report = pipeline.check_raw("odoo")
    found = outcomes(report, "odoo_crm_lead")
    assert found["type is present"] == "fail"
    assert report.gate == "shut"
    with pipeline.as_role("revops_quality") as quality:
        recorded = query(quality, "select change, column_name from ops.schema_change where change like 'column%'")
    assert set(recorded) == {("column_dropped", "type"), ("column_added", "lead_kind")}


def test_text_in_a_column_of_numbers_stops_the_transform_and_names_it(pipeline: Pipeline) -> None:
    pipeline.load("odoo")
    pipeline.transform("odoo")
    core = _core(pipeline)
    change(
        pipeline,
        "odoo",
        "alter table crm_lead alter expected_revenue type text; update crm_lead set expected_revenue = 'ask Jane' "
        "where id = (select max(id) from crm_lead)",
    )
    pipeline.load("odoo", "crm_lead")
    ((key,),) = _ask(pipeline, "select max(id) from raw.odoo_crm_lead")
    with pytest.raises(TransformError) as stopped:
        pipeline.transform("odoo")
    told = str(stopped.value)
    named = f"raw.odoo_crm_lead.expected_revenue is text and 1 of its values are no numeric, first keys {key}"
    assert named in told
    assert "inputs.yaml" in told
    ((recorded,),) = _ask(pipeline, "select error from ops.transform_run where status = 'failed'")
    assert named in recorded
    assert "Jane" not in told + recorded
    assert _core(pipeline) == core


def _core(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    return _ask(pipeline, "select to_jsonb(t)::text from core.odoo_opportunities t order by 1")


def _ask(pipeline: Pipeline, statement: str) -> list[tuple[Any, ...]]:
    with pipeline.as_role("revops_quality") as quality:
        return query(quality, statement)


def test_a_check_on_a_column_that_does_not_exist_is_not_passed(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.load("odoo")
    pipeline.transform("odoo")
    shutil.copytree(SODA, tmp_path / "soda")
    wrong = (
        "\n  - missing_count(no_such_column) = 0:\n      name: a typing error\n"
        "      attributes: {dimension: completeness, severity: warning, weight: 1}\n"
    )
    for layer, table in (("raw", "odoo_crm_stage"), ("core", "app_user")):
        path = tmp_path / "soda" / layer / f"{table}.yml"
        path.write_text(path.read_text().rstrip("\n") + wrong)
    for report, table in (
        (pipeline.check_raw("odoo", soda=tmp_path / "soda"), "odoo_crm_stage"),
        (pipeline.check_core("odoo", soda=tmp_path / "soda"), "app_user"),
    ):
        assert outcomes(report, table)["a typing error"] == "not_evaluated"
        assert report.evaluated == len(report.applicable) - 1
        assert report.gate == "shut"
        assert report.score is None
