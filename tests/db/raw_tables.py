"""A warehouse whose raw tables are written by hand, and the transforms that read them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import psycopg
from builders import query
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.transform.run import TransformResult, transform_table
from revops.transform.targets import TARGETS

INCLUDE = Path(__file__).resolve().parents[2] / "include"

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
    "crm_lost_reason": "id integer primary key, name text",
    "res_partner": (
        "id integer primary key, name text, commercial_partner_id integer, website text, country_id integer, "
        "active boolean default true, is_company boolean default true, vat text, x_duns text, city text, zip text, "
        "state_id integer, function text, type text, create_date timestamp, write_date timestamp, "
        "email_blind_index bytea, email_normalized_blind_index bytea, phone_blind_index bytea, mobile_blind_index bytea"
    ),
    "res_users": "id integer primary key, login text, partner_id integer, active boolean, share boolean",
    "res_company": "id integer primary key, currency_id integer",
    "res_currency": "id integer primary key, name text",
    "res_country": "id integer primary key, code text",
    "res_country_state": "id integer primary key, name text",
    "product_template": "id integer primary key, name text",
    "c_aws_accounts": (
        "id integer primary key, name text, c_aws_account_name text, c_aws_company_id integer, payer_id integer, "
        "is_payer boolean, state text, active boolean, joined_date date, left_date date, end_user_country_id integer"
    ),
    "c_billing_internal_cur": (
        "id integer primary key, payer_id integer, account_id integer, company_currency_id integer, service text, "
        "charge_type text, cost numeric, period_date date, write_date timestamp"
    ),
    "c_billing_bill": (
        "id integer primary key, name text, partner_id integer, account_id integer, invoice_id integer, "
        "currency_id integer, period_date date, state text"
    ),
    "c_billing_bill_line": (
        "id integer primary key, bill_id integer, product_id integer, currency_id integer, line_type text, "
        "usage double precision, cost numeric, date date, write_date timestamp"
    ),
}
ACE = {
    "apn_companies": (
        "id text primary key, name text, website text, duns text, industry text, country_code text, "
        "state_or_region text, city text, postal_code text, created_at timestamptz, updated_at timestamptz"
    ),
    "apn_contacts": (
        "id text primary key, company_id text, business_title text, email_blind_index bytea, phone_blind_index bytea"
    ),
    "apn_users": "id text primary key, role text, is_active boolean, email_blind_index bytea",
    "apn_opportunity": (
        "id text primary key, name text, stage_name text, company_id text, contact_id text, owner_id text, "
        "customer_company_name text, customer_website text, customer_duns text, customer_country text, "
        "aws_account text, project_budget numeric, project_budget_currency text, expected_customer_spend jsonb, "
        "delivery_model text, delivery_models text[], industry text, partner_crm_id text, close_date date, "
        "status text, aws_create_date timestamptz, aws_last_modified_date timestamptz, created_at timestamptz, "
        "updated_at timestamptz"
    ),
}

# Each statement that writes is a load of its own, and its rows carry its id, as those of real loads do.
_LOADS = """
    create or replace function raw.begin_load() returns trigger language plpgsql as $$
    declare
        begun bigint;
    begin
        insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, unchanged,
                              quarantined)
        values (split_part(tg_table_name, '_', 1), substr(tg_table_name, strpos(tg_table_name, '_') + 1), 'by hand',
                'xid', 'succeeded', 0, 0, 0, 0, 0)
        returning load_id into begun;
        perform set_config('tests.load_id', begun::text, false);
        return null;
    end
    $$;
    create or replace function raw.stamp() returns trigger language plpgsql as $$
    begin
        new._load_id := current_setting('tests.load_id');
        return new;
    end
    $$;
"""
_TRIGGERS = """
    create trigger begin_load before insert or update on {0} for each statement execute function raw.begin_load();
    create trigger stamp before insert or update on {0} for each row execute function raw.stamp();
"""


class Warehouse:
    """A warehouse whose raw tables are written by hand: rows are inserted, updated and marked deleted, never removed.

    owner: sees everything; ingest: writes raw, each statement as a load of its own; roles: do the transforms.
    """

    def __init__(self, dsn: str) -> None:
        self.owner = psycopg.connect(dsn, autocommit=True)
        self._dsn = dsn
        self.roles: dict[str, psycopg.Connection] = {}
        self.reconnect()
        self.ingest = psycopg.connect(make_conninfo(dsn, options="-c role=revops_ingest"), autocommit=True)
        self.ingest.execute(_LOADS.encode())

    def reconnect(self) -> None:
        """Open the sessions of the transforms, in the place of those that are lost."""
        for connection in self.roles.values():
            connection.close()
        # Nothing may depend on the server's time zone.
        self.roles = {
            schema: psycopg.connect(make_conninfo(self._dsn, options=f"-c role={role} -c timezone=Asia/Kathmandu"))
            for schema, role in (("core", "revops_transform"), ("search", "revops_embed"))
        }

    def close(self) -> None:
        self.ingest.execute("drop function raw.begin_load, raw.stamp cascade")
        for connection in (self.owner, self.ingest, *self.roles.values()):
            connection.close()

    def create(self, table: str, columns: str) -> None:
        """Create a raw table; columns: those of the source."""
        name = sql.Identifier("raw", table)
        self.ingest.execute(
            sql.SQL(
                "create table {} ({}, _loaded_at timestamptz default now(), _load_id bigint, _deleted_at timestamptz)"
            ).format(name, sql.SQL(columns))  # type: ignore[arg-type]
        )
        self.ingest.execute(sql.SQL(_TRIGGERS).format(name))

    def create_odoo(self, **changed: str) -> None:
        """Create all of Odoo's tables, some with other columns."""
        for table, columns in {**ODOO, **changed}.items():
            self.create(f"odoo_{table}", columns)

    def create_ace(self, **changed: str) -> None:
        """Create all of ACE's tables, some with other columns."""
        for table, columns in {**ACE, **changed}.items():
            self.create(f"ace_{table}", columns)

    def insert(self, table: str, **values: Any) -> None:
        self.ingest.execute(
            sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier("raw", table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(map(sql.Literal, values.values())),
            )
        )

    def update(self, table: str, where: str = "true", **values: Any) -> None:
        """Change rows as a load does that reads them again."""
        self.ingest.execute(
            sql.SQL("update {} set {} where {}").format(
                sql.Identifier("raw", table),
                sql.SQL(", ").join(
                    sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
                    for name, value in values.items()
                ),
                sql.SQL(where),  # type: ignore[arg-type]
            )
        )

    def delete(self, table: str, where: str, *, at: str = "2026-11-01 00:00:00+00") -> None:
        """Mark rows as gone from the source."""
        self.update(table, where, _deleted_at=at)

    def lead(self, number: int, **values: Any) -> None:
        self.insert(
            "odoo_crm_lead", **{"id": number, "name": f"lead {number}", "type": "opportunity", "active": True, **values}
        )

    def partner(self, number: int, **values: Any) -> None:
        """Insert a company of its own, unless told."""
        self.insert("odoo_res_partner", **{"id": number, "commercial_partner_id": number, **values})

    def transform(
        self,
        name: str,
        *,
        source: str = "odoo",
        run_id: str = "r1",
        full_refresh: bool = False,
        include: Path = INCLUDE,
    ) -> TransformResult:
        """Transform one table as its task does."""
        target = TARGETS[name]
        return transform_table(
            self.roles[target.schema],
            target=target,
            source=source,
            run_id=run_id,
            include=include,
            full_refresh=full_refresh,
        )

    def transform_accounts(self, source: str = "odoo") -> None:
        """Bring records, links and accounts up to date."""
        for name in ("account_record", "account_link", "account"):
            self.transform(name, source=source)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return query(self.owner, statement)

    def last_load(self) -> int:
        return int(self.rows("select max(load_id) from ops.load")[0][0])


def copy_include(folder: Path) -> Path:
    """Copy what transforms read of the folder include, for a test that changes it."""
    for name in ("sql", "seeds"):
        if (INCLUDE / name).exists():
            shutil.copytree(INCLUDE / name, folder / name)
    return folder


def outcome(result: TransformResult) -> tuple[int, int, int, int, int, int]:
    """(read, inserted, updated, unchanged, quarantined, deleted) of a transform."""
    return (
        result.read, result.inserted, result.updated, result.unchanged, result.quarantined, result.deleted,
    )  # fmt: skip
