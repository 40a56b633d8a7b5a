"""Opportunities of both systems in business terms: what each column says, and what happens to wrong values."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import ODOO, Warehouse, outcome

pytestmark = pytest.mark.db

# Of the module that connects Odoo with ACE.
CUSTOM = (
    ", aws_ace_id text, c_aws_account_id integer, website text, city text, zip text, state_id integer, "
    'lost_reason integer, "c_aws_ace_awsAccountId" text, "c_aws_ace_expectedMonthlyAwsRevenue" numeric, '
    '"c_aws_ace_customerDuns" text, "c_aws_ace_industry" text, "c_aws_ace_useCase" text, '
    '"c_aws_ace_opportunityOwnership" text, "c_aws_ace_partnerAcceptanceStatus" text'
)


@pytest.fixture
def odoo(warehouse: Warehouse) -> Warehouse:
    """Odoo's empty tables with all columns."""
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"] + CUSTOM)
    return warehouse


def leads(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select source_id, {columns} from core.odoo_opportunities order by length(source_id), 1")


def test_status_of_odoo_opportunities(odoo: Warehouse) -> None:
    for number, (name, is_won) in enumerate((("New", False), ("Won", True), ("Odd", None)), start=1):
        odoo.insert("odoo_crm_stage", id=number, name=name, is_won=is_won)
    cases = [
        ("open", {"stage_id": 1, "probability": 10}),
        ("open", {"stage_id": 1, "probability": 0}),
        ("won", {"stage_id": 2, "probability": 100}),
        ("won", {"stage_id": 2, "active": False, "probability": 0}),
        ("lost", {"stage_id": 1, "active": False, "probability": 0}),
        ("lost", {"stage_id": 3, "active": False}),
        ("archived", {"stage_id": 1, "active": False, "probability": 20}),
        ("open", {"stage_id": None, "active": None}),
        ("open", {"stage_id": 99}),
    ]
    for number, (_, values) in enumerate(cases, start=1):
        odoo.lead(number, **values)
    assert outcome(odoo.transform("odoo_opportunities")) == (9, 9, 0, 0, 0, 0)
    assert leads(odoo, "status") == [(str(number), status) for number, (status, _) in enumerate(cases, start=1)]


def test_an_odoo_opportunity_in_full(odoo: Warehouse) -> None:
    odoo.insert("odoo_crm_stage", id=4, name="Proposal", is_won=False)
    odoo.insert("odoo_crm_team", id=5, name="APAC")
    odoo.insert("odoo_crm_lost_reason", id=3, name="Too expensive")
    for number, code in ((6, "TW"), (7, "JP")):
        odoo.insert("odoo_res_country", id=number, code=code)
        odoo.insert("odoo_res_country_state", id=number, name=f"State {code}")
    odoo.insert("odoo_res_currency", id=8, name="TWD")
    odoo.insert("odoo_res_company", id=9, currency_id=8)
    odoo.partner(
        10, name=" Acme ", country_id=7, state_id=7, city=" Osaka ", zip="530", website="acme.example",
        x_duns="12-345-6789",
    )  # fmt: skip
    odoo.partner(11, name="Contact of Acme", commercial_partner_id=10)
    odoo.insert("odoo_c_aws_accounts", id=12, name=" 111111111111 ")
    for number, name in ((1, "b"), (2, "a"), (3, "deleted tag"), (4, "deleted link")):
        odoo.insert("odoo_crm_tag", id=number, name=name, _deleted_at="2026-01-01" if number == 3 else None)
        odoo.insert("odoo_crm_tag_rel", lead_id=1, tag_id=number, _deleted_at="2026-01-01" if number == 4 else None)
    odoo.lead(
        1, name="  Move to AWS ", probability=12.5, expected_revenue="1000.50", stage_id=4, team_id=5, user_id=77,
        company_id=9, partner_id=11, partner_name="not used", date_deadline="2026-12-31", lost_reason=3,
        date_closed="2026-11-22 01:02:03", create_date="2026-11-20 23:30:00.123456", write_date="2026-11-21 01:00:00",
        aws_ace_id=" O123 ", c_aws_account_id=12, c_aws_ace_awsAccountId="222222222222",
        c_aws_ace_expectedMonthlyAwsRevenue="83.375", c_aws_ace_industry="Mining", c_aws_ace_useCase=" Migration ",
        c_aws_ace_opportunityOwnership="Partner", c_aws_ace_partnerAcceptanceStatus="Accepted",
        description="<p>Dear customer</p>",
    )  # fmt: skip
    load = odoo.last_load()
    odoo.lead(
        2, partner_name=" Walk-in ", country_id=6, state_id=6, city="Taipei", zip="100", type="lead", aws_ace_id=" ",
        website="walk-in.example", c_aws_ace_awsAccountId=" 222222222222 ", c_aws_ace_customerDuns="98-765-4321",
    )  # fmt: skip
    odoo.transform("odoo_opportunities")
    columns = (
        "title", "lead_type", "account_source_id", "contact_source_id", "company_name", "domain", "stage", "status",
        "lost_reason", "probability", "annual_revenue", "currency_code", "monthly_aws_spend", "country_code", "region",
        "city", "postal_code", "team", "owner_source_id", "ace_opportunity_id", "aws_account_id",
        "is_aws_account_id_valid", "duns", "industry", "use_case", "ownership", "acceptance_status", "description",
        "tags", "target_close_date", "closed_at at time zone 'UTC'", "created_at at time zone 'UTC'",
        "updated_at at time zone 'UTC'", "issues", "deleted_at", "source_system",
    )  # fmt: skip
    first, second = leads(odoo, ", ".join(f"({column})::text" for column in columns))
    assert first[1:] == (
        "Move to AWS", "opportunity", "10", "11", "Acme", "acme.example", "Proposal", "open", "Too expensive", "12.5",
        "1000.50", "TWD", "83.375", "JP", "State JP", "Osaka", "530", "APAC", "77", "O123", "111111111111", "true",
        "123456789", "Mining", "Migration", "Partner", "Accepted", "Dear customer", "{a,b}", "2026-12-31",
        "2026-11-22 01:02:03", "2026-11-20 23:30:00.123456", "2026-11-21 01:00:00", None, None, "odoo",
    )  # fmt: skip
    assert second[1:] == (
        "lead 2", "lead", None, None, "Walk-in", "walk-in.example", None, "open", None, None, None, None, None, "TW",
        "State TW", "Taipei", "100", None, None, None, "222222222222", "true", "987654321", None, None, None, None,
        None, "{}", None, None, None, None, None, None, "odoo",
    )  # fmt: skip
    assert leads(odoo, "raw_load_id") == [("1", load), ("2", load + 1)]


def test_the_name_of_a_person_is_no_companys(odoo: Warehouse) -> None:
    odoo.partner(1, name="Jane Doe", is_company=False)
    odoo.partner(2, name=" ")
    odoo.lead(1, partner_id=1)
    odoo.lead(2, partner_id=1, partner_name="Doe Consulting")
    odoo.lead(3, partner_id=2, partner_name="Blank Ltd")
    odoo.transform("odoo_opportunities")
    assert leads(odoo, "company_name, account_source_id") == [
        ("1", None, "1"),
        ("2", "Doe Consulting", "1"),
        ("3", "Blank Ltd", "2"),
    ]


NUMBERS = [(column, value) for column in ("revenue", "monthly spend") for value in ("NaN", "Infinity", "-Infinity")]


@pytest.mark.parametrize(
    ("values", "issues", "shown"),
    [
        *(
            (
                {"expected_revenue" if what == "revenue" else "c_aws_ace_expectedMonthlyAwsRevenue": value},
                [f"{what} is not a number"],
                {"annual_revenue" if what == "revenue" else "monthly_aws_spend": None},
            )
            for what, value in NUMBERS
        ),
        ({"expected_revenue": "-5.0"}, ["revenue is negative"], {"annual_revenue::text": "-5.0"}),
        ({"expected_revenue": "-0"}, None, {"annual_revenue::text": "0"}),
        ({"name": "x" * 1001}, ["title is longer than 1,000 characters"], {"title": "x" * 1000}),
        ({"name": "x" * 1000}, None, {"title": "x" * 1000}),
        (
            {"description": "x" * 100_001},
            ["text is longer than 100,000 characters"],
            {"length(description)": 100_000},
        ),
        *(
            ({"date_deadline": date}, ["date is out of any calendar"], {"target_close_date": None})
            for date in ("infinity", "-infinity", "1989-12-31", "2100-01-02", "0044-03-15 BC", "5874897-12-31")
        ),
        ({"date_deadline": "1990-01-01"}, None, {"target_close_date::text": "1990-01-01"}),
        ({"create_date": "infinity"}, ["time is infinite"], {"created_at": None}),
        ({"date_closed": "-infinity", "write_date": "infinity"}, ["time is infinite"], {"closed_at": None}),
        ({"c_aws_ace_awsAccountId": "12345"}, ["AWS account number is malformed"], {"aws_account_id": "12345"}),
        ({"c_aws_ace_awsAccountId": " "}, None, {"aws_account_id": None}),
        ({"aws_ace_id": "123"}, ["ACE id is malformed"], {"ace_opportunity_id": "123"}),
        ({"stage_id": 1}, ["won without a company"], {"status": "won"}),
    ],
)
def test_wrong_values_of_odoo(
    odoo: Warehouse, values: dict[str, Any], issues: list[str] | None, shown: dict[str, Any]
) -> None:
    odoo.insert("odoo_crm_stage", id=1, name="Won", is_won=True)
    odoo.lead(1, **values)
    odoo.lead(2)
    assert outcome(odoo.transform("odoo_opportunities")) == (2, 2, 0, 0, 0, 0)
    ((column, value),) = shown.items()
    assert leads(odoo, f"issues, {column}")[0] == ("1", issues, value)
    assert leads(odoo, "issues")[1] == ("2", None)


def deals(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select source_id, {columns} from core.ace_opportunities order by 1")


def test_an_ace_opportunity_in_full(warehouse: Warehouse) -> None:
    warehouse.create_ace()
    warehouse.insert(
        "ace_apn_companies", id="C1", name=" Acme ", website="acme.example", duns="12-345-6789", industry="Mining",
        country_code=" us ", state_or_region="Ohio", city="Ada", postal_code="45810",
    )  # fmt: skip
    warehouse.insert(
        "ace_apn_opportunity", id="O1", name=" Deal ", company_id="C1", contact_id="P1", owner_id="U1",
        aws_account=" 123456789012 ", stage_name="Qualified", status="Draft", partner_crm_id=" ",
        expected_customer_spend='[{"Amount": "7", "CurrencyCode": "EUR", "TargetCompany": "Other"}, '
        '{"Amount": "1.50", "CurrencyCode": "usd", "Frequency": "Monthly", "TargetCompany": "AWS"}]',
        project_budget="99", project_budget_currency="GBP", delivery_models=["b", "a", "b"], delivery_model="c",
        close_date="2026-12-31", aws_create_date="2026-01-02 00:00+00", created_at="2026-01-01 00:00+00",
        updated_at="2026-01-03 00:00+00", aws_last_modified_date="2026-01-04 00:00+00",
    )  # fmt: skip
    warehouse.insert(
        "ace_apn_opportunity", id="O2", name="Other", customer_company_name=" Own name ", aws_account="12345",
        customer_website="own.example", customer_country="de", customer_duns="987654321", delivery_model="x;; y",
        project_budget="1.50", project_budget_currency=" usd ", created_at="2026-01-01 00:00+00",
        industry="Mining", partner_crm_id=" 77 ", status="Draft", stage_name="Qualified",
    )  # fmt: skip
    warehouse.insert("ace_apn_opportunity", id="O3", name=None)
    assert outcome(warehouse.transform("ace_opportunities", source="ace")) == (3, 2, 0, 0, 1, 0)
    columns = (
        "title", "account_source_id", "contact_source_id", "company_name", "domain", "stage", "review_status",
        "industry", "monthly_aws_spend", "currency_code", "country_code", "region", "city", "postal_code", "duns",
        "owner_source_id", "aws_account_id", "is_aws_account_id_valid", "odoo_opportunity_id", "target_close_date",
        "created_at at time zone 'UTC'", "updated_at at time zone 'UTC'", "aws_updated_at at time zone 'UTC'",
    )  # fmt: skip
    first, second = deals(warehouse, ", ".join(f"({column})::text" for column in columns))
    assert first[1:] == (
        "Deal", "C1", "P1", "Acme", "acme.example", "Qualified", "Pending Submission", "Mining", "1.50", "USD",
        "US", "Ohio", "Ada", "45810", "123456789", "U1", "123456789012", "true", None, "2026-12-31",
        "2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00",
    )  # fmt: skip
    assert second[1:] == (
        "Other", "opportunity:O2", None, "Own name", "own.example", "Qualified", "Pending Submission", "Mining", "1.50",
        "USD", "DE", None, None, None, "987654321", None, "12345", "false", "77", None, "2026-01-01 00:00:00",
        None, None,
    )  # fmt: skip
    assert deals(warehouse, "cardinality(delivery_models)") == [("O1", 2), ("O2", 2)]


@pytest.mark.parametrize(
    ("spend", "budget", "expected"),
    [
        ("[]", "5.0", ("5.0", "GBP")),
        ("null", None, (None, "GBP")),
        ('{"Amount": "7"}', "5", ("5", "GBP")),
        ('"7"', "5", ("5", "GBP")),
        ('[1, null, "x"]', "5", ("5", "GBP")),
        ('[{"Amount": "NaN"}, {"Amount": "1e5"}, {"Amount": "-3"}, {"Amount": ""}]', "5", ("5", "GBP")),
        ('[{"Amount": "7", "Frequency": "Annual", "CurrencyCode": "USD"}]', "5", ("5", "GBP")),
        ('[{"Amount": 7.50, "CurrencyCode": "usd"}]', "5", ("7.50", "USD")),
        ('[{"Amount": "7"}]', "5", ("7", "GBP")),
        ('[{"Amount": "7", "CurrencyCode": "EUR"}, {"Amount": "8", "CurrencyCode": "USD"}]', "5", ("7", "EUR")),
    ],
)
def test_what_is_spent_each_month(
    warehouse: Warehouse, spend: str, budget: str | None, expected: tuple[str | None, str | None]
) -> None:
    """Of a list of amounts AWS's counts, by the month; the project's budget where there is none."""
    warehouse.create_ace()
    warehouse.insert(
        "ace_apn_opportunity", id="O1", name="deal", expected_customer_spend=spend, project_budget=budget,
        project_budget_currency="gbp",
    )  # fmt: skip
    warehouse.transform("ace_opportunities", source="ace")
    assert deals(warehouse, "monthly_aws_spend::text, currency_code") == [("O1", *expected)]


@pytest.mark.parametrize(
    ("values", "issues", "shown"),
    [
        ({"project_budget": "NaN"}, ["monthly spend is not a number"], {"monthly_aws_spend": None}),
        ({"project_budget": "-1"}, ["spend is negative"], {"monthly_aws_spend": -1}),
        ({"aws_account": "12345"}, ["AWS account number is malformed"], {"is_aws_account_id_valid": False}),
        ({"stage_name": "Launched"}, ["launched without a valid AWS account"], {"stage": "Launched"}),
        ({"customer_company_name": None}, ["no customer"], {"account_source_id": None}),
        ({"close_date": "infinity"}, ["date is out of any calendar"], {"target_close_date": None}),
        ({"aws_create_date": "infinity"}, ["time is infinite"], {"created_at": None}),
        ({"name": "x" * 1001}, ["title is longer than 1,000 characters"], {"length(title)": 1000}),
    ],
)
def test_wrong_values_of_ace(
    warehouse: Warehouse, values: dict[str, Any], issues: list[str], shown: dict[str, Any]
) -> None:
    warehouse.create_ace()
    good = {"name": "deal", "customer_company_name": "Acme", "stage_name": "Qualified", "status": "Draft",
            "industry": "Mining"}  # fmt: skip
    warehouse.insert("ace_apn_opportunity", id="O1", **{**good, **values})
    warehouse.insert("ace_apn_opportunity", id="O2", **good)
    assert outcome(warehouse.transform("ace_opportunities", source="ace")) == (2, 2, 0, 0, 0, 0)
    ((column, value),) = shown.items()
    assert deals(warehouse, f"issues, {column}")[0] == ("O1", issues, value)
    assert deals(warehouse, "issues")[1] == ("O2", None)


def test_opportunities_of_both_systems_with_their_accounts(odoo: Warehouse) -> None:
    odoo.create_ace()
    odoo.partner(1, name="Quartz", website="quartz.example")
    odoo.insert("ace_apn_companies", id="C1", name="Quartz", website="quartz.example")
    odoo.lead(1, partner_id=1, expected_revenue=12, c_aws_ace_expectedMonthlyAwsRevenue=1)
    odoo.lead(2)
    odoo.insert("ace_apn_opportunity", id="O1", name="deal", company_id="C1", status="Draft", project_budget=7)
    odoo.insert("ace_apn_opportunity", id="1", name="no company")
    for source in ("odoo", "ace"):
        odoo.transform_accounts(source)
        odoo.transform(f"{source}_opportunities", source=source)
    assert odoo.rows(
        "select source_system, source_id, title, account_id, status, annual_revenue, monthly_aws_spend "
        "from core.opportunity order by 1, 2"
    ) == [
        ("ace", "1", "no company", None, None, None, None),
        ("ace", "O1", "deal", "odoo:1", "Pending Submission", None, 7),
        ("odoo", "1", "lead 1", "odoo:1", "open", 12, 1),
        ("odoo", "2", "lead 2", None, "open", None, None),
    ]
