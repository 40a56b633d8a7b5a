"""The checks that the quality step makes by itself: loads against the source's count, core against raw, and ages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import Extract, source_config
from core_rows import OWN, Core, not_passed

from revops.quality.accounting import NAME as ACCOUNTING
from revops.quality.checks import CheckFileError
from revops.quality.freshness import COMPUTED, LOADED
from revops.quality.own_checks import check_raw
from revops.quality.own_config import OwnChecks, read_own_checks
from revops.quality.results import CheckResult, ScanReport
from revops.quality.source_rows import NAME as SOURCE_ROWS
from revops.quality.source_rows import raw_tables
from revops.quality.totals import NAME as TOTALS
from revops.sources import Source

pytestmark = pytest.mark.db

T = {"odoo_t": "t"}


@pytest.fixture
def core(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> Core:
    return Core(warehouse_dsn, as_role)


def only(report: ScanReport, table: str, name: str) -> CheckResult:
    (found,) = [result for result in report.results if (result.check.table, result.check.name) == (table, name)]
    return found


def raw(extract: Extract, as_role: Callable[[str], psycopg.Connection], own: OwnChecks = OWN) -> ScanReport:
    return check_raw(as_role("revops_quality"), source="odoo", tables=T, own=own)


def facts(result: CheckResult) -> tuple[object, ...]:
    return (result.outcome, result.value, result.rows_failed, result.rows_total)


@pytest.mark.parametrize("settings", [{}, {"mode": "full"}, {"mode": "replace_period", "period": ["p"]}])
def test_a_load_is_complete_by_the_source_s_own_count(
    extract: Extract, as_role: Callable[[str], psycopg.Connection], settings: dict[str, Any]
) -> None:
    extract.run(
        "create table t (id integer primary key, p integer); insert into t select n, n % 3 from generate_series(1, 9) n"
    )
    extract.load(**settings)
    extract.run("delete from t where id = 9; insert into t values (10, 1), (11, 2)")
    extract.load(**settings, accept_deletions=True)
    report = raw(extract, as_role)
    assert facts(only(report, "odoo_t", SOURCE_ROWS)) == ("pass", 0, 0, 10)
    assert facts(only(report, "odoo_t", LOADED))[0] == "pass"
    assert (report.gate, report.score) == ("open", 1)
    # Two rows vanish from raw, behind the loads' back.
    extract.ingest.execute("delete from raw.odoo_t where id in (1, 10)")
    extract.ingest.commit()
    report = raw(extract, as_role)
    assert facts(only(report, "odoo_t", SOURCE_ROWS)) == ("fail", -2, 2, 10)
    assert report.gate == "shut"
    # A deleted row that counts as live again.
    extract.ingest.execute(
        "update raw.odoo_t set _deleted_at = null; insert into raw.odoo_t select n, 1, now(), 1 "
        "from generate_series(20, 29) n"
    )
    extract.ingest.commit()
    found = only(raw(extract, as_role), "odoo_t", SOURCE_ROWS)
    assert found.outcome == "fail"
    assert found.value is not None
    assert found.value > 0


def test_a_failed_load_does_not_count_and_a_running_one_neither(
    extract: Extract, as_role: Callable[[str], psycopg.Connection]
) -> None:
    extract.run("create table t (id integer primary key); insert into t values (1), (2)")
    extract.load()
    for status in ("failed", "running"):
        extract.warehouse.execute(
            "insert into ops.load (source, table_name, run_id, mode, status, source_rows, finished_at) "
            "values ('odoo', 't', 'later', 'xid', %s, 99, now())",
            (status,),
        )
    assert facts(only(raw(extract, as_role), "odoo_t", SOURCE_ROWS)) == ("pass", 0, 0, 2)


def test_mode_cursor_counts_only_when_it_compares(
    extract: Extract, as_role: Callable[[str], psycopg.Connection]
) -> None:
    extract.run(
        "create table t (id integer primary key, at timestamp);"
        "insert into t select n, now() from generate_series(1, 5) n"
    )
    extract.load(mode="cursor", cursor="at")
    assert facts(only(raw(extract, as_role), "odoo_t", SOURCE_ROWS)) == ("pass", 0, 0, 5)
    extract.run("delete from t where id = 5")
    extract.load(mode="cursor", cursor="at")
    assert only(raw(extract, as_role), "odoo_t", SOURCE_ROWS).outcome == "not_applicable"
    extract.load(mode="cursor", cursor="at", compare_every_h=0)
    assert facts(only(raw(extract, as_role), "odoo_t", SOURCE_ROWS)) == ("pass", 0, 0, 4)
    # In every other mode a load without a count is one that nobody can hold raw against.
    extract.warehouse.execute("update ops.load set source_rows = null, mode = 'xid'")
    assert only(raw(extract, as_role), "odoo_t", SOURCE_ROWS).outcome == "not_evaluated"


def test_a_table_without_a_finished_load_is_not_known_to_be_complete(
    extract: Extract, as_role: Callable[[str], psycopg.Connection]
) -> None:
    extract.ingest.execute("create table raw.odoo_t (id integer, _deleted_at timestamptz)")
    extract.ingest.commit()
    report = raw(extract, as_role)
    assert not_passed(report) == {("odoo_t", SOURCE_ROWS, "not_evaluated"), ("odoo_t", LOADED, "fail")}
    assert (report.status, report.score) == ("error", None)


def test_a_table_that_is_gone_from_raw_is_not_evaluated_and_hides_no_other(
    extract: Extract, as_role: Callable[[str], psycopg.Connection]
) -> None:
    extract.run("create table t (id integer primary key); create table u (id integer primary key)")
    for name in ("t", "u"):
        extract.load(name)
    extract.ingest.execute("drop table raw.odoo_t")
    extract.ingest.commit()
    report = check_raw(as_role("revops_quality"), source="odoo", tables={"odoo_t": "t", "odoo_u": "u"}, own=OWN)
    assert not_passed(report) == {("odoo_t", SOURCE_ROWS, "not_evaluated")}
    assert 'UndefinedTable 42P01: relation "raw.odoo_t" does not exist' in report.errors


def test_an_optional_table_that_the_source_has_lost_stops_nothing(
    extract: Extract, as_role: Callable[[str], psycopg.Connection]
) -> None:
    extract.run("create table t (id integer primary key); insert into t values (1)")
    extract.load(optional=True)
    extract.run("drop table t")
    extract.load(optional=True)
    extract.warehouse.execute("update ops.load set finished_at = now() - interval '1 year'")
    report = raw(extract, as_role)
    assert not_passed(report) == {("odoo_t", SOURCE_ROWS, "not_applicable"), ("odoo_t", LOADED, "not_applicable")}
    assert report.gate == "open"
    # It is back: what counts is its last load again.
    extract.run("create table t (id integer primary key); insert into t values (1), (2)")
    extract.load(optional=True)
    assert not_passed(raw(extract, as_role)) == set()


def test_a_load_may_not_be_older_than_its_limit(extract: Extract, as_role: Callable[[str], psycopg.Connection]) -> None:
    extract.run("create table t (id integer primary key); insert into t values (1)")
    extract.load()
    extract.warehouse.execute("update ops.load set finished_at = now() - interval '37 hours'")
    late = only(raw(extract, as_role), "odoo_t", LOADED)
    assert (late.outcome, round(late.value or 0)) == ("fail", 37)
    assert late.check.definition == "last load that succeeded < 36 h ago"
    patient = OWN.model_copy(update={"fresh_within_h_of": {"odoo_t": 72.0}})
    assert not_passed(raw(extract, as_role, patient)) == set()


def test_which_tables_of_raw_are_checked(extract: Extract, as_role: Callable[[str], psycopg.Connection]) -> None:
    extract.run(
        "create table t (id integer primary key); create table x_more (id integer); create table old (id integer)"
    )
    for name in ("t", "x_more", "old"):
        extract.load(name)
    config = Source.model_validate(
        {
            **source_config("t").model_dump(by_alias=True),
            "tables": [{"name": "t"}, {"name": "demanded"}, {"name": "maybe", "optional": True}],
            "patterns": [{"name": "rest", "like": ["x_*"]}],
        }
    )
    found = raw_tables(as_role("revops_quality"), config)
    # One that must be there is listed, that its absence be told; one that is extracted no more is not.
    assert found == {"odoo_t": "t", "odoo_demanded": "demanded", "odoo_x_more": "x_more"}


def test_a_row_that_is_in_neither_core_nor_quarantine_shuts_the_gate(core: Core) -> None:
    assert core.own("odoo").gate == "open"
    core.change("delete from core.odoo_opportunities where source_id = '2'")
    found = only(core.own("odoo"), "odoo_opportunities", ACCOUNTING)
    assert (facts(found), found.keys) == (("fail", 1, 1, 2), ("2",))
    # As a rule keeps it out, it is accounted for, however many rules it breaks.
    for rule in ("title", "type"):
        core.change(
            "insert into ops.quarantine (target, source, source_key, rule, reason, first_run_id, last_run_id) "
            f"values ('core.odoo_opportunities', 'odoo', '2', '{rule}', 'r', 'r', 'r')"
        )
    assert facts(only(core.own("odoo"), "odoo_opportunities", ACCOUNTING)) == ("pass", 0, 0, 2)
    # Not in both.
    core.change(
        "create temp table t as select * from core.odoo_opportunities; update t set source_id = '2'; "
        "insert into core.odoo_opportunities select * from t; drop table t"
    )
    found = only(core.own("odoo"), "odoo_opportunities", ACCOUNTING)
    assert (facts(found), found.keys) == (("fail", 1, 1, 2), ("2",))
    # Quarantine that was released, of another source, or of another table holds nothing.
    core.change("update ops.quarantine set released_at = now()")
    assert only(core.own("odoo"), "odoo_opportunities", ACCOUNTING).outcome == "pass"
    core.change("delete from core.odoo_opportunities where source_id = '2'")
    core.change("update ops.quarantine set released_at = null, source = 'ace'")
    assert only(core.own("odoo"), "odoo_opportunities", ACCOUNTING).outcome == "fail"
    core.change("update ops.quarantine set source = 'odoo', target = 'core.contact'")
    assert only(core.own("odoo"), "odoo_opportunities", ACCOUNTING).outcome == "fail"


def test_a_row_of_core_without_one_in_raw_is_found_even_when_the_counts_agree(core: Core) -> None:
    core.change("update core.odoo_opportunities set source_id = '9' where source_id = '2'")
    found = only(core.own("odoo"), "odoo_opportunities", ACCOUNTING)
    assert (facts(found), sorted(found.keys)) == (("fail", 2, 2, 2), ["2", "9"])


def test_a_row_that_is_in_two_months_is_found(core: Core) -> None:
    core.change(
        "create temp table t as select * from core.billing_usage where source_id = '1'; "
        "update t set billing_month = '2026-11-01'; insert into core.billing_usage select * from t; drop table t"
    )
    report = core.own("odoo")
    found = only(report, "billing_usage", ACCOUNTING)
    assert (facts(found), found.keys) == (("fail", 1, 1, 4), ("1",))
    assert only(report, "billing_usage", TOTALS).keys == ("2026-11",)


def test_rows_that_are_gone_are_accounted_for_by_nobody(core: Core) -> None:
    core.change("update core.odoo_opportunities set deleted_at = now() where source_id = '2'")
    assert only(core.own("odoo"), "odoo_opportunities", ACCOUNTING).keys == ("2",)
    core.change("update raw.odoo_crm_lead set _deleted_at = now() where id = 2")
    assert facts(only(core.own("odoo"), "odoo_opportunities", ACCOUNTING)) == ("pass", 0, 0, 1)


def test_only_the_rows_that_the_table_is_made_of_are_counted(core: Core) -> None:
    # A contact of the company is no record, and the customer of an opportunity is no company of ACE's.
    assert facts(only(core.own("odoo"), "account_record", ACCOUNTING)) == ("pass", 0, 0, 1)
    assert facts(only(core.own("ace"), "account_record", ACCOUNTING)) == ("pass", 0, 0, 1)
    core.change("update raw.odoo_res_partner set commercial_partner_id = 2 where id = 2")
    assert only(core.own("odoo"), "account_record", ACCOUNTING).keys == ("2",)


def test_every_table_that_can_be_accounted_for_is(core: Core) -> None:
    accounted = {
        source: {result.check.table for result in core.own(source).results if result.check.name == ACCOUNTING}
        for source in ("odoo", "ace")
    }
    assert accounted == {
        "odoo": {"account_record", "aws_account", "app_user", "odoo_opportunities", "bill_line", "billing_usage"},
        "ace": {"account_record", "contact", "app_user", "ace_opportunities"},
    }


def totals(report: ScanReport, table: str) -> list[tuple[object, ...]]:
    return [
        (one.period, one.raw_rows, str(one.raw_amount), one.core_rows, str(one.core_amount), one.quarantined_rows,
         str(one.quarantined_amount))
        for one in report.totals
        if one.table == table
    ]  # fmt: skip


def test_money_by_month_is_the_same_to_the_cent(core: Core) -> None:
    report = core.own("odoo")
    assert totals(report, "billing_usage") == [
        ("2026-10", 2, "6.75", 2, "6.75", 0, "0"),
        ("2026-11", 1, "7", 1, "7", 0, "0"),
    ]
    assert totals(report, "bill_line") == [
        ("2026-10", 1, "10.005", 1, "10.005", 0, "0"),
        ("2026-11", 1, "5", 1, "5", 0, "0"),
        ("none", 1, "1", 1, "1", 0, "0"),
    ]
    # Less than half a cent is no difference, more is one.
    for change, outcome, keys in (
        ("0.004", "pass", ()),
        ("0.006", "fail", ("2026-10",)),
        ("-0.006", "fail", ("2026-10",)),
    ):
        core.change(f"update core.billing_usage set cost = 10.25 + {change} where source_id = '1'")
        found = only(core.own("odoo"), "billing_usage", TOTALS)
        assert (found.outcome, found.keys, found.rows_total) == (outcome, keys, 2)


def test_amounts_that_are_swapped_between_months_are_found(core: Core) -> None:
    core.change("update core.billing_usage set cost = 17.25 - cost where source_id in ('1', '3')")
    found = only(core.own("odoo"), "billing_usage", TOTALS)
    assert (facts(found), found.keys) == (("fail", 2, 2, 2), ("2026-10", "2026-11"))
    assert only(core.own("odoo"), "billing_usage", ACCOUNTING).outcome == "pass"


def test_quarantined_amounts_are_listed_apart(core: Core) -> None:
    core.change("delete from core.billing_usage where source_id = '2'")
    assert only(core.own("odoo"), "billing_usage", TOTALS).outcome == "fail"
    core.change(
        "insert into ops.quarantine (target, source, source_key, rule, reason, first_run_id, last_run_id) "
        "values ('core.billing_usage', 'odoo', '2', 'r', 'r', 'r', 'r')"
    )
    report = core.own("odoo")
    assert not_passed(report) == set()
    assert totals(report, "billing_usage")[0] == ("2026-10", 2, "6.75", 1, "10.25", 1, "-3.5")


def test_what_is_no_money_makes_no_sum_unknowable(core: Core) -> None:
    """NaN is equal to NaN: whole months could hide behind it."""
    core.change("update raw.odoo_c_billing_internal_cur set cost = 'NaN' where id = 2")
    core.change("update core.billing_usage set cost = 'NaN' where source_id = '2'")
    assert only(core.own("odoo"), "billing_usage", TOTALS).outcome == "pass"
    core.change("update core.billing_usage set cost = null where source_id = '2'")
    assert only(core.own("odoo"), "billing_usage", TOTALS).outcome == "pass"
    core.change("update core.billing_usage set cost = 99 where source_id = '1'")
    assert only(core.own("odoo"), "billing_usage", TOTALS).keys == ("2026-10",)
    core.change("update raw.odoo_c_billing_bill_line set date = 'infinity' where id = 1")
    assert only(core.own("odoo"), "bill_line", TOTALS).keys == ("2026-10", "none")


def test_a_source_without_a_table_has_nothing_to_compare(core: Core) -> None:
    core.change("drop table raw.odoo_c_billing_internal_cur, raw.odoo_c_billing_bill_line")
    report = core.own("odoo")
    assert not_passed(report) == {
        (table, name, "not_applicable") for table in ("billing_usage", "bill_line") for name in (ACCOUNTING, TOTALS)
    }
    assert report.gate == "open"


def test_a_column_that_is_gone_is_not_evaluated_and_hides_no_other(core: Core) -> None:
    core.change("alter table raw.odoo_c_billing_internal_cur rename cost to amount")
    core.change("delete from core.odoo_opportunities where source_id = '2'")
    report = core.own("odoo")
    assert not_passed(report) == {
        ("billing_usage", TOTALS, "not_evaluated"),
        ("odoo_opportunities", ACCOUNTING, "fail"),
    }
    assert 'UndefinedColumn 42703: column "cost" does not exist' in report.errors


def test_core_may_not_be_older_than_its_limit(core: Core) -> None:
    core.change("update ops.transform_run set started_at = now() - interval '40 hours' where target = 'core.contact'")
    core.change(
        "insert into ops.transform_run (run_id, source, target, status) values ('r2', 'odoo', 'core.contact', 'failed')"
    )
    # Each source's own: neither depends on the other.
    core.change(
        "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, "
        "quarantined) values ('r2', 'ace', 'core.contact', 'succeeded', 0, 0, 0, 0, 0)"
    )
    assert not_passed(core.own("ace")) == set()
    assert not_passed(core.own("odoo")) == {("contact", COMPUTED, "fail")}
    # Never computed is too late as well.
    core.change("update ops.transform_run set source = 'none' where target = 'core.contact' and source = 'odoo'")
    assert not_passed(core.own("odoo")) == {("contact", COMPUTED, "fail")}


def test_nothing_is_kept_open_and_the_session_stays_as_it_was(core: Core) -> None:
    core.own("odoo")
    assert core.quality.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert core.quality.isolation_level is None


def test_a_lost_session_is_no_result(core: Core, warehouse_dsn: str) -> None:
    with psycopg.connect(warehouse_dsn) as login:
        login.execute("select pg_terminate_backend(%s)", (core.quality.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        core.own("odoo")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fresh_within_h: 0\n", "fresh_within_h: Input should be greater than 0"),
        ("fresh_within_h: 36\nfresh: 1\n", "fresh: Extra inputs"),
        ("fresh_within_h: 36\naccounting: [{source: odoo, core: a, raw: b}]\n", "accounting.0.key: Field required"),
        ("fresh_within_h: [\n", "can't be read"),
        ("", "Input should be"),
    ],
)
def test_a_malformed_configuration_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(CheckFileError) as failure:
        read_own_checks(path)
    assert told in str(failure.value)
    assert str(path) in str(failure.value)
