"""One real project of one customer, before anybody typed it into the CRM or into ACE."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from revops.local.sample.parties import Party
from revops.local.sample.workloads import INDUSTRY_NOTES, WORKLOADS, Workload

OWN_LANGUAGE_SHARE = 0.35


@dataclass(frozen=True)
class Deal:
    """What two systems later tell in their own words; `monthly` is AWS spend in whole USD a month."""

    workload: Workload
    slots: dict[str, str]
    telling: int
    note: str
    language: str | None
    monthly: int
    created: date
    close: date

    def title(self, variant: int = 0) -> str:
        """Return the title; variant 0 in the customer's language where the deal has one."""
        if variant == 0 and self.language:
            return self.workload.local[self.language][0].format_map(self.slots)
        titles = self.workload.titles
        return titles[(self.telling + variant) % len(titles)].format_map(self.slots)

    def problem(self, variant: int = 0) -> str:
        """Return the customer's problem in one to three sentences, variants in other words."""
        if variant == 0 and self.language:
            return self.workload.local[self.language][1].format_map(self.slots)
        problems = self.workload.problems
        return problems[(self.telling + variant) % len(problems)].format_map(self.slots) + self.note

    def next_step(self, variant: int = 0) -> str:
        """Return the next step in one line."""
        steps = self.workload.next_steps
        return steps[(self.telling + variant) % len(steps)].format_map(self.slots)


def make_deal(rng: Random, party: Party, *, created: date) -> Deal:
    """Return a project that `party` brings up on `created`."""
    fitting = [found for found in WORKLOADS if not found.industries or party.industry in found.industries]
    workload = rng.choices(fitting, [4 if found.industries else 1 for found in fitting])[0]
    close = created + timedelta(days=rng.randint(25, 330))
    low, high = workload.monthly
    language = party.country.language if rng.random() < OWN_LANGUAGE_SHARE else None
    return Deal(
        workload=workload,
        slots={
            "company": party.brand,
            "city": party.place.city,
            "n": str(rng.choice((12, 18, 25, 34, 40, 55, 60, 75, 90, 120, 140, 180, 220, 310, 450))),
            "tb": str(rng.choice((4, 9, 15, 22, 35, 48, 60, 85, 120, 240))),
            "users": str(rng.choice((60, 85, 140, 200, 320, 450, 800, 1200, 2500, 6000))),
            "quarter": f"Q{(close.month + 2) // 3} {close.year}",
        },
        telling=rng.randrange(12),
        note=f" {rng.choice(INDUSTRY_NOTES[party.industry])}" if rng.random() < 0.55 else "",
        language=language if language in workload.local else None,
        monthly=round(low * (high / low) ** rng.random(), -1),
        created=created,
        close=close,
    )
