"""Companies as each source has them, and the accounts that are made of them: what each column is taken from."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import Warehouse, outcome

pytestmark = pytest.mark.db


def records(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select source_id, {columns} from core.account_record order by source_system, 1")


def test_a_record_of_odoo_in_full(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_country", id=1, code="de")
    warehouse.insert("odoo_res_country_state", id=2, name=" Bavaria ")
    warehouse.partner(
        5, name="\u00a0 Quartz \t", website=" https://quartz.example ", country_id=1, state_id=2, city=" Ulm ",
        zip=" 89073 ", x_duns=" 12-345-6789 ", vat=" de 123.456.789 ", create_date="2026-11-20 23:30:00.123456",
        write_date="2026-11-21 00:00:00",
    )  # fmt: skip
    for number, name in ((1, " 123456789012 "), (2, "12345"), (3, "000000000001"), (4, "123456789012"), (5, None)):
        warehouse.insert("odoo_c_aws_accounts", id=number, name=name, c_aws_company_id=5)
    warehouse.insert("odoo_c_aws_accounts", id=6, name="666666666666", c_aws_company_id=5, _deleted_at="2026-01-01")
    warehouse.transform("account_record")
    rows = records(
        warehouse,
        "name, is_company, is_archived, website, industry, country_code, region, city, postal_code, duns, vat, "
        "aws_account_ids, (created_at at time zone 'UTC')::text, (updated_at at time zone 'UTC')::text, issues, "
        "deleted_at",
    )
    assert rows == [
        (
            "5", "Quartz", True, False, "https://quartz.example", None, "DE", "Bavaria", "Ulm", "89073", "123456789",
            "DE123456789", ["000000000001", "123456789012"], "2026-11-20 23:30:00.123456", "2026-11-21 00:00:00", None,
            None,
        )
    ]  # fmt: skip


def test_a_record_of_ace_in_full(warehouse: Warehouse) -> None:
    warehouse.create_ace()
    warehouse.insert(
        "ace_apn_companies", id="C1", name=" Quartz ", website="quartz.example", duns="123456789", industry="Mining",
        country_code=" us ", state_or_region=" Ohio ", city=" Ada ", postal_code=" 45810 ",
        created_at="2026-01-01 00:00:00+00", updated_at="2026-02-01 00:00:00+00",
    )  # fmt: skip
    for key, account, company in (("O1", "123456789012", "C1"), ("O2", "12345", "C1"), ("O3", "333333333333", "C2")):
        warehouse.insert("ace_apn_opportunity", id=key, name="deal", company_id=company, aws_account=account)
    warehouse.insert(
        "ace_apn_opportunity", id="O4", name="deal", customer_company_name=" Bolt ", customer_website="bolt.example",
        customer_country="tw", aws_account="444444444444", industry="Mining",
    )  # fmt: skip
    # A company that is named makes the opportunity's own customer no record; neither do blanks.
    warehouse.insert("ace_apn_opportunity", id="O5", name="deal", customer_company_name="Bolt", company_id="C1")
    warehouse.insert("ace_apn_opportunity", id="O6", name="deal", customer_company_name=" \u00a0\t")
    warehouse.transform("account_record", source="ace")
    assert records(
        warehouse,
        "name, is_company, is_archived, website, industry, country_code, region, city, postal_code, duns, vat, "
        "aws_account_ids, created_at is null, issues",
    ) == [
        (
            "C1", "Quartz", True, False, "quartz.example", "Mining", "US", "Ohio", "Ada", "45810", "123456789", None,
            ["123456789012"], False, None,
        ),
        (
            "opportunity:O4", "Bolt", True, False, "bolt.example", "Mining", "TW", None, None, None, None, None,
            ["444444444444"], True, None,
        ),
    ]  # fmt: skip


def test_companies_people_and_contacts(warehouse: Warehouse) -> None:
    """A person without a company is a record, too; whoever has another commercial partner is none."""
    warehouse.create_odoo()
    warehouse.partner(1, name="Quartz", is_company=True, active=None)
    warehouse.partner(2, name="Jane", is_company=False, active=False)
    warehouse.partner(3, name="Joe", is_company=None)
    warehouse.partner(4, name="Ann", commercial_partner_id=1)
    warehouse.partner(5, name="New", commercial_partner_id=None)
    warehouse.transform("account_record")
    assert records(warehouse, "name, is_company, is_archived") == [
        ("1", "Quartz", True, False),
        ("2", "Jane", False, True),
        ("3", "Joe", False, False),
        ("5", "New", True, False),
    ]


def test_aws_accounts_of_a_companys_people_are_its_own(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="Quartz")
    warehouse.partner(2, name="Jane", commercial_partner_id=1)
    warehouse.insert("odoo_c_aws_accounts", id=1, name="222222222222", c_aws_company_id=2)
    warehouse.insert("odoo_c_aws_accounts", id=2, name="111111111111", c_aws_company_id=1)
    warehouse.insert("odoo_c_aws_accounts", id=3, name="333333333333", c_aws_company_id=99)
    warehouse.transform("account_record")
    assert records(warehouse, "aws_account_ids") == [("1", ["111111111111", "222222222222"])]


@pytest.mark.parametrize(
    ("values", "issue", "shown"),
    [
        ({"name": "x" * 1001}, "name is longer than 1,000 characters", {"name": "x" * 1000}),
        ({"x_duns": "12345"}, "DUNS number is malformed", {"duns": "12345"}),
        ({"x_duns": "n/a"}, None, {"duns": None}),
        ({"create_date": "infinity"}, "time is infinite", {"created_at": None}),
        ({"write_date": "-infinity"}, "time is infinite", {"updated_at": None}),
        ({"vat": "/"}, None, {"vat": None}),
        ({"country_id": 1}, "country code is unknown", {"country_code": "D1"}),
        ({"country_id": 99}, None, {"country_code": None}),
    ],
)
def test_wrong_values(warehouse: Warehouse, values: dict[str, Any], issue: str | None, shown: dict[str, Any]) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_country", id=1, code="d1")
    warehouse.partner(1, **{"name": "Quartz", **values})
    assert outcome(warehouse.transform("account_record")) == (1, 1, 0, 0, 0, 0)
    (column, value), *_ = shown.items()
    assert records(warehouse, f"{column}, issues") == [("1", value, [issue] if issue else None)]


@pytest.mark.parametrize("name", [None, "", " ", "\u00a0\t\r\n"])
def test_a_company_without_a_name_is_rejected(warehouse: Warehouse, name: str | None) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name=name)
    assert outcome(warehouse.transform("account_record")) == (1, 0, 0, 0, 1, 0)
    assert warehouse.rows("select source_key, rule, reason from ops.quarantine") == [
        ("1", "name is missing", "name is missing. Give the company a name in its source.")
    ]


GOLDEN = (
    "name, website, domain, industry, country_code, region, city, postal_code, duns, vat, aws_account_ids, is_archived"
)


@pytest.fixture
def one_company(warehouse: Warehouse) -> Warehouse:
    """Three records that are one company by their domain; each has something that the others have not."""
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.insert("odoo_res_country", id=1, code="DE")
    warehouse.partner(
        1, name="Quartz", website="quartz.example", city="Ulm", active=False, create_date="2026-03-01",
        write_date="2026-03-02",
    )  # fmt: skip
    warehouse.partner(
        2, name="Quartz Two", website="https://quartz.example/2", country_id=1, city="Bonn", vat="DE123456789",
        create_date="2026-02-01", write_date="2026-04-01",
    )  # fmt: skip
    warehouse.insert(
        "ace_apn_companies", id="C1", name="Quartz ACE", website="quartz.example", industry="Mining",
        country_code="TW", postal_code="10115", duns="123456789", created_at="2026-01-01 00:00+00",
        updated_at="2026-01-02 00:00+00",
    )  # fmt: skip
    for number, company in ((1, 2), (2, 1)):
        warehouse.insert("odoo_c_aws_accounts", id=number, name=str(number) * 12, c_aws_company_id=company)
    warehouse.insert("ace_apn_opportunity", id="O1", name="deal", company_id="C1", aws_account="111111111111")
    return warehouse


def account(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    for source in ("odoo", "ace"):
        warehouse.transform_accounts(source)
    return warehouse.rows(
        f"select account_id, source_system, source_id, {GOLDEN}, records, systems, "
        "(created_at at time zone 'UTC')::date::text, (updated_at at time zone 'UTC')::date::text, deleted_at is null "
        "from core.account"
    )


def test_what_an_accounts_columns_are_taken_from(one_company: Warehouse) -> None:
    assert account(one_company) == [
        (
            "odoo:1", "odoo", "1", "Quartz", "quartz.example", "quartz.example", "Mining", "DE", None, "Ulm", "10115",
            "123456789", "DE123456789", ["111111111111", "222222222222"], False, 3, ["ace", "odoo"], "2026-01-01",
            "2026-04-01", True,
        )
    ]  # fmt: skip
    load = "select raw_load_id from core.account_record where source_id = '1'"
    assert one_company.rows("select raw_load_id from core.account") == one_company.rows(load)


def test_records_that_are_gone_count_only_where_all_are(one_company: Warehouse) -> None:
    account(one_company)
    one_company.delete("odoo_res_partner", "id = 1", at="2026-11-01 00:00:00+00")
    # ACE's system is not lost with Odoo's leading record.
    assert account(one_company) == [
        (
            "odoo:2", "odoo", "2", "Quartz Two", "https://quartz.example/2", "quartz.example", "Mining", "DE", None,
            "Bonn", "10115", "123456789", "DE123456789", ["111111111111"], False, 2, ["ace", "odoo"], "2026-01-01",
            "2026-04-01", True,
        )
    ]  # fmt: skip
    one_company.delete("odoo_res_partner", "id = 2", at="2026-11-03 00:00:00+00")
    one_company.delete("ace_apn_companies", "true", at="2026-11-02 00:00:00+00")
    assert account(one_company) == [
        (
            "odoo:1", "odoo", "1", "Quartz", "quartz.example", "quartz.example", "Mining", "DE", None, "Ulm", "10115",
            "123456789", "DE123456789", ["111111111111", "222222222222"], False, 0, ["ace", "odoo"], "2026-01-01",
            "2026-04-01", False,
        )
    ]  # fmt: skip
    assert one_company.rows("select deleted_at = '2026-11-03 00:00:00+00' from core.account") == [(True,)]


def test_an_account_is_archived_when_all_of_its_records_are(one_company: Warehouse) -> None:
    one_company.delete("ace_apn_companies", "true")
    account(one_company)
    archived = "select is_archived from core.account where deleted_at is null"
    assert one_company.rows(archived) == [(False,)]
    one_company.update("odoo_res_partner", "id = 2", active=False)
    account(one_company)
    assert one_company.rows(archived) == [(True,)]


def test_either_source_alone_makes_accounts_and_the_other_one_joins_them(one_company: Warehouse) -> None:
    one_company.transform_accounts("ace")
    assert one_company.rows("select account_id, name, records from core.account") == [("ace:C1", "Quartz ACE", 1)]
    one_company.transform_accounts("odoo")
    assert one_company.rows("select account_id, name, records from core.account") == [("odoo:1", "Quartz", 3)]
