"""From raw rows written by hand to core and search: what each row becomes, and which rows are touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.transform import TARGETS, TransformError, TransformResult, read_inputs, transform_table

pytestmark = pytest.mark.db

SQL = Path(__file__).resolve().parents[2] / "include" / "sql"
INPUTS = read_inputs(SQL / "core" / "inputs.yaml")
META = "_loaded_at timestamptz default now(), _load_id bigint default 1, _deleted_at timestamptz"

# Odoo as version 14 has it: names are plain text, and times have no zone.
ODOO = {
    "crm_lead": (
        "id integer primary key, name text, type text, active boolean, probability double precision, "
        "expected_revenue numeric, stage_id integer, team_id integer, user_id integer, company_id integer, "
        "partner_id integer, partner_name text, country_id integer, description text, date_deadline date, "
        "date_closed timestamp, create_date timestamp, write_date timestamp"
    ),
    "crm_stage": "id integer primary key, name text, is_won boolean",
    "crm_team": "id integer primary key, name text",
    "crm_tag": "id integer primary key, name text",
    "crm_tag_rel": "lead_id integer, tag_id integer, primary key (lead_id, tag_id)",
    "res_partner": (
        "id integer primary key, name text, commercial_partner_id integer, website text, country_id integer, "
        "active boolean, is_company boolean default true"
    ),
    "res_company": "id integer primary key, currency_id integer",
    "res_currency": "id integer primary key, name text",
    "res_country": "id integer primary key, code text",
}


class Warehouse:
    """A warehouse whose raw tables are written by hand."""

    def __init__(self, dsn: str) -> None:
        self.owner = psycopg.connect(dsn, autocommit=True)
        # Nothing may depend on the server's time zone.
        self.roles = {
            schema: psycopg.connect(make_conninfo(dsn, options=f"-c role={role} -c timezone=Asia/Kathmandu"))
            for schema, role in (("core", "revops_transform"), ("search", "revops_embed"))
        }
        self.ingest = psycopg.connect(make_conninfo(dsn, options="-c role=revops_ingest"), autocommit=True)
        for number in (1, 2, 3):
            self.ingest.execute(
                "insert into ops.load (source, table_name, run_id, mode, status) "
                "values ('odoo', 't', %s, 'xid', 'failed')",
                (f"r{number}",),
            )

    def close(self) -> None:
        for connection in (self.owner, self.ingest, *self.roles.values()):
            connection.close()

    def create(self, table: str, columns: str) -> None:
        self.ingest.execute(f"create table raw.{table} ({columns}, {META})")

    def create_odoo(self, **changed: str) -> None:
        for table, columns in {**ODOO, **changed}.items():
            self.create(f"odoo_{table}", columns)

    def insert(self, table: str, **values: Any) -> None:
        self.ingest.execute(
            sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier("raw", table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(map(sql.Literal, values.values())),
            )
        )

    def lead(self, number: int, **values: Any) -> None:
        self.insert(
            "odoo_crm_lead", **{"id": number, "name": f"lead {number}", "type": "opportunity", "active": True, **values}
        )

    def transform(self, name: str, *, source: str = "odoo", run_id: str = "r1") -> TransformResult:
        target = TARGETS[name]
        statement = (SQL / target.schema / f"{name}.sql").read_text()
        return transform_table(
            self.roles[target.schema], target=target, statement=statement, inputs=INPUTS, source=source, run_id=run_id
        )

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return query(self.owner, statement)


@pytest.fixture
def warehouse(warehouse_dsn: str) -> Iterator[Warehouse]:
    made = Warehouse(warehouse_dsn)
    yield made
    made.close()


def outcome(result: TransformResult) -> tuple[int, int, int, int, int, int]:
    """(read, inserted, updated, unchanged, quarantined, deleted) of a transform."""
    return (
        result.read, result.inserted, result.updated, result.unchanged, result.quarantined, result.deleted,
    )  # fmt: skip


def test_status_of_odoo_opportunities(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number, (name, is_won) in enumerate((("New", False), ("Won", True), ("Odd", None)), start=1):
        warehouse.insert("odoo_crm_stage", id=number, name=name, is_won=is_won)
    cases = [
        ("open", {"stage_id": 1, "probability": 10}),
        ("open", {"stage_id": 1, "probability": 0}),
        ("won", {"stage_id": 2, "probability": 100}),
        ("won", {"stage_id": 2, "active": False, "probability": 0}),
        ("lost", {"stage_id": 1, "active": False, "probability": 0}),
        ("lost", {"stage_id": 3, "active": False}),
        ("archived", {"stage_id": 1, "active": False, "probability": 20}),
        ("open", {"stage_id": None, "active": None}),
    ]
    for number, (_, values) in enumerate(cases, start=1):
        warehouse.lead(number, **values)
    assert outcome(warehouse.transform("odoo_opportunities")) == (8, 8, 0, 0, 0, 0)
    assert warehouse.rows("select source_id::int, status from core.odoo_opportunities order by 1") == [
        (number, status) for number, (status, _) in enumerate(cases, start=1)
    ]


def test_odoo_opportunity_in_full(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"] + ", aws_ace_id text")
    warehouse.insert("odoo_crm_stage", id=4, name="Proposal", is_won=False)
    warehouse.insert("odoo_crm_team", id=5, name="APAC")
    warehouse.insert("odoo_res_country", id=6, code="TW")
    warehouse.insert("odoo_res_country", id=7, code="JP")
    warehouse.insert("odoo_res_currency", id=8, name="TWD")
    warehouse.insert("odoo_res_company", id=9, currency_id=8)
    warehouse.insert("odoo_res_partner", id=10, name="Acme", commercial_partner_id=10, country_id=7, active=True)
    warehouse.insert("odoo_res_partner", id=11, name="Contact of Acme", commercial_partner_id=10)
    for number, name in ((1, "b"), (2, "a"), (3, "deleted tag"), (4, "deleted link")):
        warehouse.insert("odoo_crm_tag", id=number, name=name, _deleted_at="2026-01-01" if number == 3 else None)
        warehouse.insert(
            "odoo_crm_tag_rel", lead_id=1, tag_id=number, _deleted_at="2026-01-01" if number == 4 else None
        )
    warehouse.lead(
        1, name="  Move to AWS ", probability=12.5, expected_revenue="1000.50", stage_id=4, team_id=5, user_id=77,
        company_id=9, partner_id=11, partner_name="not used", date_deadline="2026-12-31",
        date_closed="2026-11-22 01:02:03", create_date="2026-11-20 23:30:00.123456", write_date="infinity",
        aws_ace_id=" O123 ", _load_id=2,
        description="<p>Dear&nbsp;all,<br/>a &lt;b&gt; &amp;amp; c</p>\r\n\t\u00a0 x &amp; y",
    )  # fmt: skip
    warehouse.lead(2, partner_name=" Walk-in ", country_id=6, type="lead", description="<p> </p>", aws_ace_id=" ")
    warehouse.transform("account")
    warehouse.transform("odoo_opportunities")
    rows = warehouse.rows(
        "select o.source_id, o.title, o.lead_type, a.source_id, o.company_name, o.stage, o.probability::text, "
        "o.annual_revenue::text, o.currency_code, o.country_code, o.team, o.owner_source_id, o.ace_opportunity_id, "
        "o.description, o.tags, o.target_close_date::text, o.closed_at at time zone 'UTC', "
        "(o.created_at at time zone 'UTC')::text, o.updated_at::text, o.deleted_at, o.raw_load_id "
        "from core.odoo_opportunities o left join core.account a using (account_id) order by 1"
    )
    assert [tuple(str(value) for value in row) for row in rows] == [
        (
            "1", "Move to AWS", "opportunity", "10", "Acme", "Proposal", "12.5", "1000.50", "TWD", "JP", "APAC", "77",
            "O123", "Dear all, a <b> &amp; c x & y", "['a', 'b']", "2026-12-31", "2026-11-22 01:02:03",
            "2026-11-20 23:30:00.123456", "infinity", "None", "2",
        ),
        (
            "2", "lead 2", "lead", "None", "Walk-in", "None", "None", "None", "None", "TW", "None", "None", "None",
            "None", "[]", "None", "None", "None", "None", "None", "1",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["timestamp", "timestamp(0)", "timestamp(3)"])
def test_times_without_zone_count_as_utc(warehouse: Warehouse, kind: str) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("create_date timestamp", f"create_date {kind}"))
    warehouse.lead(1, create_date="2026-11-22 12:00:00")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select created_at = '2026-11-22 12:00:00+00' from core.odoo_opportunities") == [(True,)]


def test_translated_names(warehouse: Warehouse) -> None:
    """From Odoo 16 on a translated name is an object by language."""
    warehouse.create_odoo(
        crm_stage="id integer primary key, name jsonb, is_won boolean", crm_tag="id integer, name jsonb"
    )
    for number, name in enumerate(('{"en_US": "New", "fr_FR": "Neuf"}', '"plain"', "null", None), start=1):
        warehouse.insert("odoo_crm_stage", id=number, name=name, is_won=False)
        warehouse.lead(number, stage_id=number)
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select stage from core.odoo_opportunities order by source_id") == [
        ("New",),
        ("plain",),
        (None,),
        (None,),
    ]


def test_missing_custom_columns_are_null_and_missing_tables_empty(warehouse: Warehouse) -> None:
    assert outcome(warehouse.transform("odoo_opportunities")) == (0, 0, 0, 0, 0, 0)
    assert outcome(warehouse.transform("account")) == (0, 0, 0, 0, 0, 0)
    assert outcome(warehouse.transform("ace_opportunities", source="ace")) == (0, 0, 0, 0, 0, 0)
    warehouse.create("odoo_crm_lead", ODOO["crm_lead"])
    warehouse.lead(1, stage_id=1)
    warehouse.create("ace_apn_opportunity", "id text primary key, name text")
    warehouse.insert("ace_apn_opportunity", id="O1", name="deal")
    warehouse.transform("odoo_opportunities")
    warehouse.transform("ace_opportunities", source="ace")
    assert warehouse.rows("select source_id, stage, status, ace_opportunity_id, tags from core.odoo_opportunities") == [
        ("1", None, "open", None, [])
    ]
    assert warehouse.rows("select source_id, title, monthly_spend, stage from core.ace_opportunities") == [
        ("O1", "deal", None, None)
    ]


def test_a_missing_column_that_core_needs(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_stage="id integer primary key, name text")
    with pytest.raises(TransformError, match=r"raw\.odoo_crm_stage has no column 'is_won'.*inputs\.yaml"):
        warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select status, error like '%is_won%' from ops.transform_run") == [("failed", True)]


def test_accounts(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create(
        "ace_apn_companies", "id text primary key, name text, website text, industry text, country_code text"
    )
    warehouse.insert("odoo_res_country", id=1, code="de")
    for number, name, website in (
        (1, "Müller & Söhne GmbH", "https://www.Mueller.example/de?x=1"),
        (2, "ＡＣＭＥ  Ltd.", "acme.example:8080"),
        (3, "\u00a0 \t", "http://blank.example"),
        (4, "台灣公司", " "),
    ):
        warehouse.insert(
            "odoo_res_partner", id=number, name=name, website=website, commercial_partner_id=number, country_id=1,
            active=number != 2,
        )  # fmt: skip
    warehouse.insert("odoo_res_partner", id=9, name="a contact", commercial_partner_id=1)
    warehouse.insert("ace_apn_companies", id="C1", name="Acme", website="www.acme.example", country_code=" us ")
    assert outcome(warehouse.transform("account")) == (4, 3, 0, 0, 1, 0)
    assert outcome(warehouse.transform("account", source="ace")) == (1, 1, 0, 0, 0, 0)
    assert warehouse.rows(
        "select source_system, source_id, name, normalised_name, domain, country_code, is_archived from core.account "
        "order by 1, 2"
    ) == [
        ("ace", "C1", "Acme", "acme", "acme.example", "US", False),
        ("odoo", "1", "Müller & Söhne GmbH", "muller sohne gmbh", "mueller.example", "DE", False),
        ("odoo", "2", "ＡＣＭＥ  Ltd.", "acme ltd", "acme.example", "DE", True),
        ("odoo", "4", "台灣公司", "台灣公司", None, "DE", False),
    ]


def test_a_source_is_confined_to_its_own_rows(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create("ace_apn_companies", "id text primary key, name text")
    warehouse.insert("ace_apn_companies", id="C1", name="Acme")
    warehouse.insert("odoo_res_partner", id=1, name="Odoo's", commercial_partner_id=1)
    for source in ("odoo", "ace"):
        warehouse.transform("account", source=source)
    before = warehouse.rows("select * from core.account where source_system = 'odoo'")
    # Odoo's rows change, but only ACE is transformed: neither the change nor the removal reaches core.
    warehouse.ingest.execute("update raw.odoo_res_partner set name = 'changed'; delete from raw.ace_apn_companies")
    assert outcome(warehouse.transform("account", source="ace")) == (0, 0, 0, 0, 0, 1)
    assert warehouse.rows("select * from core.account where source_system = 'odoo'") == before
    assert outcome(warehouse.transform("odoo_opportunities", source="ace")) == (0, 0, 0, 0, 0, 0)


def test_only_rows_that_differ_are_written(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.lead(number, expected_revenue="NaN", write_date="infinity")
    versions = "select source_id, xmin::text from core.odoo_opportunities order by 1"
    warehouse.transform("odoo_opportunities")
    before = dict(warehouse.rows(versions))
    assert outcome(warehouse.transform("odoo_opportunities")) == (3, 0, 0, 3, 0, 0)
    assert dict(warehouse.rows(versions)) == before
    warehouse.ingest.execute("update raw.odoo_crm_lead set name = 'new name', _load_id = 2 where id = 2")
    assert outcome(warehouse.transform("odoo_opportunities")) == (3, 0, 1, 2, 0, 0)
    after = dict(warehouse.rows(versions))
    assert {key for key in after if after[key] != before[key]} == {"2"}
    assert warehouse.rows("select status, rows_read, unchanged from ops.transform_run order by 1, 2, 3") == [
        ("succeeded", 3, 0),
        ("succeeded", 3, 2),
        ("succeeded", 3, 3),
    ]


def test_deleted_source_rows_carry_the_time_of_their_deletion_and_live_again(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    for number in (1, 2, 3):
        warehouse.lead(number)
    warehouse.transform("odoo_opportunities")
    warehouse.ingest.execute("update raw.odoo_crm_lead set _deleted_at = '2026-11-01' where id = 1")
    warehouse.ingest.execute("delete from raw.odoo_crm_lead where id = 2")
    assert outcome(warehouse.transform("odoo_opportunities")) == (2, 0, 1, 1, 0, 1)
    alive = "select source_id from core.odoo_opportunities where deleted_at is null order by 1"
    assert warehouse.rows(alive) == [("3",)]
    assert warehouse.rows("select deleted_at = '2026-11-01' from core.odoo_opportunities where source_id = '1'") == [
        (True,)
    ]
    # A row that is gone already is not marked again.
    assert outcome(warehouse.transform("odoo_opportunities")) == (2, 0, 0, 2, 0, 0)
    warehouse.lead(2)
    warehouse.ingest.execute("update raw.odoo_crm_lead set _deleted_at = null")
    warehouse.transform("odoo_opportunities")
    assert warehouse.rows(alive) == [("1",), ("2",), ("3",)]


def test_a_rejected_row_goes_to_quarantine_and_is_released_when_mended(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1)
    warehouse.lead(2, name="   ")
    warehouse.lead(3, type="nonsense")
    assert outcome(warehouse.transform("odoo_opportunities")) == (3, 1, 0, 0, 2, 0)
    held = (
        "select source_table, source_key, rule, reason, first_run_id, last_run_id, released_at is null "
        "from ops.quarantine order by source_key"
    )
    table = "core.odoo_opportunities:odoo"
    assert warehouse.rows(held) == [
        (table, "2", "reject", "title is missing", "r1", "r1", True),
        (table, "3", "reject", "type is neither lead nor opportunity", "r1", "r1", True),
    ]
    # Mended within the same run, as when a task is cleared and runs again.
    warehouse.ingest.execute("update raw.odoo_crm_lead set name = 'mended' where id = 2")
    assert outcome(warehouse.transform("odoo_opportunities")) == (3, 1, 0, 1, 1, 0)
    assert [row[-1] for row in warehouse.rows(held)] == [False, True]
    # Broken again, the other one mended: the row stays as it was last good, and its first run stays on record.
    warehouse.ingest.execute("update raw.odoo_crm_lead set name = case id when 2 then '' else name end, type = 'lead'")
    warehouse.transform("odoo_opportunities", run_id="r2")
    assert warehouse.rows(held) == [
        (table, "2", "reject", "title is missing", "r1", "r2", True),
        (table, "3", "reject", "type is neither lead nor opportunity", "r1", "r1", False),
    ]
    assert warehouse.rows("select source_id, title, deleted_at from core.odoo_opportunities order by 1") == [
        ("1", "lead 1", None),
        ("2", "mended", None),
        ("3", "lead 3", None),
    ]
    warehouse.ingest.execute("update raw.odoo_crm_lead set name = 'mended' where id = 2")
    warehouse.transform("odoo_opportunities", run_id="r3")
    assert warehouse.rows("select count(*) from core.odoo_opportunities where deleted_at is null") == [(3,)]
    assert [row[-1] for row in warehouse.rows(held)] == [False, False]


def test_quarantine_of_one_source_is_no_business_of_the_other(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.create("ace_apn_companies", "id text primary key, name text")
    warehouse.insert("ace_apn_companies", id="C1", name="")
    warehouse.insert("odoo_res_partner", id=1, name=None, commercial_partner_id=1)
    warehouse.transform("account", source="odoo")
    warehouse.transform("account", source="ace")
    assert warehouse.rows("select source_key, released_at from ops.quarantine order by 1") == [
        ("1", None),
        ("C1", None),
    ]


def test_a_failure_leaves_core_as_it_was(warehouse: Warehouse) -> None:
    warehouse.create_odoo(crm_lead=ODOO["crm_lead"].replace("expected_revenue numeric", "expected_revenue text"))
    warehouse.lead(1, expected_revenue="12.50")
    warehouse.transform("odoo_opportunities")
    before = warehouse.rows("select * from core.odoo_opportunities")
    warehouse.lead(2, expected_revenue="much")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        warehouse.transform("odoo_opportunities")
    assert warehouse.rows("select * from core.odoo_opportunities") == before
    assert warehouse.rows("select status from ops.transform_run order by transform_run_id") == [
        ("succeeded",),
        ("failed",),
    ]
    # The session is fit for the next transform.
    warehouse.ingest.execute("update raw.odoo_crm_lead set expected_revenue = '' where id = 2")
    assert outcome(warehouse.transform("odoo_opportunities")) == (2, 1, 0, 1, 0, 0)


def test_ace_opportunities(warehouse: Warehouse) -> None:
    warehouse.create("ace_apn_companies", "id text primary key, name text")
    warehouse.insert("ace_apn_companies", id="C1", name="Acme")
    warehouse.create(
        "ace_apn_opportunity",
        "id text primary key, name text, stage_name text, company_id text, customer_company_name text, "
        "aws_account text, project_budget numeric, project_budget_currency text, partner_crm_id text, close_date date, "
        "aws_create_date timestamptz, created_at timestamptz, aws_last_modified_date timestamptz, status text",
    )
    for number, values in enumerate(
        (
            {"name": " Deal ", "company_id": "C1", "aws_account": " 123456789012 ", "project_budget": "1.50",
             "project_budget_currency": "usd", "partner_crm_id": " ", "aws_create_date": "infinity",
             "created_at": "2026-01-01", "stage_name": "Qualified", "status": "Draft"},
            {"name": "Other", "customer_company_name": " Own name ", "aws_account": "12345",
             "created_at": "2026-01-01"},
            {"name": None},
        ),
        start=1,
    ):  # fmt: skip
        warehouse.insert("ace_apn_opportunity", id=f"O{number}", **values)
    warehouse.transform("account", source="ace")
    assert outcome(warehouse.transform("ace_opportunities", source="ace")) == (3, 2, 0, 0, 1, 0)
    assert warehouse.rows(
        "select o.source_id, title, a.source_id, company_name, stage, review_status, monthly_spend::text, "
        "currency_code, aws_account_id, is_aws_account_id_valid, odoo_opportunity_id, "
        "(created_at at time zone 'UTC')::text "
        "from core.ace_opportunities o left join core.account a using (account_id) order by 1"
    ) == [
        ("O1", "Deal", "C1", "Acme", "Qualified", "Draft", "1.50", "USD", "123456789012", True, None, "infinity"),
        ("O2", "Other", None, "Own name", None, None, None, None, "12345", False, None, "2026-01-01 00:00:00"),
    ]


def test_documents(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.insert("odoo_res_partner", id=1, name="Acme", commercial_partner_id=1, website="acme.example")
    warehouse.insert("odoo_crm_tag", id=1, name="cloud")
    warehouse.insert("odoo_crm_tag_rel", lead_id=1, tag_id=1)
    warehouse.lead(
        1, partner_id=1, expected_revenue=5,
        description="<p>Write to jane.doe+x@mail.example.com or call +1 (555) 010-9999, 0912-345-678. Use 12 VM.</p>",
    )  # fmt: skip
    warehouse.lead(2, description="second")
    for name in ("account", "odoo_opportunities"):
        warehouse.transform(name)
    assert outcome(warehouse.transform("document")) == (3, 3, 0, 0, 0, 0)
    documents = (
        "select entity, entity_id, title, regexp_replace(text, '\\s+', ' ', 'g'), status, amount::text, "
        "text_hash = sha256(convert_to(text, 'UTF8')) from search.document order by 1, 2"
    )
    assert warehouse.rows(documents) == [
        ("odoo_account", "1", "Acme", "Acme acme.example", "active", None, True),
        ("odoo_opportunity", "1", "lead 1", "lead 1 Acme Write to or call , . Use 12 VM. cloud", "open", "5", True),
        ("odoo_opportunity", "2", "lead 2", "lead 2 second", "open", None, True),
    ]
    assert outcome(warehouse.transform("document")) == (3, 0, 0, 3, 0, 0)
    # ACE's run touches none of them; a deleted lead's document goes.
    assert outcome(warehouse.transform("document", source="ace")) == (0, 0, 0, 0, 0, 0)
    warehouse.ingest.execute("update raw.odoo_crm_lead set _deleted_at = now() where id = 2")
    warehouse.transform("odoo_opportunities")
    assert outcome(warehouse.transform("document")) == (2, 0, 0, 2, 0, 1)
    assert [row[:2] for row in warehouse.rows(documents)] == [("odoo_account", "1"), ("odoo_opportunity", "1")]


def test_two_transforms_of_one_table_at_once(
    warehouse: Warehouse, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """The second waits for the first, and then finds its rows."""
    warehouse.create_odoo()
    warehouse.lead(1)
    other = as_role("revops_transform")
    other.execute("select pg_advisory_xact_lock(hashtextextended('transform:core.odoo_opportunities', 0))")
    warehouse.roles["core"].execute("set lock_timeout = '300ms'")
    warehouse.roles["core"].commit()
    with pytest.raises(psycopg.errors.LockNotAvailable):
        warehouse.transform("odoo_opportunities")
    other.rollback()
    assert outcome(warehouse.transform("odoo_opportunities")) == (1, 1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Ask jane.doe+x@mail.example.com first", "Ask   first"),
        ("Call +1 (555) 010-9999, then wait", "Call  , then wait"),
        ("Fax 0912-345-678. Use 12 VMs", "Fax  . Use 12 VMs"),
        ("From 2026-11-22 on account 123456789012", "From 2026-11-22 on account 123456789012"),
        ("3,800.50 USD for 1000 users in 10 regions", "3,800.50 USD for 1000 users in 10 regions"),
    ],
)
def test_redaction_takes_addresses_and_phones_only(
    as_role: Callable[[str], psycopg.Connection], text: str, redacted: str
) -> None:
    assert as_role("revops_embed").execute("select search.redact(%s)", (text,)).fetchone() == (redacted,)


def test_a_title_is_redacted_too(warehouse: Warehouse) -> None:
    warehouse.create_odoo()
    warehouse.lead(1, name="Call from bob@example.com about EKS")
    warehouse.transform("odoo_opportunities")
    warehouse.transform("document")
    assert warehouse.rows("select title from search.document") == [("Call from   about EKS",)]


def test_a_person_becomes_an_account_but_no_document(warehouse: Warehouse) -> None:
    """The name of a person is personal data, also where a deal would carry it along."""
    warehouse.create_odoo()
    warehouse.insert("odoo_res_partner", id=1, name="Jane Doe", commercial_partner_id=1, is_company=False)
    warehouse.lead(1, partner_id=1)
    warehouse.lead(2, partner_id=1, partner_name="Doe Consulting")
    for name in ("account", "odoo_opportunities", "document"):
        warehouse.transform(name)
    assert warehouse.rows("select name, is_company from core.account") == [("Jane Doe", False)]
    assert warehouse.rows("select entity, text from search.document order by 2") == [
        ("odoo_opportunity", "lead 1"),
        ("odoo_opportunity", "lead 2\nDoe Consulting"),
    ]
