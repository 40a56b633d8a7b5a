"""Which records are one account, and why: each reason, what speaks against it, and what becomes of gone records."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import INCLUDE, Warehouse, outcome

pytestmark = pytest.mark.db

# Names that have nothing in common, so that no two companies are alike by chance.
NAMES = ("Quartz", "Bluefin", "Tundra", "Voyager", "Mimosa", "Kelp", "Jubilee", "Fjord", "Walnut", "Zephyr")
AWS = "123456789012"


@pytest.fixture
def sources(warehouse: Warehouse) -> Warehouse:
    """Empty tables of both sources, and two countries."""
    warehouse.create_odoo()
    warehouse.create_ace()
    for number, code in ((1, "DE"), (2, "TW")):
        warehouse.insert("odoo_res_country", id=number, code=code)
    return warehouse


def odoo(sources: Warehouse, number: int, **values: Any) -> None:
    """An Odoo company; aws: the number of an AWS account of its own."""
    account = values.pop("aws", None)
    sources.partner(number, **{"name": NAMES[number % 10], **values})
    if account is not None:
        sources.insert("odoo_c_aws_accounts", id=number, name=account, c_aws_company_id=number)


def ace(sources: Warehouse, key: str, **values: Any) -> None:
    """An ACE company; aws: the number that an opportunity of it names."""
    account = values.pop("aws", None)
    sources.insert("ace_apn_companies", id=key, **{"name": f"Company {key}", **values})
    if account is not None:
        sources.insert("ace_apn_opportunity", id=f"O{key}", name="deal", company_id=key, aws_account=account)


def links(sources: Warehouse) -> dict[str, tuple[Any, ...]]:
    """(account, reason, evidence, linked to) of each record, once both sources are transformed."""
    for source in ("odoo", "ace"):
        sources.transform_accounts(source)
    statement = (
        "select source_system || ':' || source_id, account_id, reason, evidence, linked_to from core.account_link"
    )
    return {row[0]: row[1:] for row in sources.rows(statement)}


def alone(record: str) -> tuple[Any, ...]:
    return (record, "only record", None, None)


def leads(record: str) -> tuple[Any, ...]:
    return (record, "leading record", None, None)


REASONS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("duns", {"x_duns": "12-345-6789"}, {"x_duns": "123456789"}, "123456789"),
    ("vat", {"vat": "DE 123.456.789"}, {"vat": "de123456789"}, "DE123456789"),
    ("aws account", {"aws": AWS, "name": "Quartz Mining"}, {"aws": AWS, "name": "Quartz Mine"}, AWS),
    (
        "aws account",
        {"aws": AWS, "website": "https://quartz.example"},
        {"aws": AWS, "website": "www.quartz.example/tw", "x_duns": None},
        AWS,
    ),
    ("domain", {"website": "https://quartz.example"}, {"website": "www.quartz.example/tw"}, "quartz.example"),
    ("name and country", {"name": "Same", "country_id": 1}, {"name": "SAME", "country_id": 1}, "same, DE"),
]


@pytest.mark.parametrize(("reason", "one", "other", "evidence"), REASONS)
def test_reasons(sources: Warehouse, reason: str, one: dict[str, Any], other: dict[str, Any], evidence: str) -> None:
    odoo(sources, 1, **one)
    odoo(sources, 2, **other)
    odoo(sources, 3)
    assert links(sources) == {
        "odoo:1": leads("odoo:1"),
        "odoo:2": ("odoo:1", reason, evidence, "odoo:1"),
        "odoo:3": alone("odoo:3"),
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        # What is malformed is not compared.
        ({"x_duns": "12345678"}, {"x_duns": "12345678"}),
        ({"vat": "DE12345"}, {"vat": "DE12345"}),
        ({"vat": "/"}, {"vat": "/"}),
        ({"aws": "12345"}, {"aws": "12345"}),
        # An account number alone is not enough.
        ({"aws": AWS}, {"aws": AWS}),
        ({"name": "Same"}, {"name": "Same"}),
        ({"name": "Same", "country_id": 1}, {"name": "Same", "country_id": 2}),
        ({"name": "Same", "country_id": 1}, {"name": "Same"}),
        # Other companies have the same name.
        (
            {"name": "Same", "country_id": 1, "website": "same.example"},
            {"name": "Same", "country_id": 1, "website": "other.example"},
        ),
        # People are never joined.
        ({"x_duns": "123456789", "is_company": False}, {"x_duns": "123456789"}),
        ({"vat": "DE123456789", "is_company": False}, {"vat": "DE123456789", "is_company": False}),
        ({"website": "same.example", "is_company": None}, {"website": "same.example"}),
        ({"name": "Same", "country_id": 1, "is_company": False}, {"name": "Same", "country_id": 1}),
        ({"name": "Same", "aws": AWS, "is_company": False}, {"name": "Same", "aws": AWS}),
    ],
)
def test_what_is_no_reason(sources: Warehouse, one: dict[str, Any], other: dict[str, Any]) -> None:
    odoo(sources, 1, **one)
    odoo(sources, 2, **other)
    assert links(sources) == {"odoo:1": alone("odoo:1"), "odoo:2": alone("odoo:2")}


@pytest.mark.parametrize(("reason", "one", "other", "evidence"), REASONS[1:])
def test_other_duns_numbers_speak_against_every_reason(
    sources: Warehouse, reason: str, one: dict[str, Any], other: dict[str, Any], evidence: str
) -> None:
    odoo(sources, 1, **{**one, "x_duns": "111111111"})
    odoo(sources, 2, **{**other, "x_duns": "222222222"})
    assert links(sources) == {"odoo:1": alone("odoo:1"), "odoo:2": alone("odoo:2")}


def test_a_name_in_a_country_joins_where_one_side_has_no_domain(sources: Warehouse) -> None:
    odoo(sources, 1, name="Same", country_id=1, website="same.example")
    odoo(sources, 2, name="Same", country_id=1)
    assert links(sources)["odoo:2"] == ("odoo:1", "name and country", "same, DE", "odoo:1")


def test_the_strongest_reason_is_given(sources: Warehouse) -> None:
    everything = {"name": "Same", "country_id": 1, "website": "same.example", "vat": "DE123456789", "aws": AWS}
    odoo(sources, 1, **everything, x_duns="123456789")
    odoo(sources, 2, **everything, x_duns="123456789")
    odoo(sources, 3, **everything)
    odoo(sources, 4, **{**everything, "vat": None})
    odoo(sources, 5, **{**everything, "vat": None, "aws": None})
    found = links(sources)
    assert {record: (account, reason) for record, (account, reason, *_) in found.items()} == {
        "odoo:1": ("odoo:1", "leading record"),
        "odoo:2": ("odoo:1", "duns"),
        "odoo:3": ("odoo:1", "vat"),
        "odoo:4": ("odoo:1", "aws account"),
        "odoo:5": ("odoo:1", "domain"),
    }


def test_being_joined_is_passed_on(sources: Warehouse) -> None:
    """1 to 2, 2 to 3, 3 to 4; the reason for each is the link to the leading record, where there is one."""
    odoo(sources, 4, website="kelp.example")
    odoo(sources, 3, website="kelp.example", vat="DE333333333")
    odoo(sources, 2, vat="DE333333333", x_duns="222222222")
    odoo(sources, 1, x_duns="222222222")
    odoo(sources, 5)
    assert links(sources) == {
        "odoo:1": leads("odoo:1"),
        "odoo:2": ("odoo:1", "duns", "222222222", "odoo:1"),
        "odoo:3": ("odoo:1", "vat", "DE333333333", "odoo:2"),
        "odoo:4": ("odoo:1", "domain", "kelp.example", "odoo:3"),
        "odoo:5": alone("odoo:5"),
    }


def test_a_long_chain_is_one_account(sources: Warehouse) -> None:
    for number in range(1, 41):
        sources.partner(
            number, name=f"{NAMES[number % 10]} {number}", x_duns=None, vat=f"DE10000{number // 2:04}",
            website=f"site{(number + 1) // 2}.example",
        )  # fmt: skip
    assert {account for account, *_ in links(sources).values()} == {"odoo:1"}


@pytest.mark.parametrize(("holders", "is_joined"), [(20, True), (21, False)])
def test_a_value_that_many_share_tells_nothing(sources: Warehouse, holders: int, is_joined: bool) -> None:
    for number in range(1, holders + 1):
        sources.partner(number, name=f"{NAMES[number % 10]} {number}", website="https://portal.example")
    assert {account for account, *_ in links(sources).values()} == (
        {"odoo:1"} if is_joined else {f"odoo:{number}" for number in range(1, holders + 1)}
    )


def test_records_of_both_systems(sources: Warehouse) -> None:
    """Odoo's record leads; ACE's opportunity without a company is a record as well."""
    odoo(sources, 7, website="fjord.example")
    ace(sources, "C1", website="https://fjord.example")
    ace(sources, "C2", duns="123456789")
    sources.insert(
        "ace_apn_opportunity", id="O9", name="deal", customer_company_name="Company nine", customer_duns="123456789"
    )
    assert links(sources) == {
        "odoo:7": leads("odoo:7"),
        "ace:C1": ("odoo:7", "domain", "fjord.example", "odoo:7"),
        "ace:C2": leads("ace:C2"),
        "ace:opportunity:O9": ("ace:C2", "duns", "123456789", "ace:C2"),
    }


def test_the_leading_record_is_odoos_then_the_oldest(sources: Warehouse) -> None:
    """Keys are numbers: 9 is older than 10."""
    ace(sources, "A", website="fjord.example")
    odoo(sources, 10, website="fjord.example")
    odoo(sources, 9, website="fjord.example")
    found = links(sources)
    assert {record: account for record, (account, *_) in found.items()} == dict.fromkeys(
        ("ace:A", "odoo:9", "odoo:10"), "odoo:9"
    )


STATES = (
    "select source_system || ':' || source_id, account_id, state, deleted_at is null from core.account_link order by 1"
)


def test_a_deleted_record_stays_linked_and_leads_no_more(sources: Warehouse) -> None:
    odoo(sources, 1, website="fjord.example")
    odoo(sources, 2, website="fjord.example")
    ace(sources, "C1", website="fjord.example")
    links(sources)
    sources.delete("odoo_res_partner", "id = 1")
    assert links(sources)["odoo:1"] == ("odoo:2", "domain", "fjord.example", "odoo:2")
    assert sources.rows(STATES) == [
        ("ace:C1", "odoo:2", "live", True),
        ("odoo:1", "odoo:2", "broken", False),
        ("odoo:2", "odoo:2", "live", True),
    ]
    sources.delete("odoo_res_partner", "id = 2")
    links(sources)
    assert sources.rows(STATES) == [
        ("ace:C1", "ace:C1", "live", True),
        ("odoo:1", "ace:C1", "broken", False),
        ("odoo:2", "ace:C1", "broken", False),
    ]
    sources.update("odoo_res_partner", "id = 1", _deleted_at=None)
    links(sources)
    assert {row[1] for row in sources.rows(STATES)} == {"odoo:1"}


def test_a_merge_in_odoo_carries_through(sources: Warehouse) -> None:
    """Odoo moves what refers to the one partner to the other and deletes it; nothing says that they were one."""
    odoo(sources, 1, name="Tundra One")
    odoo(sources, 2, name="Tundra Two", aws=AWS)
    sources.lead(1, partner_id=2)
    links(sources)
    sources.update("odoo_crm_lead", partner_id=1)
    sources.update("odoo_c_aws_accounts", c_aws_company_id=1)
    sources.delete("odoo_res_partner", "id = 2")
    assert links(sources) == {"odoo:1": alone("odoo:1"), "odoo:2": alone("odoo:2")}
    assert sources.rows(STATES) == [("odoo:1", "odoo:1", "live", True), ("odoo:2", "odoo:2", "broken", False)]
    sources.transform("odoo_opportunities")
    assert sources.rows("select account_id from core.opportunity") == [("odoo:1",)]
    assert sources.rows(
        "select account_id, aws_account_ids, records, deleted_at is null from core.account order by 1"
    ) == [("odoo:1", [AWS], 1, True), ("odoo:2", [], 0, False)]


def test_records_that_no_longer_have_anything_in_common_part_again(sources: Warehouse) -> None:
    odoo(sources, 1, website="fjord.example")
    odoo(sources, 2, website="fjord.example")
    assert links(sources)["odoo:2"][0] == "odoo:1"
    sources.update("odoo_res_partner", "id = 2", website="walnut.example")
    assert links(sources) == {"odoo:1": alone("odoo:1"), "odoo:2": alone("odoo:2")}
    assert sources.rows("select account_id, domain from core.account order by 1") == [
        ("odoo:1", "fjord.example"),
        ("odoo:2", "walnut.example"),
    ]


def test_a_record_that_is_none_any_more_has_no_link(sources: Warehouse) -> None:
    odoo(sources, 1)
    odoo(sources, 2)
    links(sources)
    sources.update("odoo_res_partner", "id = 2", commercial_partner_id=1)
    assert links(sources) == {"odoo:1": alone("odoo:1")}
    assert sources.rows("select account_id from core.account") == [("odoo:1",)]


def test_links_that_stay_are_not_written(sources: Warehouse) -> None:
    for number in range(1, 6):
        odoo(sources, number, website="fjord.example" if number % 2 else None)
    links(sources)
    for name in ("account_link", "account"):
        result = sources.transform(name, source="ace")
        assert outcome(result) == (result.read, 0, 0, result.read, 0, 0)
    odoo(sources, 7, website="fjord.example")
    sources.transform("account_record")
    assert outcome(sources.transform("account_link")) == (6, 1, 0, 5, 0, 0)
    assert outcome(sources.transform("account")) == (3, 0, 1, 2, 0, 0)


def test_no_plan_compares_all_records_with_all(sources: Warehouse) -> None:
    """With many records that nobody has analysed yet, as after a first load: that would take the square of them."""
    sources.transform("account_record")
    sources.roles["core"].execute(
        "insert into core.account_record (source_system, source_id, name, normalised_name, is_company, is_archived, "
        "domain, country_code, aws_account_ids, raw_load_id, transform_run_id) "
        "select 'odoo', n::text, 'Company ' || n / 2, 'company ' || n / 2, true, false, md5((n / 2)::text) || '.com', "
        "'DE', array[lpad((n / 2)::text, 12, '0')], 1, r.transform_run_id "
        "from generate_series(1, 30000) n cross join (select transform_run_id from ops.transform_run limit 1) r"
    )
    statement = (INCLUDE / "sql" / "core" / "account_link.sql").read_text()
    ((plan,),) = sources.roles["core"].execute(f"explain (format json) {statement}".encode()).fetchall()
    sources.roles["core"].rollback()
    squares = [node for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Nested Loop" and is_of_many(node)]
    assert squares == []


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(found for part in plan.get("Plans", []) for found in nodes(part))]


def is_of_many(loop: dict[str, Any]) -> bool:
    """Both sides of a nested loop have rows of many records."""
    return all(side["Plan Rows"] > 1000 for side in loop["Plans"])
