"""The plan of who sells what to whom: leads, and the ACE opportunities of the same projects.

Both databases and the truth file are written from this plan, and nothing of it is stored in the databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from revops.local.sample.accounts import Account
from revops.local.sample.chance import between, gapped_ids, stream
from revops.local.sample.deals import Deal, make_deal
from revops.local.sample.parties import Parties, Party, Person
from revops.local.sample.reference import LEAD_TEAMS, SALES_USERS, User

LEADS_PER_SCALE = 1500
OPPORTUNITIES_PER_SCALE = 2000
FIRST_LEAD_ID = 61
# Just below a million, so that the text order of the ids is not the order of their numbers.
FIRST_OPPORTUNITY = 999_850
HISTORY_DAYS = 760
KEYS = ("partner", "crm", "both", "stale", "none")


@dataclass(frozen=True)
class Lead:
    """One planned crm_lead; outcome is open, won, lost, archived or lead (not yet qualified)."""

    id: int
    party: Party
    person: Person | None
    deal: Deal
    outcome: str
    user: User
    team_id: int
    account: Account | None


@dataclass(frozen=True)
class Opportunity:
    """One planned apn_opportunity; `lead` is None for referrals by AWS, `part` counts those of a lead.

    key says how the two know of each other: partner (ACE holds the lead's id), crm (Odoo holds ACE's id),
    both, stale (one of them holds a wrong id) or none.
    """

    id: str
    party: Party
    person: Person | None
    deal: Deal
    lead: Lead | None
    part: int
    key: str
    account: Account | None


@dataclass(frozen=True)
class Project:
    """What one ACE opportunity is about; fields as in Opportunity."""

    party: Party
    deal: Deal
    lead: Lead | None = None
    part: int = 0


@dataclass(frozen=True)
class Pipeline:
    """All planned leads and ACE opportunities of one span of time, in the order of their ids."""

    leads: tuple[Lead, ...]
    opportunities: tuple[Opportunity, ...]


def make_pipeline(seed: int, scale: float, *, parties: Parties, accounts: tuple[Account, ...], today: date) -> Pipeline:
    """Return the pipeline that the sample starts with: two years of it."""
    rng = stream(seed, "pipeline")
    first, last = today - timedelta(days=HISTORY_DAYS), today - timedelta(days=1)
    by_party = accounts_by_party(accounts)
    days = sorted(between(rng, first, last) for _ in range(max(40, round(LEADS_PER_SCALE * scale))))
    ids = gapped_ids(rng, FIRST_LEAD_ID)
    leads: list[Lead] = []
    latest: dict[int | None, Lead] = {}
    for day in days:
        party = rng.choice(parties.customers)
        renewed = latest.get(party.partner_id) if rng.random() < 0.08 else None
        lead = make_lead(rng, next(ids), party=party, created=day, today=today, accounts=by_party, renewed=renewed)
        latest[party.partner_id] = lead
        leads.append(lead)
    wanted = max(50, round(OPPORTUNITIES_PER_SCALE * scale))
    referrals = round(wanted * 0.2)
    projects = share_out(rng, leads, wanted - referrals)
    while len(projects) < wanted:
        projects.append(referral(rng, parties, first=first, last=last))
    projects.sort(key=lambda project: (project.deal.created, project.lead.id if project.lead else 0, project.part))
    opportunities = make_opportunities(rng, projects, ids=opportunity_ids(rng, FIRST_OPPORTUNITY), accounts=by_party)
    return Pipeline(tuple(leads), tuple(opportunities))


def make_lead(
    rng: Random,
    lead_id: int,
    *,
    party: Party,
    created: date,
    today: date,
    accounts: dict[int | None, list[Account]],
    renewed: Lead | None = None,
) -> Lead:
    """Return a new lead; `renewed` makes it the follow-up of an older project of the same customer."""
    deal = make_deal(rng, party, created=created)
    if renewed is not None:
        deal = _renewal(renewed.deal, deal)
    age = (today - created).days
    weights = (34, 22, 22, 3, 8) if age > 150 else (60, 6, 8, 2, 24)
    outcome = rng.choices(("open", "won", "lost", "archived", "lead"), weights)[0]
    own = accounts.get(party.partner_id, [])
    return Lead(
        id=lead_id,
        party=party,
        person=rng.choice(party.people) if party.people and rng.random() < 0.8 else None,
        deal=deal,
        outcome=outcome,
        user=rng.choice(SALES_USERS),
        team_id=rng.choice(LEAD_TEAMS),
        account=rng.choice(own) if own and rng.random() < 0.6 else None,
    )


def make_opportunities(
    rng: Random,
    projects: Iterable[Project],
    *,
    ids: Iterator[str],
    accounts: dict[int | None, list[Account]],
) -> Iterator[Opportunity]:
    """Yield the ACE opportunities of `projects`, in their order."""
    for project in projects:
        lead, party, part = project.lead, project.party, project.part
        own = accounts.get(party.partner_id, []) if party.partner_id else []
        account = lead.account if lead and part == 0 and lead.account else rng.choice(own) if own else None
        person = lead.person if lead and rng.random() < 0.7 else None
        weights = (16, 12, 16, 10, 46) if part == 0 else (18, 0, 0, 14, 68)
        yield Opportunity(
            id=next(ids),
            party=party,
            person=person or (rng.choice(party.people) if party.people else None),
            deal=project.deal,
            lead=lead,
            part=part,
            key=rng.choices(KEYS, weights)[0] if lead else "none",
            account=account if rng.random() < 0.45 else None,
        )


def opportunity_ids(rng: Random, first: int) -> Iterator[str]:
    """Yield ACE's ids, `O` and a rising number with wide gaps: other partners' opportunities lie between."""
    number = first
    while True:
        number += rng.randint(1, 9)
        yield f"O{number}"


def accounts_by_party(accounts: tuple[Account, ...]) -> dict[int | None, list[Account]]:
    """Return the customers' accounts by the partner id of their owner."""
    found: dict[int | None, list[Account]] = {}
    for account in accounts:
        if account.party is not None:
            found.setdefault(account.party.partner_id, []).append(account)
    return found


def share_out(rng: Random, leads: Iterable[Lead], wanted: int) -> list[Project]:
    """Return up to `wanted` projects of `leads`: about a quarter of the leads has none, some have several."""
    shares: list[Project] = []
    candidates = [lead for lead in leads if rng.random() < (0.4 if lead.outcome == "lead" else 0.82)]
    rng.shuffle(candidates)
    part = 0
    while len(shares) < wanted and candidates:
        shares += [Project(lead.party, lead.deal, lead, part) for lead in candidates][: wanted - len(shares)]
        candidates = [lead for lead in candidates if rng.random() < 0.3]
        part += 1
    return shares


def referral(rng: Random, parties: Parties, *, first: date, last: date) -> Project:
    """Return a project that AWS brought and no lead knows, mostly of a company that is not a customer."""
    party = rng.choice(parties.strangers) if rng.random() < 0.75 else rng.choice(parties.customers)
    return Project(party, make_deal(rng, party, created=between(rng, first, last)))


def _renewal(old: Deal, new: Deal) -> Deal:
    return Deal(
        workload=old.workload,
        slots={**old.slots, "quarter": new.slots["quarter"]},
        telling=old.telling,
        note=" Follow-up of last year's project.",
        language=old.language,
        monthly=int(old.monthly * 1.15),
        created=new.created,
        close=new.close,
    )
