"""Wrong data of every kind: each item of the corpus is caught by what is meant to catch it, and by nothing else."""

from __future__ import annotations

import pytest

from revops.quality.results import ScanReport
from revops.sources import INCLUDE, load_source
from revops.transform.rules import read_rules
from tests.corpus.item import Catch
from tests.corpus.items import ITEMS, MODELS
from tests.corpus.pipeline import Pipeline
from tests.corpus.planting import open_source, plant

pytestmark = pytest.mark.db

SOURCES = ("odoo", "ace")


def caught_by_checks(report: ScanReport) -> set[tuple[str, Catch]]:
    return {
        (key, ("check", f"{report.layer}.{result.check.table}", result.check.name))
        for result in report.results
        if result.outcome in ("warn", "fail")
        for key in result.keys
    }


def caught_by_rules(pipeline: Pipeline, source: str) -> set[tuple[str, Catch]]:
    with pipeline.as_role("revops_quality") as quality:
        found = {
            (key, ("reject", target, rule))
            for target, key, rule in quality.execute(
                "select target, source_key, rule from ops.quarantine where source = %s and released_at is null",
                (source,),
            )
        }
        marked = quality.execute(
            "select table_name from information_schema.columns where table_schema = 'core' and column_name = 'issues'"
        ).fetchall()
        for (table,) in marked:
            rows = quality.execute(
                f"select source_id, unnest(issues) from core.{table} where source_system = %s".encode(), (source,)
            )
            found |= {(key, ("mark", f"core.{table}", rule)) for key, rule in rows}
    return found


def assert_evaluated(report: ScanReport) -> None:
    assert report.errors == ""
    assert report.evaluated == len(report.applicable) > 0


@pytest.mark.parametrize("source", SOURCES)
def test_each_wrong_row_is_caught_by_what_is_meant_to(pipeline: Pipeline, source: str) -> None:
    with pipeline.source(source) as connection:
        open_source(connection)
        planted = plant(connection, ITEMS, MODELS, of=source)
    pipeline.load(source)
    raw = pipeline.check_raw(source)
    pipeline.transform(source)
    core = pipeline.check_core(source)
    for report in (raw, core):
        assert_evaluated(report)
    found: dict[tuple[str, str], set[Catch]] = {place: set() for place in planted}
    for key, catch in caught_by_checks(raw) | caught_by_checks(core) | caught_by_rules(pipeline, source):
        for table in tables_behind(catch, source):
            if (table, key) in found:
                found[table, key].add(catch)
    faults = []
    for place, item in planted.items():
        what, expected = (item.what, item.caught) if item else ("a good copy", frozenset())
        faults += [f"{place}, {what}: not caught by {catch}" for catch in sorted(expected - found[place])]
        faults += [f"{place}, {what}: caught by {catch} as well" for catch in sorted(found[place] - expected)]
    assert not faults, "\n".join(faults)
    # The gate holds back what a critical check has found.
    assert raw.gate == "shut"


def tables_behind(catch: Catch, source: str) -> list[str]:
    """The tables of the source whose keys a table of raw or core has."""
    _, place, _ = catch
    schema, _, table = place.partition(".")
    if schema == "raw":
        return [entry.name for entry in load_source(source).tables if f"{source}_{entry.name}" == table]
    return {
        "account_record": ["res_partner", "apn_companies"],
        "account": ["res_partner", "apn_companies"],
        "account_link": ["res_partner", "apn_companies"],
        "aws_account": ["c_aws_accounts"],
        "billing_usage": ["c_billing_internal_cur"],
        "bill_line": ["c_billing_bill_line"],
        "odoo_opportunities": ["crm_lead"],
        "ace_opportunities": ["apn_opportunity"],
    }.get(table, [])


# Rules about rows that lack something rather than hold something wrong; test_transform_* have them.
WITHOUT_ITEM = {
    ("core.account_record", "country code is unknown"),
    ("core.ace_opportunities", "no customer"),
    ("core.app_user", "no partner record"),
    ("core.bill_line", "no billing month"),
    ("core.billing_usage", "AWS account number is malformed"),
    ("core.contact", "neither name nor address"),
    ("core.odoo_opportunities", "won without a company"),
}


def test_a_new_rule_comes_with_an_item() -> None:
    rules = {
        (f"core.{path.name.removesuffix('.rules.yaml')}", rule.name)
        for path in (INCLUDE / "sql" / "core").glob("*.rules.yaml")
        for rule in read_rules(path)
    }
    met = {(table, name) for item in ITEMS for kind, table, name in item.caught if kind != "check"}
    assert rules - met == WITHOUT_ITEM
