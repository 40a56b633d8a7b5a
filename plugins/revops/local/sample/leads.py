"""The crm_lead rows of planned leads, and their tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from revops.local.sample import noise
from revops.local.sample.chance import WriteDates, between, moment, stream, whole_second
from revops.local.sample.loading import Row
from revops.local.sample.pipeline import Lead, Opportunity
from revops.local.sample.reference import (
    COMPANY_OF_ID,
    EUR_PER_USD,
    LOST_REASONS,
    OPEN_STAGES,
    STAGE_NEW,
    STAGE_WON,
    STATE_IDS,
    TAGS,
)

AWS_STAFF = (
    "Dana Whitlock",
    "Ravi Menon",
    "Ellen Schouten",
    "Marco Testa",
    "Aisha Bello",
    "Kim Larsson",
    "Joel Park",
)


def lead_rows(
    seed: int,
    leads: Iterable[Lead],
    opportunities: Iterable[Opportunity],
    *,
    today: date,
    occasion: str = "start",
) -> Iterator[Row]:
    """Yield the crm_lead rows; `occasion` names the random stream, one a day."""
    rng = stream(seed, "lead rows", occasion)
    dates = WriteDates(rng, today)
    first_of = {found.lead.id: found for found in opportunities if found.lead and found.part == 0}
    for lead in leads:
        created = moment(rng, lead.deal.created)
        yield {
            "id": lead.id,
            **_who(rng, lead),
            **_money(rng, lead),
            **_progress(rng, lead, created=created, today=today),
            **_ace_copy(rng, lead, first_of.get(lead.id)),
            "name": _title(rng, lead, is_in_ace=lead.id in first_of),
            "description": noise.description(rng, lead.deal.problem()),
            "user_id": None if rng.random() < 0.04 else lead.user.id,
            "company_id": None if rng.random() < 0.08 else lead.party.company_id,
            "team_id": lead.team_id,
            "referred": rng.choice((None, None, None, "AWS field team", "")),
            "color": 0,
            "message_bounce": 0,
            "create_uid": lead.user.id,
            "create_date": created,
            "write_uid": rng.choice((1, lead.user.id)),
            "write_date": dates.after(created),
            "x_contract_months": rng.choice((12, 24, 36, None)),
            "x_cloud_today": rng.choice(("On premises", "Azure", "GCP", "AWS direct", "colocation", "", None)),
            "x_migration_start": whole_second(moment(rng, lead.deal.close)) if rng.random() < 0.2 else None,
            "x_is_pod": rng.choice((True, False, None, None)),
            "x_payer_id": lead.account.payer_id if lead.account and rng.random() < 0.6 else None,
        }


def tag_rows(seed: int, leads: Iterable[Lead], *, occasion: str = "start") -> Iterator[Row]:
    """Yield the crm_tag_rel rows, about one and a half a lead."""
    rng = stream(seed, "tags", occasion)
    for lead in leads:
        for tag in sorted(rng.sample(range(len(TAGS)), rng.choice((0, 1, 1, 2, 3)))):
            yield {"lead_id": lead.id, "tag_id": tag + 2}


def annual_revenue(lead: Lead) -> Decimal:
    """Return a year of the deal in the currency of the lead's company; leads without one are in USD."""
    amount = Decimal(lead.deal.monthly) * 12
    in_euro = lead.party.company_id is not None and COMPANY_OF_ID[lead.party.company_id].currency == "EUR"
    return amount * EUR_PER_USD if in_euro else amount


def _title(rng: Random, lead: Lead, *, is_in_ace: bool) -> str:
    title = lead.deal.title()
    kind = rng.random()
    if kind > 0.985 and not is_in_ace:
        return " \t"  # an import without the column
    if kind < 0.3:
        return f"{lead.party.brand} - {title}"
    if kind < 0.36:
        return f"{title} ({lead.party.place.city})"
    if kind < 0.39:
        return f"RE: {title}\t"
    return title


def _who(rng: Random, lead: Lead) -> dict[str, object]:
    party, person = lead.party, lead.person
    unlinked = lead.outcome == "lead" and rng.random() < 0.7
    linked = person.partner_id if person and rng.random() < 0.55 else party.partner_id
    email = person.email if person else None
    return {
        "type": "lead" if lead.outcome == "lead" else "opportunity",
        "partner_id": None if unlinked or rng.random() < 0.03 else linked,
        "partner_name": noise.company_name(rng, party.name, party.place.city)
        if unlinked
        else rng.choice((party.name, None)),
        "contact_name": person.name if person else None,
        "function": person.title if person and rng.random() < 0.6 else None,
        "email_from": f'"{person.name}" <{email}>' if person and email and rng.random() < 0.1 else email,
        "email_normalized": email.lower() if email else None,
        "email_state": "correct" if email else None,
        "email_cc": f"team@{party.domain}" if rng.random() < 0.05 else None,
        "phone": person.phone if person else None,
        "phone_sanitized": person.phone.replace(" ", "").replace("-", "") if person and person.phone else None,
        "phone_state": "correct" if person and person.phone else None,
        "website": noise.website(rng, party.domain),
        "street": party.street,
        "zip": party.place.postal_code,
        "city": party.place.city,
        "state_id": STATE_IDS.get((party.country.code, party.place.state)),
        "country_id": party.country.id if rng.random() >= 0.06 else None,
        "c_aws_account_id": lead.account.id if lead.account else None,
    }


def _money(rng: Random, lead: Lead) -> dict[str, object]:
    yearly = annual_revenue(lead)
    # Odoo computes money in floats and stores whatever scale comes out.
    revenue: Decimal | None = rng.choices(
        (
            yearly,
            yearly.quantize(Decimal("0.01")),
            yearly / 7 * 7,
            yearly * Decimal("0.9") / 3,
            yearly / 12,
            Decimal(0),
            None,
        ),
        (52, 20, 6, 6, 5, 6, 5),
    )[0]
    recurring = (yearly / 12).quantize(Decimal("0.01")) if rng.random() < 0.3 else Decimal("0.0")
    return {
        "expected_revenue": revenue,
        "recurring_revenue": recurring * 12,
        "recurring_revenue_monthly": recurring,
        "recurring_plan": 1 if recurring else None,
        "prorated_revenue": revenue and revenue * Decimal("0.35"),
        "recurring_revenue_monthly_prorated": recurring * Decimal("0.35"),
    }


def _progress(rng: Random, lead: Lead, *, created: datetime, today: date) -> dict[str, object]:
    won, lost = lead.outcome == "won", lead.outcome == "lost"
    stage = STAGE_WON if won else STAGE_NEW if lead.outcome == "lead" else rng.choice(OPEN_STAGES)
    probability = 100.0 if won else 0.0 if lost else round(rng.random() * 89 + 1, 2)
    yesterday = today - timedelta(days=1)
    opened = min(created + timedelta(hours=rng.randint(1, 200)), max(created, moment(rng, yesterday)))
    closed_day = between(rng, min(lead.deal.created, yesterday), min(lead.deal.close, yesterday))
    closed = max(opened, moment(rng, closed_day)) if won or lost else None
    return {
        "stage_id": stage,
        "active": False if lost or lead.outcome == "archived" else None if rng.random() < 0.012 else True,
        "probability": probability,
        "automated_probability": probability if rng.random() < 0.7 else round(rng.random() * 100, 2),
        "lost_reason": rng.randint(1, len(LOST_REASONS)) if lost and rng.random() < 0.85 else None,
        "priority": rng.choice(("0", "1", "2", "3")),
        "date_open": whole_second(opened),
        "date_closed": closed and whole_second(closed),
        "date_last_stage_update": whole_second(closed or opened),
        "date_conversion": None if lead.outcome == "lead" else whole_second(opened),
        "date_deadline": lead.deal.close if rng.random() >= 0.1 else None,
        "day_open": round((opened - created).total_seconds() / 86400, 2),
        "day_close": round((closed - created).total_seconds() / 86400, 2) if closed else 0.0,
        "origination": rng.choice(("Partner Originated", "AWS Originated", "partner originated", "", None)),
    }


def _ace_copy(rng: Random, lead: Lead, found: Opportunity | None) -> dict[str, object]:
    """Return what an older synchronisation left on the lead: right, wrong, blank or nothing."""
    if found is None:
        lost_link = rng.random() < 0.02
        return {
            "aws_ace_id": f"O{rng.randrange(10_000, 99_999)}" if lost_link else None,
            "status": rng.choice((None, "Draft", "")),
        }
    if found.key not in {"crm", "both", "stale"}:
        return {
            "aws_ace_id": rng.choice((None, None, None, "")),
            "status": rng.choice((None, "Draft", "Pending Submission")),
        }
    deal, party = lead.deal, lead.party
    right = found.id if rng.random() < 0.9 else f" {found.id.lower()} "
    ace_id = right if found.key != "stale" else rng.choice((f"O{rng.randrange(10_000, 99_999)}", None))
    aws_person = rng.choice(AWS_STAFF)
    return {
        "aws_ace_id": ace_id,
        "status": rng.choice(("Approved", "Submitted", "In review", "Action Required", "Draft", "Pending Submission")),
        "c_aws_ace_useCase": deal.workload.use_case,
        "c_aws_ace_deliveryModel": rng.choice(("Managed Services", "Resell;Professional Services", "SaaS or PaaS")),
        "c_aws_ace_industry": noise.ampersand(party.industry),
        "c_aws_ace_customerCompanyName": noise.company_name(rng, party.name, party.place.city),
        "c_aws_ace_customerWebsite": noise.website(rng, party.domain),
        "c_aws_ace_customerDuns": party.duns if rng.random() < 0.3 else None,
        "c_aws_ace_awsAccountId": found.account.number if found.account else rng.choice((None, "")),
        "c_aws_ace_expectedMonthlyAwsRevenue": Decimal(deal.monthly),
        "c_aws_ace_opportunityOwnership": rng.choice(("Partner Referral", "AWS Referral")),
        "c_aws_ace_partnerAcceptanceStatus": rng.choice(("Accepted", "Not Required", None)),
        "c_aws_ace_partnerPrimaryNeedFromAws": "Co-Sell - Architectural Validation" if rng.random() < 0.3 else None,
        "c_aws_ace_targetCloseDate": deal.close + timedelta(days=rng.choice((0, 0, 0, 30))),
        "c_aws_ace_projectDescription": deal.problem(1),
        "c_aws_ace_nextStep": deal.next_step(),
        "c_aws_ace_aWSStage": rng.choice(("Prospect", "Qualified", "Technical Validation", "Launched", "Closed Lost")),
        "c_aws_ace_aWSCloseDate": deal.close if rng.random() < 0.4 else None,
        "c_aws_ace_aWSSalesRepName": aws_person,
        "c_aws_ace_aWSSalesRepEmail": f"{aws_person.split()[0].lower()}@aws-field.example",
        "c_aws_ace_aWSAccountOwnerName": rng.choice((*AWS_STAFF, None)),
        "c_aws_ace_lastModifiedDate": whole_second(moment(rng, deal.created + timedelta(days=3))),
    }
