"""The apn_opportunity rows of the planned pipeline.

An opportunity tells a lead's project in other words: names are noisy, amounts are a month's, keys are right,
stale or blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from psycopg.types.json import Jsonb

from revops.local.sample import noise
from revops.local.sample import vocabulary as words
from revops.local.sample.ace_directory import Directory, e164, industry, record_id, utc
from revops.local.sample.chance import moment, stream
from revops.local.sample.leads import AWS_STAFF
from revops.local.sample.loading import Row
from revops.local.sample.pipeline import Opportunity
from revops.local.sample.reference import SALES_USERS

STAGES = (
    "Prospect", "Qualified", "Technical Validation", "Business Validation", "Committed", "Launched",
    "Closed Lost",
)  # fmt: skip
# Values of the exchange file and of the API beside each other.
STATUSES = (
    "Draft", "Pending Submission", "Submitted", "In review", "In Review", "Approved", "Rejected",
    "Action Required",
)  # fmt: skip
STATUS_WEIGHTS = (5, 5, 8, 5, 2, 62, 6, 7)
LOST_REASONS = (
    "Lost to Competitor - Google", "Lost to Competitor – Google", "Lost to Competitor - Microsoft",
    "No Opportunity", "Price", "Customer Deficiency", "On Premises Deployment",
    "Delay / Cancellation of Project", "Other",
)  # fmt: skip
DELIVERY_MODELS = (
    "SaaS or PaaS", "BYOL or AMI", "Managed Services", "Professional Services", "Resell", "Other",
)  # fmt: skip
NEEDS = (
    "Co-Sell - Architectural Validation", "Co-Sell - Business Presentation",
    "Co-Sell - Competitive Information", "Co-Sell - Pricing Assistance", "Co-Sell - Technical Consultation",
    "Co-Sell - Deal Support",
)  # fmt: skip
ACTIVITIES = (
    "Initialized discussions with customer", "Customer has shown interest in solution",
    "Conducted POC / Demo", "In evaluation / planning stage", "Agreed on solution to Business Problem",
    "SOW Signed",
)  # fmt: skip
COMPETITORS = (
    "Google Cloud Platform",
    "Microsoft Azure",
    "On-Prem",
    "No Competition",
    "*Other",
    "Oracle Cloud",
)


def opportunity_rows(
    seed: int,
    opportunities: Iterable[Opportunity],
    directory: Directory,
    *,
    today: date,
    occasion: str = "start",
) -> Iterator[Row]:
    """Yield the apn_opportunity rows."""
    rng = stream(seed, "ace opportunities", occasion)
    for found in opportunities:
        created = utc(
            moment(rng, min(found.deal.created + timedelta(days=rng.randint(0, 12)), today - timedelta(days=1)))
        )
        age = max(1, (utc(datetime.combine(today, datetime.min.time())) - created) // timedelta(seconds=1))
        modified = created + timedelta(seconds=int(age * rng.random() ** 2), microseconds=rng.randrange(10**6))
        yield {
            "id": found.id,
            **_customer(rng, found, directory),
            **_project(rng, found),
            **_life_cycle(rng, found, today=today),
            **_aws_side(rng, found, created=created),
            "owner_id": record_id("005", 700 + 37 * rng.randrange(11)) if rng.random() >= 0.05 else None,
            "partner_crm_id": _partner_key(rng, found),
            "aws_create_date": created if rng.random() >= 0.02 else None,
            "aws_last_modified_date": modified if rng.random() >= 0.02 else None,
            "created_at": created + timedelta(minutes=rng.randint(1, 60), microseconds=rng.randrange(10**6)),
            "updated_at": max(modified, created + timedelta(hours=1)) + timedelta(seconds=rng.randrange(1, 7_200)),
        }


def _customer(rng: Random, found: Opportunity, directory: Directory) -> dict[str, object]:
    party, person = found.party, found.person
    return {
        "company_id": directory.companies[party.domain] if rng.random() >= 0.04 else None,
        "contact_id": directory.contacts[party.domain, person.name] if person and rng.random() >= 0.15 else None,
        "customer_company_name": noise.company_name(rng, party.name, party.place.city)[:120],
        "customer_website": noise.website(rng, party.domain),
        "customer_duns": party.duns if rng.random() < 0.35 else rng.choice((None, "")),
        "customer_first_name": person.first if person else None,
        "customer_last_name": person.last if person else None,
        "customer_email": person.email if person and rng.random() < 0.9 else None,
        "customer_phone": e164(person) if person else None,
        "customer_title": person.title if person else rng.choice((None, "")),
        "customer_street": party.street if rng.random() < 0.6 else None,
        "customer_city": party.place.city,
        "customer_state": party.place.state or None,
        "customer_postal_code": party.place.postal_code if rng.random() < 0.85 else "",
        "customer_country": party.country.code,
        "aws_account": _account(rng, found),
        "industry": industry(rng, party),
        "other_industry": rng.choice(words.INDUSTRY_WORDS["Other"]) if party.industry == "Other" else None,
        "national_security": False if party.industry == "Government" else None,
    }


def _project(rng: Random, found: Opportunity) -> dict[str, object]:
    deal, party = found.deal, found.party
    # The parts of one lead are one account each: they share out its spend.
    monthly = (Decimal(deal.monthly) / (1 + found.part) * rng.choice((100, 100, 100, 95, 110)) / 100).quantize(
        Decimal("0.01")
    )
    models = rng.sample(DELIVERY_MODELS, rng.choice((1, 1, 2)))
    title = deal.title(rng.choice((0, 1, 1, 2)))
    suffix = rng.choice((f" - {party.brand}", "", "", f" ({party.place.city})"))
    part = f" / account {found.part + 1}" if found.part and rng.random() < 0.6 else ""
    spend = {
        "Amount": f"{monthly}",
        "CurrencyCode": "USD",
        "Frequency": "Monthly",
        "TargetCompany": "AWS",
    }
    return {
        "name": f"{title}{suffix}{part}",
        "project_description_business_need": deal.problem(rng.choice((0, 1, 1, 2))) if rng.random() >= 0.02 else "",
        "project_budget": monthly if rng.random() >= 0.06 else None,
        "project_budget_currency": "USD",
        "expected_customer_spend": Jsonb([spend] if rng.random() >= 0.08 else []),
        "use_case": deal.workload.use_case,
        "delivery_model": ";".join(models),
        "delivery_models": models,
        "primary_needs_from_aws": rng.sample(NEEDS, rng.choice((0, 1, 1, 2))),
        "sales_activities": rng.sample(ACTIVITIES, rng.randint(1, 3)) if rng.random() < 0.8 else None,
        "aws_products": list(deal.workload.products) if rng.random() < 0.7 else None,
        "solutions_offered": rng.choice((["S-0012345"], ["S-0012345", 'Managed "24x7"'], [], None)),
        "apn_programs": rng.choice((["Migration Acceleration Program"], ["Well-Architected"], [], None)),
        "competitor_name": rng.choice((*COMPETITORS, None)),
        "opportunity_type": rng.choices(("Net New Business", "Expansion", "Flat Renewal", None), (66, 20, 9, 5))[0],
        "additional_comments": rng.choice(
            (None, None, "", "Imported from CRM\t(nightly)", "Kunde wünscht Termin 📅", "至急")
        ),
        "campaign_name": rng.choice((None, None, None, "Migration Days 2026")),
        "is_marketing_development_funded": rng.choice((None, False, True)),
        "software_revenue": Jsonb(
            {"DeliveryModel": "Subscription", "Value": {"Amount": "1200.00", "CurrencyCode": "USD"}}
        )
        if rng.random() < 0.05
        else None,
        "expected_contract_months": rng.choice((None, 12, 24, 36)),
    }


def _life_cycle(rng: Random, found: Opportunity, *, today: date) -> dict[str, object]:
    outcome = found.lead.outcome if found.lead else rng.choice(("open", "open", "won", "lost"))
    stage = rng.choice(STAGES[:5])
    if rng.random() < 0.9:
        stage = {"won": "Launched", "lost": "Closed Lost"}.get(outcome, stage)
    lost = stage == "Closed Lost"
    step = found.deal.next_step(rng.randrange(2))
    close = found.deal.close + timedelta(days=rng.choice((0, 0, 0, -14, 7, 21, 30, 60)))
    history = [
        {"Time": f"{today - timedelta(days=back)}T09:00:00Z", "Value": step}
        for back in sorted(rng.sample(range(10, 90), 2))
    ]
    return {
        "stage_name": stage,
        "close_date": close if rng.random() >= 0.01 else None,
        "status": rng.choices(STATUSES, STATUS_WEIGHTS)[0],
        "review_comments": rng.choice((None, None, "", "Please describe the customer's problem in more detail.")),
        "review_status_reason": rng.choice((None, None, "Duplicate of an existing opportunity")),
        "closed_lost_reason": rng.choice(LOST_REASONS) if lost else None,
        "next_step": step if rng.random() < 0.85 else "",
        "next_step_history": Jsonb(history) if rng.random() < 0.4 else None,
        "partner_acceptance_status": rng.choice(("Accepted", "Not Required", "Pending", None)),
    }


def _aws_side(rng: Random, found: Opportunity, *, created: datetime) -> dict[str, object]:
    referred = found.lead is None or rng.random() < 0.04
    seller, owner, manager = (rng.choice(AWS_STAFF) for _ in range(3))
    partner_user = found.lead.user if found.lead else rng.choice(SALES_USERS)
    return {
        "opportunity_ownership": "AWS Referral" if referred else "Partner Referral",
        "origin": "AWS Referral" if referred else "Partner Referral",
        "involvement_type": rng.choice(("Co-Sell", "Co-Sell", "For Visibility Only", None)),
        "visibility": rng.choice(("Full", "Limited", None)),
        "aws_status": rng.choice(("Accepted", "In progress", "", None)),
        "aws_stage": rng.choice((*STAGES, "Engaged", "Not Started", None)),
        "aws_close_date": found.deal.close if rng.random() < 0.3 else None,
        "aws_closed_lost_reason": rng.choice((None, None, None, "Lost to Competitor – Google")),
        "partner_sales_rep_name": partner_user.name,
        "partner_sales_rep_email": partner_user.login,
        "aws_sales_rep_name": seller,
        "aws_sales_rep_email": _aws_email(seller),
        "aws_account_owner_name": owner if rng.random() < 0.7 else None,
        "aws_account_owner_email": _aws_email(owner) if rng.random() < 0.7 else None,
        "aws_pdm_name": manager,
        "aws_pdm_email": _aws_email(manager),
        "opportunity_team": Jsonb([{"FirstName": partner_user.name.split()[0], "Email": partner_user.login}])
        if rng.random() < 0.5
        else None,
        "engagement_score": rng.choice(("High", "Medium", "Low", None)),
        "accept_by": created + timedelta(days=rng.randint(10, 20)) if referred else None,
    }


def _partner_key(rng: Random, found: Opportunity) -> str | None:
    if found.lead is None:
        return rng.choice((None, None, ""))
    if found.key in {"partner", "both"}:
        return rng.choice((str(found.lead.id), str(found.lead.id), f"crm.lead,{found.lead.id}", f" {found.lead.id}"))
    if found.key == "stale":
        # Ids of the CRM before this one were higher than any of today's.
        return rng.choice((str(8_000_000 + found.lead.id), f"crm.lead,{8_000_000 + found.lead.id}", "tbd"))
    return rng.choice((None, None, ""))


def _account(rng: Random, found: Opportunity) -> str | None:
    if found.account:
        return found.account.number
    return rng.choices((None, "", f"{found.party.brand.split()[0].lower()[:10]}", "123"), (70, 20, 6, 4))[0]


def _aws_email(name: str) -> str:
    return f"{name.split()[0].lower()}@aws-field.example"
