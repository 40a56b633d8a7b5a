"""Which numbers become anomalies, what their states mean for later runs, and that judging can be repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from anomaly_history import (
    CONFIG,
    TODAY,
    USUAL,
    Numbers,
    forget,
    judge_run,
    night,
    remember,
    remember_rows,
    remember_usual,
    review,
)
from builders import query

from revops.quality.anomaly import TableEmptiedError, judge, require_rows
from revops.quality.anomaly_record import Anomaly
from revops.quality.metrics import measure_tables

pytestmark = pytest.mark.db

ANOMALIES = (
    "select run_id, dataset, metric, column_name, value, severity, state, first_seen_run from ops.anomaly "
    "order by anomaly_id"
)
ALL_ANOMALIES = "select a::text from ops.anomaly as a order by anomaly_id"
ALL_NUMBERS = "select m::text from ops.quality_metric as m order by 1"


@pytest.fixture
def owner(warehouse_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def quality(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_quality")


def found(anomalies: list[Anomaly]) -> list[tuple[str, str | None]]:
    return [(anomaly.metric, anomaly.column) for anomaly in anomalies]


PLANTED: list[tuple[tuple[str, str | None], float, str]] = [
    (("rows", None), 0.5, "critical"),
    (("rows", None), 2.0, "critical"),
    (("inserted", None), 40, "critical"),
    (("updated", None), 60, "critical"),
    (("deleted", None), 90, "critical"),
    (("data_age_s", "write_date"), 12, "critical"),
    (("load_age_s", None), 288, "critical"),
    (("null_share", "stage"), 3, "critical"),
    (("null_share", "stage"), 0.1, "critical"),
    (("unusable_share", "amount"), 20, "critical"),
    (("distinct_values", "stage"), 0.4, "critical"),
    (("mean", "amount"), 2, "critical"),
    (("p05", "amount"), 0.1, "critical"),
    (("p50", "amount"), 3, "critical"),
    (("p95", "amount"), 10, "critical"),
    (("mean", "amount"), 1.26, "warning"),
]


@pytest.mark.parametrize(("key", "factor", "severity"), PLANTED)
def test_an_anomaly_in_each_metric_is_found_and_nothing_else(
    owner: psycopg.Connection, quality: psycopg.Connection, key: tuple[str, str | None], factor: float, severity: str
) -> None:
    today = remember_usual(owner, 45, seed=3)
    remember(owner, {**today, key: today[key] * factor}, days=0)
    (anomaly,) = judge_run(quality)
    assert (anomaly.metric, anomaly.column) == key
    assert query(owner, ANOMALIES) == [
        ("day 0", "raw.odoo_t", *key, today[key] * factor, severity, "open", "day 0"),
    ]
    row = query(
        owner,
        "select value, expected_low, expected_high, score, reason, reviewed_by, reviewed_at, note from ops.anomaly",
    )[0]
    assert row == (
        anomaly.value,
        anomaly.expected_low,
        anomaly.expected_high,
        anomaly.score,
        anomaly.reason,
        None,
        None,
        None,
    )
    assert anomaly.score is not None
    assert (anomaly.score >= CONFIG.critical) == (severity == "critical")
    assert not anomaly.expected_low <= anomaly.value <= anomaly.expected_high
    usual = USUAL[key][0]
    assert key[0] in ("inserted", "updated", "deleted") or anomaly.expected_low <= usual <= anomaly.expected_high
    # Beside each of the run's numbers stands what was expected; one belongs to the anomaly.
    told = query(
        owner,
        "select metric, column_name, anomaly_id from ops.quality_metric where run_id = 'day 0' "
        "and expected_low is not null "
        "and (value between expected_low and expected_high) = (anomaly_id is null) or anomaly_id is not null",
    )
    one_sided = {key for key in USUAL if CONFIG.metrics[key[0]].sides == "high"}  # type: ignore[index]
    assert {row[:2] for row in told} >= set(USUAL) - one_sided
    assert [row for row in told if row[2] is not None] == [(*key, anomaly.anomaly_id)]
    require_rows([anomaly])


def test_sixty_clean_nights_raise_no_alarm(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    today = remember_usual(owner, 60, seed=4)
    for day in range(-60, 0):
        judge_run(quality, f"day {day}")
    remember(owner, today, days=0)
    judge_run(quality)
    # 61 nights with 13 numbers each: a hundredth would be 8.
    assert len(query(owner, ANOMALIES)) <= 3


def test_what_is_measured_is_judged(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    owner.execute(
        "set role revops_ingest; create table raw.odoo_t (id integer, stage text, amount numeric, write_date timestamp,"
        " _deleted_at timestamptz); insert into raw.odoo_t select n, 'stage ' || n % 40, 500,"
        " now() at time zone 'UTC' - interval '2 hours' from generate_series(1, 10000) n; reset role"
    )
    for day in range(-10, 0):
        measure_tables(quality, source="odoo", run_id=f"day {day}", tables=["raw.odoo_t"])
        assert judge_run(quality, f"day {day}") == []
    owner.execute("update raw.odoo_t set stage = null where id % 4 = 0; delete from raw.odoo_t where id > 5000")
    measure_tables(quality, source="odoo", run_id="day 0", tables=["raw.odoo_t"])
    anomalies = judge_run(quality)
    assert {(a.metric, a.column): round(a.value, 2) for a in anomalies} == {
        ("rows", None): 5000,
        ("null_share", "stage"): 0.25,
        ("distinct_values", "stage"): 30,
    }
    assert anomalies[0].reason in {a.reason for a in anomalies}
    by_metric = {a.metric: a for a in anomalies}
    assert by_metric["null_share"].reason == ("raw.odoo_t.stage: null_share is 25.00%, usual are 0.00% to 1.75%")
    assert by_metric["rows"].reason.startswith("raw.odoo_t: rows is 5,000, usual are 9,")


def test_too_little_history_says_nothing(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    remember_rows(owner, [1000] * 6)
    assert night(owner, quality, 5, days=0) == []
    assert query(owner, "select expected_low, expected_high, score from ops.quality_metric where run_id = 'day 0'") == [
        (None, None, None)
    ]
    assert found(night(owner, quality, 5, days=1)) == [("rows", None)]


def test_a_new_column_is_judged_when_it_has_history(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    for day in range(-20, 0):
        numbers: Numbers = {("rows", None): 100}
        if day >= -7:
            numbers["null_share", "new"] = 0.0
        if day >= -6:
            numbers["null_share", "newer"] = 0.0
        if day < -2:
            numbers["null_share", "dropped"] = 0.0
        remember(owner, numbers, days=day)
    today = {("rows", None): 100.0, ("null_share", "new"): 0.9, ("null_share", "newer"): 0.9}
    assert found(night(owner, quality, today, days=0)) == [("null_share", "new")]


def test_numbers_that_nobody_judges_are_kept_without_judgement(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    for day in range(-20, 1):
        remember(
            owner,
            {("rows", None): 100, ("rows_gone", None): 1e6 * (day == 0), ("mean", "n"): 1e6 * (day == 0)},
            days=day,
        )
    config = CONFIG.model_copy(update={"not_judged": ("raw.odoo_t.n.*",)})
    assert judge_run(quality, config=config) == []
    assert found(judge_run(quality)) == [("mean", "n")]


# States, and what they mean for the runs to come.


def test_one_open_row_a_number_which_repeats_update(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    remember_rows(owner, [1000] * 20)
    (first,) = night(owner, quality, 500, days=0)
    (second,) = night(owner, quality, 850, days=1)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.anomaly_id == second.anomaly_id
    assert query(owner, ANOMALIES) == [("day 1", "raw.odoo_t", "rows", None, 850, "warning", "open", "day 0")]
    assert query(owner, "select seen_at < last_seen_at from ops.anomaly") == [(True,)]
    before = query(owner, ALL_ANOMALIES)
    assert night(owner, quality, 1000, days=2) == []
    assert query(owner, ALL_ANOMALIES) == before


def test_each_table_source_metric_and_column_has_an_open_row_of_its_own(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    usual: Numbers = {("rows", None): 1000, ("mean", "a"): 10, ("mean", "b"): 10, ("p50", "a"): 10}
    places = [("odoo", "core.account"), ("ace", "core.account"), ("odoo", "raw.odoo_t")]
    for source, dataset in places:
        for day in range(-10, 0):
            remember(owner, usual, days=day, source=source, dataset=dataset)
        remember(owner, {key: 3 * value for key, value in usual.items()}, days=0, source=source, dataset=dataset)
    for source in ("odoo", "ace"):
        judge_run(quality, source=source)
    assert sorted(query(owner, "select source, dataset, metric, column_name from ops.anomaly"), key=str) == sorted(
        [(*place, *key) for place in places for key in usual], key=str
    )


@pytest.mark.parametrize(
    ("state", "rows_after"),
    [
        # Nobody has looked: the new level stays unusual, under the same row.
        ("open", [("day 12", 5000, "open", "day 0")]),
        # It is the new usual: nothing more is said.
        ("accepted", [("day 9", 5000, "accepted", "day 0")]),
        # It was a fault: the next run that sees it opens another row.
        ("dismissed", [("day 9", 5000, "dismissed", "day 0"), ("day 12", 5000, "open", "day 10")]),
    ],
)
def test_what_a_state_means_for_later_runs(
    owner: psycopg.Connection, quality: psycopg.Connection, state: str, rows_after: list[tuple[Any, ...]]
) -> None:
    remember_rows(owner, [1000] * 30)
    for day in range(10):
        (anomaly,) = night(owner, quality, 5000, days=day)
    if state != "open":
        review(quality, anomaly.anomaly_id, state)
    for day in range(10, 13):
        assert len(night(owner, quality, 5000, days=day)) == (0 if state == "accepted" else 1)
    kept = query(owner, "select run_id, value, state, first_seen_run from ops.anomaly order by anomaly_id")
    assert kept == rows_after
    # The old level is usual in every case.
    assert night(owner, quality, 1000, days=13) == []


def test_accepted_values_become_the_baseline(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    """When most of the history is at the new level, the level before it is what is unusual."""
    small = CONFIG.model_copy(update={"history_runs": 20})
    remember_rows(owner, [1000] * 20)
    for day in range(3):
        (anomaly,) = night(owner, quality, 5000, days=day)
    review(quality, anomaly.anomaly_id, "accepted")
    for day in range(3, 25):
        remember(owner, {("rows", None): 5000}, days=day)
        assert judge_run(quality, f"day {day}", config=small) == []
    remember(owner, {("rows", None): 1000}, days=25)
    assert len(judge_run(quality, "day 25", config=small)) == 1


def test_a_review_that_is_taken_back_counts_as_it_stands(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    remember_rows(owner, [1000] * 20)
    (anomaly,) = night(owner, quality, 5000, days=0)
    review(quality, anomaly.anomaly_id, "accepted")
    assert night(owner, quality, 5000, days=1) == []
    review(quality, anomaly.anomaly_id, "dismissed")
    assert len(night(owner, quality, 5000, days=2)) == 1


@pytest.mark.parametrize(
    ("verdicts", "counts"),
    [
        (["passed"], True),
        (["warned"], True),
        (["failed"], False),
        (["error"], False),
        # The task was cleared after the source had been mended, or broke later.
        (["failed", "passed"], True),
        (["passed", "failed"], False),
        ([], True),
    ],
)
def test_the_values_of_a_failed_run_do_not_count(
    owner: psycopg.Connection, quality: psycopg.Connection, verdicts: list[str], counts: bool
) -> None:
    remember_rows(owner, [1000] * 3)
    for day in range(10):
        run = remember(owner, {("rows", None): 5000}, days=day)
        # Of another source or layer a verdict says nothing.
        for source, layer, status in [
            *(("odoo", "raw", verdict) for verdict in verdicts),
            ("odoo", "core", "failed"),
            ("ace", "raw", "failed"),
        ]:
            owner.execute(
                "insert into ops.quality_run "
                "(run_id, source, layer, status, gate, expected, evaluated, seconds, engine) "
                "values (%s, %s, %s, %s, 'open', 1, 1, 1, 'soda')",
                (run, source, layer, status),
            )
    # With the ten runs the history suffices and 5,000 is usual; without them there are three.
    assert found(night(owner, quality, 50_000, days=10)) == ([("rows", None)] if counts else [])


def test_history_ends_after_so_many_runs_and_days(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    """A number that is judged by its level alone: 5,000 for a month, then 1,000 for ten days."""
    for day in range(-40, 1):
        remember(
            owner, {("rows", None): 1, ("distinct_values", "n"): 5000 if day < -10 or day == 0 else 1000}, days=day
        )

    def judged_with(**limits: int) -> list[tuple[str, str | None]]:
        return found(judge_run(quality, config=CONFIG.model_copy(update=limits)))

    assert judged_with() == []
    assert judged_with(history_runs=10) == [("distinct_values", "n")]
    assert judged_with(history_days=11) == [("distinct_values", "n")]
    assert judged_with(history_days=6) == []


def test_a_run_is_compared_with_the_runs_before_it(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    remember_rows(owner, [1000] * 20)
    judge_run(quality, "day -1")
    for day in range(20):
        remember(owner, {("rows", None): 5000}, days=day)
    assert judge_run(quality, "day -1") == []
    assert judge_run(quality, "day -15") == []
    assert len(judge_run(quality, "day 0")) == 1


# The floor: a table that had rows must have some.


def emptied(anomalies: list[Anomaly]) -> str:
    with pytest.raises(TableEmptiedError) as stopped:
        require_rows(anomalies)
    return str(stopped.value)


def test_a_table_that_had_rows_and_has_none_stops_the_run(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    """From the second run on, with no history to speak of; the other tables go on being judged."""
    for day, rows in ((-1, 1204), (0, 0)):
        remember(owner, {("rows", None): rows, ("deleted", None): 0}, days=day)
        remember(owner, {("rows", None): 50}, days=day, dataset="raw.odoo_u")
    anomalies = judge_run(quality)
    message = emptied(anomalies)
    ((number,),) = query(owner, "select anomaly_id from ops.anomaly")
    assert f"anomaly {number}: raw.odoo_t had 1,204 rows and has none" in message
    assert f"select * from ops.review_anomaly({number}, 'accepted', '<your name>', '<why>')" in message
    assert "accept_deletions does not" in message
    assert "raw.odoo_u" not in message
    assert query(owner, ANOMALIES) == [("day 0", "raw.odoo_t", "rows", None, 0, "critical", "open", "day 0")]
    assert query(owner, "select expected_low, expected_high, score from ops.anomaly") == [(1, 1204, None)]


def test_it_stops_every_run_until_somebody_decides(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    remember_rows(owner, [800] * 30)
    for day in range(4):
        assert "had 800 rows and has none" in emptied(night(owner, quality, 0, days=day))
    assert query(owner, ANOMALIES) == [("day 3", "raw.odoo_t", "rows", None, 0, "critical", "open", "day 0")]
    review(quality, 1, "dismissed")
    (again,) = night(owner, quality, 0, days=4)
    emptied([again])
    assert len(query(owner, ANOMALIES)) == 2
    review(quality, again.anomaly_id, "accepted")
    # The task is cleared and measures again, and the nights after it.
    forget(owner, "day 4")
    assert night(owner, quality, 0, days=4) == []
    assert night(owner, quality, 0, days=5) == []
    assert [state for *_, state, _ in query(owner, ANOMALIES)] == ["dismissed", "accepted"]


def test_an_accepted_emptiness_lasts_until_there_are_rows_again(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    remember_rows(owner, [800] * 30)
    (anomaly,) = night(owner, quality, 0, days=0)
    review(quality, anomaly.anomaly_id, "accepted")
    assert night(owner, quality, 0, days=1) == []
    assert night(owner, quality, 0, days=2) == []
    require_rows(night(owner, quality, 700, days=3))
    assert "had 700 rows and has none" in emptied(night(owner, quality, 0, days=4))


def test_an_accepted_emptiness_counts_even_if_the_checks_failed_in_that_run(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    remember_rows(owner, [800] * 30)
    (anomaly,) = night(owner, quality, 0, days=0)
    owner.execute(
        "insert into ops.quality_run (run_id, source, layer, status, gate, expected, evaluated, seconds, engine) "
        "values ('day 0', 'odoo', 'raw', 'failed', 'shut', 1, 1, 1, 'soda')"
    )
    review(quality, anomaly.anomaly_id, "accepted")
    assert night(owner, quality, 0, days=1) == []


def test_a_run_that_was_stopped_teaches_no_table_of_its_layer(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    for day in range(-10, 3):
        remember(owner, {("rows", None): 100 if day < 0 else 0}, days=day, dataset="raw.odoo_u")
        remember(owner, {("rows", None): 100 if day < 0 else 100_000}, days=day)
        remember(owner, {("rows", None): 100}, days=day, dataset="core.contact")
    for day in range(3):
        run = f"day {day}"
        anomalies = judge_run(quality, run)
        assert "raw.odoo_u had 100 rows" in emptied(anomalies)
        assert (anomalies[0].dataset, anomalies[0].expected_high) == ("raw.odoo_u", 100)
        assert found(anomalies) == [("rows", None), ("rows", None)]
    used = query(
        owner,
        "select dataset, count(*) from ops.quality_metric where run_id = 'day 2' and score is not null "
        "group by 1 order by 1",
    )
    assert used == [("core.contact", 1), ("raw.odoo_t", 1)]


@pytest.mark.parametrize(("state", "counts"), [("open", False), ("accepted", True), ("dismissed", False)])
def test_a_stopped_run_counts_when_the_emptiness_is_accepted(
    owner: psycopg.Connection, quality: psycopg.Connection, state: str, counts: bool
) -> None:
    """With the stopped run, the other table's history is just long enough."""
    for day in range(-7, 0):
        remember(owner, {("rows", None): 100 if day < -1 else 0}, days=day, dataset="raw.odoo_u")
        remember(owner, {("rows", None): 100}, days=day)
    (anomaly,) = judge_run(quality, "day -1")
    review(quality, anomaly.anomaly_id, state)
    remember(owner, {("rows", None): 100_000}, days=0)
    assert len(judge_run(quality, tables=["raw.odoo_t"])) == counts


def test_rows_that_are_marked_as_deleted_were_there_before_the_first_run(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    first: Numbers = {("rows", None): 0, ("rows_gone", None): 31}
    assert "raw.odoo_t had 31 rows and has none" in emptied(night(owner, quality, first, days=0))
    empty: Numbers = {("rows", None): 0, ("rows_gone", None): 0}
    assert night(owner, quality, empty, days=0, dataset="raw.odoo_new", run="new") == []


def test_rows_that_transforms_wrote_were_there_before_the_first_run(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    """core.billing_usage keeps no rows that are gone."""
    for run, source, target, status, inserted in [
        ("earlier", "odoo", "core.billing_usage", "succeeded", 77),
        ("earlier", "odoo", "core.billing_usage", "failed", 5),
        ("earlier", "ace", "core.contact", "succeeded", 6),
        ("day 0", "odoo", "core.bill_line", "succeeded", 0),
    ]:
        owner.execute(
            "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, "
            "quarantined) values (%s, %s, %s, %s, %s, %s, 0, 0, 0)",
            (run, source, target, status, inserted, inserted),
        )
    for dataset in ("core.billing_usage", "core.contact", "core.bill_line"):
        remember(owner, {("rows", None): 0}, days=0, dataset=dataset)
    message = emptied(judge_run(quality))
    assert "core.billing_usage had 77 rows and has none" in message
    assert message.startswith("1 table(s)")


def test_a_table_that_was_dropped_is_empty(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    owner.execute("set role revops_ingest; create table raw.odoo_t as select generate_series(1, 9) n; reset role")
    for run in ("first", "second"):
        measure_tables(quality, source="odoo", run_id=run, tables=["raw.odoo_t", "raw.odoo_never"])
        assert judge_run(quality, run) == []
        owner.execute("drop table if exists raw.odoo_t") if run == "second" else None
    measure_tables(quality, source="odoo", run_id="third", tables=["raw.odoo_t", "raw.odoo_never"])
    assert "raw.odoo_t had 9 rows and has none" in emptied(judge_run(quality, "third"))


def test_a_run_that_failed_does_not_hide_that_there_were_rows(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    """The only earlier run failed its checks: nothing is usual yet, but rows there were."""
    remember_rows(owner, [40])
    owner.execute(
        "insert into ops.quality_run (run_id, source, layer, status, gate, expected, evaluated, seconds, engine) "
        "values ('day -1', 'odoo', 'raw', 'error', 'shut', 1, 1, 1, 'soda')"
    )
    assert "had 40 rows" in emptied(night(owner, quality, 0, days=0))


def test_several_tables_are_named_at_once(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    for table in ("raw.odoo_a", "raw.odoo_b"):
        remember(owner, {("rows", None): 5}, days=-1, dataset=table)
        remember(owner, {("rows", None): 0}, days=0, dataset=table)
    message = emptied(judge_run(quality))
    assert message.startswith("2 table(s)")
    assert "raw.odoo_a had 5" in message
    assert "raw.odoo_b had 5" in message


# Again: the same run judged twice, by a retry or by two at once.


def test_judging_twice_changes_nothing(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    today = remember_usual(owner, 30, seed=5)
    remember(owner, {**today, ("mean", "amount"): 5000, ("rows", None): 20_000}, days=0)
    first = judge_run(quality)
    after_first = query(owner, ALL_NUMBERS)
    rows = query(owner, ANOMALIES)
    assert [replace(anomaly, is_new=True) for anomaly in judge_run(quality)] == first
    assert query(owner, ALL_NUMBERS) == after_first
    assert query(owner, ANOMALIES) == rows


def test_a_retry_after_the_fault_was_mended_takes_the_anomaly_back(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    remember_rows(owner, [1000] * 20)
    assert len(night(owner, quality, 10, days=0)) == 1
    forget(owner, "day 0")
    assert night(owner, quality, 1001, days=0) == []
    assert query(owner, ANOMALIES) == []


def test_a_retry_leaves_an_anomaly_of_earlier_runs_as_they_left_it(
    owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    remember_rows(owner, [1000] * 20)
    night(owner, quality, 850, days=0)
    unchanged = "select run_id, value, expected_low, expected_high, score, severity, reason from ops.anomaly"
    before = query(owner, unchanged)
    night(owner, quality, 10, days=1)
    assert query(owner, unchanged) != before
    forget(owner, "day 1")
    assert night(owner, quality, 1000, days=1) == []
    assert query(owner, unchanged) == before
    assert query(owner, "select last_seen_at from ops.anomaly") == [(TODAY,)]


def test_what_somebody_decided_on_is_never_taken_back(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    remember_rows(owner, [1000] * 20)
    (anomaly,) = night(owner, quality, 10, days=0)
    review(quality, anomaly.anomaly_id, "dismissed")
    review(quality, anomaly.anomaly_id, "open")
    forget(owner, "day 0")
    assert night(owner, quality, 1000, days=0) == []
    assert [row[6] for row in query(owner, ANOMALIES)] == ["open"]


def test_a_layer_is_judged_without_the_other(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    for dataset in ("raw.odoo_t", "core.contact"):
        remember_rows(owner, [1000] * 20, dataset=dataset)
        remember(owner, {("rows", None): 10}, days=0, dataset=dataset)
    assert [a.dataset for a in judge_run(quality, tables=["raw.odoo_t"])] == ["raw.odoo_t"]
    of_raw = query(owner, ALL_ANOMALIES)
    assert [a.dataset for a in judge_run(quality, tables=["core.contact"])] == ["core.contact"]
    assert query(owner, ALL_ANOMALIES)[:1] == of_raw
    # Neither took back what the other found.
    assert [row[1] for row in query(owner, ANOMALIES)] == ["raw.odoo_t", "core.contact"]
    assert judge_run(quality, tables=[]) == []
    assert len(query(owner, ANOMALIES)) == 2


def test_runs_at_once_share_the_open_row(
    owner: psycopg.Connection, as_role: Callable[[str], psycopg.Connection]
) -> None:
    for source in ("odoo", "ace"):
        remember_rows(owner, [1000] * 20, source=source)
        for number in range(4):
            remember(owner, {("rows", None): 10 + number}, days=number, source=source)
    sessions = [
        (as_role("revops_quality"), source, f"day {number}") for source in ("odoo", "ace") for number in range(4)
    ]
    failures: list[BaseException] = []

    def work(session: psycopg.Connection, source: str, run: str) -> None:
        try:
            for _ in range(5):
                judge(session, source=source, run_id=run, config=CONFIG)
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=session) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(query(owner, "select source, state, metric from ops.anomaly")) == [
        ("ace", "open", "rows"),
        ("odoo", "open", "rows"),
    ]
    tied = "select source, count(*) from ops.quality_metric where anomaly_id is not null group by 1 order by 1"
    assert query(owner, tied) == [("ace", 4), ("odoo", 4)]


def test_a_failure_in_the_middle_leaves_nothing(
    owner: psycopg.Connection, quality: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_rows(owner, [1000] * 20)
    remember(owner, {("rows", None): 10}, days=0)
    before = query(owner, ALL_NUMBERS), query(owner, ALL_ANOMALIES)

    def fail(*_: Any) -> None:
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr("revops.quality.anomaly.withdraw", fail)
    with pytest.raises(psycopg.OperationalError):
        judge_run(quality)
    quality.rollback()
    assert (query(owner, ALL_NUMBERS), query(owner, ALL_ANOMALIES)) == before
