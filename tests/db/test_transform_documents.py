"""The texts that search can find: what is in them, what must not be, and which are touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from raw_tables import Warehouse, outcome

pytestmark = pytest.mark.db


def documents(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select entity, entity_id, {columns} from search.document order by 1, 2")


def test_documents(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="Acme", website="acme.example")
    warehouse.insert("odoo_crm_tag", id=1, name="cloud")
    warehouse.insert("odoo_crm_tag_rel", lead_id=1, tag_id=1)
    warehouse.lead(1, partner_id=1, expected_revenue="5.0", description="Move it", date_deadline="2026-12-31")
    warehouse.lead(2, description="second", active=False)
    warehouse.transform_accounts()
    warehouse.transform("odoo_opportunities")
    assert outcome(warehouse.transform("document")) == (3, 3, 0, 0, 0, 0)
    assert documents(
        warehouse,
        "source_system, title, text, status, amount::text, close_date::text, "
        "text_hash = sha256(convert_to(text, 'UTF8'))",
    ) == [
        ("account", "odoo:1", "odoo", "Acme", "Acme\nacme.example", "active", None, None, True),
        (
            "odoo_opportunity", "1", "odoo", "lead 1", "lead 1\nAcme\nMove it\ncloud", "open", "5.0", "2026-12-31",
            True,
        ),
        ("odoo_opportunity", "2", "odoo", "lead 2", "lead 2\nsecond", "lost", None, None, True),
    ]  # fmt: skip


def test_only_documents_that_differ_are_written_and_those_of_gone_records_go(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="Acme")
    for number in (1, 2, 3):
        warehouse.lead(number)
    warehouse.transform_accounts()
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    versions = "select entity_id, xmin::text from search.document order by entity, 1"
    before = warehouse.rows(versions)
    assert outcome(warehouse.transform("document")) == (4, 0, 0, 4, 0, 0)
    # ACE's run touches none of them.
    assert outcome(warehouse.transform("document", source="ace")) == (0, 0, 0, 0, 0, 0)
    assert warehouse.rows(versions) == before
    warehouse.delete("odoo_crm_lead", "id = 2")
    warehouse.delete("odoo_res_partner", "id = 1")
    warehouse.update("odoo_crm_lead", "id = 3", name="other")
    warehouse.transform_accounts()
    warehouse.transform("odoo_opportunities")
    assert outcome(warehouse.transform("document")) == (2, 0, 1, 1, 0, 2)
    assert documents(warehouse, "title") == [
        ("odoo_opportunity", "1", "lead 1"),
        ("odoo_opportunity", "3", "other"),
    ]


def test_a_transform_of_documents_is_recorded_with_the_rights_of_its_role(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document", run_id="r2")
    assert warehouse.rows(
        "select run_id, status, rows_read, inserted, quarantined, full_reason from ops.transform_run "
        "where target = 'search.document'"
    ) == [("r2", "succeeded", 1, 1, 0, "the table has no scopes")]


def test_an_account_of_both_systems_is_one_document(warehouse: Warehouse) -> None:
    """It stands under the system of its leading record."""
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.insert("ace_apn_companies", id="C1", name="Quartz ACE", website="quartz.example", industry="Mining")
    warehouse.transform_accounts("ace")
    warehouse.transform("document", source="ace")
    assert documents(warehouse, "source_system, title") == [("account", "ace:C1", "ace", "Quartz ACE")]
    warehouse.partner(1, name="Quartz", website="quartz.example", active=False)
    for source in ("odoo", "ace"):
        warehouse.transform_accounts(source)
        warehouse.transform("document", source=source)
    assert documents(warehouse, "source_system, title, status, text") == [
        ("account", "odoo:1", "odoo", "Quartz", "active", "Quartz\nMining\nquartz.example")
    ]


def test_documents_of_ace(warehouse: Warehouse) -> None:
    warehouse.create_ace()
    warehouse.insert(
        "ace_apn_opportunity", id="O1", name="Deal", customer_company_name="Bolt", industry="Mining", status="Draft",
        stage_name="Qualified", project_budget="1.50", customer_country="de",
    )  # fmt: skip
    warehouse.transform_accounts("ace")
    warehouse.transform("ace_opportunities", source="ace")
    assert outcome(warehouse.transform("document", source="ace")) == (2, 2, 0, 0, 0, 0)
    assert documents(warehouse, "text, stage, status, country_code, amount::text") == [
        ("account", "ace:opportunity:O1", "Bolt\nMining", None, "active", "DE", None),
        ("ace_opportunity", "O1", "Deal\nBolt\nMining", "Qualified", "Pending Submission", "DE", "1.50"),
    ]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Ask jane.doe+x@mail.example.com first", "Ask   first"),
        ("Call +1 (555) 010-9999, then wait", "Call  , then wait"),
        ("Fax 0912-345-678. Use 12 VMs", "Fax  . Use 12 VMs"),
        ("From 2026-11-22 on account 123456789012", "From 2026-11-22 on account 123456789012"),
        ("3,800.50 USD for 1000 users in 10 regions", "3,800.50 USD for 1000 users in 10 regions"),
    ],
)
def test_redaction_takes_addresses_and_phones_only(
    as_role: Callable[[str], psycopg.Connection], text: str, redacted: str
) -> None:
    assert as_role("revops_embed").execute("select search.redact(%s)", (text,)).fetchone() == (redacted,)


def test_titles_and_texts_are_redacted(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(
        1, name="Call from bob@example.com about EKS",
        description="Write to jane.doe+x@mail.example.com or call +1 (555) 010-9999, 0912-345-678. Use 12 VM.",
    )  # fmt: skip
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    ((*_, title, text),) = documents(warehouse, "title, text")
    assert title == "Call from   about EKS"
    assert " ".join(text.split()) == "Call from about EKS Write to or call , . Use 12 VM."


def test_a_person_becomes_an_account_but_no_document(warehouse: Warehouse) -> None:
    """The name of a person is personal data, also where a deal would carry it along."""
    warehouse.create_odoo()
    warehouse.partner(1, name="Jane Doe", is_company=False)
    warehouse.lead(1, partner_id=1)
    warehouse.lead(2, partner_id=1, partner_name="Doe Consulting")
    warehouse.transform_accounts()
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    assert warehouse.rows("select name, is_company from core.account") == [("Jane Doe", False)]
    assert documents(warehouse, "text") == [
        ("odoo_opportunity", "1", "lead 1"),
        ("odoo_opportunity", "2", "lead 2\nDoe Consulting"),
    ]


def test_texts_are_in_one_normal_form(warehouse: Warehouse) -> None:
    """An accent typed as a character of its own is the same text, and has the same hash."""
    warehouse.create_odoo()
    warehouse.lead(1, name="Cafe\u0301")
    warehouse.lead(2, name="Caf\u00e9")
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    assert warehouse.rows("select count(distinct text_hash) from search.document") == [(1,)]
