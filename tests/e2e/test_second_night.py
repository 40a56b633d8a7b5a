"""The second night: what a day has changed, and nothing else, under an Airflow that runs already."""

from __future__ import annotations

import email
import email.policy
from collections import Counter

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables
from tests.e2e.raw_and_source import DATABASES, assert_raw_equals_source
from tests.second_night import SecondNight, embedded_texts
from tests.stack import Commands

pytestmark = pytest.mark.e2e


def test_second_night_moves_only_what_changed(commands: Commands, second_night: SecondNight) -> None:
    assert second_night.states == {"odoo": "success", "ace": "success"}
    for source in DATABASES:
        assert_raw_equals_source(commands, load_source(source))
    gone = {
        key
        for (key,) in commands.query("revops_core", "select id from raw.odoo_crm_lead where _deleted_at is not null")
    }
    in_source = {key for (key,) in commands.query("odoo", "select id from crm_lead")}
    assert gone == second_night.leads_before - in_source
    assert gone
    changed, read, total = commands.query(
        "revops_core",
        "select sum(inserted + updated + deleted), sum(rows_read), sum(source_rows) from ops.load "
        "where run_id = (select run_id from ops.load order by load_id desc limit 1)",
    )[0]
    assert 0 < int(str(changed)) <= int(str(read)) + len(gone) * 100
    assert int(str(read)) < int(str(total))
    encoded = commands.query(
        "revops_core",
        "select sum(encoded) from ops.embedding_run where run_id in "
        "(select run_id from ops.embedding_run group by run_id order by max(embedding_run_id) desc limit 2)",
    )[0][0]
    assert int(str(encoded)) == len(embedded_texts(commands) - second_night.texts_before)
    columns = commands.query("revops_core", "select column_name from ops.schema_change where change = 'column_added'")
    assert columns, "the day adds a custom field"


def test_the_second_night_agrees_with_a_full_refresh(commands: Commands, second_night: SecondNight) -> None:
    commands.stack.postgres.start()
    dsn = make_conninfo(commands.stack.uri("revops_core", "revops"), options="-c role=revops_transform")

    def core() -> dict[str, Counter[object]]:
        return {
            name: Counter(
                commands.query("revops_core", f"select (to_jsonb(t) - 'transform_run_id')::text from core.{name} as t")
            )
            for name in {*core_tables("odoo"), *core_tables("ace")}
        }

    runs = commands.query("revops_core", "select full_reason from ops.transform_run where target = 'core.bill_line'")
    assert (None,) in runs, "no run of the second night was incremental"
    before = core()
    with psycopg.connect(dsn) as warehouse:
        for source in DATABASES:
            for name in core_tables(source):
                result = transform_table(
                    warehouse,
                    target=TARGETS[name],
                    source=source,
                    run_id="by hand",
                    include=INCLUDE,
                    full_refresh=True,
                )
                assert (result.inserted, result.updated, result.deleted) == (0, 0, 0), result
    assert core() == before
    assert all(before.values())


def test_a_changed_source_is_mailed(commands: Commands, second_night: SecondNight) -> None:
    mails = [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted(commands.stack.mail_folder.glob("*.eml"))
    ]
    subjects = [str(mail["Subject"]) for mail in mails]
    assert any("the source has changed" in subject for subject in subjects), subjects
