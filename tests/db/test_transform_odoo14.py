"""Core made from a real Odoo 14 database, against queries on that database itself.

The dump is not part of the repository; without it, beside the checkout at ../shared/data/odoo14.dump, the test skips.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg.conninfo import make_conninfo

from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring
from revops.local.credentials import load_or_create
from revops.local.postgres import EmbeddedPostgres
from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables

DUMP = Path(__file__).resolve().parents[3] / "shared" / "data" / "odoo14.dump"
pytestmark = [pytest.mark.db, pytest.mark.skipif(not DUMP.exists(), reason=f"no dump of an Odoo 14 at {DUMP}")]


@pytest.fixture
def odoo14(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> Iterator[str]:
    """The connection string of a restored Odoo 14 with what its users made of it."""
    name = f"odoo14_{os.getpid()}"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} owner odoo template template0")
        with psycopg.connect(postgres.conninfo(name), autocommit=True) as owner:
            owner.execute("alter schema public owner to odoo")
        dsn = postgres.conninfo(name, user="odoo", password=passwords["odoo"])
        subprocess.run(
            [str(postgres.psql.with_name("pg_restore")), "--no-owner", "--dbname", dsn, str(DUMP)],
            env={**os.environ, **postgres.client_environment},
            capture_output=True,
            check=False,  # extensions that the dump names and the login may not comment on
        )
        yield dsn
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def core(
    odoo14: str, warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> Iterator[Callable[[str], list[Any]]]:
    """A query on the warehouse, in which every configured table was loaded and every table of core was made."""
    secrets = load_or_create(tmp_path / "credentials.json")
    keyring = Keyring.parse(secrets["data_keys"], secrets["index_key"])
    config = load_source("odoo")
    with contextlib.ExitStack() as opened:
        route = Route(
            source=lambda: opened.enter_context(psycopg.connect(odoo14)),
            warehouse=lambda: opened.enter_context(
                psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_ingest"))
            ),
        )
        for table in config.tables:
            load_table(
                route,
                config=config,
                table=table,
                run_id="first",
                snapshot=None,
                full_refresh=False,
                accept_deletions=False,
                keyring=keyring,
            )
        warehouse = as_role("revops_transform")
        for name in core_tables("odoo"):
            transform_table(warehouse, target=TARGETS[name], source="odoo", run_id="first", include=INCLUDE)
        owner = opened.enter_context(psycopg.connect(warehouse_dsn, autocommit=True))
        yield lambda statement: query(owner, statement)


def test_core_agrees_with_the_source(odoo14: str, core: Callable[[str], list[Any]]) -> None:
    with psycopg.connect(odoo14, autocommit=True) as source:

        def agree(of_source: str, of_core: str) -> list[Any]:
            wanted = sorted(query(source, of_source), key=repr)
            assert sorted(core(of_core), key=repr) == wanted
            return wanted

        # Won by stage; lost is an archived lead without any chance.
        states = agree(
            """
            select l.id::text, case when s.is_won then 'won'
                when l.active is not true and l.active is not null and coalesce(l.probability, 0) = 0 then 'lost'
                when l.active is not true and l.active is not null then 'archived' else 'open' end,
                s.name, r.name, l.probability::numeric
            from crm_lead l left join crm_stage s on s.id = l.stage_id
            left join crm_lost_reason r on r.id = l.lost_reason
            where btrim(coalesce(l.name, '')) <> ''
            """,
            "select source_id, status, stage, lost_reason, probability from core.odoo_opportunities "
            "where deleted_at is null",
        )
        assert {state for _, state, *_ in states} >= {"won", "lost", "open"}
        agree(
            "select id::text, 'title is missing' from crm_lead where btrim(coalesce(name, '')) = ''",
            "select source_key, rule from ops.quarantine where target = 'core.odoo_opportunities'",
        )
        agree(
            "select s.name, l.type, c.name, count(*), sum(l.expected_revenue) from crm_lead l "
            "left join crm_stage s on s.id = l.stage_id left join res_company o on o.id = l.company_id "
            "left join res_currency c on c.id = o.currency_id where btrim(coalesce(l.name, '')) <> '' group by 1, 2, 3",
            "select stage, lead_type, currency_code, count(*), sum(annual_revenue) from core.odoo_opportunities "
            "group by 1, 2, 3",
        )
        agree(
            "select l.id::text, p.commercial_partner_id::text from crm_lead l "
            "left join res_partner p on p.id = l.partner_id where btrim(coalesce(l.name, '')) <> ''",
            "select source_id, account_source_id from core.odoo_opportunities",
        )
        agree(
            "select id::text, btrim(name), is_company is true, active is false from res_partner "
            "where commercial_partner_id = id and btrim(coalesce(name, '')) <> ''",
            "select source_id, name, is_company, is_archived from core.account_record",
        )
        agree(
            "select id::text, commercial_partner_id::text from res_partner where commercial_partner_id <> id",
            "select source_id, account_source_id from core.contact",
        )
        agree(
            "select u.id::text, btrim(p.name), u.active from res_users u join res_partner p on p.id = u.partner_id",
            "select source_id, name, is_active from core.app_user",
        )
        # Every record is in exactly one account, and every account has a record.
        agree(
            "select id::text, true from res_partner "
            "where commercial_partner_id = id and btrim(coalesce(name, '')) <> ''",
            "select l.source_id, a.account_id is not null from core.account_link l left join core.account a "
            "using (account_id) where l.state = 'live'",
        )


def test_billing_agrees_with_the_source(odoo14: str, core: Callable[[str], list[Any]]) -> None:
    with psycopg.connect(odoo14, autocommit=True) as source:
        present = {name for (name,) in query(source, "select relname from pg_class where relname like 'c\\_%'")}
        for table, of_source, of_core in (
            (
                "c_billing_internal_cur",
                (
                    "select date_trunc('month', period_date)::date, count(*), sum(cost) from c_billing_internal_cur "
                    "group by 1"
                ),
                "select billing_month, count(*), sum(cost) from core.billing_usage group by 1",
            ),
            (
                "c_billing_bill_line",
                "select bill_id is null, count(*), sum(cost) from c_billing_bill_line group by 1",
                "select not has_bill, count(*), sum(cost) from core.bill_line group by 1",
            ),
            (
                "c_aws_accounts",
                "select id::text, btrim(name), btrim(name) ~ '^[0-9]{12}$' from c_aws_accounts",
                "select source_id, aws_account_id, is_aws_account_id_valid from core.aws_account",
            ),
        ):
            wanted = query(source, of_source) if table in present else []
            assert sorted(core(of_core), key=repr) == sorted(wanted, key=repr)
