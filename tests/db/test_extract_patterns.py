"""Tables by pattern: every one that fits is loaded, and one that can't be does not keep the others from it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
import pytest
from builders import Extract, query
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.extract.patterns import PatternResult, find_tables, load_pattern
from revops.extract.sessions import Route
from revops.extract.snapshot import SharedSnapshot, exported_snapshot
from revops.keyring import Keyring
from revops.sources import Source

pytestmark = pytest.mark.db

REST = {"name": "rest", "like": ["*"]}


def config_of(*patterns: dict[str, Any], **settings: Any) -> Source:
    return Source.model_validate(
        {
            "source": "odoo",
            "connection": "odoo_source",
            "schedule": "0 2 * * *",
            "lock_timeout_s": 1,
            "patterns": patterns or [REST],
            **settings,
        }
    )


def load(extract: Extract, config: Source, name: str = "rest", **order: Any) -> PatternResult:
    route = order.pop("route", extract.route)
    return load_pattern(route, config=config, pattern=config.pattern(name), run_id="run", **order)


def create(extract: Extract, *names: str) -> None:
    """Make a table of each name, with two rows that say whose they are."""
    for name in names:
        table = sql.Identifier(name)
        extract.source.execute(sql.SQL("create table {} (id integer primary key, name text)").format(table))
        extract.source.execute(sql.SQL("insert into {} values (1, {}), (2, 'two')").format(table, sql.Literal(name)))


def loaded(result: PatternResult) -> list[str]:
    return [table.table for table in result.loaded]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"like": ["*"]}, ["Crm_Stage", "crm_lead", "crm_tag", "ir_cron", "ir_model", "res_partner"]),
        ({"like": ["crm_*"]}, ["Crm_Stage", "crm_lead", "crm_tag"]),
        ({"like": ["CRM_*"], "unlike": ["*_TAG"]}, ["Crm_Stage", "crm_lead"]),
        ({"like": ["crm_???"]}, ["crm_tag"]),
        ({"like": ["crm_lead", "ir_*"], "unlike": ["ir_m*"]}, ["crm_lead", "ir_cron"]),
        ({"like": ["sale_*"]}, []),
        ({"like": ["*"], "unlike": ["*"]}, []),
    ],
)
def test_names_that_fit(extract: Extract, pattern: dict[str, Any], expected: list[str]) -> None:
    create(extract, "crm_lead", "Crm_Stage", "crm_tag", "ir_cron", "ir_model", "res_partner")
    extract.run(
        "create schema other; create table other.crm_other (id integer primary key);"
        "create view crm_view as select 1 as id; create materialized view crm_kept as select 1 as id"
    )
    try:
        result = load(extract, config_of({"name": "rest", **pattern}))
        assert loaded(result) == expected
        assert (result.refused, result.postponed) == ({}, {})
        for name in expected:
            extract.assert_same(name)
        tables = {
            name for (name,) in query(extract.warehouse, "select tablename from pg_tables where schemaname='raw'")
        }
        assert tables == {f"odoo_{name}" for name in expected}
    finally:
        extract.run("drop schema other cascade")


def test_tables_that_are_listed_or_taken_by_an_earlier_pattern_are_left_to_those(extract: Extract) -> None:
    create(extract, "crm_lead", "crm_tag", "lead_old", "ir_cron")
    extract.run(
        "create table crm_part (id integer primary key) partition by range (id);"
        "create table crm_part_1 partition of crm_part for values from (0) to (10); insert into crm_part values (1)"
    )
    config = config_of(
        {"name": "crm", "like": ["crm_*"], "unlike": ["crm_tag"]},
        {"name": "rest", "like": ["*"]},
        tables=[{"name": "crm_lead", "alternatives": ["lead_old"]}],
    )
    assert loaded(load(extract, config, "crm")) == ["crm_part"]
    assert loaded(load(extract, config, "rest")) == ["crm_tag", "ir_cron"]
    extract.assert_same("crm_part")


def test_one_table_that_can_not_be_loaded_does_not_stop_the_others(extract: Extract) -> None:
    create(extract, "a_before", "b_reserved", "c_locked", "d_emptied", "e_fine", "z_after")
    config = config_of()
    load(extract, config_of({"name": "rest", "like": ["d_*"]}))
    before = extract.everything("d_emptied")
    extract.run(
        "alter table b_reserved add column _load_id integer; insert into d_emptied select generate_series(3, 40)"
    )
    load(extract, config_of({"name": "rest", "like": ["d_*"]}))
    extract.run("truncate d_emptied")
    holder = extract.connect_source()
    holder.execute("lock table c_locked in access exclusive mode")
    result = load(extract, config)
    assert loaded(result) == ["a_before", "e_fine", "z_after"]
    for name in loaded(result):
        extract.assert_same(name)
    assert set(result.refused) == {"b_reserved", "d_emptied"}
    assert "40 of 40 rows (100 %) are gone" in result.refused["d_emptied"]
    assert set(result.postponed) == {"c_locked"}
    explained = result.explain().splitlines()
    assert explained[0] == "3 of 6 tables failed"
    assert [line.split(":")[0] for line in explained[1:]] == ["b_reserved", "d_emptied", "c_locked"]
    assert extract.raw("d_emptied").total() == 40
    assert before != extract.everything("d_emptied")
    statuses = dict(query(extract.warehouse, "select table_name, status from ops.load order by load_id"))
    assert {name for name, status in statuses.items() if status == "failed"} == {"b_reserved", "c_locked", "d_emptied"}
    # The next try mends what was in the way.
    holder.rollback()
    extract.run("alter table b_reserved drop column _load_id")
    result = load(extract, config, accept_deletions=True)
    assert (result.refused, result.postponed) == ({}, {})
    for name in ("a_before", "b_reserved", "c_locked", "d_emptied", "e_fine", "z_after"):
        extract.assert_same(name)


def test_tables_that_the_login_may_not_read_are_passed_over(extract: Extract, passwords: dict[str, str]) -> None:
    create(extract, "a_open", "b_closed", "c_partly", "d_open")
    extract.run(
        "grant usage on schema public to odoo_reader; grant select on a_open, d_open to odoo_reader;"
        "grant select (id) on c_partly to odoo_reader"
    )
    dsn = make_conninfo(extract.source_dsn, user="odoo_reader", password=passwords["odoo_reader"])
    result = load(extract, config_of(), route=Route(lambda: psycopg.connect(dsn), extract.connect_ingest))
    assert loaded(result) == ["a_open", "d_open"]
    extract.assert_same("a_open")
    # Half a right is more likely a mistake than a wish.
    assert set(result.refused) == {"c_partly"}
    assert 'GRANT SELECT ON public."c_partly"' in result.refused["c_partly"]


def test_a_table_that_is_dropped_in_between_is_absent(extract: Extract) -> None:
    create(extract, "a", "b", "c")
    opened = 0

    def connect() -> psycopg.Connection:
        nonlocal opened
        opened += 1
        if opened == 2:
            extract.run("drop table b")
        return extract.connect_reader()

    result = load(extract, config_of(), route=Route(connect, extract.connect_ingest))
    assert [(table.table, table.is_absent) for table in result.loaded] == [("a", False), ("b", True), ("c", False)]
    assert result.refused == {}
    extract.assert_same("c")
    assert dict(query(extract.warehouse, "select table_name, status from ops.load"))["b"] == "absent"
    assert loaded(load(extract, config_of())) == ["a", "c"]


def test_a_server_out_of_reach_ends_it_and_keeps_what_is_loaded(extract: Extract) -> None:
    create(extract, "a", "b", "c")
    opened = 0

    def connect() -> psycopg.Connection:
        nonlocal opened
        opened += 1
        if opened == 3:
            raise psycopg.OperationalError("connection refused")
        return extract.connect_reader()

    with pytest.raises(psycopg.OperationalError, match="connection refused"):
        load(extract, config_of(), route=Route(connect, extract.connect_ingest))
    extract.assert_same("a")
    assert extract.raw_types("c") == {}
    assert loaded(load(extract, config_of())) == ["a", "b", "c"]


HOSTILE = (
    'Order "Lines" %s',
    "a*b",
    "a?b",
    "[ab]",
    "select",
    " ",
    "ключ",
    "line\nbreak",
    "back\\slash",
    "staging",
    "source_keys",
    "x" * 62 + "1",
    "x" * 62 + "2",
)


def test_names_of_every_kind(extract: Extract) -> None:
    create(extract, *HOSTILE)
    config = config_of()
    for _ in range(2):
        result = load(extract, config)
        assert sorted(loaded(result)) == sorted(HOSTILE)
        found = Counter(
            row
            for (table,) in query(extract.warehouse, "select tablename from pg_tables where schemaname = 'raw'")
            for row in query(
                extract.warehouse,
                sql.SQL("select name from raw.{} where id = 1").format(sql.Identifier(table)).as_string(None),
            )
        )
        assert found == Counter((name,) for name in HOSTILE)


def test_what_the_pattern_says_holds_for_each_table(extract: Extract) -> None:
    create(extract, "a", "b")
    extract.run("alter table a add column secret text default 'secret', add column email text default 'x@example.com'")
    config = config_of(
        {"name": "rest", "like": ["*"], "mode": "full", "exclude_columns": ["secret"], "encrypt": ["email"]},
        exclude_columns=["b.name"],
    )
    result = load(extract, config, keyring=Keyring.generate())
    assert (result.refused, result.postponed) == ({}, {})
    assert [name for name in extract.raw_types("a") if name[0] != "_"] == ["id", "name", "email", "email_blind_index"]
    assert [name for name in extract.raw_types("b") if name[0] != "_"] == ["id"]
    assert query(extract.warehouse, "select distinct mode, run_id from ops.load") == [("full", "run")]
    # Without keys only the table that needs them is refused.
    result = load(extract, config)
    assert (loaded(result), set(result.refused)) == (["b"], {"a"})


def test_a_full_refresh_reaches_each_table(extract: Extract) -> None:
    create(extract, "a", "b")
    load(extract, config_of())
    result = load(extract, config_of(), full_refresh=True)
    assert [(table.table, table.read) for table in result.loaded] == [("a", 2), ("b", 2)]


def test_all_are_read_in_the_shared_snapshot(extract: Extract) -> None:
    create(extract, "a", "b")
    at_export = extract.in_source("b")
    with exported_snapshot(extract.connect_reader, None) as name:
        create(extract, "c")
        extract.run("insert into b values (3, 'after')")
        result = load(extract, config_of(), snapshot=SharedSnapshot(name))
    assert extract.raw("b") == at_export
    assert query(extract.warehouse, "select bool_and(is_shared_snapshot) from ops.load where table_name < 'c'") == [
        (True,)
    ]
    # A table that was made since has no place in that picture; it is there the next time.
    assert [(table.table, table.is_absent) for table in result.loaded] == [("a", False), ("b", False), ("c", True)]
    load(extract, config_of())
    for table in "abc":
        extract.assert_same(table)


def test_finding_leaves_no_transaction_open(extract: Extract) -> None:
    create(extract, "a")
    config = config_of()
    assert find_tables(extract.reader, config, config.patterns[0]) == ["a"]
    assert extract.reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_many_failures_are_told_in_a_few_lines() -> None:
    result = PatternResult(refused={f"t{number}": "why" for number in range(30)}, postponed={"u": "later"})
    lines = result.explain().splitlines()
    assert lines[0] == "31 of 31 tables failed"
    assert lines[1:] == [*(f"t{number}: why" for number in range(10)), "and 21 more; see ops.load"]
