"""Which rows of core a change of raw concerns: each table that a transform reads, by each way it is joined."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import ODOO, Warehouse

pytestmark = pytest.mark.db

# (table, where, new values) and the source_ids of the rows that become others by it, nothing else of core does.
Case = tuple[str, str, dict[str, Any], set[str]]

COUNTRIES = {1: "DE", 2: "TW", 3: "US", 4: "FR"}
DELETED = {"_deleted_at": "2026-11-01 00:00:00+00"}


@pytest.fixture
def world(warehouse: Warehouse) -> Warehouse:
    """Rows of all tables that refer to each other in every way that the SQL files follow, and some that don't."""
    warehouse.create_odoo(
        crm_lead=ODOO["crm_lead"] + ", state_id integer, c_aws_account_id integer, lost_reason integer"
    )
    warehouse.create_ace()
    for number, code in COUNTRIES.items():
        warehouse.insert("odoo_res_country", id=number, code=code)
        warehouse.insert("odoo_res_country_state", id=number, name=f"State {number}")
        warehouse.insert("odoo_res_currency", id=number, name=f"CU{number}")
        warehouse.insert("odoo_crm_stage", id=number, name=f"Stage {number}", is_won=False)
        warehouse.insert("odoo_crm_team", id=number, name=f"Team {number}")
        warehouse.insert("odoo_crm_tag", id=number, name=f"tag {number}")
        warehouse.insert("odoo_crm_lost_reason", id=number, name=f"Reason {number}")
        warehouse.insert("odoo_product_template", id=number, name=f"Product {number}")
    for number in (1, 2):
        warehouse.insert("odoo_res_company", id=number, currency_id=number)
    # Companies 10, 20 and 30; 11 and 12 are people of 10, 21 of 20.
    for number, values in {
        10: {"name": "Acme", "country_id": 1, "state_id": 1},
        11: {"name": "Jane", "commercial_partner_id": 10, "country_id": 2},
        12: {"name": "Joe", "commercial_partner_id": 10},
        20: {"name": "Bolt", "country_id": 3, "state_id": 3},
        21: {"name": "Ann", "commercial_partner_id": 20},
        30: {"name": "Cold"},
    }.items():
        warehouse.partner(number, **values)
    warehouse.insert("odoo_res_users", id=1, login="joe", partner_id=12, active=True)
    warehouse.insert("odoo_res_users", id=2, login="ann", partner_id=21, active=True)
    for number, values in {
        1: {"name": "111111111111", "c_aws_company_id": 10, "end_user_country_id": 4},
        2: {"name": "222222222222", "c_aws_company_id": 21, "payer_id": 1},
        3: {"name": "333333333333"},
    }.items():
        warehouse.insert("odoo_c_aws_accounts", id=number, **values)
    for number, values in {
        1: {"partner_id": 11, "stage_id": 1, "team_id": 1, "company_id": 1, "lost_reason": 1, "c_aws_account_id": 1},
        2: {"partner_id": 20, "stage_id": 2, "country_id": 2, "state_id": 2, "company_id": 2},
        3: {"partner_id": 99, "stage_id": 99},
        4: {"partner_name": "Walk-in"},
    }.items():
        warehouse.lead(number, **values)
    for lead, tag in ((1, 1), (1, 2), (2, 2)):
        warehouse.insert("odoo_crm_tag_rel", lead_id=lead, tag_id=tag)
    warehouse.insert("odoo_c_billing_bill", id=1, name="B1", partner_id=11, account_id=1, currency_id=1)
    warehouse.insert("odoo_c_billing_bill", id=2, name="B2", partner_id=99, period_date="2026-10-01")
    for number, values in {
        1: {"bill_id": 1, "product_id": 1},
        2: {"bill_id": 1, "currency_id": 2},
        3: {"bill_id": 2, "product_id": 2},
        4: {"bill_id": 99, "date": "2026-10-01"},
    }.items():
        warehouse.insert("odoo_c_billing_bill_line", id=number, cost=1, **values)
    for number, values in {
        1: {"payer_id": 1, "account_id": 2, "company_currency_id": 1, "period_date": "2026-10-01"},
        2: {"payer_id": 1, "account_id": 1, "company_currency_id": 2, "period_date": "2026-09-01"},
        3: {"payer_id": 3, "account_id": 9, "period_date": "2026-10-01"},
        4: {"payer_id": None, "account_id": 2, "period_date": "2026-10-01"},
    }.items():
        warehouse.insert("odoo_c_billing_internal_cur", id=number, cost=1, **values)
    for key, name in (("C1", "Acme"), ("C2", "Bolt")):
        warehouse.insert("ace_apn_companies", id=key, name=name, country_code="DE")
        warehouse.insert("ace_apn_contacts", id=f"P{key}", company_id=key)
        warehouse.insert("ace_apn_users", id=f"U{key}", role="Sales")
    for key, values in {
        "O1": {"company_id": "C1", "aws_account": "111111111111"},
        "O2": {"company_id": "C2"},
        "O3": {"customer_company_name": "Cold", "aws_account": "333333333333"},
        "O4": {"company_id": "C9"},
    }.items():
        warehouse.insert("ace_apn_opportunity", id=key, name=f"deal {key}", **values)
    return warehouse


CASES: dict[tuple[str, str], list[Case]] = {
    ("account_record", "odoo"): [
        ("res_partner", "id = 10", {"name": "Acme 2"}, {"10"}),
        ("res_partner", "id = 11", {"name": "Janet"}, set()),
        ("res_partner", "id = 30", DELETED, {"30"}),
        ("res_country", "id = 3", {"code": "CA"}, {"20"}),
        ("res_country", "id = 2", {"code": "CN"}, set()),
        ("res_country_state", "id = 1", {"name": "Bavaria"}, {"10"}),
        ("c_aws_accounts", "id = 1", {"c_aws_company_id": 30}, {"10", "30"}),
        ("c_aws_accounts", "id = 2", {"name": "444444444444"}, {"20"}),
        ("c_aws_accounts", "id = 2", DELETED, {"20"}),
        ("c_aws_accounts", "id = 3", {"c_aws_account_name": "x"}, set()),
        # A person moves to another company, and its AWS account with it.
        ("c_aws_accounts", "id = 2", {"_deleted_at": None}, {"20"}),
        ("res_partner", "id = 21", {"commercial_partner_id": 30}, {"20", "30"}),
        # A person becomes a company of its own, and back.
        ("res_partner", "id = 12", {"commercial_partner_id": 12}, {"12"}),
        ("res_partner", "id = 12", {"commercial_partner_id": 10}, {"12"}),
        ("res_partner", "id = 12", {"commercial_partner_id": None}, {"12"}),
    ],
    ("account_record", "ace"): [
        ("apn_companies", "id = 'C1'", {"name": "Acme 2"}, {"C1"}),
        ("apn_companies", "id = 'C2'", DELETED, {"C2"}),
        ("apn_opportunity", "id = 'O1'", {"aws_account": "555555555555"}, {"C1"}),
        ("apn_opportunity", "id = 'O1'", {"company_id": "C2"}, {"C1", "C2"}),
        ("apn_opportunity", "id = 'O1'", DELETED, {"C2"}),
        ("apn_opportunity", "id = 'O3'", {"customer_company_name": "Colder"}, {"opportunity:O3"}),
        ("apn_opportunity", "id = 'O3'", {"company_id": "C1"}, {"opportunity:O3", "C1"}),
        ("apn_opportunity", "id = 'O3'", {"company_id": None}, {"opportunity:O3", "C1"}),
        ("apn_opportunity", "id = 'O2'", {"stage_name": "Launched"}, set()),
    ],
    ("aws_account", "odoo"): [
        ("c_aws_accounts", "id = 3", {"name": "444444444444"}, {"3"}),
        ("c_aws_accounts", "id = 3", DELETED, {"3"}),
        ("res_partner", "id = 21", {"commercial_partner_id": 30}, {"2"}),
        ("res_partner", "id = 21", {"commercial_partner_id": None}, {"2"}),
        ("res_country", "id = 4", {"code": "BE"}, {"1"}),
    ],
    ("contact", "odoo"): [
        ("res_partner", "id = 11", {"function": "CTO"}, {"11"}),
        ("res_partner", "id = 12", {"commercial_partner_id": 12}, {"12"}),
        ("res_partner", "id = 12", {"commercial_partner_id": 20}, {"12"}),
        ("res_partner", "id = 12", DELETED, {"12"}),
        ("res_country", "id = 2", {"code": "CN"}, {"11"}),
    ],
    ("contact", "ace"): [
        ("apn_contacts", "id = 'PC1'", {"business_title": "CTO"}, {"PC1"}),
        ("apn_contacts", "id = 'PC1'", DELETED, {"PC1"}),
    ],
    ("app_user", "odoo"): [
        ("res_users", "id = 1", {"active": False}, {"1"}),
        ("res_users", "id = 1", DELETED, {"1"}),
        ("res_partner", "id = 21", {"name": "Anna"}, {"2"}),
    ],
    ("app_user", "ace"): [("apn_users", "id = 'UC2'", {"role": "Alliance"}, {"UC2"})],
    ("odoo_opportunities", "odoo"): [
        ("crm_lead", "id = 4", {"name": "other"}, {"4"}),
        ("crm_lead", "id = 4", DELETED, {"4"}),
        ("crm_stage", "id = 2", {"is_won": True}, {"2"}),
        ("crm_stage", "id = 1", DELETED, set()),
        ("crm_team", "id = 1", {"name": "North"}, {"1"}),
        ("crm_tag", "id = 2", {"name": "cloud"}, {"1", "2"}),
        ("crm_tag", "id = 1", DELETED, {"1"}),
        ("crm_tag_rel", "lead_id = 2", DELETED, {"2"}),
        ("crm_lost_reason", "id = 1", {"name": "Price"}, {"1"}),
        ("res_company", "id = 1", {"currency_id": 3}, {"1"}),
        ("res_currency", "id = 2", {"name": "EUR"}, {"2"}),
        ("c_aws_accounts", "id = 1", {"name": "444444444444"}, {"1"}),
        # A person's company, the person itself, and a partner that had not come yet.
        ("res_partner", "id = 10", {"name": "Acme 2"}, {"1"}),
        ("res_partner", "id = 11", {"commercial_partner_id": 20}, {"1"}),
        ("res_partner", "id = 20", {"website": "bolt.example"}, {"1", "2"}),
        # Of the lead's own country and state, and of its company's.
        ("res_country", "id = 2", {"code": "CN"}, {"2"}),
        ("res_country", "id = 3", {"code": "CA"}, {"1"}),
        ("res_country_state", "id = 2", {"name": "Taipei"}, {"2"}),
        ("res_country_state", "id = 3", {"name": "Texas"}, {"1"}),
    ],
    ("ace_opportunities", "ace"): [
        ("apn_opportunity", "id = 'O4'", {"name": "other"}, {"O4"}),
        ("apn_opportunity", "id = 'O4'", DELETED, {"O4"}),
        ("apn_companies", "id = 'C2'", {"name": "Bolt 2"}, {"O2"}),
    ],
    ("bill_line", "odoo"): [
        ("c_billing_bill_line", "id = 4", {"cost": 2}, {"4"}),
        ("c_billing_bill_line", "id = 4", DELETED, {"4"}),
        ("c_billing_bill", "id = 1", {"state": "paid"}, {"1", "2"}),
        ("c_billing_bill", "id = 2", DELETED, {"3"}),
        ("res_partner", "id = 11", {"commercial_partner_id": 20}, {"1", "2"}),
        ("product_template", "id = 2", {"name": "Support"}, {"3"}),
        # Of the line's own currency, and of its bill's.
        ("res_currency", "id = 2", {"name": "EUR"}, {"2"}),
        ("res_currency", "id = 1", {"name": "USD"}, {"1"}),
    ],
    ("billing_usage", "odoo"): [
        ("c_billing_internal_cur", "id = 3", {"cost": 2}, {"3"}),
        ("c_billing_internal_cur", "id = 3", {"period_date": "2026-11-01"}, {"3"}),
        ("c_billing_internal_cur", "id = 3", {"payer_id": 1}, {"3"}),
        ("c_billing_internal_cur", "id = 3", DELETED, {"3"}),
        # As the account, as the payer, and both.
        ("c_aws_accounts", "id = 2", {"name": "444444444444"}, {"1", "4"}),
        ("c_aws_accounts", "id = 1", {"name": "555555555555"}, {"1", "2"}),
        ("c_aws_accounts", "id = 1", {"c_aws_account_name": "x"}, set()),
        ("res_currency", "id = 2", {"name": "EUR"}, {"2"}),
    ],
}


@pytest.mark.parametrize(("name", "source"), CASES, ids=lambda value: value)
def test_a_change_reaches_the_rows_that_it_concerns(world: Warehouse, name: str, source: str) -> None:
    """At once, and no others; a full run finds nothing left to do."""
    world.transform(name, source=source)
    before = rows(world, name, source)
    for table, where, values, concerned in CASES[name, source]:
        case = f"{table} {where} {values}"
        world.update(f"{source}_{table}", where, **values)
        result = world.transform(name, source=source)
        after = rows(world, name, source)
        assert (case, result.full_reason) == (case, None)
        differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert (case, differing) == (case, concerned)
        full = world.transform(name, source=source, full_refresh=True)
        assert (case, full.inserted, full.updated, full.deleted) == (case, 0, 0, 0)
        before = after


def test_a_row_that_others_refer_to_may_come_later(world: Warehouse) -> None:
    for name in ("account_record", "aws_account", "odoo_opportunities", "bill_line", "billing_usage"):
        world.transform(name)
    world.partner(99, name="Late")
    world.insert("odoo_crm_stage", id=99, name="Late stage", is_won=True)
    world.insert("odoo_c_aws_accounts", id=9, name="999999999999", c_aws_company_id=99)
    world.insert("odoo_c_billing_bill", id=99, name="B99", partner_id=99)
    for name in ("account_record", "aws_account", "odoo_opportunities", "bill_line", "billing_usage"):
        assert world.transform(name).full_reason is None
    assert world.rows("select source_id, aws_account_ids from core.account_record where source_id = '99'") == [
        ("99", ["999999999999"])
    ]
    assert world.rows(
        "select company_name, stage, status, account_source_id from core.odoo_opportunities where source_id = '3'"
    ) == [("Late", "Late stage", "won", "99")]
    assert world.rows("select source_id, bill_name, has_bill, account_source_id from core.bill_line order by 1") == [
        ("1", "B1", True, "10"),
        ("2", "B1", True, "10"),
        ("3", "B2", True, "99"),
        ("4", "B99", True, "99"),
    ]
    assert world.rows("select aws_account_id, issues from core.billing_usage where source_id = '3'") == [
        ("999999999999", None)
    ]
    for name in ("account_record", "aws_account", "odoo_opportunities", "bill_line", "billing_usage"):
        full = world.transform(name, full_refresh=True)
        assert (full.inserted, full.updated, full.deleted) == (0, 0, 0)


def rows(warehouse: Warehouse, name: str, source: str) -> dict[str, str]:
    """The rows of a table by source_id, but for the load and the run."""
    return dict(
        warehouse.rows(
            f"select source_id, (to_jsonb(t) - 'raw_load_id' - 'transform_run_id')::text from core.{name} as t "
            f"where source_system = '{source}'"
        )
    )
