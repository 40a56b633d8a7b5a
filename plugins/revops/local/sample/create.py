"""Fill two empty databases with the sample sources."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import structlog
from psycopg import Connection, Cursor

from revops.local.sample import ace, ace_directory, billing, invoices, leads, parties, sales, state, truth
from revops.local.sample.accounts import account_rows
from revops.local.sample.loading import copy_lines, copy_rows, run_file
from revops.local.sample.plan import Plan, make_plan
from revops.local.sample.reference import reference_rows

log = structlog.get_logger()


def create(
    odoo: Connection[tuple[object, ...]],
    ace: Connection[tuple[object, ...]],
    *,
    seed: int,
    today: date,
    scale: float,
    truth_path: Path,
) -> dict[str, int]:
    """Create and fill the tables of both sample databases, and write the true matches to `truth_path`.

    The content depends on (seed, today, scale) only; its times end before `today`. A scale of 1 has 1,500
    leads and 150,000 rows of cost. Commits once a database, Odoo first. Returns the rows of each table.
    Raises ValueError where the scale is not positive or a database has tables already.
    """
    if not scale > 0:
        raise ValueError(f"scale {scale} of the sample sources must be greater than 0; 1 is the usual size")
    plan = make_plan(seed, today, scale)
    with ace.transaction(), ace.cursor() as into_ace, odoo.transaction(), odoo.cursor() as into_odoo:
        for name, cursor in (("Odoo", into_odoo), ("ACE", into_ace)):
            _refuse_tables(cursor, name)
            state.begin(cursor, seed=seed, started=today, scale=scale)
        rows = _fill_odoo(into_odoo, plan, seed=seed, today=today, scale=scale)
        state.remember_ids(into_odoo, list(rows))
        rows |= _fill_ace(into_ace, plan, seed=seed, today=today)
        truth.write(truth_path, truth.matches_of(plan.pipeline.opportunities))
    log.info("sample sources created", seed=seed, scale=scale, rows=sum(rows.values()))
    return rows


def _refuse_tables(cursor: Cursor[tuple[object, ...]], name: str) -> None:
    cursor.execute(
        "select current_database(), count(*) from pg_class"
        " where relkind in ('r', 'p') and relnamespace not in"
        " ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and relpersistence <> 't'"
    )
    row = cursor.fetchone()
    if row and row[1]:
        raise ValueError(
            f"the {name} database {row[0]} has {row[1]} tables already: the sample sources need empty ones;"
            " drop both sample databases and create them again, or use advance() to change the ones there"
        )


def _fill_odoo(
    cursor: Cursor[tuple[object, ...]], plan: Plan, *, seed: int, today: date, scale: float
) -> dict[str, int]:
    run_file(cursor, "odoo.sql")
    pipeline, accounts = plan.pipeline, plan.accounts
    orders = sales.make_orders(seed, pipeline.leads, today=today)
    bills = billing.make_bills(seed, scale, accounts, today=today)
    charges = billing.make_charges(seed, scale, accounts)
    rows = {table: copy_rows(cursor, table, small) for table, small in reference_rows(seed, today)}
    rows["res_partner"] += copy_rows(cursor, "res_partner", parties.partner_rows(seed, plan.parties, today=today))
    for table, found in (
        ("c_aws_accounts", account_rows(seed, accounts, today=today)),
        ("crm_lead", leads.lead_rows(seed, pipeline.leads, pipeline.opportunities, today=today)),
        ("crm_tag_rel", leads.tag_rows(seed, pipeline.leads)),
        ("sale_order", sales.order_rows(seed, orders, today=today)),
        ("sale_order_line", sales.order_line_rows(seed, orders)),
        ("project_project", sales.project_rows(seed, orders, today=today)),
        ("c_aws_funding_request", sales.funding_rows(seed, pipeline.opportunities, today=today)),
        ("account_move", invoices.invoice_rows(seed, bills, today=today)),
        (
            "account_move_line",
            invoices.invoice_line_rows(seed, invoices.invoice_rows(seed, bills, today=today)),
        ),
        ("c_billing_bill", billing.bill_rows(seed, bills, today=today)),
        ("c_billing_spp_bill", billing.discount_bill_rows(seed, scale, accounts, today=today)),
    ):
        rows[table] = copy_rows(cursor, table, found)
    for table, lines in (
        ("c_billing_internal_cur", billing.cost_lines(seed, scale, charges, today=today)),
        ("c_billing_bill_line", billing.bill_line_lines(seed, scale, bills, today=today)),
    ):
        rows[table] = copy_lines(cursor, table, lines)
    run_file(cursor, "odoo_keys.sql")
    return rows


def _fill_ace(cursor: Cursor[tuple[object, ...]], plan: Plan, *, seed: int, today: date) -> dict[str, int]:
    run_file(cursor, "ace.sql")
    found = plan.pipeline.opportunities
    directory = ace_directory.make_directory(found)
    rows = {
        table: copy_rows(cursor, table, new)
        for table, new in (
            ("_sqlx_migrations", ace_directory.migration_rows(today)),
            ("apn_users", ace_directory.user_rows(seed, today)),
            ("apn_companies", ace_directory.company_rows(seed, found, directory, today=today)),
            ("apn_contacts", ace_directory.contact_rows(seed, found, directory, today=today)),
            ("apn_opportunity", ace.opportunity_rows(seed, found, directory, today=today)),
        )
    }
    run_file(cursor, "ace_keys.sql")
    return rows
