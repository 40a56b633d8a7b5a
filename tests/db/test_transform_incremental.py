"""What a run computes anew: everything or the keys that changes concern, why, and from where the next one starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_tables import Warehouse, copy_include, outcome

from revops.transform.definition import read_definition
from revops.transform.errors import TransformError
from revops.transform.run import TransformResult
from revops.transform.targets import TARGETS

pytestmark = pytest.mark.db

FILES_CHANGED = "its files, rules, seeds, input columns or index key have changed"


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A copy of the folder include, to be changed."""
    return copy_include(tmp_path)


def how(result: TransformResult) -> tuple[str | None, int | None, int]:
    """(why everything was computed, keys otherwise, rows read) of a transform."""
    return (result.full_reason, result.scope, result.read)


def test_the_first_run_computes_everything_and_the_next_ones_what_has_changed(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.lead(number)
    assert how(warehouse.transform("odoo_opportunities")) == ("first run", None, 3)
    assert how(warehouse.transform("odoo_opportunities")) == (None, 0, 0)
    warehouse.update("odoo_crm_lead", "id = 2", name="new name")
    result = warehouse.transform("odoo_opportunities")
    assert (how(result), outcome(result)) == ((None, 1, 1), (1, 0, 1, 0, 0, 0))
    assert how(warehouse.transform("odoo_opportunities")) == (None, 0, 0)
    assert how(warehouse.transform("odoo_opportunities", full_refresh=True)) == ("full_refresh", None, 3)
    assert warehouse.rows("select full_reason, scope, rows_read from ops.transform_run order by transform_run_id") == [
        ("first run", None, 3),
        (None, 0, 0),
        (None, 1, 1),
        (None, 0, 0),
        ("full_refresh", None, 3),
    ]


def test_several_loads_between_two_runs_are_seen_together(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.lead(number)
    warehouse.transform("odoo_opportunities")
    warehouse.lead(4)
    warehouse.update("odoo_crm_lead", "id = 1", name="once")
    warehouse.update("odoo_crm_lead", "id = 1", name="twice")
    warehouse.delete("odoo_crm_lead", "id = 4")
    assert how(warehouse.transform("odoo_opportunities")) == (None, 2, 2)
    assert warehouse.rows("select source_id, title, deleted_at is null from core.odoo_opportunities order by 1") == [
        ("1", "twice", True),
        ("2", "lead 2", True),
        ("3", "lead 3", True),
        ("4", "lead 4", False),
    ]


def test_each_table_and_source_goes_on_from_its_own_last_run(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create_ace()
    warehouse.insert("odoo_res_users", id=1, login="u1", partner_id=1, active=True)
    warehouse.insert("ace_apn_users", id="A1", role="Sales")
    warehouse.partner(1, name="One")
    for source in ("odoo", "ace"):
        warehouse.transform("app_user", source=source)
    warehouse.transform("account_record")
    warehouse.update("odoo_res_partner", name="Uno")
    warehouse.update("ace_apn_users", role="Alliance")
    assert how(warehouse.transform("app_user")) == (None, 1, 1)
    assert how(warehouse.transform("account_record")) == (None, 1, 1)
    assert how(warehouse.transform("account_record", source="ace")) == ("first run", None, 0)
    assert how(warehouse.transform("app_user", source="ace")) == (None, 1, 1)
    assert warehouse.rows("select source_system, name, role from core.app_user order by 1") == [
        ("ace", None, "Alliance"),
        ("odoo", "Uno", None),
    ]


def edit(include: Path, name: str, old: str, new: str) -> None:
    place = include / "sql" / "core" / name
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("aws_account.sql", "a.active is false as is_archived", "a.active is not true as is_archived"),
        ("aws_account.affected.sql", "-- Purpose: which", "-- Purpose: what"),
        ("aws_account.rules.yaml", "left_on < joined_on", "left_on <= joined_on"),
        ("aws_account.rules.yaml", "Correct the dates in Odoo.", "Correct them."),
        ("inputs.yaml", "  joined_date: date?", "  joined_date: timestamptz?"),
        ("inputs.yaml", "odoo_res_country: {id: bigint, code: text}", "odoo_res_country: {id: bigint, code: 'text?'}"),
    ],
)
def test_edited_files_compute_everything_once(
    warehouse: Warehouse, include: Path, name: str, old: str, new: str
) -> None:
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.insert("odoo_c_aws_accounts", id=number, name="123456789012", active=True)
    warehouse.transform("aws_account", include=include)
    edit(include, name, old, new)
    assert how(warehouse.transform("aws_account", include=include)) == (FILES_CHANGED, None, 2)
    assert how(warehouse.transform("aws_account", include=include)) == (None, 0, 0)


def test_edits_of_what_a_table_does_not_read_change_nothing_for_it(warehouse: Warehouse, include: Path) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_c_aws_accounts", id=1, name="123456789012")
    warehouse.transform("aws_account", include=include)
    edit(
        include, "inputs.yaml", "odoo_crm_team: {id: bigint, name: text}", "odoo_crm_team: {id: bigint, name: 'text?'}"
    )
    edit(include, "contact.rules.yaml", "archive it", "delete it")
    assert how(warehouse.transform("aws_account", include=include)) == (None, 0, 0)


@pytest.mark.parametrize(
    "alteration",
    [
        "alter table raw.odoo_res_country alter column code type varchar(2)",
        (
            "alter table raw.odoo_res_partner rename column country_id to country; "
            "alter table raw.odoo_res_partner add column country_id bigint"
        ),
        "alter table raw.odoo_res_partner drop column city",
        "drop table raw.odoo_res_country_state",
    ],
)
def test_other_columns_of_raw_compute_everything_once(warehouse: Warehouse, alteration: str) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="One", city="Here")
    warehouse.transform("account_record")
    warehouse.ingest.execute(alteration)  # type: ignore[call-overload]
    assert how(warehouse.transform("account_record")) == (FILES_CHANGED, None, 1)
    assert how(warehouse.transform("account_record")) == (None, 0, 0)


def test_a_column_that_core_does_not_read_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="One")
    warehouse.transform("account_record")
    warehouse.ingest.execute("alter table raw.odoo_res_partner add column x_spare text default 'x'")
    assert how(warehouse.transform("account_record")) == (None, 0, 0)


def record_change(warehouse: Warehouse, table: str, change: str) -> None:
    """Record a change of a raw table in a load of its own that has written no row, as the extraction does."""
    warehouse.ingest.execute(
        "with begun as (insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, "
        "unchanged, quarantined) values ('odoo', %(name)s, 'r', 'xid', 'succeeded', 0, 0, 0, 0, 0) returning load_id) "
        "insert into ops.schema_change (source, table_name, change, run_id, load_id) "
        "select 'odoo', 'odoo_' || %(name)s, %(change)s, 'r', load_id from begun",
        {"name": table, "change": change},
    )


@pytest.mark.parametrize("change", ["table_created", "key_changed", "table_returned"])
def test_a_table_that_was_filled_anew_computes_everything_once(warehouse: Warehouse, change: str) -> None:
    """Under another key raw is emptied: what is gone is in no load."""
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.lead(number)
    warehouse.transform("odoo_opportunities")
    warehouse.transform("aws_account")
    warehouse.ingest.execute("delete from raw.odoo_crm_lead where id = 2")
    record_change(warehouse, "crm_lead", change)
    result = warehouse.transform("odoo_opportunities")
    assert how(result) == (f"raw.odoo_crm_lead: {change.replace('_', ' ')}", None, 1)
    assert warehouse.rows("select source_id from core.odoo_opportunities") == [("1",)]
    assert how(warehouse.transform("odoo_opportunities")) == (None, 0, 0)
    # Others do not read that table.
    assert how(warehouse.transform("aws_account")) == (None, 0, 0)


def test_a_new_column_that_raw_has_got_computes_nothing_by_itself(warehouse: Warehouse) -> None:
    """Rows that it changes are loaded again."""
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.transform("odoo_opportunities")
    record_change(warehouse, "crm_lead", "column_added")
    assert how(warehouse.transform("odoo_opportunities")) == (None, 0, 0)


def test_an_empty_table_does_not_compute_everything_again_and_again(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    record_change(warehouse, "crm_lost_reason", "table_created")
    assert how(warehouse.transform("odoo_opportunities")) == ("first run", None, 1)
    assert how(warehouse.transform("odoo_opportunities")) == (None, 0, 0)


def test_tables_without_scopes_compute_everything_each_time(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.partner(1, name="One")
    warehouse.transform_accounts()
    for name in ("account_link", "account", "document"):
        for _ in range(2):
            assert how(warehouse.transform(name)) == ("the table has no scopes", None, 1)


def test_state_is_saved_by_table_and_source(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_c_aws_accounts", id=1, name="x")
    accounts = warehouse.last_load()
    warehouse.partner(1, name="One")
    partners = warehouse.last_load()
    result_before = warehouse.transform("aws_account")
    state = (
        "select target, source, read_up_to ->> 'odoo_c_aws_accounts', read_up_to ->> 'odoo_res_partner', r.rows_read "
    )
    state += "from ops.transform_state join ops.transform_run r using (transform_run_id, target, source)"
    assert warehouse.rows(state) == [("core.aws_account", "odoo", str(accounts), str(partners), result_before.read)]
    warehouse.update("odoo_res_partner", name="Uno")
    warehouse.transform("aws_account")
    assert warehouse.rows(state) == [("core.aws_account", "odoo", str(accounts), str(partners + 1), 0)]


def test_a_table_with_scopes_needs_the_file_that_says_what_is_affected(include: Path) -> None:
    target = TARGETS["contact"]
    assert read_definition(target, include / "sql").affected
    (include / "sql" / "core" / "contact.affected.sql").unlink()
    with pytest.raises(TransformError, match=r"core\.contact: contact\.affected\.sql must exist exactly where.*Remedy"):
        read_definition(target, include / "sql")
    (include / "sql" / "core" / "account.affected.sql").write_text("select 1")
    with pytest.raises(TransformError, match=r"core\.account: account\.affected\.sql must exist exactly where"):
        read_definition(TARGETS["account"], include / "sql")
