"""What the rules do: rows that are kept out and tried again, values that are mended, problems that are noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from raw_tables import Warehouse, copy_include, outcome

from revops.transform.errors import TransformError

pytestmark = pytest.mark.db

HELD = (
    "select target, source, source_key, rule, first_run_id, last_run_id, released_at is null "
    "from ops.quarantine order by source_key, rule"
)
TITLE = "title is missing"
TYPE = "type is neither lead nor opportunity"
TABLE = "core.odoo_opportunities"


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A copy of the folder include, to be changed."""
    return copy_include(tmp_path)


def results(warehouse: Warehouse) -> dict[str, dict[tuple[str, str], int]]:
    """What ops.rule_result says, by run: how many rows broke which rule, without the rules that none broke."""
    found: dict[str, dict[tuple[str, str], int]] = {}
    for run_id, action, rule, rows in warehouse.rows(
        "select r.run_id, x.action, x.rule, x.rows from ops.rule_result x "
        "join ops.transform_run r using (transform_run_id)"
    ):
        found.setdefault(run_id, {})
        if rows:
            found[run_id][action, rule] = rows
    return found


def test_a_rejected_row_is_kept_out_and_its_key_is_kept_with_the_reason(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.lead(2, name="   ")
    warehouse.lead(3, type="nonsense")
    warehouse.lead(4, name=None, type=None)
    assert outcome(warehouse.transform("odoo_opportunities")) == (4, 1, 0, 0, 3, 0)
    assert warehouse.rows("select source_id from core.odoo_opportunities") == [("1",)]
    assert warehouse.rows(HELD) == [
        (TABLE, "odoo", "2", TITLE, "r1", "r1", True),
        (TABLE, "odoo", "3", TYPE, "r1", "r1", True),
        (TABLE, "odoo", "4", TITLE, "r1", "r1", True),
        (TABLE, "odoo", "4", TYPE, "r1", "r1", True),
    ]
    assert warehouse.rows("select distinct reason from ops.quarantine order by 1") == [
        (f"{TITLE}. Give the opportunity a title in Odoo.",),
        (f"{TYPE}. Correct crm_lead.type in Odoo.",),
    ]
    assert results(warehouse) == {"r1": {("reject", TITLE): 2, ("reject", TYPE): 2}}


def test_a_row_that_is_rejected_leaves_core_and_comes_back_when_it_is_mended(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.lead(2)
    warehouse.transform("odoo_opportunities", run_id="r1")
    warehouse.update("odoo_crm_lead", "id = 2", name="")
    assert outcome(warehouse.transform("odoo_opportunities", run_id="r2")) == (1, 0, 0, 0, 1, 1)
    assert warehouse.rows("select source_id from core.odoo_opportunities") == [("1",)]
    # Tried again in each run, although nothing has changed.
    assert outcome(warehouse.transform("odoo_opportunities", run_id="r3")) == (1, 0, 0, 0, 1, 0)
    assert warehouse.rows(HELD) == [(TABLE, "odoo", "2", TITLE, "r2", "r3", True)]
    warehouse.update("odoo_crm_lead", "id = 2", name="mended")
    assert outcome(warehouse.transform("odoo_opportunities", run_id="r4")) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows(HELD) == [(TABLE, "odoo", "2", TITLE, "r2", "r3", False)]
    assert outcome(warehouse.transform("odoo_opportunities", run_id="r5")) == (0, 0, 0, 0, 0, 0)
    # Broken again: the first run stays on record.
    warehouse.update("odoo_crm_lead", "id = 2", name=None)
    assert outcome(warehouse.transform("odoo_opportunities", run_id="r6")) == (1, 0, 0, 0, 1, 1)
    assert warehouse.rows(HELD) == [(TABLE, "odoo", "2", TITLE, "r2", "r6", True)]
    assert results(warehouse) == {
        "r1": {}, "r2": {("reject", TITLE): 1}, "r3": {("reject", TITLE): 1}, "r4": {}, "r5": {},
        "r6": {("reject", TITLE): 1},
    }  # fmt: skip


def test_a_row_that_breaks_another_rule_is_released_from_the_first(warehouse: Warehouse) -> None:
    """Within one run, too, as when a task is cleared and runs again."""
    warehouse.create_odoo()
    warehouse.lead(1, name=" ")
    warehouse.transform("odoo_opportunities")
    warehouse.update("odoo_crm_lead", name="mended", type="nonsense")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows(HELD) == [
        (TABLE, "odoo", "1", TITLE, "r1", "r1", False),
        (TABLE, "odoo", "1", TYPE, "r1", "r1", True),
    ]


def test_seen_times(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1, name="")
    for _ in range(2):
        warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select first_seen_at < last_seen_at, released_at from ops.quarantine") == [(True, None)]
    warehouse.update("odoo_crm_lead", name="mended")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select released_at > last_seen_at from ops.quarantine") == [(True,)]


def test_a_rejected_row_that_its_source_deletes_stays_in_quarantine_as_long_as_it_is_wrong(
    warehouse: Warehouse,
) -> None:
    """Deleted records have rows as well."""
    warehouse.create_odoo()
    warehouse.lead(1, name="")
    warehouse.transform("odoo_opportunities")
    warehouse.delete("odoo_crm_lead", "id = 1")
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 0, 0, 0, 1, 0)
    assert warehouse.rows("select released_at from ops.quarantine") == [(None,)]


def test_a_rejected_row_that_is_no_longer_described_is_released(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    line = {"payer_id": 1, "account_id": 2, "period_date": "2026-10-01"}
    warehouse.insert("odoo_c_billing_internal_cur", id=1, cost="NaN", **line)
    warehouse.insert("odoo_c_billing_internal_cur", id=2, cost=5, **line)
    assert outcome(warehouse.transform("billing_usage")) == (2, 1, 0, 0, 1, 0)
    warehouse.delete("odoo_c_billing_internal_cur", "id = 1")
    assert outcome(warehouse.transform("billing_usage")) == (1, 0, 0, 1, 0, 0)
    assert warehouse.rows("select source_key, released_at is null from ops.quarantine") == [("1", False)]


@pytest.mark.parametrize("full_refresh", [False, True])
def test_what_is_in_quarantine_is_mended_by_another_table(
    warehouse: Warehouse, include: Path, full_refresh: bool
) -> None:
    """The key itself was not loaded again, and no row of core refers to the table that was."""
    warehouse.create_odoo()
    rules = include / "sql" / "core" / "bill_line.rules.yaml"
    rules.write_text(
        rules.read_text()
        .replace("when: not has_bill", "when: account_source_id is null")
        .replace("rule: no bill\n  action: warn", "rule: no bill\n  action: reject")
    )
    warehouse.insert("odoo_c_billing_bill", id=1, name="B1", partner_id=1)
    warehouse.insert("odoo_c_billing_bill_line", id=1, bill_id=1, cost=5, date="2026-10-01")
    assert outcome(warehouse.transform("bill_line", include=include)) == (1, 0, 0, 0, 1, 0)
    warehouse.partner(1, name="One")
    assert outcome(warehouse.transform("bill_line", include=include, full_refresh=full_refresh)) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows("select source_key, released_at is null from ops.quarantine") == [("1", False)]


def test_records_of_opportunities_in_quarantine_are_tried_again(warehouse: Warehouse, include: Path) -> None:
    """Their key has a prefix that raw's key has not."""
    rules = include / "sql" / "core" / "account_record.rules.yaml"
    rules.write_text(rules.read_text() + rule("no such country", "reject", "country_code = 'XX'"))
    warehouse.create_ace()
    warehouse.insert("ace_apn_companies", id="C1", name="", country_code="xx")
    for key in ("O1", "O2"):
        warehouse.insert(
            "ace_apn_opportunity", id=key, name="deal", customer_company_name="Bolt", customer_country="xx"
        )
    held = "select source_key, rule, last_run_id from ops.quarantine where released_at is null order by 1, 2"
    for run_id in ("r1", "r2"):
        result = warehouse.transform("account_record", source="ace", run_id=run_id, include=include)
        assert outcome(result) == (3, 0, 0, 0, 3, 0)
        assert warehouse.rows(held) == [
            ("C1", "name is missing", run_id),
            ("C1", "no such country", run_id),
            ("opportunity:O1", "no such country", run_id),
            ("opportunity:O2", "no such country", run_id),
        ]
    warehouse.update("ace_apn_opportunity", "id = 'O1'", customer_country="de")
    result = warehouse.transform("account_record", source="ace", run_id="r3", include=include)
    assert outcome(result) == (3, 1, 0, 0, 2, 0)
    assert [row[0] for row in warehouse.rows(held)] == ["C1", "C1", "opportunity:O2"]


def test_quarantine_of_one_source_is_no_business_of_the_other(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.insert("ace_apn_companies", id="1", name="")
    warehouse.partner(1, name=None)
    for source in ("odoo", "ace"):
        warehouse.transform("account_record", source=source)
    assert warehouse.rows("select source, source_key, released_at from ops.quarantine order by 1") == [
        ("ace", "1", None),
        ("odoo", "1", None),
    ]
    warehouse.update("odoo_res_partner", name="One")
    warehouse.transform("account_record")
    assert warehouse.rows("select source, released_at is null from ops.quarantine order by 1") == [
        ("ace", True),
        ("odoo", False),
    ]


def rule(called: str, action: str, when: str, **assignments: str) -> str:
    tail = f"\n  set: {assignments}" if assignments else ""
    return f"- rule: {called}\n  action: {action}\n  when: {when!r}\n  remedy: Mend it.{tail}\n"


USERS: dict[int, dict[str, Any]] = {
    1: {"login": "one", "active": True},
    2: {"login": "two", "active": False},
    3: {"login": "three", "active": True, "share": True},
}


def transform_users(warehouse: Warehouse, include: Path, *rules: str) -> tuple[int, ...]:
    (include / "sql" / "core" / "app_user.rules.yaml").write_text("".join(rules))
    if not warehouse.rows("select to_regclass('raw.odoo_res_users')")[0][0]:
        warehouse.create_odoo()
        for number, values in USERS.items():
            warehouse.insert("odoo_res_users", id=number, partner_id=number, **values)
    return outcome(warehouse.transform("app_user", include=include))


def users(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows("select source_id, name, role, issues from core.app_user order by 1")


def test_fixes_warnings_and_rejections_meet(warehouse: Warehouse, include: Path) -> None:
    """Fixes see what the select gives; warnings and rejections see the rows fixed. Unknown counts as not met."""
    done = transform_users(
        warehouse,
        include,
        rule("no name", "fix", "name is null", name="'user ' || source_id", role="name"),
        rule("no name any more", "fix", "name = 'user 1'", role="'never'"),
        rule("has a name", "warn", "name like 'user %'"),
        rule("unknown", "warn", "role > 'a'"),
        rule("inactive", "reject", "not is_active"),
        rule("named two", "reject", "name = 'user 2'"),
        rule("100 % of nothing", "reject", "name = '%'"),
    )
    assert done == (3, 2, 0, 0, 1, 0)
    assert users(warehouse) == [
        ("1", "user 1", None, ["no name", "has a name"]),
        ("3", "user 3", None, ["no name", "has a name"]),
    ]
    assert warehouse.rows("select source_key, rule, reason from ops.quarantine order by rule") == [
        ("2", "inactive", "inactive. Mend it."),
        ("2", "named two", "named two. Mend it."),
    ]
    assert warehouse.rows("select rule, action, rows from ops.rule_result order by rule") == [
        ("100 % of nothing", "reject", 0),
        ("has a name", "warn", 3),
        ("inactive", "reject", 1),
        ("named two", "reject", 1),
        ("no name", "fix", 3),
        ("no name any more", "fix", 0),
        ("unknown", "warn", 0),
    ]
    assert warehouse.rows("select fixed, warned, quarantined from ops.transform_run") == [(3, 3, 1)]


def test_of_two_fixes_of_one_column_the_first_that_is_met_counts(warehouse: Warehouse, include: Path) -> None:
    transform_users(
        warehouse,
        include,
        rule("external", "fix", "not is_internal", role="'guest'"),
        rule("anybody", "fix", "is_active", role="'user'"),
    )
    assert users(warehouse) == [
        ("1", None, "user", ["anybody"]),
        ("2", None, None, None),
        ("3", None, "guest", ["external", "anybody"]),
    ]


def test_edited_rules_concern_all_rows(warehouse: Warehouse, include: Path) -> None:
    transform_users(warehouse, include, rule("external", "warn", "not is_internal"))
    assert transform_users(warehouse, include, rule("external", "reject", "not is_internal")) == (3, 0, 0, 2, 1, 1)
    # A rule that is gone holds nobody.
    assert transform_users(warehouse, include) == (3, 1, 0, 2, 0, 0)
    assert users(warehouse) == [("1", None, None, None), ("2", None, None, None), ("3", None, None, None)]
    assert warehouse.rows("select released_at is null from ops.quarantine") == [(False,)]


def test_a_fix_of_a_column_that_is_not_there(warehouse: Warehouse, include: Path) -> None:
    with pytest.raises(TransformError, match=r"rule 'odd' sets \['nonsense'\], which the table's select does not give"):
        transform_users(warehouse, include, rule("odd", "fix", "true", nonsense="1"))


def test_a_table_without_a_rules_file(warehouse: Warehouse, include: Path) -> None:
    (include / "sql" / "core" / "app_user.rules.yaml").unlink()
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="u")
    assert outcome(warehouse.transform("app_user", include=include)) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows("select fixed, warned from ops.transform_run") == [(0, 0)]
    assert users(warehouse) == [("1", None, None, None)]
