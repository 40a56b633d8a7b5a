"""How the SQL files see raw: the types of inputs.yaml whatever the source's own, and what may be missing."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb
from raw_tables import ACE, ODOO, Warehouse, outcome

from revops.transform.errors import TransformError

pytestmark = pytest.mark.db


@pytest.mark.parametrize("kind", ["timestamp", "timestamp(0)", "timestamp(3)"])
def test_times_without_zone_count_as_utc(warehouse: Warehouse, kind: str) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("create_date timestamp", f"create_date {kind}"))
    warehouse.lead(1, create_date="2026-11-22 12:00:00")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select created_at = '2026-11-22 12:00:00+00' from core.odoo_opportunities") == [(True,)]


def test_times_with_zone_are_taken_as_they_are(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("create_date timestamp", "create_date timestamptz"))
    warehouse.lead(1, create_date="2026-11-22 12:00:00+02")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select created_at = '2026-11-22 10:00:00+00' from core.odoo_opportunities") == [(True,)]


def test_translated_names(warehouse: Warehouse) -> None:
    """From Odoo 16 on a translated name is an object by language."""
    warehouse.create_odoo(
        crm_stage="id integer primary key, name jsonb, is_won boolean", crm_tag="id integer, name jsonb"
    )
    cases = {'{"en_US": "New", "fr_FR": "Neuf"}': "New", '"plain"': "plain", "null": None, '{"fr_FR": "x"}': None}
    for number, name in enumerate((*cases, None), start=1):
        warehouse.insert("odoo_crm_stage", id=number, name=name, is_won=False)
        warehouse.insert("odoo_crm_tag", id=number, name=Jsonb({"en_US": str(number)}))
        warehouse.insert("odoo_crm_tag_rel", lead_id=number, tag_id=number)
        warehouse.lead(number, stage_id=number)
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select stage, tags from core.odoo_opportunities order by source_id") == [
        (stage, [str(number)]) for number, stage in enumerate((*cases.values(), None), start=1)
    ]


def test_values_that_drift_has_made_text_are_converted(warehouse: Warehouse) -> None:
    """Where a source changes a type without an order, raw holds text."""
    warehouse.create_odoo(
        crm_lead=ODOO["crm_lead"]
        .replace("stage_id integer", "stage_id text")
        .replace("active boolean", "active text")
        .replace("expected_revenue numeric", "expected_revenue text")
        .replace("date_deadline date", "date_deadline text")
        .replace("create_date timestamp", "create_date text")
    )
    warehouse.insert("odoo_crm_stage", id=1, name="New", is_won=False)
    warehouse.lead(
        1, stage_id="1", active="f", probability=20, expected_revenue="12.50", date_deadline="2026-12-31",
        create_date="2026-11-22 12:00:00+00",
    )  # fmt: skip
    warehouse.lead(2, stage_id="", active="", expected_revenue="", date_deadline="", create_date="")
    for full_refresh in (True, False):
        warehouse.transform("odoo_opportunities", full_refresh=full_refresh)
        assert warehouse.rows(
            "select stage, status, annual_revenue::text, target_close_date::text, "
            "created_at = '2026-11-22 12:00:00+00' from core.odoo_opportunities order by source_id"
        ) == [("New", "archived", "12.50", "2026-12-31", True), (None, "open", None, None, None)]
        warehouse.update("odoo_crm_lead", partner_name=None)


@pytest.mark.parametrize(
    ("column", "before", "after", "value"),
    [
        ("id", "id integer", "id text", 1),
        ("id", "id integer", "id numeric", 1),
        ("period_date", "period_date date", "period_date text", "2026-11-01"),
        ("period_date", "period_date date", "period_date timestamp", "2026-11-01 00:00:00"),
        ("payer_id", "payer_id integer", "payer_id text", "7"),
    ],
)
def test_a_key_of_another_type_narrows_incremental_runs_as_well(
    warehouse: Warehouse, column: str, before: str, after: str, value: object
) -> None:
    warehouse.create_odoo(c_billing_internal_cur=ODOO["c_billing_internal_cur"].replace(before, after))
    line = {"id": 1, "payer_id": 7, "account_id": 8, "cost": 5, "period_date": "2026-11-01", column: value}
    warehouse.insert("odoo_c_billing_internal_cur", **line)
    warehouse.transform("billing_usage")
    warehouse.update("odoo_c_billing_internal_cur", cost=6)
    assert outcome(warehouse.transform("billing_usage")) == (1, 0, 1, 0, 0, 0)
    assert warehouse.rows("select source_id, billing_month::text, cost::text from core.billing_usage") == [
        ("1", "2026-11-01", "6")
    ]


def test_ids_of_another_type_narrow_incremental_runs_as_well(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("id integer", "id text", 1))
    warehouse.lead(1)
    warehouse.lead(2)
    warehouse.transform("odoo_opportunities")
    warehouse.update("odoo_crm_lead", "id = '2'", name="changed")
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 0, 1, 0, 0, 0)


def test_missing_custom_columns_are_null_and_missing_tables_empty(warehouse: Warehouse) -> None:
    warehouse.create("odoo_crm_lead", ODOO["crm_lead"])
    warehouse.lead(1, stage_id=1)
    warehouse.create("ace_apn_opportunity", "id text primary key, name text")
    warehouse.insert("ace_apn_opportunity", id="O1", name="deal")
    warehouse.create("ace_apn_companies", "id text primary key")
    warehouse.insert("ace_apn_companies", id="C1")
    warehouse.transform("odoo_opportunities")
    warehouse.transform("ace_opportunities", source="ace")
    assert warehouse.rows("select source_id, stage, status, ace_opportunity_id, tags from core.odoo_opportunities") == [
        ("1", None, "open", None, [])
    ]
    assert warehouse.rows(
        "select source_id, title, monthly_aws_spend, stage, delivery_models from core.ace_opportunities"
    ) == [("O1", "deal", None, None, [])]
    assert outcome(warehouse.transform("account_record", source="ace")) == (1, 0, 0, 0, 1, 0)


def test_a_table_that_appears_is_seen(warehouse: Warehouse) -> None:
    warehouse.create("odoo_crm_lead", ODOO["crm_lead"])
    warehouse.lead(1, stage_id=1)
    warehouse.transform("odoo_opportunities")
    warehouse.create("odoo_crm_stage", ODOO["crm_stage"])
    warehouse.insert("odoo_crm_stage", id=1, name="New", is_won=True)
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select stage, status from core.odoo_opportunities") == [("New", "won")]


def test_a_missing_column_that_core_needs(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_stage="id integer primary key, name text")
    with pytest.raises(TransformError) as caught:
        warehouse.transform("odoo_opportunities")
    assert str(caught.value) == (
        "raw.odoo_crm_stage has no column 'is_won', which core needs. Remedy: if the source really has none, mark it "
        "`boolean?` in include/sql/core/inputs.yaml; if it was renamed, change the name there and in the SQL files."
    )
    assert warehouse.rows("select status, error like '%is_won%' from ops.transform_run") == [("failed", True)]


def test_both_names_of_the_lost_reason(warehouse: Warehouse) -> None:
    """Odoo 17 renamed the column; raw keeps the old one, for rows that were not written since."""
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"] + ", lost_reason integer, lost_reason_id integer")
    warehouse.insert("odoo_crm_lost_reason", id=1, name="Too expensive")
    warehouse.insert("odoo_crm_lost_reason", id=2, name="No answer")
    warehouse.lead(1, lost_reason=1)
    warehouse.lead(2, lost_reason_id=2)
    warehouse.lead(3, lost_reason=1, lost_reason_id=2)
    warehouse.transform("odoo_opportunities")
    reasons = "select source_id, lost_reason from core.odoo_opportunities order by 1"
    assert warehouse.rows(reasons) == [("1", "Too expensive"), ("2", "No answer"), ("3", "No answer")]
    warehouse.update("odoo_crm_lost_reason", "id = 1", name="Price")
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 0, 1, 0, 0, 0)
    assert warehouse.rows(reasons)[0] == ("1", "Price")


def test_tables_of_the_other_source_are_empty(warehouse: Warehouse) -> None:
    """Their rows have not passed the checks of this source's run."""
    warehouse.create_odoo()
    warehouse.create_ace(apn_companies=ACE["apn_companies"].replace("name text", "label text"))
    warehouse.partner(1, name="One")
    warehouse.insert("ace_apn_companies", id="C1", label="ACE's")
    assert outcome(warehouse.transform("account_record")) == (1, 1, 0, 0, 0, 0)
    warehouse.ingest.execute("drop table raw.odoo_res_country")
    assert outcome(warehouse.transform("account_record", source="ace")) == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("declared", ["text", "character varying", "character varying(20)"])
def test_text_where_a_number_is_wanted(warehouse: Warehouse, declared: str) -> None:
    """Numbers and blanks are taken; anything else stops the table, with the place and never the value."""
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("stage_id integer", f"stage_id {declared}"))
    warehouse.lead(1, stage_id="")
    warehouse.lead(2, stage_id="7")
    warehouse.transform("odoo_opportunities")
    warehouse.lead(3, stage_id="first")
    warehouse.lead(4, stage_id="second")
    with pytest.raises(TransformError) as stopped:
        warehouse.transform("odoo_opportunities")
    told = f"odoo_crm_lead.stage_id is {declared} and 2 of its values are no bigint, first keys 3, 4"
    assert told in str(stopped.value)
    ((recorded,),) = warehouse.rows("select error from ops.transform_run where status = 'failed'")
    assert told in recorded
    assert "second" not in str(stopped.value) + recorded
