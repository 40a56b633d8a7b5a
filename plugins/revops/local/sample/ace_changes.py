"""What a day does to the ACE database: two clocks that differ, new opportunities, a contact deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from psycopg import Cursor, sql

from revops.local.sample.ace import STAGES, opportunity_rows
from revops.local.sample.ace_directory import Directory, company_rows, contact_rows, make_directory, utc
from revops.local.sample.chance import stream
from revops.local.sample.day import Day, amount
from revops.local.sample.loading import Row, copy_rows
from revops.local.sample.pipeline import Pipeline
from revops.local.sample.recorder import Recorder, delete_rows

# Far above the numbers of the records that the sample starts with.
RECORDS_PER_DAY = 10_000_000


def last_opportunity(cursor: Cursor[tuple[object, ...]]) -> int:
    """Return the highest number of an opportunity's id, which is not the highest id in text order."""
    cursor.execute("select coalesce(max(substr(id, 2)::bigint), 0) from apn_opportunity")
    row = cursor.fetchone()
    return int(str(row[0])) if row else 0


def change_ace(cursor: Cursor[tuple[object, ...]], day: Day, *, seed: int, start: Pipeline, recorder: Recorder) -> None:
    """Apply the day to the ACE tables; here updated means that updated_at moved. Does not commit."""
    rng = stream(seed, "ace changes", day.number)
    at = utc(day.at)
    cursor.execute('select id from apn_contacts order by id collate "C"')
    delete_rows(cursor, "apn_contacts", [rng.choice([row[0] for row in cursor])], recorder=recorder)
    cursor.execute("select id from apn_opportunity order by length(id), id")
    ids = [str(row[0]) for row in cursor]
    total = len(ids)
    rng.shuffle(ids)
    edited = [ids.pop() for _ in range(amount(0.012, total, least=5))]
    for n, found in enumerate(edited):
        aws = at + timedelta(milliseconds=211 * n)
        cursor.execute(
            "update apn_opportunity set stage_name = %s, next_step = %s, close_date = close_date + %s,"
            " aws_last_modified_date = %s, updated_at = %s where id = %s",
            [
                rng.choice(STAGES),
                f"Follow up, day {day.number}",
                rng.choice((0, 7, 30)),
                aws,
                aws + timedelta(seconds=rng.randrange(1, 9), microseconds=rng.randrange(10**6)),
                found,
            ],
        )
    local = [ids.pop() for _ in range(amount(0.003, total, least=2))]
    cursor.execute(
        "update apn_opportunity set additional_comments = %s, updated_at = %s where id = any(%s)",
        [f"Checked by alliance team on day {day.number}", at + timedelta(seconds=11), local],
    )
    recorder.add("apn_opportunity", "updated", [*edited, *local])
    remote = [ids.pop() for _ in range(amount(0.003, total, least=2))]
    cursor.execute(
        "update apn_opportunity set aws_status = %s, aws_last_modified_date = %s where id = any(%s)",
        [f"Synchronised {day.number}", at + timedelta(seconds=12), remote],
    )
    recorder.add("apn_opportunity", "silent", remote)
    _insert(cursor, day, seed=seed, start=start, recorder=recorder)


def _insert(cursor: Cursor[tuple[object, ...]], day: Day, *, seed: int, start: Pipeline, recorder: Recorder) -> None:
    """Insert the day's opportunities; its customers keep the records that they have in ACE."""
    at = utc(day.at)
    ids: dict[str, set[object]] = {}
    for table in ("apn_companies", "apn_contacts"):
        cursor.execute(sql.SQL("select id from {}").format(sql.Identifier(table)))
        ids[table] = {row[0] for row in cursor}
    old = make_directory(start.opportunities)
    new = make_directory(day.opportunities, first=RECORDS_PER_DAY * day.number)
    directory = Directory(
        new.companies | {key: found for key, found in old.companies.items() if found in ids["apn_companies"]},
        new.contacts | {key: found for key, found in old.contacts.items() if found in ids["apn_contacts"]},
    )
    arguments = (seed, day.opportunities, directory)
    occasion, today = f"day {day.number}", day.at.date()

    def fresh(table: str, rows: Iterator[Row]) -> Iterator[Row]:
        return ({**row, "created_at": at, "updated_at": at} for row in rows if row["id"] not in ids.get(table, ()))

    for table, rows in (
        ("apn_companies", company_rows(*arguments, today=today, occasion=occasion)),
        ("apn_contacts", contact_rows(*arguments, today=today, occasion=occasion)),
        ("apn_opportunity", _dated(opportunity_rows(*arguments, today=today, occasion=occasion), day)),
    ):
        added = list(fresh(table, rows))
        copy_rows(cursor, table, added)
        recorder.add(table, "inserted", [row["id"] for row in added])


def _dated(rows: Iterator[Row], day: Day) -> Iterator[Row]:
    aws = utc(day.at) - timedelta(seconds=20)
    return ({**row, "aws_create_date": aws, "aws_last_modified_date": aws} for row in rows)
