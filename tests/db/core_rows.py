"""A small, good warehouse written by hand: one row or two in every table of core, and in raw what they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from revops.quality.own_checks import check_core
from revops.quality.own_config import OwnChecks, read_own_checks
from revops.quality.results import ScanReport
from revops.quality.scan import scan_tables

SODA = Path(__file__).resolve().parents[2] / "include" / "soda"
OWN = read_own_checks(SODA / "own.yaml")

# What the run of each source computes, in the order in which the tables depend on each other.
CORE_TABLES = {
    "odoo": [
        *("account_record", "account_link", "account", "aws_account", "contact", "app_user", "odoo_opportunities"),
        *("bill_line", "billing_usage"),
    ],
    "ace": ["account_record", "account_link", "account", "contact", "app_user", "ace_opportunities"],
}

_RAW = """
create table raw.odoo_res_partner (id integer primary key, commercial_partner_id integer, _deleted_at timestamptz);
insert into raw.odoo_res_partner values (1, 1), (2, 1), (3, 3);
update raw.odoo_res_partner set _deleted_at = now() where id = 3;
create table raw.odoo_c_aws_accounts (id integer primary key, _deleted_at timestamptz);
insert into raw.odoo_c_aws_accounts values (1);
create table raw.odoo_res_users (id integer primary key, _deleted_at timestamptz);
insert into raw.odoo_res_users values (2);
create table raw.odoo_crm_lead (id integer primary key, _deleted_at timestamptz);
insert into raw.odoo_crm_lead values (1), (2);
create table raw.odoo_c_billing_bill_line (id integer primary key, cost numeric, date date, _deleted_at timestamptz);
insert into raw.odoo_c_billing_bill_line values (1, 10.005, '2026-10-31'), (2, 5, '2026-11-01'), (3, 1, null);
create table raw.odoo_c_billing_internal_cur (
    id integer primary key, cost numeric, period_date date, _deleted_at timestamptz
);
insert into raw.odoo_c_billing_internal_cur values (1, 10.25, '2026-10-01'), (2, -3.5, '2026-10-01'),
    (3, 7, '2026-11-01');
create table raw.ace_apn_companies (id text primary key, _deleted_at timestamptz);
insert into raw.ace_apn_companies values ('C1');
create table raw.ace_apn_contacts (id text primary key, _deleted_at timestamptz);
insert into raw.ace_apn_contacts values ('K1');
create table raw.ace_apn_users (id text primary key, _deleted_at timestamptz);
insert into raw.ace_apn_users values ('U1');
create table raw.ace_apn_opportunity (id text primary key, _deleted_at timestamptz);
insert into raw.ace_apn_opportunity values ('O1'), ('O2');
"""

_CORE = """
insert into ops.load (source, table_name, run_id, mode, status) values ('odoo', 't', 'r', 'xid', 'failed');
insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, quarantined)
select 'r', source, 'core.' || target, 'succeeded', 0, 0, 0, 0, 0
from (values ('odoo', array['account_record', 'account_link', 'account', 'aws_account', 'contact', 'app_user',
    'odoo_opportunities', 'bill_line', 'billing_usage']), ('ace', array['account_record', 'account_link', 'account',
    'contact', 'app_user', 'ace_opportunities'])) as s (source, targets) cross join unnest(targets) as target;
insert into core.account_record (source_system, source_id, name, normalised_name, is_company, is_archived, domain,
    country_code, duns, aws_account_ids, updated_at, deleted_at, raw_load_id, transform_run_id)
values
    ('odoo', '1', 'Acme', 'acme', true, false, 'acme.example', 'DE', '123456789', '{123456789012}', now(), null, 1, 1),
    ('odoo', '3', 'Gone', 'gone', true, false, null, null, null, '{}', now(), now(), 1, 1),
    ('ace', 'C1', 'ACME Inc', 'acme', true, false, 'acme.example', null, null, '{}', now(), null, 1, 10),
    ('ace', 'opportunity:O2', 'Other', 'other', true, false, null, 'US', null, '{}', now(), null, 1, 10);
insert into core.account_link (source_system, source_id, account_id, reason, evidence, linked_to, state, deleted_at,
    raw_load_id, transform_run_id)
values
    ('odoo', '1', 'odoo:1', 'leading record', null, null, 'live', null, 1, 2),
    ('odoo', '3', 'odoo:3', 'only record', null, null, 'broken', now(), 1, 2),
    ('ace', 'C1', 'odoo:1', 'domain', 'acme.example', 'odoo:1', 'live', null, 1, 11),
    ('ace', 'opportunity:O2', 'ace:opportunity:O2', 'only record', null, null, 'live', null, 1, 11);
insert into core.account (account_id, source_system, source_id, name, normalised_name, is_company, is_archived,
    aws_account_ids, records, systems, updated_at, deleted_at, raw_load_id, transform_run_id)
values
    ('odoo:1', 'odoo', '1', 'Acme', 'acme', true, false, '{123456789012}', 2, '{ace,odoo}', now(), null, 1, 3),
    ('odoo:3', 'odoo', '3', 'Gone', 'gone', true, false, '{}', 0, '{}', now(), now(), 1, 3),
    ('ace:opportunity:O2', 'ace', 'opportunity:O2', 'Other', 'other', true, false, '{}', 1, '{ace}', now(), null, 1,
        12);
insert into core.aws_account (source_id, aws_account_id, is_aws_account_id_valid, account_source_id, is_archived,
    updated_at, raw_load_id, transform_run_id)
values ('1', '123456789012', true, '1', false, now(), 1, 4);
insert into core.contact (source_system, source_id, account_source_id, name, is_archived, email_blind_index, updated_at,
    raw_load_id, transform_run_id)
values
    ('odoo', '2', '1', 'Jane Doe', false, '\\x01', now(), 1, 5),
    ('ace', 'K1', 'C1', null, false, '\\x01', now(), 1, 13);
insert into core.app_user (source_system, source_id, name, is_active, is_internal, is_technical, contact_source_id,
    updated_at, raw_load_id, transform_run_id)
values
    ('odoo', '2', 'Sam', true, true, false, '2', now(), 1, 6),
    ('ace', 'U1', null, true, true, false, null, now(), 1, 14);
insert into core.odoo_opportunities (source_id, title, lead_type, account_source_id, contact_source_id, stage, status,
    probability, annual_revenue, currency_code, owner_source_id, aws_account_id, is_aws_account_id_valid, tags,
    target_close_date, created_at, updated_at, raw_load_id, transform_run_id)
select source_id, 'Deal', 'lead', '1', '2', 'New', 'open', 10, 1200, 'USD', '2', '123456789012', true, '{}',
    '2026-12-01', now(), now(), 1, 7
from unnest(array['1', '2']) as source_id;
insert into core.ace_opportunities (source_id, title, account_source_id, contact_source_id, company_name, stage,
    delivery_models, monthly_aws_spend, currency_code, owner_source_id, aws_account_id, is_aws_account_id_valid,
    target_close_date, created_at, updated_at, aws_updated_at, raw_load_id, transform_run_id)
values
    ('O1', 'Deal', 'C1', 'K1', 'Acme', 'Launched', '{}', 100, 'USD', 'U1', '123456789012', true, '2026-12-01', now(),
        now(), now(), 1, 15),
    ('O2', 'Deal', 'opportunity:O2', null, 'Other', 'Qualified', '{}', null, null, null, null, null, null, now(),
        now(), now(), 1, 15);
insert into core.bill_line (source_id, has_bill, billing_month, account_source_id, aws_account_source_id, cost,
    currency_code, line_date, updated_at, raw_load_id, transform_run_id)
values
    ('1', true, '2026-10-01', '1', '1', 10.005, 'USD', '2026-10-31', now(), 1, 8),
    ('2', true, '2026-10-01', '1', '1', 5, 'USD', '2026-11-01', now(), 1, 8),
    ('3', true, '2026-11-01', '1', '1', 1, 'USD', null, now(), 1, 8);
select core.add_billing_months('{2026-10-01,2026-11-01}');
insert into core.billing_usage (billing_month, source_id, payer_source_id, aws_account_source_id, service, cost,
    currency_code, updated_at, raw_load_id, transform_run_id)
values
    ('2026-10-01', '1', '1', '1', 'EC2', 10.25, 'USD', now(), 1, 9),
    ('2026-10-01', '2', '1', '1', 'EC2', -3.5, 'USD', now(), 1, 9),
    ('2026-11-01', '3', '1', '1', 'EC2', 7, 'USD', now(), 1, 9);
"""


def fill_warehouse(owner: psycopg.Connection, ingest: psycopg.Connection) -> None:
    """Write the rows; both sessions commit."""
    ingest.execute(_RAW.encode())
    ingest.commit()
    owner.execute(_CORE.encode())
    owner.commit()


class Core:
    """A warehouse with rows in all of core; `change` breaks it."""

    def __init__(self, dsn: str, as_role: Callable[[str], psycopg.Connection]) -> None:
        self.dsn = make_conninfo(dsn, options="-c role=revops_quality -c timezone=UTC")
        self.owner = as_role("revops_owner")
        self.ingest = as_role("revops_ingest")
        self.quality = as_role("revops_quality")
        fill_warehouse(self.owner, self.ingest)

    def change(self, statement: str) -> None:
        session = self.ingest if " raw." in statement else self.owner
        session.execute(statement.encode())
        session.commit()

    def scan(self, source: str) -> ScanReport:
        return scan_tables(self.dsn, layer="core", source=source, tables=CORE_TABLES[source], folder=SODA / "core")

    def own(self, source: str, own: OwnChecks = OWN) -> ScanReport:
        return check_core(self.quality, source=source, tables=CORE_TABLES[source], own=own)


def not_passed(report: ScanReport) -> set[tuple[str, str, str]]:
    """(table, name, outcome) of the checks that did not pass."""
    return {(one.check.table, one.check.name, one.outcome) for one in report.results if one.outcome != "pass"}
