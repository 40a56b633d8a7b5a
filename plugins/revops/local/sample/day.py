"""What one day adds to the pipeline: a pure function, so that a day cut off half way can go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count

from revops.local.sample.chance import stream
from revops.local.sample.parties import COMPANIES_PER_SCALE, Party, make_party
from revops.local.sample.pipeline import (
    LEADS_PER_SCALE,
    OPPORTUNITIES_PER_SCALE,
    Lead,
    Opportunity,
    accounts_by_party,
    make_lead,
    make_opportunities,
    opportunity_ids,
    referral,
    share_out,
)
from revops.local.sample.plan import Plan

PARTNER_IDS_PER_PARTY = 6


@dataclass(frozen=True)
class Day:
    """One day: its number, the naive UTC time of its changes, and what is new."""

    number: int
    at: datetime
    customers: tuple[Party, ...]
    leads: tuple[Lead, ...]
    opportunities: tuple[Opportunity, ...]


def amount(share: float, of: float, *, least: int) -> int:
    """Return the number of rows that `share` of `of` rows is, at least `least`."""
    return max(least, round(share * of))


def new_leads(scale: float) -> int:
    """Return how many leads a day brings."""
    return amount(0.006, LEADS_PER_SCALE * scale, least=3)


def new_customers(scale: float) -> int:
    """Return how many customers a day brings."""
    return amount(0.004, COMPANIES_PER_SCALE * scale, least=1)


def make_day(
    plan: Plan,
    *,
    seed: int,
    scale: float,
    number: int,
    at: datetime,
    first_lead_id: int,
    first_partner_id: int,
    last_opportunity: int,
) -> Day:
    """Return what day `number` brings; ids start at the given ones."""
    rng = stream(seed, "day", number)
    taken = {party.domain for party in (*plan.parties.customers, *plan.parties.strangers)}
    # Every party takes its ids out of a block that is never short; what is left of it becomes a gap.
    customers = tuple(
        make_party(rng, count(first_partner_id + n * PARTNER_IDS_PER_PARTY), twin=None, taken=taken)
        for n in range(new_customers(scale))
    )
    pool = (*plan.parties.customers, *customers)
    by_party = accounts_by_party(plan.accounts)
    today = at.date()
    leads = tuple(
        replace(
            make_lead(
                rng,
                first_lead_id + n,
                party=customers[n] if n < len(customers) else rng.choice(pool),
                created=today,
                today=today,
                accounts=by_party,
            ),
            outcome=rng.choice(("open", "open", "lead")),
        )
        for n in range(new_leads(scale))
    )
    projects = share_out(rng, leads, len(leads))
    projects += [
        referral(rng, plan.parties, first=today, last=today)
        for _ in range(amount(0.001, OPPORTUNITIES_PER_SCALE * scale, least=1))
    ]
    ids = opportunity_ids(rng, last_opportunity)
    found = tuple(make_opportunities(rng, projects, ids=ids, accounts=by_party))
    return Day(number, at, customers, leads, found)
