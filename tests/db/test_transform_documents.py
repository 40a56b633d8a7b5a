"""The texts that search can find: what is in them, what must not be, and which are touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from raw_tables import Warehouse, outcome
from vectors import SMALL, add_documents, load_texts

from revops.embedding.handoff import export_texts
from revops.embedding.models import register_model

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
        *(
            (phone, " ")
            for phone in (
                *("+49-(0)30-123456-0", "0049 30 1234567", "030/1234567", "(030) 1234567", "0171 1234567"),
                *("01 23 45 67 89", "01.23.45.67.89", "+33 1 23 45 67 89", "020 7946 0958", "07700 900123"),
                *("(02) 9374 4000", "03-1234-5678", "+81 3-1234-5678", "612 345 678", "06 1234 5678"),
                *("(11) 91234-5678", "98765 43210", "555.010.9999", "089 12 34 56 78", "jane (at) example.com"),
            )
        ),
        ("Tel. 5550109999", "Tel.  "),
        *(
            (kept, kept)
            for kept in (
                *("01.02.2026", "01/02/2026 10:30", "2026-01-02 03:04:05", "1 000 000 EUR", "10 TB to 20 TB"),
                *("10.0.0.1", "192.168.100.200", "1234-5678-9012", "0123-4567-8901", "012345678901"),
                *("version 10.0.19045", "OPP-000123", "O1234567", "ratio 0.123456789", "24/7", "zip 94105"),
            )
        ),
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


def test_no_personal_data_of_core_reaches_a_document(warehouse: Warehouse) -> None:
    """People of core, their addresses and numbers stand nowhere in search.document, whoever typed them where."""
    warehouse.create_odoo()
    warehouse.partner(1, name="Acme Cloud", website="acme.example")
    warehouse.partner(2, name="Jane O'Neil-Doe", commercial_partner_id=1, is_company=False, type="contact")
    warehouse.partner(3, name="Müller (CTO)", commercial_partner_id=1, is_company=False, type="contact")
    warehouse.partner(4, name="Acme Cloud", commercial_partner_id=1, is_company=False, type="invoice")
    warehouse.partner(5, name="Sam Seller", is_company=False)
    warehouse.insert("odoo_res_users", id=9, login="sam@seller.example", partner_id=5, active=True, share=False)
    warehouse.lead(
        1, partner_id=2, user_id=9, name="EKS for jane o'neil-doe",
        description="Sam Seller called Jane O'Neil-Doe (0171 1234567) and MÜLLER (CTO), jane@acme.example or "
        "jane (at) acme.example; Acme Cloud wants 3 clusters by 01.02.2026 in account 123456789012",
    )  # fmt: skip
    warehouse.transform_accounts()
    for table in ("contact", "app_user", "odoo_opportunities"):
        warehouse.transform(table)
    planted = {name for (name,) in warehouse.rows("select name from core.contact union select name from core.app_user")}
    assert planted == {"Jane O'Neil-Doe", "Müller (CTO)", "Acme Cloud", "Sam Seller"}
    warehouse.transform("document")
    rows = warehouse.rows("select to_jsonb(d) - 'text_vector' || jsonb_build_object('w', text_vector::text) "
                          "from search.document d where entity = 'odoo_opportunity'")  # fmt: skip
    shown = str(rows).lower()
    for secret in ("jane", "neil", "müller", "cto", "sam", "seller", "0171", "1234567 ", "@", "(at)"):
        assert secret not in shown, secret
    ((_, _, title, text),) = [row for row in documents(warehouse, "title, text") if row[0] == "odoo_opportunity"]
    assert title == "EKS for"
    assert " ".join(text.split()) == (
        "EKS for Acme Cloud called ) and , or Acme Cloud wants 3 clusters by 01.02.2026 in account 123456789012"
    )


def test_a_new_version_of_a_template_encodes_nothing(
    warehouse: Warehouse, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    """Equal texts keep their vectors; a changed filter column is written and encodes nothing either."""
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.lead(number)
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    embed = as_role("revops_embed")
    texts = [text for (text,) in warehouse.rows("select text from search.document")]
    load_texts(embed, tmp_path / "in", texts)
    model_id = register_model(embed, SMALL)
    warehouse.owner.execute("update search.document set template_version = 1")
    warehouse.update("odoo_crm_lead", "id = 2", expected_revenue=77)
    warehouse.transform("odoo_opportunities")
    assert outcome(warehouse.transform("document")) == (2, 0, 2, 0, 0, 0)
    assert documents(warehouse, "template_version, amount::text") == [
        ("odoo_opportunity", "1", 2, None),
        ("odoo_opportunity", "2", 2, "77"),
    ]
    assert export_texts(embed, model_id=model_id, source="odoo", folder=tmp_path / "out") == 0


def test_keys_and_team_of_a_document(warehouse: Warehouse) -> None:
    """By them people find a record; no model sees them."""
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.insert("odoo_crm_team", id=4, name="North")
    warehouse.lead(1, team_id=4)
    warehouse.insert(
        "ace_apn_opportunity", id="O12", name="Deal", partner_crm_id=" CRM.Lead,1 ", aws_account="123456789012"
    )
    for source in ("odoo", "ace"):
        warehouse.transform_accounts(source)
        warehouse.transform(f"{source}_opportunities", source=source)
        warehouse.transform("document", source=source)
    assert documents(warehouse, "team, identifiers, text") == [
        ("ace_opportunity", "O12", None, ["123456789012", "crm.lead,1", "o12"], "Deal"),
        ("odoo_opportunity", "1", "North", ["1"], "lead 1"),
    ]


def test_a_text_of_two_megabytes_of_words_is_a_document(as_role: Callable[[str], psycopg.Connection]) -> None:
    embed = as_role("revops_embed")
    add_documents(embed, ["\n".join(f"word{number}" for number in range(200_000))])
    assert embed.execute(
        "select length(text) > 2000000, word_count > 10000, text_vector @@ 'word17' from search.document"
    ).fetchall() == [(True, True, True)]


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
