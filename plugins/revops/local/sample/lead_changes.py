"""What a day does to crm_lead and its tags."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from psycopg import Cursor, sql

from revops.local.sample.chance import stream, whole_second
from revops.local.sample.day import Day, amount
from revops.local.sample.leads import lead_rows, tag_rows
from revops.local.sample.loading import Row, columns_of, copy_rows
from revops.local.sample.recorder import Recorder, delete_rows, keys_of
from revops.local.sample.reference import LOST_REASONS, SALES_USERS, STAGE_WON
from revops.local.sample.state import take_ids

CUSTOM_FIELDS = (
    "x_partner_program",
    "x_executive_sponsor",
    "x_renewal_risk",
    "x_data_residency",
    "x_next_review",
)
NEW_FIELD_EVERY = 3


def change_leads(cursor: Cursor[tuple[object, ...]], day: Day, *, seed: int, recorder: Recorder) -> None:
    """Apply the day to crm_lead and its tags; a lead takes at most one part. Does not commit."""
    rng = stream(seed, "lead changes", day.number)
    cursor.execute("select id from crm_lead order by id")
    known = [int(str(row[0])) for row in cursor]
    rng.shuffle(known)
    hand_out = iter(known)
    total = len(known)

    def some(share: float, least: int) -> list[int]:
        return [lead for lead, _ in zip(hand_out, range(amount(share, total, least=least)), strict=False)]

    winner, loser = some(0, 2)
    _merge(cursor, winner, loser, at=day.at, recorder=recorder)
    deleted = some(0.002, 2)
    delete_rows(cursor, "crm_lead", list(deleted), recorder=recorder)
    _score(cursor, rng, some(0.02, 4), recorder=recorder)
    _close(
        cursor,
        rng,
        won=some(0.002, 1),
        lost=some(0.002, 1),
        archived=some(0.001, 1),
        at=day.at,
        recorder=recorder,
    )
    edited = some(0.015, 6)
    _edit(cursor, rng, edited, at=day.at, recorder=recorder)
    _touch(cursor, some(0.002, 1), at=day.at, recorder=recorder)
    _retag(cursor, rng, edited[: len(edited) // 2], day=day, recorder=recorder)
    if day.number % NEW_FIELD_EVERY == 1:
        _add_field(cursor, rng, edited, day=day, recorder=recorder)
    _insert(cursor, day, seed=seed, recorder=recorder)


def _insert(cursor: Cursor[tuple[object, ...]], day: Day, *, seed: int, recorder: Recorder) -> None:
    cursor.execute("select id from res_partner")
    partners = {row[0] for row in cursor}
    occasion = f"day {day.number}"

    def rows() -> Iterator[Row]:
        opened = whole_second(day.at)
        for row in lead_rows(seed, day.leads, day.opportunities, today=day.at.date(), occasion=occasion):
            yield {
                **row,
                # A customer of the first plan may be deleted or merged by now.
                "partner_id": row["partner_id"] if row["partner_id"] in partners else None,
                "create_date": day.at,
                "write_date": day.at,
                "date_open": opened,
                "date_last_stage_update": opened,
                "date_conversion": row["date_conversion"] and opened,
                "day_open": 0.0,
            }

    copy_rows(cursor, "crm_lead", rows())
    recorder.add("crm_lead", "inserted", [lead.id for lead in day.leads])
    cursor.execute("select id from crm_tag")
    tags = {row[0] for row in cursor}
    links = [link for link in tag_rows(seed, day.leads, occasion=occasion) if link["tag_id"] in tags]
    copy_rows(cursor, "crm_tag_rel", links)
    recorder.add("crm_tag_rel", "inserted", [(link["lead_id"], link["tag_id"]) for link in links])


def _edit(cursor: Cursor[tuple[object, ...]], rng: Random, ids: list[int], *, at: datetime, recorder: Recorder) -> None:
    """Users edit: a few leads share a transaction, and with it a write date."""
    for n, lead in enumerate(ids):
        cursor.execute(
            "update crm_lead set description = coalesce(description, '') || %s, priority = %s,"
            " expected_revenue = coalesce(expected_revenue, 0) + %s, write_uid = %s, write_date = %s"
            " where id = %s",
            [
                rng.choice(
                    (
                        "\r\nCustomer asked for an offer.",
                        "<p>Called, no answer</p>",
                        "\n- budget confirmed ✅",
                    )
                ),
                rng.choice(("0", "1", "2", "3")),
                Decimal(rng.randrange(100, 90_000)) / 3 if n % 4 == 0 else Decimal(rng.randrange(100, 9_000)),
                rng.choice(SALES_USERS).id,
                at + timedelta(milliseconds=137 * (n // 4), microseconds=411),
                lead,
            ],
        )
    recorder.add("crm_lead", "updated", ids)


def _touch(cursor: Cursor[tuple[object, ...]], ids: list[int], *, at: datetime, recorder: Recorder) -> None:
    """Save without a change, which moves the write date alone."""
    cursor.execute(
        "update crm_lead set write_date = %s where id = any(%s)",
        [at + timedelta(seconds=3, microseconds=5), ids],
    )
    recorder.add("crm_lead", "updated", ids)


def _score(cursor: Cursor[tuple[object, ...]], rng: Random, ids: list[int], *, recorder: Recorder) -> None:
    """Lead scoring: raw SQL that leaves the write date alone."""
    for lead in ids:
        cursor.execute(
            "update crm_lead set"
            " automated_probability = %(new)s / case when automated_probability = %(new)s then 2 else 1 end,"
            " probability = case when active and probability < 100 then %(new)s else probability end"
            " where id = %(id)s",
            {"new": round(1 + rng.random() * 98, 2), "id": lead},
        )
    recorder.add("crm_lead", "silent", ids)


def _close(
    cursor: Cursor[tuple[object, ...]],
    rng: Random,
    *,
    won: list[int],
    lost: list[int],
    archived: list[int],
    at: datetime,
    recorder: Recorder,
) -> None:
    closed = whole_second(at)
    cursor.execute(
        "update crm_lead set active = true, stage_id = %s, probability = 100, automated_probability = 100,"
        " lost_reason = null, date_closed = %s, date_last_stage_update = %s, write_date = %s"
        " where id = any(%s)",
        [STAGE_WON, closed, closed, at + timedelta(seconds=1), won],
    )
    cursor.execute(
        "update crm_lead set active = false, probability = 0, lost_reason = %s, date_closed = %s,"
        " write_date = %s where id = any(%s)",
        [rng.randint(1, len(LOST_REASONS)), closed, at + timedelta(seconds=1, milliseconds=80), lost],
    )
    cursor.execute(
        "update crm_lead set active = active is false, write_date = %s where id = any(%s)",
        [at + timedelta(seconds=1, milliseconds=90), archived],
    )
    recorder.add("crm_lead", "updated", [*won, *lost, *archived])
    for kind, ids in (("won", won), ("lost", lost), ("archived_or_back", archived)):
        recorder.number("crm_lead", kind, len(ids))


def _merge(cursor: Cursor[tuple[object, ...]], winner: int, loser: int, *, at: datetime, recorder: Recorder) -> None:
    """Merge two leads: the winner takes text, tags and orders; other references become null."""
    at += timedelta(seconds=2)
    cursor.execute(
        "update crm_lead w set write_date = %s,"
        " description = concat_ws(E'\\n----\\n', w.description, l.name, l.description)"
        " from crm_lead l where w.id = %s and l.id = %s",
        [at, winner, loser],
    )
    cursor.execute(
        "insert into crm_tag_rel select %s, tag_id from crm_tag_rel where lead_id = %s"
        " on conflict do nothing returning tag_id",
        [winner, loser],
    )
    recorder.add("crm_tag_rel", "inserted", [(winner, row[0]) for row in cursor])
    orders = keys_of(cursor, "sale_order", "opportunity_id", [loser])
    cursor.execute(
        "update sale_order set opportunity_id = %s, write_date = %s where opportunity_id = %s",
        [winner, at, loser],
    )
    recorder.add("sale_order", "updated", orders)
    recorder.add("crm_lead", "updated", [winner])
    delete_rows(cursor, "crm_lead", [loser], recorder=recorder)
    recorder.number("crm_lead", "merged", 1)
    cursor.execute("insert into sample.merged values ('crm_lead', %s, %s)", [loser, winner])


def _retag(cursor: Cursor[tuple[object, ...]], rng: Random, ids: list[int], *, day: Day, recorder: Recorder) -> None:
    """Make a new tag and delete an old one; its links go without a move of any lead's write date."""
    cursor.execute("select id from crm_tag order by id")
    old = rng.choice([row[0] for row in cursor])
    delete_rows(cursor, "crm_tag", [old], recorder=recorder)
    (new,) = take_ids(cursor, "crm_tag", 1)
    row = {"id": new, "name": f"Campaign {day.number}", "color": 3, "create_uid": 2, "write_uid": 2}
    copy_rows(cursor, "crm_tag", [row | {"create_date": day.at, "write_date": day.at}])
    recorder.add("crm_tag", "inserted", [new])
    copy_rows(cursor, "crm_tag_rel", [{"lead_id": lead, "tag_id": new} for lead in ids])
    recorder.add("crm_tag_rel", "inserted", [(lead, new) for lead in ids])


def _add_field(
    cursor: Cursor[tuple[object, ...]], rng: Random, ids: list[int], *, day: Day, recorder: Recorder
) -> None:
    """A user makes a custom field and fills it on leads edited anyway."""
    taken = set(columns_of(cursor, "crm_lead"))
    name = next((name for name in CUSTOM_FIELDS if name not in taken), f"x_field_{day.number}")
    # A short wait: readers hold this table for a moment, and the whole day may be tried again.
    cursor.execute("set local lock_timeout = '30s'")
    cursor.execute(sql.SQL("alter table crm_lead add column {} varchar").format(sql.Identifier(name)))
    for lead in ids:
        value = rng.choice(("yes", "no", "", "to be clarified", "Q3"))
        cursor.execute(sql.SQL("update crm_lead set {} = %s where id = %s").format(sql.Identifier(name)), [value, lead])
    recorder.number("crm_lead", "column_added", 1)
