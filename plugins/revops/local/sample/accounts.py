"""AWS accounts of the sample: payers of our own organisations, and customers' accounts below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from revops.local.sample.chance import WriteDates, between, gapped_ids, moment, stream, whole_second
from revops.local.sample.loading import Row
from revops.local.sample.parties import Party, phone
from revops.local.sample.reference import COMPANIES, COMPANY_OF_ID, CURRENCY_IDS, OWN_DOMAIN, SALES_USERS

ACCOUNTS_PER_SCALE = 400
PAYERS = 12


@dataclass(frozen=True)
class Account:
    """One AWS account; `number` is its true 12 digits, `name` what Odoo holds; our payers have no party."""

    id: int
    number: str
    name: str | None
    payer_id: int | None
    company_id: int | None
    currency: str
    party: Party | None

    @property
    def is_payer(self) -> bool:
        return self.party is None


def make_accounts(seed: int, scale: float, customers: tuple[Party, ...]) -> tuple[Account, ...]:
    """Return our payers, then the customers' accounts; some numbers are malformed or stored twice."""
    rng = stream(seed, "accounts")
    ids = gapped_ids(rng, 3)
    payers = [
        Account(
            id=next(ids),
            number=(number := _number(rng)),
            name=number,
            payer_id=None,
            company_id=company.id,
            currency=company.currency,
            party=None,
        )
        for n in range(PAYERS)
        for company in (COMPANIES[n % 3 == 2],)
    ]
    accounts = [*payers]
    for n in range(max(20, round(ACCOUNTS_PER_SCALE * scale)) - PAYERS):
        payer = rng.choice(payers)
        number = _number(rng)
        accounts.append(
            Account(
                id=next(ids),
                number=number,
                # By count, not by chance, so that even a small sample has both.
                name=_malformed(rng, number) if n % 40 == 7 else accounts[-3].name if n % 60 == 13 else number,
                payer_id=payer.id if rng.random() >= 0.03 else None,
                company_id=payer.company_id if rng.random() >= 0.1 else None,
                currency=payer.currency,
                party=rng.choice(customers),
            )
        )
    return tuple(accounts)


def account_rows(seed: int, accounts: tuple[Account, ...], *, today: date) -> Iterator[Row]:
    """Yield the c_aws_accounts rows."""
    rng = stream(seed, "account rows")
    dates = WriteDates(rng, today)
    for account in accounts:
        party = account.party
        joined = between(rng, today - timedelta(days=900), today - timedelta(days=30))
        created = whole_second(moment(rng, joined)).replace(microsecond=rng.randrange(1_000_000))
        left = party is not None and rng.random() < 0.06
        domain = party.domain if party else OWN_DOMAIN
        yield {
            "id": account.id,
            "name": account.name,
            "c_aws_account_name": _account_name(rng, party),
            "c_aws_company_id": _partner_of(rng, account),
            "payer_id": account.payer_id,
            "is_payer": account.is_payer,
            "company_id": account.company_id,
            "currency_id": CURRENCY_IDS[account.currency],
            "account_manager_id": rng.choice(SALES_USERS).id if rng.random() < 0.7 else None,
            "root_email": f"aws+{account.id}@{domain}",
            "alternate_contact_email": f"cloud@{domain}" if rng.random() < 0.3 else None,
            "alternate_contact_phone": phone(rng, party.country) if party and rng.random() < 0.2 else None,
            "external_id": f"{rng.getrandbits(128):032x}",
            "role_arn": f"arn:aws:iam::{account.number}:role/PartnerBilling",
            "organization_id": f"o-{rng.getrandbits(50):010x}" if account.is_payer else None,
            "state": "left" if left else rng.choices(("active", "invited", "suspended"), (94, 4, 2))[0],
            "active": not left,
            "joined_date": joined,
            "left_date": today - timedelta(days=rng.randint(3, 25)) if left else None,
            "spp_eligible": rng.choice((True, True, False, None)),
            "support_plan": rng.choice(("Basic", "Developer", "Business", "Enterprise", "", None)),
            "support_rate": rng.choice((0.03, 0.07, 0.1, 0.0)),
            "end_user_type": rng.choice(("End User", "Internal", None)),
            "end_user_zip": party.place.postal_code if party else None,
            "end_user_country_id": party.country.id if party else None,
            "is_government": bool(party and party.industry == "Government"),
            "monthly_estimate": None if rng.random() < 0.5 else round(rng.random() * 20_000, rng.choice((0, 1, 2, 6))),
            "note": rng.choice((None, None, "", "Moved from credit card billing.\r\nSee ticket.")),
            "create_uid": 2,
            "create_date": created,
            "write_uid": rng.choice((1, 2, 8)),
            "write_date": dates.after(created),
        }


def billed_in(account: Account) -> int:
    """Return the id of the company that bills the account; the first one where the row names none."""
    return COMPANY_OF_ID[account.company_id].id if account.company_id else COMPANIES[0].id


def _partner_of(rng: Random, account: Account) -> int | None:
    if account.party is None:
        return COMPANY_OF_ID[account.company_id or 1].partner_id
    return account.party.partner_id if rng.random() >= 0.04 else None


def _number(rng: Random) -> str:
    return f"{rng.randrange(10**9, 10**11) if rng.random() < 0.08 else rng.randrange(10**11, 10**12):012}"


def _malformed(rng: Random, number: str) -> str | None:
    return rng.choice(
        (
            f"{number[:4]}-{number[4:8]}-{number[8:]}",
            number[1:],
            f" {number}",
            "TBD",
            "pending invite",
            "",
            None,
        )
    )


def _account_name(rng: Random, party: Party | None) -> str:
    owner = party.brand.lower().replace(" ", "-") if party else "payer"
    return f"{owner}-{rng.choice(('prod', 'dev', 'shared', 'sandbox', 'dr', 'main'))}"
