"""Everything that (seed, first day, scale) decides, so that a later day plans with the same customers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from revops.local.sample.accounts import Account, make_accounts
from revops.local.sample.parties import Parties, make_parties
from revops.local.sample.pipeline import Pipeline, make_pipeline


@dataclass(frozen=True)
class Plan:
    """The sample as it starts, before it is written into the databases."""

    parties: Parties
    accounts: tuple[Account, ...]
    pipeline: Pipeline


def make_plan(seed: int, started: date, scale: float) -> Plan:
    """Return the plan; a pure function of its arguments."""
    parties = make_parties(seed, scale)
    accounts = make_accounts(seed, scale, parties.customers)
    pipeline = make_pipeline(seed, scale, parties=parties, accounts=accounts, today=started)
    return Plan(parties, accounts, pipeline)
