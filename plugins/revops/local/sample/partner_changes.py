"""What a day does to res_partner and, through it, to the tables that refer to partners."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from psycopg import Cursor, sql

from revops.local.sample.chance import WriteDates, stream
from revops.local.sample.day import Day, amount
from revops.local.sample.loading import copy_rows
from revops.local.sample.parties import FIRST_PARTNER_ID, party_rows
from revops.local.sample.recorder import Recorder, delete_rows, keys_of, references


def change_partners(cursor: Cursor[tuple[object, ...]], day: Day, *, seed: int, recorder: Recorder) -> None:
    """Apply the day to res_partner. Does not commit."""
    rng = stream(seed, "partner changes", day.number)
    _delete(cursor, rng, recorder=recorder)
    _merge(cursor, rng, recorder=recorder)
    cursor.execute("select id from res_partner where id >= %s order by id", [FIRST_PARTNER_ID])
    ids = [int(str(row[0])) for row in cursor]
    rng.shuffle(ids)
    edited = ids[: amount(0.01, len(ids), least=3)]
    for n, partner in enumerate(edited):
        cursor.execute(
            "update res_partner set street2 = %s, comment = concat(comment, ' Moved.'), write_uid = 2,"
            " write_date = %s where id = %s",
            [
                f"Floor {rng.randint(1, 30)}",
                day.at + timedelta(seconds=4, milliseconds=50 * (n // 3)),
                partner,
            ],
        )
    recorder.add("res_partner", "updated", edited)
    ranked = ids[len(edited) : 2 * len(edited)]
    # Posting an invoice counts customers up by raw SQL.
    cursor.execute("update res_partner set customer_rank = coalesce(customer_rank, 0) + 1 where id = any(%s)", [ranked])
    recorder.add("res_partner", "silent", ranked)
    _rename(cursor, rng, day, recorder=recorder)
    _insert(cursor, rng, day, recorder=recorder)


def _delete(cursor: Cursor[tuple[object, ...]], rng: Random, *, recorder: Recorder) -> None:
    """Delete a contact that nothing holds; leads lose their partner silently."""
    held = sql.SQL(" union all ").join(
        sql.SQL("select {} from {}").format(sql.Identifier(column), sql.Identifier(child))
        for child, column, action in references(cursor, "res_partner")
        if action == "r"
    )
    cursor.execute(
        sql.SQL(
            "select id from res_partner where id >= %s and not is_company"
            " and id not in (select h.id from ({}) h (id) where h.id is not null) order by id"
        ).format(held),
        [FIRST_PARTNER_ID],
    )
    free = [row[0] for row in cursor]
    if free:
        delete_rows(cursor, "res_partner", [rng.choice(free)], recorder=recorder)


def _merge(cursor: Cursor[tuple[object, ...]], rng: Random, *, recorder: Recorder) -> None:
    """Merge two companies: raw SQL re-points every foreign key, then the loser goes. No write date moves."""
    cursor.execute("select id from res_partner where id >= %s and is_company order by id", [FIRST_PARTNER_ID])
    winner, loser = rng.sample([row[0] for row in cursor], 2)
    for child, column, _ in references(cursor, "res_partner"):
        recorder.add(child, "silent", keys_of(cursor, child, column, [loser]))
        cursor.execute(
            sql.SQL("update {} set {} = %s where {} = %s").format(
                sql.Identifier(child), sql.Identifier(column), sql.Identifier(column)
            ),
            [winner, loser],
        )
    delete_rows(cursor, "res_partner", [loser], recorder=recorder)
    recorder.number("res_partner", "merged", 1)
    cursor.execute("insert into sample.merged values ('res_partner', %s, %s)", [loser, winner])


def _rename(cursor: Cursor[tuple[object, ...]], rng: Random, day: Day, *, recorder: Recorder) -> None:
    """Rename a company, which rewrites all its contacts and addresses in one transaction."""
    cursor.execute(
        "select commercial_partner_id from res_partner where id >= %s group by 1 having count(*) > 2 order by 1",
        [FIRST_PARTNER_ID],
    )
    company = rng.choice([row[0] for row in cursor])
    cursor.execute(
        "update res_partner set name = case when id = %(id)s then name || ' Group' else name end,"
        " commercial_company_name = commercial_company_name || ' Group',"
        " display_name = display_name || ' (Group)', write_date = %(at)s"
        " where commercial_partner_id = %(id)s returning id",
        {"id": company, "at": day.at + timedelta(seconds=6, microseconds=77)},
    )
    recorder.add("res_partner", "updated", [row[0] for row in cursor])


def _insert(cursor: Cursor[tuple[object, ...]], rng: Random, day: Day, *, recorder: Recorder) -> None:
    dates = WriteDates(rng, day.at.date())
    rows = [
        {**row, "create_date": day.at, "write_date": day.at}
        for party in day.customers
        for row in party_rows(rng, party, created=day.at.date(), dates=dates)
    ]
    copy_rows(cursor, "res_partner", rows)
    recorder.add("res_partner", "inserted", [row["id"] for row in rows])
