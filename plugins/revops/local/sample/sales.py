"""Orders, projects and funding requests that follow from leads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random

from revops.local.sample.chance import WriteDates, gapped_ids, moment, stream, whole_second
from revops.local.sample.leads import AWS_STAFF, annual_revenue
from revops.local.sample.loading import Row
from revops.local.sample.pipeline import Lead, Opportunity
from revops.local.sample.reference import COMPANY_OF_ID, CURRENCY_IDS, PRODUCTS


@dataclass(frozen=True)
class Order:
    """One planned sale_order of a lead; amounts are in the currency of its company."""

    id: int
    lead: Lead
    state: str
    created: datetime
    amount: Decimal


def make_orders(seed: int, leads: Iterable[Lead], *, today: date) -> tuple[Order, ...]:
    """Return quotations of a third of the qualified leads and orders of most of the won ones."""
    rng = stream(seed, "orders")
    ids = gapped_ids(rng, 4)
    orders: list[Order] = []
    for lead in leads:
        if lead.outcome in {"lead", "archived"} or rng.random() > (0.75 if lead.outcome == "won" else 0.15):
            continue
        state = rng.choice(("sale", "done")) if lead.outcome == "won" else rng.choice(("draft", "sent", "cancel"))
        created = moment(rng, min(lead.deal.created + timedelta(days=rng.randint(1, 20)), today - timedelta(days=1)))
        amount = (annual_revenue(lead) * Decimal(rng.randint(5, 30)) / 100).quantize(Decimal("0.01"))
        orders.append(Order(next(ids), lead, state, created, amount))
    return tuple(orders)


def order_rows(seed: int, orders: Iterable[Order], *, today: date) -> Iterator[Row]:
    """Yield the sale_order rows."""
    rng = stream(seed, "order rows")
    dates = WriteDates(rng, today)
    for order in orders:
        lead, party = order.lead, order.lead.party
        company = COMPANY_OF_ID[party.company_id or 1]
        addresses = {address.kind: address.partner_id for address in party.addresses}
        tax = (order.amount * Decimal("0.21")).quantize(Decimal("0.01")) if company.id == 2 else Decimal("0.0")
        yield {
            "id": order.id,
            "access_token": f"{rng.getrandbits(128):032x}" if rng.random() < 0.6 else None,
            "name": f"S{order.id:05}",
            "origin": rng.choice((None, "", lead.deal.title(1))),
            "client_order_ref": f"PO-{rng.randrange(10**5)}" if rng.random() < 0.3 else None,
            "state": order.state,
            "date_order": whole_second(order.created),
            "validity_date": (order.created + timedelta(days=30)).date(),
            "require_signature": True,
            "require_payment": False,
            "user_id": lead.user.id,
            "partner_id": party.partner_id,
            "partner_invoice_id": addresses.get("invoice", party.partner_id),
            "partner_shipping_id": addresses.get("delivery", party.partner_id),
            "pricelist_id": company.id,
            "currency_id": CURRENCY_IDS[company.currency],
            "invoice_status": "to invoice" if order.state in {"sale", "done"} else "no",
            "note": rng.choice((None, "", "Prices without tax.\nValid 30 days.")),
            "amount_untaxed": order.amount,
            "amount_tax": tax,
            "amount_total": order.amount + tax,
            "currency_rate": Decimal(1),
            "company_id": company.id,
            "team_id": lead.team_id,
            "signed_by": lead.person.name if lead.person and order.state == "done" else None,
            "signed_on": whole_second(order.created) + timedelta(days=1) if order.state == "done" else None,
            "opportunity_id": lead.id,
            "create_uid": lead.user.id,
            "create_date": order.created,
            "write_uid": lead.user.id,
            "write_date": dates.after(order.created),
        }


def order_line_rows(seed: int, orders: Iterable[Order]) -> Iterator[Row]:
    """Yield the sale_order_line rows: a section, products, now and then a note."""
    rng = stream(seed, "order lines")
    ids = gapped_ids(rng, 6)
    for order in orders:
        shared: dict[str, object] = {
            "order_id": order.id,
            "company_id": order.lead.party.company_id or 1,
            "currency_id": CURRENCY_IDS[COMPANY_OF_ID[order.lead.party.company_id or 1].currency],
            "order_partner_id": order.lead.party.partner_id,
            "salesman_id": order.lead.user.id,
            "state": order.state,
            "customer_lead": 0.0,
            "create_uid": order.lead.user.id,
            "create_date": order.created,
            "write_uid": order.lead.user.id,
            "write_date": order.created,
        }
        text = {"price_unit": 0, "product_uom_qty": 0}
        if rng.random() < 0.4:
            yield (
                shared
                | text
                | {
                    "id": next(ids),
                    "sequence": 1,
                    "name": order.lead.deal.title(1),
                    "display_type": "line_section",
                }
            )
        parts = rng.choice((1, 2, 2, 3))
        for n in range(parts):
            yield shared | _product_line(rng, next(ids), order.amount / parts) | {"sequence": 10 + n}
        if rng.random() < 0.2:
            note = "Travel is charged at cost.\nNo work on weekends."
            yield shared | text | {"id": next(ids), "sequence": 99, "name": note, "display_type": "line_note"}


def _product_line(rng: Random, line_id: int, amount: Decimal) -> dict[str, object]:
    product = rng.choice(PRODUCTS[8:])
    quantity = Decimal(rng.choice((1, 2, 3, 12)))
    return {
        "id": line_id,
        "name": f"[NR-{product.id:03}] {product.name}",
        "product_id": product.variant_id,
        "product_uom": 1,
        "product_uom_qty": quantity,
        "price_unit": amount / quantity,
        "price_subtotal": amount.quantize(Decimal("0.01")),
        "price_tax": 0.0,
        "price_total": amount.quantize(Decimal("0.01")),
        "discount": Decimal("0.0"),
        "qty_delivered": Decimal("0.0"),
        "qty_to_invoice": quantity,
        "qty_invoiced": Decimal(0),
        "qty_delivered_method": "manual",
        "invoice_status": "no",
        "is_expense": False,
        "is_downpayment": False,
    }


def project_rows(seed: int, orders: Iterable[Order], *, today: date) -> Iterator[Row]:
    """Yield the project_project rows of sold work."""
    rng = stream(seed, "projects")
    ids = gapped_ids(rng, 2)
    dates = WriteDates(rng, today)
    for order in orders:
        if order.state not in {"sale", "done"} or rng.random() > 0.6:
            continue
        lead, party = order.lead, order.lead.party
        person = lead.person
        yield {
            "id": next(ids),
            "name": f"{party.brand}: {lead.deal.title(1)}",
            "description": rng.choice((None, "", lead.deal.problem(1))),
            "active": rng.random() >= 0.1,
            "sequence": 10,
            "partner_id": party.partner_id,
            "partner_email": person.email if person else None,
            "partner_phone": person.phone if person else None,
            "company_id": party.company_id or 1,
            "label_tasks": "Tasks",
            "color": 0,
            "user_id": lead.user.id,
            "alias_id": 100 + order.id,
            "privacy_visibility": "employees",
            "date_start": order.created.date(),
            "date": order.created.date() + timedelta(days=90) if rng.random() < 0.5 else None,
            "allow_subtasks": True,
            "rating_active": False,
            "rating_status": "stage",
            "rating_status_period": "monthly",
            "access_token": f"{rng.getrandbits(128):032x}" if rng.random() < 0.2 else None,
            "create_uid": lead.user.id,
            "create_date": order.created,
            "write_uid": lead.user.id,
            "write_date": dates.after(order.created),
            "x_lead_id": lead.id if rng.random() < 0.8 else None,
        }


def funding_rows(seed: int, opportunities: Iterable[Opportunity], *, today: date) -> Iterator[Row]:
    """Yield c_aws_funding_request rows of about every eighth lead that is in ACE."""
    rng = stream(seed, "funding")
    ids = gapped_ids(rng, 12)
    dates = WriteDates(rng, today)
    for found in opportunities:
        lead = found.lead
        if lead is None or found.part or rng.random() > 0.13:
            continue
        submitted = lead.deal.created + timedelta(days=rng.randint(3, 60))
        created = min(moment(rng, submitted), datetime.combine(today, time()) - timedelta(hours=1, microseconds=7))
        amount = Decimal(lead.deal.monthly) * rng.choice((1, 2, 3))
        status = rng.choice(("Draft", "Submitted", "Approved", "Approved", "Rejected", "Cash Claimed", "Expired"))
        approved = status in {"Approved", "Cash Claimed"}
        approver = rng.choice(AWS_STAFF)
        yield {
            "id": next(ids),
            "name": f"{rng.choice(('MAP', 'POC', 'IW', 'WAR'))} {lead.deal.title(1)}",
            "lead_id": lead.id,
            "partner_id": lead.party.partner_id,
            "account_id": lead.account.id if lead.account else None,
            "company_id": lead.party.company_id,
            "currency_id": CURRENCY_IDS["USD"],
            "user_id": lead.user.id,
            "apn_funding_id": f"FR-{rng.randrange(10**8):08}" if status != "Draft" else None,
            "apn_opportunity_id": found.id if rng.random() < 0.6 else rng.choice((None, "")),
            "program": rng.choice(
                ("Migration Acceleration Program", "Partner Initiative Funding", "Innovation Sandbox")
            ),
            "fund_type": rng.choice(("Cash", "Promotional Credits")),
            "stage": rng.choice(("Request", "Business Approval", "Finance Approval", "Cash Claim")),
            "status": status,
            "requested_amount": amount,
            "approved_amount": amount * Decimal("0.8") if approved else None,
            "claimed_amount": amount / 3 if status == "Cash Claimed" else None,
            "annual_run_rate": Decimal(lead.deal.monthly) * 12,
            "submitted_date": submitted if status != "Draft" else None,
            "approved_date": submitted + timedelta(days=14) if approved else None,
            "start_date": submitted + timedelta(days=20),
            "end_date": submitted + timedelta(days=110),
            "claim_deadline": submitted + timedelta(days=140),
            "aws_approver_name": approver if approved else None,
            "aws_approver_email": f"{approver.split()[0].lower()}@aws-field.example" if approved else None,
            "business_justification": lead.deal.problem(2),
            "rejection_reason": "Budget of the quarter is used up" if status == "Rejected" else None,
            "active": True,
            "create_uid": lead.user.id,
            "create_date": created,
            "write_uid": lead.user.id,
            "write_date": dates.after(created),
        }
