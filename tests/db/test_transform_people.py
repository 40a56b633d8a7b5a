"""Contacts and users of both systems: names, blind indexes, and who is whom."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import Warehouse, outcome

pytestmark = pytest.mark.db

ONE, TWO, THREE = b"\x01" * 16, b"\x02" * 16, b"\x03" * 16


def contacts(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select source_system, source_id, {columns} from core.contact order by 1, 2")


def test_contacts_of_odoo(warehouse: Warehouse) -> None:
    """A partner with another commercial partner is a contact; companies and people of their own are accounts."""
    warehouse.create_odoo()
    warehouse.insert("odoo_res_country", id=1, code="DE")
    warehouse.partner(1, name="Acme")
    warehouse.partner(2, name="Walk-in", is_company=False)
    warehouse.partner(
        3, name=" Jane ", commercial_partner_id=1, function=" CTO ", type="contact", country_id=1, active=False,
        email_blind_index=TWO, email_normalized_blind_index=ONE, mobile_blind_index=THREE,
        create_date="2026-11-20 23:30:00", write_date="2026-11-21 00:00:00",
    )  # fmt: skip
    warehouse.partner(4, name=None, commercial_partner_id=1, type="invoice", email_blind_index=TWO)
    warehouse.partner(5, name=" ", commercial_partner_id=99, phone_blind_index=ONE, mobile_blind_index=TWO)
    warehouse.partner(6, name=None, commercial_partner_id=1)
    warehouse.partner(7, name="None", commercial_partner_id=None)
    assert outcome(warehouse.transform("contact")) == (4, 4, 0, 0, 0, 0)
    assert contacts(
        warehouse,
        "account_source_id, name, job_title, contact_type, country_code, is_archived, email_blind_index, "
        "phone_blind_index, (created_at at time zone 'UTC')::text, (updated_at at time zone 'UTC')::text, issues",
    ) == [
        (
            "odoo", "3", "1", "Jane", "CTO", "contact", "DE", True, ONE, THREE, "2026-11-20 23:30:00",
            "2026-11-21 00:00:00", None,
        ),
        ("odoo", "4", "1", None, None, "invoice", None, False, TWO, None, None, None, None),
        ("odoo", "5", "99", None, None, None, None, False, None, ONE, None, None, None),
        ("odoo", "6", "1", None, None, None, None, False, None, None, None, None, ["neither name nor address"]),
    ]  # fmt: skip


def test_contacts_of_ace(warehouse: Warehouse) -> None:
    """Their names are encrypted."""
    warehouse.create_ace()
    warehouse.insert(
        "ace_apn_contacts", id="P1", company_id="C1", business_title=" CTO ", email_blind_index=ONE,
        phone_blind_index=TWO,
    )  # fmt: skip
    warehouse.insert("ace_apn_contacts", id="P2")
    assert outcome(warehouse.transform("contact", source="ace")) == (2, 2, 0, 0, 0, 0)
    assert contacts(
        warehouse, "account_source_id, name, job_title, contact_type, email_blind_index, phone_blind_index, issues"
    ) == [
        ("ace", "P1", "C1", None, "CTO", "contact", ONE, TWO, None),
        ("ace", "P2", None, None, None, "contact", None, None, None),
    ]


def test_a_contact_that_becomes_a_company_is_a_contact_no_more(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="Jane", commercial_partner_id=2)
    for name in ("contact", "account_record"):
        warehouse.transform(name)
    warehouse.update("odoo_res_partner", commercial_partner_id=1)
    assert outcome(warehouse.transform("contact")) == (0, 0, 0, 0, 0, 1)
    assert outcome(warehouse.transform("account_record")) == (1, 1, 0, 0, 0, 0)


def test_deleted_contacts_stay_and_say_so(warehouse: Warehouse) -> None:
    warehouse.create_ace()
    warehouse.insert("ace_apn_contacts", id="P1")
    warehouse.transform("contact", source="ace")
    warehouse.delete("ace_apn_contacts", "true", at="2026-11-01 00:00:00+00")
    assert outcome(warehouse.transform("contact", source="ace")) == (1, 0, 1, 0, 0, 0)
    assert contacts(warehouse, "deleted_at = '2026-11-01 00:00:00+00'") == [("ace", "P1", True)]


def test_people(warehouse: Warehouse) -> None:
    """Contacts of both systems with one address are one person, called by the first of them that is still there."""
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.partner(1, name="Acme")
    for number, index in ((2, ONE), (3, TWO), (4, None), (5, None)):
        warehouse.partner(number, name=f"P{number}", commercial_partner_id=1, email_blind_index=index)
    for key, index in (("P1", ONE), ("P2", TWO)):
        warehouse.insert("ace_apn_contacts", id=key, email_blind_index=index)
    warehouse.delete("ace_apn_contacts", "id = 'P2'")
    for source in ("odoo", "ace"):
        warehouse.transform_accounts(source)
        warehouse.transform("contact", source=source)
    assert warehouse.rows(
        "select source_system || ':' || source_id, person_id, account_id, deleted_at is null "
        "from core.person order by 1"
    ) == [
        ("ace:P1", "ace:P1", None, True),
        ("ace:P2", "odoo:3", None, False),
        ("odoo:2", "ace:P1", "odoo:1", True),
        ("odoo:3", "odoo:3", "odoo:1", True),
        ("odoo:4", "odoo:4", "odoo:1", True),
        ("odoo:5", "odoo:5", "odoo:1", True),
    ]


def users(warehouse: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(f"select source_system, source_id, {columns} from core.app_user order by 1, 2")


def test_users_of_odoo(warehouse: Warehouse) -> None:
    """Their names and addresses are their partners'; users that nobody logs in as are technical."""
    warehouse.create_odoo()
    warehouse.partner(1, name=" Jane ", email_blind_index=TWO, email_normalized_blind_index=ONE)
    warehouse.partner(2, name="OdooBot", email_blind_index=TWO)
    for number, values in {
        1: {"login": "jane", "partner_id": 1, "active": True, "share": False},
        2: {"login": "__system__", "partner_id": 2, "active": False},
        3: {"login": "guest", "partner_id": 99, "active": None, "share": True},
        4: {"login": None, "partner_id": None, "active": True},
    }.items():
        warehouse.insert("odoo_res_users", id=number, **values)
    assert outcome(warehouse.transform("app_user")) == (4, 4, 0, 0, 0, 0)
    assert users(
        warehouse, "name, role, is_active, is_internal, is_technical, contact_source_id, email_blind_index, issues"
    ) == [
        ("odoo", "1", "Jane", None, True, True, False, "1", ONE, None),
        ("odoo", "2", "OdooBot", None, False, True, True, "2", TWO, None),
        ("odoo", "3", None, None, True, False, False, "99", None, ["no partner record"]),
        ("odoo", "4", None, None, True, True, False, None, None, ["no partner record"]),
    ]


def test_users_of_ace(warehouse: Warehouse) -> None:
    warehouse.create_ace()
    warehouse.insert("ace_apn_users", id="U1", role=" Sales ", is_active=True, email_blind_index=ONE)
    warehouse.insert("ace_apn_users", id="U2", role=" ", is_active=False)
    warehouse.insert("ace_apn_users", id="U3")
    warehouse.transform("app_user", source="ace")
    assert users(warehouse, "name, role, is_active, is_internal, is_technical, email_blind_index, issues") == [
        ("ace", "U1", None, "Sales", True, True, False, ONE, None),
        ("ace", "U2", None, None, False, True, False, None, None),
        ("ace", "U3", None, None, True, True, False, None, None),
    ]


def test_a_deactivated_or_deleted_user_still_owns_deals(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="jane", partner_id=1, active=True)
    warehouse.lead(1, user_id=1)
    for name in ("app_user", "odoo_opportunities"):
        warehouse.transform(name)
    warehouse.update("odoo_res_users", active=False)
    warehouse.transform("app_user")
    warehouse.delete("odoo_res_users", "true")
    warehouse.transform("app_user")
    assert warehouse.rows(
        "select u.is_active, u.deleted_at is null from core.odoo_opportunities o "
        "join core.app_user u on u.source_system = 'odoo' and u.source_id = o.owner_source_id"
    ) == [(False, False)]
