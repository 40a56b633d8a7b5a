"""How a table is brought to the wanted rows: what is written, what is removed, and what a failure leaves behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from raw_tables import INCLUDE, ODOO, Warehouse, copy_include, outcome
from structlog.testing import capture_logs

from revops.transform.errors import TransformError
from revops.transform.run import LOST

pytestmark = pytest.mark.db

LEADS = "select * from core.odoo_opportunities order by source_id"
VERSIONS = "select source_id, xmin::text from core.odoo_opportunities order by 1"


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A copy of the folder include, to be changed."""
    return copy_include(tmp_path)


def test_only_rows_that_differ_are_written(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.lead(number, expected_revenue="1.0", write_date="2026-11-20 10:00:00")
    assert outcome(warehouse.transform("odoo_opportunities")) == (3, 3, 0, 0, 0, 0)
    before = dict(warehouse.rows(VERSIONS))
    assert outcome(warehouse.transform("odoo_opportunities", full_refresh=True)) == (3, 0, 0, 3, 0, 0)
    assert dict(warehouse.rows(VERSIONS)) == before
    warehouse.update("odoo_crm_lead", "id = 2", name="new name")
    assert outcome(warehouse.transform("odoo_opportunities", full_refresh=True)) == (3, 0, 1, 2, 0, 0)
    after = dict(warehouse.rows(VERSIONS))
    assert {key for key in after if after[key] != before[key]} == {"2"}


def test_each_row_tells_its_load_and_the_run_that_wrote_it_last(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.lead(2)
    warehouse.transform("odoo_opportunities")
    warehouse.update("odoo_crm_lead", "id = 2", probability=50)
    second_load = warehouse.last_load()
    warehouse.transform("odoo_opportunities", full_refresh=True)
    first, second = (
        number for (number,) in warehouse.rows("select transform_run_id from ops.transform_run order by 1")
    )
    assert warehouse.rows(
        "select source_id, raw_load_id, transform_run_id from core.odoo_opportunities order by 1"
    ) == [("1", second_load - 2, first), ("2", second_load, second)]


@pytest.mark.parametrize(("before", "after"), [("1.0", "1.00"), ("NaN", None), (None, "0"), ("-0.50", "-0.5")])
def test_a_row_is_written_where_its_bytes_differ(warehouse: Warehouse, before: str, after: str) -> None:
    """1.0 equals 1.00, and null is not unequal to anything: a table made anew would hold the other one all the same."""
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"] + ', "c_aws_ace_expectedMonthlyAwsRevenue" numeric')
    # The load and the time are not what differs: both stand still.
    warehouse.lead(1, c_aws_ace_expectedMonthlyAwsRevenue=before)
    warehouse.transform("odoo_opportunities")
    warehouse.ingest.execute("alter table raw.odoo_crm_lead disable trigger stamp")
    warehouse.update("odoo_crm_lead", c_aws_ace_expectedMonthlyAwsRevenue=after)
    shown = "select monthly_aws_spend::text, issues from core.odoo_opportunities"
    assert outcome(warehouse.transform("odoo_opportunities", full_refresh=True)) == (1, 0, 1, 0, 0, 0)
    assert warehouse.rows(shown) == [(after, None)]


def test_a_deleted_record_keeps_its_row_with_the_time_and_lives_again(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.lead(number)
    warehouse.transform("odoo_opportunities")
    warehouse.delete("odoo_crm_lead", "id = 1", at="2026-11-01")
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 0, 1, 0, 0, 0)
    deleted = "select source_id, deleted_at at time zone 'UTC' is not null from core.odoo_opportunities order by 1"
    assert warehouse.rows(deleted) == [("1", True), ("2", False)]
    assert warehouse.rows("select deleted_at = '2026-11-01' from core.odoo_opportunities where source_id = '1'") == [
        (True,)
    ]
    warehouse.update("odoo_crm_lead", "id = 1", _deleted_at=None)
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 0, 1, 0, 0, 0)
    assert warehouse.rows(deleted) == [("1", False), ("2", False)]


@pytest.mark.parametrize("full_refresh", [False, True])
def test_a_row_that_is_no_longer_described_is_removed(warehouse: Warehouse, full_refresh: bool) -> None:
    """A company that becomes a contact of another one is no company any more."""
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.partner(number, name=f"company {number}")
    assert outcome(warehouse.transform("account_record")) == (3, 3, 0, 0, 0, 0)
    assert outcome(warehouse.transform("contact")) == (0, 0, 0, 0, 0, 0)
    warehouse.update("odoo_res_partner", "id = 2", commercial_partner_id=1)
    unchanged = 2 if full_refresh else 0
    assert outcome(warehouse.transform("account_record", full_refresh=full_refresh)) == (
        unchanged, 0, 0, unchanged, 0, 1,
    )  # fmt: skip
    assert outcome(warehouse.transform("contact", full_refresh=full_refresh)) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows("select source_id from core.account_record order by 1") == [("1",), ("3",)]
    assert warehouse.rows("select source_id, account_source_id from core.contact") == [("2", "1")]


def test_a_source_is_confined_to_its_own_rows(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.partner(1, name="Odoo's")
    for number in (1, 2):
        warehouse.insert("ace_apn_companies", id=f"C{number}", name=f"ACE's {number}")
    for source in ("odoo", "ace"):
        warehouse.transform("account_record", source=source)
    before = warehouse.rows("select * from core.account_record where source_system = 'odoo'")
    # Odoo's rows change, but only ACE is transformed: neither the change nor a removal reaches core.
    warehouse.update("odoo_res_partner", name="changed")
    warehouse.partner(2, name="new")
    warehouse.delete("ace_apn_companies", "id = 'C2'")
    for full_refresh in (False, True):
        warehouse.transform("account_record", source="ace", full_refresh=full_refresh)
        assert warehouse.rows("select * from core.account_record where source_system = 'odoo'") == before
    assert warehouse.rows(
        "select source_id, deleted_at is null from core.account_record where source_system = 'ace' order by 1"
    ) == [("C1", True), ("C2", False)]
    assert outcome(warehouse.transform("account_record")) == (2, 1, 1, 0, 0, 0)


def test_a_run_is_recorded_with_counts_that_add_up(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number, name in ((1, "kept"), (2, "changed"), (3, ""), (4, "x" * 1001), (5, "moved")):
        warehouse.partner(number, name=name)
    warehouse.transform("account_record")
    warehouse.update("odoo_res_partner", "id = 2", name="other")
    warehouse.update("odoo_res_partner", "id = 5", commercial_partner_id=1)
    warehouse.partner(6, name="new", country_id=None)
    result = warehouse.transform("account_record", full_refresh=True, run_id="r2")
    assert outcome(result) == (5, 1, 1, 2, 1, 1)
    assert warehouse.rows(
        "select run_id, source, target, status, rows_read, inserted, updated, unchanged, quarantined, deleted, fixed, "
        "warned, full_reason, scope, error, seconds > 0 from ops.transform_run order by transform_run_id"
    ) == [
        ("r1", "odoo", "core.account_record", "succeeded", 5, 4, 0, 0, 1, 0, 1, 0, "first run", None, None, True),
        ("r2", "odoo", "core.account_record", "succeeded", 5, 1, 1, 2, 1, 1, 1, 0, "full_refresh", None, None, True),
    ]


def test_a_failure_leaves_core_state_and_quarantine_as_they_were(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("expected_revenue numeric", "expected_revenue text"))
    warehouse.lead(1, expected_revenue="12.50")
    warehouse.lead(2, name=" ")
    warehouse.transform("odoo_opportunities")
    kept = "select * from ops.transform_state", "select * from ops.quarantine", "select * from ops.rule_result", LEADS
    before = [warehouse.rows(statement) for statement in kept]
    warehouse.update("odoo_crm_lead", "id = 2", name="mended")
    warehouse.lead(3, expected_revenue="much")
    with pytest.raises(TransformError, match=r"odoo_crm_lead\.expected_revenue is text and 1 of its values"):
        warehouse.transform("odoo_opportunities", run_id="r2")
    assert [warehouse.rows(statement) for statement in kept] == before
    assert warehouse.rows(
        "select run_id, status, error is null, rows_read, seconds > 0 from ops.transform_run order by transform_run_id"
    ) == [("r1", "succeeded", True, 2, True), ("r2", "failed", False, None, True)]
    # The session is fit for the next transform, which sees all that the failed one has seen.
    warehouse.update("odoo_crm_lead", "id = 3", expected_revenue="")
    assert outcome(warehouse.transform("odoo_opportunities")) == (2, 2, 0, 0, 0, 0)
    assert warehouse.rows("select count(*) from ops.quarantine where released_at is null") == [(0,)]


@pytest.mark.parametrize("name", ["account_record", "odoo_opportunities", "billing_usage", "document"])
def test_a_transform_of_nothing(warehouse: Warehouse, name: str) -> None:
    """Neither raw tables nor rows; and then tables without rows."""
    for _ in range(2):
        assert outcome(warehouse.transform(name)) == (0, 0, 0, 0, 0, 0)
    warehouse.create_odoo()
    for _ in range(2):
        assert outcome(warehouse.transform(name)) == (0, 0, 0, 0, 0, 0)


def test_two_transforms_of_one_table_at_once(
    warehouse: Warehouse, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """The second waits for the first."""
    warehouse.create_odoo()
    warehouse.lead(1)
    other = as_role("revops_transform")
    other.execute("select pg_advisory_lock(hashtextextended('transform:core.odoo_opportunities', 0))")
    core = warehouse.roles["core"]
    core.execute("set lock_timeout = '300ms'")
    core.commit()
    # Another table's lock is another one.
    warehouse.transform("bill_line")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        warehouse.transform("odoo_opportunities")
    core.rollback()
    assert warehouse.rows("select target from ops.transform_run") == [("core.bill_line",)]
    other.execute("select pg_advisory_unlock_all()")
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 1, 0, 0, 0, 0)


def test_a_transform_sees_what_was_committed_while_it_waited(
    warehouse: Warehouse, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """Its snapshot begins when it has the lock: else it would bring back what the transform before it has changed."""
    warehouse.create_odoo()
    warehouse.lead(1)
    other = as_role("revops_transform")
    other.execute("select pg_advisory_lock(hashtextextended('transform:core.odoo_opportunities', 0))")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(warehouse.transform, "odoo_opportunities")
        wait_until_somebody_waits(warehouse)
        warehouse.update("odoo_crm_lead", name="changed meanwhile")
        other.execute("select pg_advisory_unlock_all()")
        assert outcome(waiting.result(timeout=10)) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows("select title from core.odoo_opportunities") == [("changed meanwhile",)]


def test_a_load_that_commits_while_a_table_is_computed_is_left_to_the_next_run(
    warehouse: Warehouse, include: Path, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """Rows and the state that says which loads they have seen come from one snapshot."""
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="one", active=True)
    place = include / "sql" / "core" / "app_user.sql"
    place.write_text(
        place.read_text().replace("from users", "from users cross join (select pg_advisory_xact_lock(7)) as w")
    )
    other = as_role("revops_transform")
    other.execute("select pg_advisory_lock(7)")
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(warehouse.transform, "app_user", include=include)
        wait_until_somebody_waits(warehouse)
        warehouse.insert("odoo_res_users", id=2, login="two", active=True)
        other.execute("select pg_advisory_unlock_all()")
        assert outcome(computing.result(timeout=10)) == (1, 1, 0, 0, 0, 0)
    assert outcome(warehouse.transform("app_user", include=include)) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows("select source_id from core.app_user order by 1") == [("1",), ("2",)]


def test_a_worker_that_is_lost_leaves_everything_to_the_next_run(
    warehouse: Warehouse, include: Path, as_role: Callable[[str], psycopg.Connection]
) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="one", active=True)
    warehouse.transform("app_user")
    kept = "select * from core.app_user", "select * from ops.transform_state"
    before = [warehouse.rows(statement) for statement in kept]
    warehouse.insert("odoo_res_users", id=2, login="two", active=True)
    place = include / "sql" / "core" / "app_user.sql"
    place.write_text(place.read_text().replace("from users", "from users cross join (select pg_advisory_xact_lock(7))"))
    other = as_role("revops_transform")
    other.execute("select pg_advisory_lock(7)")
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(warehouse.transform, "app_user", include=include)
        wait_until_somebody_waits(warehouse)
        warehouse.rows("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted")
        with pytest.raises(psycopg.OperationalError):
            computing.result(timeout=10)
    assert [warehouse.rows(statement) for statement in kept] == before
    # Its lock is free, and the next run says what became of it.
    ended = "select status, error from ops.transform_run order by transform_run_id desc limit 1 offset %s"
    assert warehouse.rows(ended.replace("%s", "0")) == [("running", None)]
    warehouse.reconnect()
    assert outcome(warehouse.transform("app_user")) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows(ended.replace("%s", "1")) == [("failed", LOST)]
    assert warehouse.rows("select source_id from core.app_user order by 1") == [("1",), ("2",)]


def wait_until_somebody_waits(warehouse: Warehouse) -> None:
    """Wait until a session waits for an advisory lock."""
    deadline = time.monotonic() + 10
    while not warehouse.rows(
        "select from pg_locks where locktype = 'advisory' and not granted "
        "and database = (select oid from pg_database where datname = current_database())"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_select_that_gives_a_key_twice(warehouse: Warehouse, include: Path, is_known: bool) -> None:
    """Rows that are new, and rows that the table has: the same or others."""
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.insert("odoo_res_users", id=number, login=f"u{number}", active=True)
    if is_known:
        warehouse.transform("app_user")
    before = warehouse.rows("select * from core.app_user order by source_id")
    place = include / "sql" / "core" / "app_user.sql"
    for tail in ("cross join (values (1), (2)) as twice (n)", "cross join (values (1)) as once (n)"):
        place.write_text(
            (INCLUDE / "sql" / "core" / "app_user.sql").read_text().replace("from users", f"from users {tail}")
        )
        if "twice" in tail:
            with pytest.raises((TransformError, psycopg.errors.UniqueViolation)) as caught:
                warehouse.transform("app_user", include=include)
            assert "core" in str(caught.value) or "app_user_pkey" in str(caught.value)
            assert warehouse.rows("select * from core.app_user order by source_id") == before
    assert outcome(warehouse.transform("app_user", include=include)) == (
        (2, 0, 0, 2, 0, 0) if is_known else (2, 2, 0, 0, 0, 0)
    )


def test_a_select_that_gives_a_known_key_twice_names_file_and_key(warehouse: Warehouse, include: Path) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="u", active=True)
    warehouse.transform("app_user")
    place = include / "sql" / "core" / "app_user.sql"
    place.write_text(place.read_text().replace("from users", "from users cross join (values ('a'), ('b')) as t (n)"))
    with pytest.raises(TransformError) as caught:
        warehouse.transform("app_user", include=include)
    assert re.fullmatch(
        r"core\.app_user: 2 rows wanted, but .*; nothing was changed\. Remedy: include/sql/core/app_user\.sql gives "
        r"a key \(source_system, source_id\) more than once; make its joins unique\.",
        str(caught.value),
    )


def test_a_select_with_other_columns_than_the_table(warehouse: Warehouse, include: Path) -> None:
    warehouse.create_odoo()
    place = include / "sql" / "core" / "app_user.sql"
    place.write_text(place.read_text().replace("    is_internal,\n    coalesce", "    1 as spare,\n    coalesce"))
    with pytest.raises(TransformError) as caught:
        warehouse.transform("app_user", include=include)
    assert str(caught.value) == (
        "include/sql/core/app_user.sql does not give the columns of core.app_user: missing ['is_internal'], "
        "unknown ['spare']. Remedy: correct the file, or add a migration."
    )


def test_the_order_of_a_selects_columns_does_not_matter(warehouse: Warehouse, include: Path) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_users", id=1, login="u", active=False)
    place = include / "sql" / "core" / "app_user.sql"
    place.write_text(
        place.read_text().replace(
            "    is_active,\n    is_internal,\n    coalesce", "    is_internal,\n    is_active,\n    coalesce"
        )
    )
    warehouse.transform("app_user", include=include)
    assert warehouse.rows("select is_active, is_internal from core.app_user") == [(False, True)]


def test_nothing_of_a_transform_is_left_in_the_session(warehouse: Warehouse) -> None:
    """A view that stays would keep raw's columns from being widened."""
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.transform("odoo_opportunities")
    core = warehouse.roles["core"]
    left = core.execute("select relname from pg_class where relnamespace = pg_my_temp_schema()").fetchall()
    settings = core.execute("select current_setting('work_mem'), current_setting('transaction_isolation')").fetchone()
    core.rollback()
    assert left == []
    assert settings == ("4MB", "read committed")
    warehouse.ingest.execute("set lock_timeout = '1s'; alter table raw.odoo_crm_lead alter column id type bigint")


def test_a_transform_is_logged_without_values_and_without_keys_that_airflow_takes(warehouse: Warehouse) -> None:
    """Airflow's supervisor takes `target`, `level` and `msg` for its own arguments and kills the task."""
    warehouse.create_odoo()
    warehouse.lead(1, name="a secret plan")
    with capture_logs() as logs:
        warehouse.transform("odoo_opportunities")
    (entry,) = logs
    assert entry["event"] == "table transformed"
    assert (entry["table"], entry["rows_read"], entry["inserted"]) == ("core.odoo_opportunities", 1, 1)
    assert not {"target", "level", "msg"} & set(entry)
    assert "secret" not in str(entry)
