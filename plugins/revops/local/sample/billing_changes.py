"""What a day does to billing: the running month grows, a finished one is restated, bills move on."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from psycopg import Cursor

from revops.local.sample.accounts import Account
from revops.local.sample.billing import (
    BILL_LINES_PER_SCALE,
    BILLS_PER_SCALE,
    COST_ROWS_PER_SCALE,
    MONTHS,
    Bill,
    bill_rows,
    cost_line,
    make_charge,
    periods,
)
from revops.local.sample.chance import stream
from revops.local.sample.day import Day, amount
from revops.local.sample.loading import copy_lines, copy_rows
from revops.local.sample.recorder import Recorder
from revops.local.sample.reference import CURRENCY_IDS, PRODUCTS
from revops.local.sample.state import take_ids

MONTHS_RESTATED = 3


def change_billing(
    cursor: Cursor[tuple[object, ...]],
    day: Day,
    *,
    seed: int,
    scale: float,
    accounts: tuple[Account, ...],
    recorder: Recorder,
) -> None:
    """Apply the day to the billing tables and invoices. Does not commit."""
    rng = stream(seed, "billing changes", day.number)
    today = day.at.date()
    _restate(cursor, rng, at=day.at, recorder=recorder)
    _add_costs(cursor, rng, day, scale=scale, accounts=accounts, recorder=recorder)
    _add_bills(cursor, rng, day, seed=seed, scale=scale, accounts=accounts, recorder=recorder)
    cursor.execute("select id from c_billing_bill where period_date < %s order by id", [periods(today)[-1]])
    moved = rng.sample([row[0] for row in cursor], amount(0.005, BILLS_PER_SCALE * scale, least=1))
    at = day.at + timedelta(seconds=8, microseconds=19)
    cursor.execute(
        "update c_billing_bill set state = case state when 'done' then 'invoiced' else 'done' end,"
        " write_date = %s where id = any(%s)",
        [at, moved],
    )
    recorder.add("c_billing_bill", "updated", moved)
    cursor.execute(
        "update account_move set state = 'posted', posted_before = true,"
        " name = sequence_prefix || sequence_number, write_date = %s"
        " where id in (select id from account_move where state = 'draft' order by id limit 2) returning id",
        [at],
    )
    posted = [row[0] for row in cursor]
    recorder.add("account_move", "updated", posted)
    cursor.execute(
        "update account_move_line l set parent_state = m.state, move_name = m.name, write_date = m.write_date"
        " from account_move m where m.id = l.move_id and m.id = any(%s) returning l.id",
        [posted],
    )
    recorder.add("account_move_line", "updated", [row[0] for row in cursor])


def _restate(cursor: Cursor[tuple[object, ...]], rng: Random, *, at: datetime, recorder: Recorder) -> None:
    """Replace one payer's finished month: same keys, new ids, other costs, a few rows less."""
    months = periods(at.date())[-1 - MONTHS_RESTATED : -1]
    cursor.execute(
        "select payer_id, period_date from c_billing_internal_cur"
        " where period_date = any(%s) and payer_id is not null group by 1, 2 order by 1, 2",
        [list(months)],
    )
    found = cursor.fetchall()
    if not found:
        return
    payer, period = rng.choice(found)
    cursor.execute(
        "delete from c_billing_internal_cur where payer_id = %s and period_date = %s"
        " returning id, account_id, company_id, company_currency_id, service, charge_type, cost, period",
        [payer, period],
    )
    old = sorted(cursor.fetchall(), key=lambda row: int(str(row[0])))
    recorder.add("c_billing_internal_cur", "deleted", [row[0] for row in old])
    kept = [row for n, row in enumerate(old) if n == 0 or rng.random() >= 0.02]
    ids = take_ids(cursor, "c_billing_internal_cur", len(kept))
    names = ("account_id", "company_id", "company_currency_id", "service", "charge_type")
    copy_rows(
        cursor,
        "c_billing_internal_cur",
        (
            {
                "id": new,
                "payer_id": payer,
                **dict(zip(names, row[1:6], strict=True)),
                "cost": Decimal(str(row[6])) * Decimal(rng.randrange(900, 1_100)) / 1000 + Decimal("0.01"),
                "period": row[7],
                "period_date": period,
                "create_uid": 1,
                "create_date": at,
                "write_uid": 1,
                "write_date": at,
            }
            for new, row in zip(ids, kept, strict=True)
        ),
    )
    recorder.add("c_billing_internal_cur", "inserted", ids)
    recorder.number("c_billing_internal_cur", "restated_months", 1)


def _add_costs(
    cursor: Cursor[tuple[object, ...]],
    rng: Random,
    day: Day,
    *,
    scale: float,
    accounts: tuple[Account, ...],
    recorder: Recorder,
) -> None:
    ids = take_ids(cursor, "c_billing_internal_cur", amount(1 / MONTHS / 30, COST_ROWS_PER_SCALE * scale, least=20))
    period = day.at.date().replace(day=1)
    at = f"{day.at:%Y-%m-%d %H:%M:%S.%f}"
    lines = (
        cost_line(rng, new, make_charge(rng, rng.choice(accounts), 1.0), period=period, part=1.0, at=at) for new in ids
    )
    copy_lines(cursor, "c_billing_internal_cur", lines)
    recorder.add("c_billing_internal_cur", "inserted", ids)


def _add_bills(
    cursor: Cursor[tuple[object, ...]],
    rng: Random,
    day: Day,
    *,
    seed: int,
    scale: float,
    accounts: tuple[Account, ...],
    recorder: Recorder,
) -> None:
    customers = [account for account in accounts if not account.is_payer]
    period: date = day.at.date().replace(day=1)
    ids = take_ids(cursor, "c_billing_bill", amount(0.002, BILLS_PER_SCALE * scale, least=1))
    bills = tuple(
        Bill(new, rng.choice(customers), period, Decimal(rng.randrange(90_000)) / 7, None, "draft") for new in ids
    )
    cursor.execute("select id from res_partner")
    partners = {row[0] for row in cursor}
    copy_rows(
        cursor,
        "c_billing_bill",
        (
            {
                **row,
                "partner_id": row["partner_id"] if row["partner_id"] in partners else None,
                "create_date": day.at,
                "write_date": day.at,
            }
            for row in bill_rows(seed, bills, today=day.at.date())
        ),
    )
    recorder.add("c_billing_bill", "inserted", ids)
    lines = take_ids(cursor, "c_billing_bill_line", amount(0.002, BILL_LINES_PER_SCALE * scale, least=5))
    copy_rows(
        cursor,
        "c_billing_bill_line",
        (
            {
                "id": new,
                "bill_id": bills[n % len(bills)].id if n != 4 else None,
                "product_id": PRODUCTS[n % 3].id,
                "uom_id": 1,
                "currency_id": CURRENCY_IDS[bills[n % len(bills)].account.currency],
                "line_type": "usage",
                "usage": rng.random() * 744,
                "cost": Decimal(rng.randrange(10**9)) / 10**7,
                "date": day.at.date(),
                "create_uid": 1,
                "create_date": day.at,
                "write_uid": 1,
                "write_date": day.at,
            }
            for n, new in enumerate(lines)
        ),
    )
    recorder.add("c_billing_bill_line", "inserted", lines)
