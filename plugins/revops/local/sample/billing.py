"""Billing of the sample: the monthly cost roll-up, bills with their lines, and discount bills.

The roll-up and the bill lines are made row by row as COPY text, never all in memory: they are what grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from revops.local.sample.accounts import Account, billed_in
from revops.local.sample.chance import gapped_ids, moment, stream
from revops.local.sample.loading import Row
from revops.local.sample.reference import COMPANY_OF_ID, CURRENCY_IDS, PRODUCTS

MONTHS = 22
COST_ROWS_PER_SCALE = 150_000
BILLS_PER_SCALE = 1_500
BILL_LINES_PER_SCALE = 30_000
DISCOUNT_BILLS_PER_SCALE = 600
ORPHAN_EVERY = 211
DUPLICATE_EVERY = 401

SERVICES = (
    "Amazon Elastic Compute Cloud", "Amazon Simple Storage Service", "Amazon Relational Database Service",
    "AWS Lambda", "AmazonCloudWatch", "Amazon Virtual Private Cloud", "AWS Key Management Service",
    "AWS Support (Business)", "Amazon CloudFront", "Amazon Route 53", "Amazon DynamoDB",
    "Amazon Elastic Kubernetes Service", "AWS Backup", "Amazon Elastic File System", "AWS WAF",
    "Amazon Redshift", "AWS Glue", "Amazon WorkSpaces", "Amazon Bedrock", "Amazon OpenSearch Service",
    "AWS Config", "Amazon GuardDuty", "AWS CloudTrail", "AWS Secrets Manager", "Amazon ElastiCache",
    "Elastic Load Balancing", "Amazon Connect", "AWS Data Transfer", "Amazon SageMaker", "AWS Step Functions",
)  # fmt: skip
CHARGE_TYPES = (
    "Usage", "Discounted Usage", "RIFee", "Tax", "Credit", "Refund", "SavingsPlanCoveredUsage",
    "SavingsPlanNegation", "Solution Provider Program Discount", "Distributor Discount", "Fee", "EdpDiscount",
)  # fmt: skip
CHARGE_WEIGHTS = (52, 5, 3, 9, 2, 0.5, 4, 4, 12, 5, 2, 1.5)
LOWERS_COST = frozenset(
    (
        "Credit",
        "Refund",
        "SavingsPlanNegation",
        "Solution Provider Program Discount",
        "Distributor Discount",
        "EdpDiscount",
    )
)
LOWERS_LINE = frozenset(("discount", "credit"))
LINE_TYPES = ("usage", "discount", "support", "tax", "credit", "fee")


@dataclass(frozen=True)
class Charge:
    """One service and charge type of one account that recurs; `base` is its usual cost a month."""

    payer_id: int | None
    account_id: int
    company_id: int
    currency_id: int
    service: str
    charge_type: str
    base: float


@dataclass(frozen=True)
class Bill:
    """One planned c_billing_bill; invoice_id is the account_move that charges it, if any yet."""

    id: int
    account: Account
    period: date
    cost: Decimal
    invoice_id: int | None
    state: str


def periods(today: date, count: int = MONTHS) -> tuple[date, ...]:
    """Return the first days of the last `count` months, the one of `today` included, oldest first."""
    month = today.year * 12 + today.month - 1
    return tuple(date((month - back) // 12, (month - back) % 12 + 1, 1) for back in range(count - 1, -1, -1))


def imported(rng: Random, period: date, today: date) -> datetime:
    """Return when a payer's month was imported: some days after its end, for the running month last night."""
    after = period + timedelta(days=31 + rng.randint(3, 8))
    return moment(rng, min(after, today - timedelta(days=1)))


def make_charges(seed: int, scale: float, accounts: tuple[Account, ...]) -> tuple[Charge, ...]:
    """Return the recurring charges in the order in which they came up, the oldest customers' first."""
    rng = stream(seed, "charges")
    # The last month has four thirds of an average month's rows.
    wanted = max(200, round(COST_ROWS_PER_SCALE * scale / MONTHS * 4 / 3))
    sizes = {account.id: rng.paretovariate(1.1) for account in accounts}
    charges: dict[tuple[int, str, str], Charge] = {}
    while len(charges) < wanted:
        account = rng.choice(accounts)
        charge = make_charge(rng, account, sizes[account.id])
        charges[charge.account_id, charge.service, charge.charge_type] = charge
    return tuple(charges.values())


def cost_lines(seed: int, scale: float, charges: tuple[Charge, ...], *, today: date) -> Iterator[str]:
    """Yield c_billing_internal_cur as COPY lines, one payer's month after the other, growing by month."""
    rng = stream(seed, "costs")
    wanted = round(COST_ROWS_PER_SCALE * scale)
    shares = [1 + n / MONTHS for n in range(MONTHS)]
    total, done, row_id = sum(shares), 0, 0
    for n, period in enumerate(periods(today)):
        target = wanted if n == MONTHS - 1 else round(wanted * sum(shares[: n + 1]) / total)
        # Now and then one key occurs twice in a month.
        running = [charges[i - (i % DUPLICATE_EVERY == 1)] for i in range(target - done)]
        running.sort(key=lambda charge: (charge.payer_id or 0, charge.account_id))
        part = today.day / 31 if n == MONTHS - 1 else 1.0
        payer: int | None = -1
        at = ""
        for charge in running:
            if charge.payer_id != payer:
                payer = charge.payer_id
                # The month was imported before and replaced: its first ids are gone.
                row_id += rng.choice((0, 0, 40, 150))
                at = f"{imported(rng, period, today):%Y-%m-%d %H:%M:%S.%f}"
            row_id += 1
            yield cost_line(rng, row_id, charge, period=period, part=part, at=at)
        done = target


def cost_line(rng: Random, row_id: int, charge: Charge, *, period: date, part: float, at: str) -> str:
    """Return one COPY line of c_billing_internal_cur; `part` is the share of the month that is over."""
    cost = charge.base * part * (0.85 + 0.3 * rng.random())
    digits = rng.choice((2, 4, 6, 10, 10, 10))
    payer = r"\N" if charge.payer_id is None else charge.payer_id
    return (
        f"{row_id}\t{payer}\t{charge.account_id}\t{charge.company_id}\t{charge.currency_id}\t{charge.service}"
        f"\t{charge.charge_type}\t{cost:.{digits}f}\t{period:%Y-%m}\t{period}\t1\t{at}\t1\t{at}\n"
    )


def make_bills(seed: int, scale: float, accounts: tuple[Account, ...], *, today: date) -> tuple[Bill, ...]:
    """Return the bills to customers, oldest first; about a quarter of them is invoiced."""
    rng = stream(seed, "bills")
    customers = [account for account in accounts if not account.is_payer]
    wanted = max(22, round(BILLS_PER_SCALE * scale))
    ids, invoices = gapped_ids(rng, 7), gapped_ids(rng, 31)
    months = periods(today)
    bills: list[Bill] = []
    for n in range(wanted):
        period = months[n * MONTHS // wanted]
        closed = period < months[-1]
        bills.append(
            Bill(
                id=next(ids),
                account=rng.choice(customers),
                period=period,
                cost=Decimal(f"{rng.lognormvariate(6.5, 1.4):.{rng.choice((2, 2, 6, 10))}f}"),
                invoice_id=next(invoices) if closed and rng.random() < 0.28 else None,
                state=rng.choice(("done", "done", "invoiced")) if closed else rng.choice(("draft", "open")),
            )
        )
    return tuple(bills)


def bill_rows(seed: int, bills: tuple[Bill, ...], *, today: date) -> Iterator[Row]:
    """Yield the c_billing_bill rows."""
    rng = stream(seed, "bill rows")
    for bill in bills:
        created = imported(rng, bill.period, today)
        party = bill.account.party
        yield {
            "id": bill.id,
            "name": f"BILL/{bill.period:%Y/%m}/{bill.id:05}",
            "partner_id": party.partner_id if party and rng.random() >= 0.05 else None,
            "account_id": bill.account.id,
            "invoice_id": bill.invoice_id,
            "company_id": billed_in(bill.account) if rng.random() >= 0.07 else None,
            "currency_id": CURRENCY_IDS[bill.account.currency],
            "bill_type": rng.choice(("aws", "aws", "aws", "marketplace", "managed")),
            "period": f"{bill.period:%Y-%m}",
            "period_date": bill.period,
            "cost": bill.cost,
            "state": bill.state,
            "create_uid": 1,
            "create_date": created,
            "write_uid": rng.choice((1, 2, 8)),
            "write_date": created + timedelta(microseconds=rng.randrange(3_600_000_000)),
        }


def bill_line_lines(seed: int, scale: float, bills: tuple[Bill, ...], *, today: date) -> Iterator[str]:
    """Yield c_billing_bill_line as COPY lines with ids from 1; now and then a line has lost its bill."""
    rng = stream(seed, "bill lines")
    wanted = max(len(bills), round(BILL_LINES_PER_SCALE * scale))
    ids = gapped_ids(rng, 1, gap=0.002)
    for n, bill in enumerate(bills):
        at = f"{imported(rng, bill.period, today):%Y-%m-%d %H:%M:%S.%f}"
        currency = CURRENCY_IDS[bill.account.currency]
        for k in range(wanted * n // len(bills), wanted * (n + 1) // len(bills)):
            kind = rng.choices(range(len(LINE_TYPES)), (70, 12, 6, 6, 3, 3))[0]
            line_type = LINE_TYPES[kind]
            cost = float(bill.cost) * (-0.05 if line_type in LOWERS_LINE else 0.1) * rng.random()
            owner = r"\N" if k % ORPHAN_EVERY == ORPHAN_EVERY - 1 else bill.id
            product = PRODUCTS[kind if kind else rng.randrange(3)].id
            usage = rng.choice((0.0, 1.0, 744.0, round(rng.random() * 900, 6), rng.random() * 1e-5, rng.random() * 5e7))
            day = bill.period + timedelta(days=rng.randrange(28))
            yield (
                f"{next(ids)}\t{owner}\t{product}\t1\t{currency}\t{line_type}\t{usage!r}"
                f"\t{cost:.{rng.choice((2, 6, 10))}f}\t{day}\t1\t{at}\t1\t{at}\n"
            )


def discount_bill_rows(seed: int, scale: float, accounts: tuple[Account, ...], *, today: date) -> Iterator[Row]:
    """Yield the c_billing_spp_bill rows: the programme's discount of an account in a month."""
    rng = stream(seed, "discount bills")
    ids = gapped_ids(rng, 3)
    customers = [account for account in accounts if account.payer_id is not None]
    months = periods(today)[:-1]
    wanted = max(21, round(DISCOUNT_BILLS_PER_SCALE * scale))
    for n in range(wanted):
        account, period = rng.choice(customers), months[n * len(months) // wanted]
        cost = Decimal(f"{rng.lognormvariate(6, 1.5):.8f}")
        rate = rng.choice((0.03, 0.05, 0.08, 0.13))
        created = imported(rng, period, today)
        yield {
            "id": next(ids),
            "name": f"SPP/{period:%Y-%m}/{account.name}",
            "payer_id": account.payer_id,
            "account_id": account.id if rng.random() >= 0.02 else None,
            "company_id": account.company_id,
            "currency_id": CURRENCY_IDS["USD"],
            "service": rng.choice(SERVICES),
            "period": f"{period:%Y-%m}",
            "period_date": period,
            "public_cost": cost,
            "discount_rate": rate,
            "discount": -cost * Decimal(str(rate)),
            "create_uid": 1,
            "create_date": created,
            "write_uid": 1,
            "write_date": created,
        }


def make_charge(rng: Random, account: Account, size: float) -> Charge:
    """Return a charge of `account` with one of the services; `size` is that of the account, 1 the least."""
    charge_type = rng.choices(CHARGE_TYPES, CHARGE_WEIGHTS)[0]
    base = min(size * rng.lognormvariate(3.2, 1.6), 60_000.0)
    return Charge(
        payer_id=account.id if account.is_payer else account.payer_id,
        account_id=account.id,
        company_id=billed_in(account),
        currency_id=CURRENCY_IDS[COMPANY_OF_ID[billed_in(account)].currency],
        service=rng.choice(SERVICES),
        charge_type=charge_type,
        base=-base * 0.06 if charge_type in LOWERS_COST else base,
    )
