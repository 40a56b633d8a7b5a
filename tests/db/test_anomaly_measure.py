"""What is measured of a table, number by number, and that no table is too strange, too wide or too empty for it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import sql

from revops.naming import raw_table_name
from revops.quality import metrics as measuring
from revops.quality.anomaly_config import AnomalyConfig, read_anomaly_config
from revops.quality.metrics import Metric, measure_tables

pytestmark = pytest.mark.db

SMALL = read_anomaly_config().model_copy(update={"least_values": 3})
CLOSE = 1e-6
# Ages are measured a moment after the rows were made.
MOMENT_S = 60

Numbers = dict[tuple[str, str | None], float | None]


@pytest.fixture
def owner(warehouse_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def raw(owner: psycopg.Connection) -> Callable[[str], None]:
    """Run statements as the role that owns the tables of raw."""

    def run(statement: str) -> None:
        owner.execute("set role revops_ingest; " + statement + "; reset role")

    return run


@pytest.fixture
def quality(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_quality")


def numbers(found: list[Metric], dataset: str = "raw.odoo_t") -> Numbers:
    assert {metric.dataset for metric in found} <= {dataset}
    result = {(metric.metric, metric.column): metric.value for metric in found}
    assert len(result) == len(found)
    return result


def measure(
    connection: psycopg.Connection,
    table: str = "raw.odoo_t",
    *,
    run: str = "run",
    source: str = "odoo",
    config: AnomalyConfig = SMALL,
) -> Numbers:
    """Measure one table, and see that ops.quality_metric holds the same."""
    found = measure_tables(connection, source=source, run_id=run, tables=[table], config=config)
    kept = query(
        connection,
        "select dataset, metric, column_name, value, rows_measured from ops.quality_metric "
        "where source = %s and run_id = %s and dataset = %s",
        source,
        run,
        table,
    )
    assert sorted(kept, key=str) == sorted([tuple(vars(metric).values()) for metric in found], key=str)
    return numbers(found, table)


def same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=CLOSE))


def assert_numbers(found: Numbers, expected: Numbers) -> None:
    assert set(found) == set(expected)
    assert {key: (found[key], expected[key]) for key in found if not same(found[key], expected[key])} == {}


NO_LOAD: Numbers = {
    ("inserted", None): None,
    ("updated", None): None,
    ("deleted", None): None,
    ("load_age_s", None): None,
}


def of_number(column: str, mean: float | None, p05: float | None, p50: float | None, p95: float | None) -> Numbers:
    return {("mean", column): mean, ("p05", column): p05, ("p50", column): p50, ("p95", column): p95}


def test_every_number_of_a_small_table(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw(
        "create table raw.odoo_t (id integer primary key, stage text, amount numeric, flag boolean, n integer,"
        " team_id integer, created date, email bytea, tags text[], extra jsonb, _loaded_at timestamptz default now(),"
        " _load_id bigint, _deleted_at timestamptz);"
        "insert into raw.odoo_t values"
        " (1, 'new', 10, true, 1, 1, '2026-01-01', '\\x01', '{a}', '{}', now(), 1, null),"
        " (2, 'new', 20, true, 1, 1, null, '\\x02', null, null, now(), 1, null),"
        " (3, 'won', null, false, 2, null, null, null, null, null, now(), 1, null),"
        " (4, null, 60, null, 7, null, null, null, null, null, now(), 1, null),"
        " (5, 'gone', 1e9, null, 99, null, null, null, null, null, now(), 1, now())"
    )
    assert_numbers(
        measure(quality),
        {
            ("rows", None): 4,
            ("rows_gone", None): 1,
            **NO_LOAD,
            ("null_share", "stage"): 0.25,
            ("distinct_values", "stage"): 2,
            ("null_share", "amount"): 0.25,
            ("unusable_share", "amount"): 0,
            **of_number("amount", 30, 11, 20, 56),
            ("null_share", "flag"): 0.25,
            ("mean", "flag"): 2 / 3,
            ("null_share", "n"): 0,
            ("distinct_values", "n"): 3,
            **of_number("n", 2.75, 1, 1.5, 6.25),
            # By their names and types these get the share of nulls only.
            ("null_share", "team_id"): 0.5,
            ("null_share", "created"): 0.75,
            ("null_share", "email"): 0.5,
            ("null_share", "tags"): 0.75,
            ("null_share", "extra"): 0.75,
        },
    )
    rows = query(quality, "select distinct metric, rows_measured from ops.quality_metric where column_name is null")
    assert {measured for _, measured in rows} == {None}
    assert query(quality, "select distinct rows_measured from ops.quality_metric where column_name is not null") == [
        (4,)
    ]


def test_numbers_that_are_none_do_not_break_it(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw(
        "create table raw.odoo_t (exact numeric, floating float8, short float4, price money, _deleted_at timestamptz);"
        "insert into raw.odoo_t values ('NaN', 'NaN', 'NaN', null), ('Infinity', 'Infinity', 'Infinity', null),"
        " ('-Infinity', '-Infinity', '-Infinity', null), ('1e500', '1e300', 3e38, null),"
        " ('-1e500', '-1e300', -3e38, null), ('1e-500', '1e-300', 1e-38, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3),"
        " (null, null, null, null)"
    )
    found = measure(quality)
    whole = of_number("exact", 1.5, 0.15, 1.5, 2.85)
    assert_numbers(
        {key: value for key, value in found.items() if key[1]},
        {
            **{("null_share", column): 0.1 for column in ("exact", "floating", "short")},
            ("null_share", "price"): 0.6,
            ("unusable_share", "exact"): 0.5,
            ("unusable_share", "floating"): 0.5,
            # The largest float4 is no absurd number.
            ("unusable_share", "short"): 0.3,
            ("unusable_share", "price"): 0,
            **whole,
            **{(name, "floating"): value for (name, _), value in whole.items()},
            **{(name, "price"): value for (name, _), value in whole.items()},
            **{(name, "short"): found[name, "short"] for name, _ in whole},
        },
    )
    assert found["p50", "short"] == 1.5


@pytest.mark.parametrize("column_type", ["timestamp", "timestamptz", "date"])
def test_the_newest_change_is_neither_infinite_nor_in_the_future(
    raw: Callable[[str], None], quality: psycopg.Connection, column_type: str
) -> None:
    utc = "(now() at time zone 'UTC')" if column_type != "timestamptz" else "now()"
    raw(
        f"create table raw.odoo_t (id integer, write_date {column_type}, _deleted_at timestamptz);"
        "insert into raw.odoo_t values (1, 'infinity'), (2, '-infinity'), (3, '4713-01-01 BC'), (4, '5000000-01-01')"
        if column_type == "date"
        else f"create table raw.odoo_t (id integer, write_date {column_type}, _deleted_at timestamptz);"
        "insert into raw.odoo_t values (1, 'infinity'), (2, '-infinity'), (3, '4713-01-01 BC'), (4, '294276-12-31')"
    )
    ancient = measure(quality)["data_age_s", "write_date"]
    assert ancient is not None
    assert 6700 * 365 * 86400 < ancient < 6800 * 366 * 86400
    raw(
        f"insert into raw.odoo_t values (5, {utc} - interval '50 hours'), (6, {utc} + interval '3 days');"
        f"insert into raw.odoo_t values (7, {utc} - interval '1 minute', now())"
    )
    age = measure(quality)["data_age_s", "write_date"]
    assert age is not None
    assert 50 * 3600 <= age <= (50 * 3600 if column_type != "date" else 75 * 3600) + MOMENT_S
    raw("update raw.odoo_t set write_date = null")
    assert measure(quality)["data_age_s", "write_date"] is None


def test_a_source_whose_clock_is_ahead_has_fresh_rows(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw("create table raw.odoo_t (write_date timestamptz, _deleted_at timestamptz)")
    raw("insert into raw.odoo_t values (now() + interval '10 minutes'), (now() - interval '1 day')")
    assert measure(quality)["data_age_s", "write_date"] == 0


def test_an_empty_table_has_no_rows_and_nothing_else(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw("create table raw.odoo_t (n integer, stage text, flag boolean, write_date timestamp, _deleted_at timestamptz)")
    found = measure(quality)
    assert {key: value for key, value in found.items() if value is not None} == {
        ("rows", None): 0,
        ("rows_gone", None): 0,
    }
    assert len(found) == 6 + 1 + 4 + 2 + 4 + 1


def test_an_absent_table_is_passed_over_until_it_was_measured_once(
    raw: Callable[[str], None], quality: psycopg.Connection
) -> None:
    assert measure(quality) == {}
    raw("create table raw.odoo_t (n integer); insert into raw.odoo_t values (1)")
    assert measure(quality, run="first")["rows", None] == 1
    raw("drop table raw.odoo_t")
    assert measure(quality, run="second") == {("rows", None): 0}
    assert measure(quality, run="second", source="ace") == {}
    raw("create view raw.odoo_t as select 1 as n")
    assert measure(quality, run="third") == {("rows", None): 0}
    raw("drop view raw.odoo_t")


def test_only_raw_and_core_are_measured(quality: psycopg.Connection) -> None:
    for table in ("ops.load", "odoo_crm_lead", "search.document"):
        with pytest.raises(ValueError, match=f"{table}: only tables of raw and core"):
            measure(quality, table)


def test_columns_come_and_go(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw("create table raw.odoo_t (a integer, b text); insert into raw.odoo_t values (1, 'x'), (2, null)")
    before = measure(quality, run="first")
    raw("alter table raw.odoo_t drop column b, add column c boolean default true")
    after = measure(quality, run="second")
    assert {column for _, column in before} == {None, "a", "b"}
    assert {column for _, column in after} == {None, "a", "c"}
    assert after["null_share", "c"] == 0


def test_types_of_every_kind(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw(
        "drop domain if exists raw.percent; create domain raw.percent as numeric(5, 2);"
        "drop type if exists raw.mood; create type raw.mood as enum ('good', 'bad');"
        "create table raw.odoo_t (percent raw.percent, mood raw.mood, code char(3), label varchar(5), key uuid,"
        " place point, span int4range, bits bit(3), day time, gap interval, doc xml, big bigint, small smallint,"
        ' "select" text, "Mixed Case %s {x}" integer, "quo""te" text);'
        "insert into raw.odoo_t (percent, mood, code, label, key, place, span, bits, day, gap, big, small, "
        '"select", "Mixed Case %s {x}", "quo""te") select n, case n when 1 then \'good\' else \'bad\' end::raw.mood,'
        " 'a', 'b', gen_random_uuid(), '(1,2)', '[1,2)', '101', '10:00', '1 day', n * 10, n, 's' || n, n, 'q'"
        " from generate_series(1, 4) n"
    )
    found = measure(quality)
    # Each but the last two has the share of nulls; numbers five more, and whole numbers the distinct ones instead of
    # the unusable.
    by_column: dict[str | None, set[str]] = {}
    for metric, column in found:
        by_column.setdefault(column, set()).add(metric)
    by_column.pop(None)
    quantiles = {"mean", "p05", "p50", "p95"}
    number, whole = {"null_share", "unusable_share", *quantiles}, {"null_share", "distinct_values", *quantiles}
    text, other = {"null_share", "distinct_values"}, {"null_share"}
    assert by_column == {
        "percent": number,
        "mood": text,
        "code": text,
        "label": text,
        "key": other,
        "place": other,
        "span": other,
        "bits": other,
        "day": other,
        "gap": other,
        "doc": other,
        "big": whole,
        "small": whole,
        "select": text,
        "Mixed Case %s {x}": whole,
        'quo"te': text,
    }
    assert [found["distinct_values", name] for name in ("mood", "code", "select", 'quo"te')] == [2, 1, 4, 1]
    assert [found["mean", name] for name in ("percent", "big", "small", "Mixed Case %s {x}")] == [2.5, 25, 2.5, 2.5]
    raw("drop table raw.odoo_t; drop type raw.mood; drop domain raw.percent")


def test_few_numbers_have_no_mean(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    """The quantiles of one salary are that salary."""
    raw(
        "create table raw.odoo_t (salary numeric, bonus numeric);"
        "insert into raw.odoo_t select n from generate_series(1, 50) n"
    )
    raw("update raw.odoo_t set bonus = salary where salary < 50")
    found = measure(quality, config=read_anomaly_config())
    assert_numbers(
        {key: value for key, value in found.items() if key[0] in ("mean", "p05", "p50", "p95")},
        {**of_number("salary", 25.5, 3.45, 25.5, 47.55), **of_number("bonus", None, None, None, None)},
    )


def test_long_texts_count_by_their_beginning(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    raw(
        "create table raw.odoo_t (body text);"
        "insert into raw.odoo_t values (repeat('ä', 5000000)), (repeat('ä', 200) || 'x')"
    )
    raw("insert into raw.odoo_t values (repeat('ä', 199) || 'x'), (null)")
    assert measure(quality)["distinct_values", "body"] == 2


def test_a_large_table_is_counted_exactly_and_sampled_the_same_each_time(
    raw: Callable[[str], None], quality: psycopg.Connection
) -> None:
    raw(
        "create table raw.odoo_t (n integer, half text, write_date timestamp, _deleted_at timestamptz);"
        "insert into raw.odoo_t select n, case when n % 2 = 0 then 'x' || n % 10 end,"
        " timestamp '2026-01-01' + n * interval '1 minute' from generate_series(1, 30000) n;"
        "insert into raw.odoo_t select n, 'gone', null, now() from generate_series(1, 500) n"
    )
    config = SMALL.model_copy(update={"sample_rows": 3000})
    found = measure(quality, config=config)
    assert (found["rows", None], found["rows_gone", None]) == (30000, 500)
    newest = query(
        quality,
        "select extract(epoch from now() - (timestamp '2026-01-01' + 30000 * interval '1 minute') at time zone 'UTC')",
    )
    assert found["data_age_s", "write_date"] == pytest.approx(max(0.0, float(newest[0][0])), abs=MOMENT_S)
    ((measured,),) = query(quality, "select distinct rows_measured from ops.quality_metric where column_name = 'n'")
    assert 1500 < measured < 6000
    assert found["null_share", "half"] == pytest.approx(0.5, abs=0.02)
    assert found["distinct_values", "half"] == 5
    assert found["mean", "n"] == pytest.approx(15000, rel=0.25)
    assert found["distinct_values", "n"] == measured
    again = measure(quality, run="again", config=config)
    assert {key: value for key, value in again.items() if key[1] in ("n", "half")} == {
        key: value for key, value in found.items() if key[1] in ("n", "half")
    }
    # Below the limit every row is measured.
    assert measure(quality, config=SMALL)["mean", "n"] == 15000.5


def test_as_many_columns_as_a_table_can_have(raw: Callable[[str], None], quality: psycopg.Connection) -> None:
    columns = ", ".join(f"c{number} {('integer', 'numeric', 'text', 'boolean')[number % 4]}" for number in range(1598))
    values = ", ".join(("n", "n", "n::text", "n = 1")[number % 4] for number in range(1598))
    raw(f"create table raw.odoo_t ({columns}, _deleted_at timestamptz)")
    raw(f"insert into raw.odoo_t select {values} from generate_series(1, 5) n")
    found = measure(quality)
    assert len({column for _, column in found}) == 1599
    assert found["mean", "c1596"] == 3
    assert found["distinct_values", "c1594"] == 5
    assert found["mean", "c1595"] == 0.2


def test_wide_tables_take_several_statements(
    raw: Callable[[str], None], quality: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw("create table raw.odoo_t (a integer, b numeric, c text, d boolean, e date);")
    raw("insert into raw.odoo_t select n, n, n, n = 1, null from generate_series(1, 5) n")
    at_once = measure(quality)
    for width in (1, 2, 3):
        monkeypatch.setattr(measuring, "COLUMNS_AT_ONCE", width)
        assert measure(quality) == at_once


def make_billing(owner: psycopg.Connection, *months: str) -> None:
    owner.execute("select core.add_billing_months(%s::date[])", (list(months),))
    for month in months:
        owner.execute(
            "insert into core.billing_usage (billing_month, source_id, service, cost, raw_load_id, transform_run_id) "
            "select %s::date, %s || n, 'service ' || n %% 3, n, 1, 1 from generate_series(1, 100) n",
            (month, month),
        )


def test_a_partitioned_table_is_one_table(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    owner.execute("set role revops_owner")
    make_billing(owner, "2026-01-01", "2026-02-01")
    found = measure(quality, "core.billing_usage")
    owner.execute("drop table core.billing_usage_2026_01, core.billing_usage_2026_02")
    assert (found["rows", None], found["rows_gone", None]) == (200, 0)
    assert found["mean", "cost"] == 50.5
    assert found["distinct_values", "service"] == 3


def test_of_core_each_source_measures_its_own_rows(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    owner.execute(
        "insert into ops.load (source, table_name, run_id, mode, status) values ('odoo', 't', 'r', 'xid', 'failed');"
        "insert into ops.transform_run (run_id, source, target, status)"
        " values ('r', 'odoo', 'core.app_user', 'failed');"
        "insert into core.app_user (source_system, source_id, is_active, is_internal, is_technical, deleted_at,"
        " updated_at, raw_load_id, transform_run_id)"
        " select s, n, n > 1, true, false, case when n = 5 then now() end, now() - interval '2 hours', 1, 1"
        " from (values ('odoo', 5), ('ace', 2)) as v (s, most) cross join generate_series(1, most) n"
    )
    odoo, ace = (measure(quality, "core.app_user", source=source) for source in ("odoo", "ace"))
    assert [found["rows", None] for found in (odoo, ace)] == [4, 2]
    assert [found["rows_gone", None] for found in (odoo, ace)] == [1, 0]
    assert odoo["mean", "is_active"] == 0.75
    assert odoo["data_age_s", "updated_at"] == pytest.approx(7200, abs=MOMENT_S)
    # Not null by declaration, or of no interest: not measured.
    assert not {("null_share", "is_active"), ("null_share", "raw_load_id"), ("distinct_values", "source_system")} & set(
        odoo
    )
    assert ("null_share", "deleted_at") not in odoo


LOADS: list[tuple[Any, ...]] = [
    # source, table, run, status, inserted, updated, deleted, hours ago
    ("odoo", "t", "before", "succeeded", 500, 0, 0, 26),
    ("odoo", "t", "run", "failed", 7, 7, 7, 3),
    ("odoo", "t", "run", "succeeded", 10, 3, 1, 2),
    ("odoo", "t", "run", "succeeded", 0, 1, 0, 1.5),
    ("odoo", "u", "run", "succeeded", 900, 900, 900, 1),
    ("ace", "t", "run", "succeeded", 800, 800, 800, 1),
]


def test_what_the_runs_loads_did(
    owner: psycopg.Connection, raw: Callable[[str], None], quality: psycopg.Connection
) -> None:
    raw("create table raw.odoo_t (n integer)")
    owner.cursor().executemany(
        "insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, deleted, "
        "unchanged, quarantined, finished_at) values (%s, %s, %s, 'xid', %s, %s, %s, %s, %s, 0, 0, "
        "now() - %s * interval '1 hour')",
        [(*row[:4], row[4] + row[5], *row[4:]) for row in LOADS],
    )
    found = measure(quality)
    assert (found["inserted", None], found["updated", None], found["deleted", None]) == (10, 4, 1)
    assert found["load_age_s", None] == pytest.approx(1.5 * 3600, abs=MOMENT_S)
    later = measure(quality, run="later")
    assert (later["inserted", None], later["updated", None], later["deleted", None]) == (None, None, None)
    assert later["load_age_s", None] == pytest.approx(1.5 * 3600, abs=MOMENT_S)


def test_a_table_whose_name_was_cut_has_its_loads(
    owner: psycopg.Connection, raw: Callable[[str], None], quality: psycopg.Connection
) -> None:
    name = "a_table_with_a_name_as_long_as_names_can_be_in_postgresql_63_b"
    owner.execute(
        "insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, deleted, "
        "unchanged, quarantined, finished_at) values ('odoo', %s, 'run', 'xid', 'succeeded', 5, 5, 0, 0, 0, 0, now())",
        (name,),
    )
    table = raw_table_name("odoo", name)
    assert not table.endswith(name)
    raw(f"create table raw.{table} (n integer)")
    assert measure(quality, f"raw.{table}")["inserted", None] == 5


def test_what_the_runs_transforms_did(owner: psycopg.Connection, quality: psycopg.Connection) -> None:
    owner.cursor().executemany(
        "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, deleted, "
        "unchanged, quarantined, seconds, started_at) "
        "values (%s, %s, %s, 'succeeded', %s, %s, 0, 2, 0, 0, 600, now() - interval '3 hours')",
        [
            ("run", "odoo", "core.contact", 5, 5),
            ("run", "ace", "core.contact", 90, 90),
            ("before", "odoo", "core.contact", 80, 80),
            ("run", "odoo", "core.account", 70, 70),
        ],
    )
    found = measure(quality, "core.contact")
    assert (found["inserted", None], found["updated", None], found["deleted", None]) == (5, 0, 2)
    assert found["load_age_s", None] == pytest.approx(3 * 3600 - 600, abs=MOMENT_S)


def test_a_retry_replaces_the_runs_numbers_and_no_others(
    raw: Callable[[str], None], quality: psycopg.Connection
) -> None:
    raw("create table raw.odoo_t (n integer); create table raw.odoo_u (n integer)")
    raw("insert into raw.odoo_t select generate_series(1, 5)")
    kept = "select run_id, source, dataset, metric, column_name, value, measured_at from ops.quality_metric"
    for run, source in (("before", "odoo"), ("run", "ace")):
        measure(quality, run=run, source=source)
    measure(quality, "raw.odoo_u")
    others = query(quality, kept)
    assert measure(quality)["rows", None] == 5
    raw("insert into raw.odoo_t values (6); alter table raw.odoo_t add column later text")
    assert measure(quality)["rows", None] == 6
    rows = query(quality, kept)
    assert [row for row in rows if row[:3] != ("run", "odoo", "raw.odoo_t")] == others
    assert ("run", "odoo", "raw.odoo_t", "null_share", "later", 1.0) in {row[:6] for row in rows}


def test_two_tries_at_once_leave_the_numbers_of_one(
    raw: Callable[[str], None], as_role: Callable[[str], psycopg.Connection], quality: psycopg.Connection
) -> None:
    raw(
        "create table raw.odoo_t (n integer, stage text);"
        "insert into raw.odoo_t select n, n from generate_series(1, 2000) n"
    )
    sessions = [as_role("revops_quality") for _ in range(4)]
    results: list[Numbers] = []

    def work(session: psycopg.Connection) -> None:
        for _ in range(5):
            results.append(numbers(measure_tables(session, source="odoo", run_id="run", tables=["raw.odoo_t"])))

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(result == results[0] for result in results)
    kept = query(quality, "select metric, column_name, value from ops.quality_metric")
    assert {(metric, column): value for metric, column, value in kept} == results[0]
    assert len(kept) == len(results[0])


def test_one_picture_of_a_table_that_is_being_written(
    raw: Callable[[str], None], owner: psycopg.Connection, quality: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw("create table raw.odoo_t (n integer, s text); insert into raw.odoo_t select n, n from generate_series(1, 10) n")
    count = measuring._measure_table

    def then_write(*arguments: Any, **settings: Any) -> Any:
        result = count(*arguments, **settings)
        raw("insert into raw.odoo_t select n, n from generate_series(11, 1000) n")
        return result

    monkeypatch.setattr(measuring, "_measure_table", then_write)
    monkeypatch.setattr(measuring, "COLUMNS_AT_ONCE", 1)
    found = measure(quality)
    assert (found["rows", None], found["distinct_values", "n"], found["distinct_values", "s"]) == (10, 10, 10)


def test_no_value_of_a_row_is_kept(
    raw: Callable[[str], None], owner: psycopg.Connection, quality: psycopg.Connection
) -> None:
    """Whatever a column holds, only counts, shares and numbers of many rows leave the table."""
    raw(
        "create table raw.odoo_t (id integer, contact text, email text, phone bigint, salary numeric, born date);"
        "insert into raw.odoo_t select n, 'Canary Smith', 'canary@example.com', 4915112345678, 98765.25, '1971-03-04'"
        " from generate_series(1, 20) n"
    )
    measure(quality, config=read_anomaly_config())
    for (table,) in query(owner, "select tablename from pg_tables where schemaname = 'ops'"):
        content = query(owner, sql.SQL("select t::text from {} as t").format(sql.Identifier("ops", table)).as_string())
        for canary in ("anary", "example.com", "4915112345678", "98765", "1971"):
            assert not [row for (row,) in content if canary in row], (table, canary)
