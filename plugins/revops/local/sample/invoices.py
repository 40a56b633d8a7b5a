"""The invoices of bills, account_move, and their lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from revops.local.sample.accounts import billed_in
from revops.local.sample.billing import Bill, imported
from revops.local.sample.chance import gapped_ids, stream
from revops.local.sample.loading import Row
from revops.local.sample.reference import COMPANY_OF_ID, CURRENCY_IDS, PRODUCTS, SALES_USERS


def invoice_rows(seed: int, bills: Iterable[Bill], *, today: date) -> Iterator[Row]:
    """Yield the account_move rows of invoiced bills; drafts have the name '/' or none."""
    rng = stream(seed, "invoices")
    for bill in bills:
        if bill.invoice_id is None or bill.account.party is None:
            continue
        party, own = bill.account.party, COMPANY_OF_ID[billed_in(bill.account)]
        created = imported(rng, bill.period, today)
        day = created.date()
        posted, paid = rng.random() >= 0.08, rng.random() < 0.8
        kind = "out_refund" if rng.random() < 0.04 else "out_invoice"
        total = bill.cost.quantize(Decimal("0.01"))
        sign = -1 if kind == "out_refund" else 1
        rest = Decimal("0.0") if paid and posted else total
        name = f"INV/{day:%Y/%m}/{bill.invoice_id:04}" if posted else rng.choice(("/", None))
        yield {
            "id": bill.invoice_id,
            "access_token": f"{rng.getrandbits(128):032x}" if rng.random() < 0.5 else None,
            "name": name,
            "date": day,
            "ref": rng.choice((None, "", f"{bill.period:%B} usage")),
            "narration": rng.choice((None, None, "Pay within 30 days.\r\nThank you!")),
            "state": "posted" if posted else "draft",
            "posted_before": posted,
            "move_type": kind,
            "journal_id": own.id,
            "company_id": own.id,
            "currency_id": CURRENCY_IDS[own.currency],
            "partner_id": party.partner_id,
            "commercial_partner_id": party.partner_id,
            "is_move_sent": posted,
            "payment_reference": name if posted else None,
            "amount_untaxed": total,
            "amount_tax": Decimal("0.0"),
            "amount_total": total,
            "amount_residual": rest,
            "amount_untaxed_signed": sign * total,
            "amount_tax_signed": Decimal(0),
            "amount_total_signed": sign * total,
            "amount_residual_signed": sign * rest,
            "payment_state": "paid" if posted and paid else "not_paid",
            "auto_post": False,
            "invoice_user_id": rng.choice(SALES_USERS).id,
            "invoice_date": day if posted else None,
            "invoice_date_due": day + timedelta(days=30) if posted else None,
            "invoice_origin": f"BILL/{bill.period:%Y/%m}/{bill.id:05}",
            "invoice_partner_display_name": party.name,
            "sequence_prefix": f"INV/{day:%Y/%m}/",
            "sequence_number": bill.invoice_id,
            "create_uid": 2,
            "create_date": created,
            "write_uid": rng.choice((1, 2)),
            "write_date": min(
                created + timedelta(days=rng.randint(0, 40)),
                datetime.combine(today, time()) - timedelta(hours=3, microseconds=91),
            ),
            "partner_shipping_id": party.partner_id,
        }


def invoice_line_rows(seed: int, invoices: Iterable[Row]) -> Iterator[Row]:
    """Yield the account_move_line rows: products, the receivable, sections and notes."""
    rng = stream(seed, "invoice lines")
    ids = gapped_ids(rng, 90)
    for move in invoices:
        shared = {
            "move_id": move["id"],
            "move_name": move["name"],
            "date": move["date"],
            "ref": move["ref"],
            "parent_state": move["state"],
            **{
                key: move[key]
                for key in (
                    "journal_id",
                    "company_id",
                    "currency_id",
                    "create_uid",
                    "create_date",
                    "write_uid",
                )
            },
            "company_currency_id": move["currency_id"],
            "partner_id": move["partner_id"],
            "write_date": move["write_date"],
            "blocked": False,
            "tax_exigible": True,
        }
        total = Decimal(str(move["amount_total_signed"]))
        parts = rng.randint(1, 4)
        part = (total / parts).quantize(Decimal("0.01"))
        for n in range(parts):
            share = part if n else total - part * (parts - 1)
            product = rng.choice(PRODUCTS)
            yield shared | _balanced(-share) | {
                "id": next(ids), "account_id": 21, "sequence": 10 + n, "name": product.name,
                "product_id": product.variant_id,
                "quantity": Decimal(1), "price_unit": abs(share), "exclude_from_invoice_tab": False,
            }  # fmt: skip
        if rng.random() < 0.3:
            kind = rng.choice(("line_section", "line_note"))
            yield shared | _balanced(Decimal(0)) | {
                "id": next(ids), "sequence": 1, "name": "Usage of the month\tsee annex", "display_type": kind,
                "exclude_from_invoice_tab": False,
            }  # fmt: skip
        yield shared | _balanced(total) | {
            "id": next(ids), "account_id": 6, "sequence": 100, "name": "",
            "date_maturity": move["invoice_date_due"],
            "exclude_from_invoice_tab": True,
        }  # fmt: skip


def _balanced(balance: Decimal) -> dict[str, object]:
    zero = Decimal("0.0")
    return {
        "debit": max(balance, zero),
        "credit": max(-balance, zero),
        "balance": balance,
        "amount_currency": balance,
        "price_subtotal": abs(balance),
        "price_total": abs(balance),
    }
