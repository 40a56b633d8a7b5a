"""Let one more day pass in the sample sources."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import structlog
from psycopg import Connection, Cursor

from revops.local.sample import state, truth
from revops.local.sample.ace_changes import change_ace, last_opportunity
from revops.local.sample.billing_changes import change_billing
from revops.local.sample.day import PARTNER_IDS_PER_PARTY, Day, make_day, new_customers, new_leads
from revops.local.sample.lead_changes import change_leads
from revops.local.sample.partner_changes import change_partners
from revops.local.sample.plan import Plan, make_plan
from revops.local.sample.recorder import Recorder
from revops.local.sample.state import State

log = structlog.get_logger()


def advance(
    odoo: Connection[tuple[object, ...]],
    ace: Connection[tuple[object, ...]],
    *,
    seed: int,
    today: date,
    truth_path: Path,
) -> dict[str, dict[str, int]]:
    """Apply the next day's changes to both sample databases and to the true matches at `truth_path`.

    What changes depends on the seed and the number of the day only; times are early on `today`, and after the
    last day's where `today` is that day again. Commits once a database, Odoo first; a day that was cut off
    between the two is finished by the next call. Returns the rows changed by table and kind, see Recorder.
    Raises LookupError where a database is no sample, ValueError where the sample has another seed.
    """
    recorder = Recorder()
    with ace.transaction(), ace.cursor() as in_ace, odoo.transaction(), odoo.cursor() as in_odoo:
        known, behind = state.read(in_odoo, "Odoo"), state.read(in_ace, "ACE")
        _refuse_strangers(known, behind, seed=seed)
        plan = make_plan(seed, known.started, known.scale)
        if known.day == behind.day:
            day = _begin_day(in_odoo, plan, known, today=today, last_opportunity=last_opportunity(in_ace))
            change_partners(in_odoo, day, seed=seed, recorder=recorder)
            change_leads(in_odoo, day, seed=seed, recorder=recorder)
            change_billing(in_odoo, day, seed=seed, scale=known.scale, accounts=plan.accounts, recorder=recorder)
        else:
            day = _planned_day(in_odoo, plan, known, last_opportunity=last_opportunity(in_ace))
        change_ace(in_ace, day, seed=seed, start=plan.pipeline, recorder=recorder)
        in_ace.execute("insert into sample.day values (%s, %s)", [day.number, day.at])
        # Before the commits: pairs ahead of the rows come right at the next call, pairs behind never would.
        truth.write(truth_path, _matches(in_odoo, in_ace, day, truth_path))
    counts = recorder.counts()
    log.info("sample sources advanced", day=day.number, changes=counts)
    return counts


def _refuse_strangers(odoo: State, ace: State, *, seed: int) -> None:
    if {odoo.seed, ace.seed} != {seed} or odoo.started != ace.started or odoo.scale != ace.scale:
        raise ValueError(
            f"the sample sources have seed {odoo.seed} (Odoo) and {ace.seed} (ACE), not {seed}, or are"
            " of two samples: pass their seed, or drop both sample databases and create them again"
        )
    if odoo.day - ace.day not in {0, 1}:
        raise ValueError(
            f"the sample Odoo is at day {odoo.day} and ACE at day {ace.day}: one of them was"
            " replaced; drop both sample databases and create them again"
        )


def _begin_day(
    cursor: Cursor[tuple[object, ...]], plan: Plan, known: State, *, today: date, last_opportunity: int
) -> Day:
    number, at = known.day + 1, state.next_moment(known.at, today)
    leads = state.take_ids(cursor, "crm_lead", new_leads(known.scale))
    partners = state.take_ids(cursor, "res_partner", PARTNER_IDS_PER_PARTY * new_customers(known.scale))
    cursor.execute("insert into sample.day values (%s, %s, %s, %s)", [number, at, leads.start, partners.start])
    return make_day(
        plan,
        seed=known.seed,
        scale=known.scale,
        number=number,
        at=at,
        first_lead_id=leads.start,
        first_partner_id=partners.start,
        last_opportunity=last_opportunity,
    )


def _planned_day(cursor: Cursor[tuple[object, ...]], plan: Plan, known: State, *, last_opportunity: int) -> Day:
    """Return the day that Odoo has already seen."""
    cursor.execute("select first_lead_id, first_partner_id from sample.day where number = %s", [known.day])
    row = cursor.fetchone()
    if row is None:
        raise LookupError(f"day {known.day} is missing in sample.day: drop both sample databases and create them again")
    return make_day(
        plan,
        seed=known.seed,
        scale=known.scale,
        number=known.day,
        at=known.at,
        first_lead_id=int(str(row[0])),
        first_partner_id=int(str(row[1])),
        last_opportunity=last_opportunity,
    )


def _matches(
    in_odoo: Cursor[tuple[object, ...]], in_ace: Cursor[tuple[object, ...]], day: Day, path: Path
) -> list[truth.Match]:
    """Return the true matches after the day: those of merged leads follow, those of deleted rows go."""
    in_odoo.execute("select loser, winner from sample.merged where table_name = 'crm_lead'")
    merged = {row[0]: row[1] for row in in_odoo}
    in_odoo.execute("select id from crm_lead")
    leads = {row[0] for row in in_odoo}
    in_ace.execute("select id from apn_opportunity")
    opportunities = {row[0] for row in in_ace}
    pairs = {match.ace_opportunity_id: match for match in [*truth.read(path), *truth.matches_of(day.opportunities)]}
    kept: list[truth.Match] = []
    for match in pairs.values():
        lead: object = match.odoo_lead_id
        while lead in merged:
            lead = merged[lead]
        if lead in leads and match.ace_opportunity_id in opportunities:
            kept.append(truth.Match(match.ace_opportunity_id, int(str(lead)), match.kind))
    return kept
