"""Raw tables as a large Odoo leaves them, made by SQL: the same rows on every machine."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from revops.transform.definition import Input

MONTHS = 24
WORDS = (
    "migration of the payment platform to managed containers with backup and disaster recovery, a landing zone for "
    "three business units, and monthly review of cost and security"
)


def sizes(billing_rows: int) -> dict[str, int]:
    """Return how many rows each table gets: 10 million rows of billing come with 100,000 opportunities."""
    lines = billing_rows * 4 // 5
    return {
        "odoo_c_billing_internal_cur": billing_rows - lines,
        "odoo_c_billing_bill_line": lines,
        "odoo_c_billing_bill": max(lines // 200, 1),
        "odoo_crm_lead": max(billing_rows // 100, 1),
        "odoo_res_partner": max(billing_rows // 250, 1),
        "odoo_c_aws_accounts": max(billing_rows // 1000, 1),
        "odoo_crm_tag_rel": max(billing_rows // 100, 1),
        "odoo_crm_stage": 6,
        "odoo_crm_team": 8,
        "odoo_crm_tag": 20,
        "odoo_crm_lost_reason": 5,
        "odoo_res_users": 50,
        "odoo_res_company": 2,
        "odoo_res_currency": 2,
        "odoo_res_country": 2,
        "odoo_res_country_state": 10,
        "odoo_product_template": 200,
    }


def create_raw(connection: psycopg.Connection, inputs: Mapping[str, Input], rows: Mapping[str, int]) -> int:
    """Create and fill the raw tables with what core reads of them, as a first load leaves them; return its id."""
    load_id = _new_load(connection)
    for table, count in rows.items():
        declared = {name: _raw_type(kind) for name, kind in inputs[table].columns.items()}
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in declared.items()
        )
        raw = sql.Identifier("raw", table)
        connection.execute(
            sql.SQL(
                "create table {} ({}, _loaded_at timestamptz not null default now(), _load_id bigint not null, "
                "_deleted_at timestamptz)"
            ).format(raw, columns)
        )
        values = sql.SQL(", ").join(_value(table, name, kind, rows) for name, kind in declared.items())
        connection.execute(
            sql.SQL("insert into {} select {}, now(), {}, null from generate_series(1, {}) as i").format(
                raw, values, sql.Literal(load_id), sql.Literal(count)
            )
        )
        key = "lead_id, tag_id" if "id" not in declared else "id"
        connection.execute(sql.SQL("alter table {} add primary key ({})").format(raw, sql.SQL(key)))
        connection.execute(
            sql.SQL("create index on {} (_load_id) where _load_id > {}").format(raw, sql.Literal(load_id))
        )
    connection.execute("grant select on all tables in schema raw to revops_transform, revops_quality")
    return load_id


def change_raw(connection: psycopg.Connection) -> int:
    """Change one row in a hundred of each large table, as the next load leaves it; return its load id.

    Of the roll-up of costs the last month of some payers is replaced, under new ids.
    """
    load_id = sql.Literal(_new_load(connection))
    for table, column in (
        ("odoo_c_billing_bill_line", "cost = cost + 1"),
        ("odoo_crm_lead", "probability = 100 - probability"),
        ("odoo_res_partner", "name = name || ' Group'"),
        ("odoo_c_aws_accounts", "c_aws_account_name = 'renamed'"),
    ):
        connection.execute(
            sql.SQL("update {} set {}, _load_id = {}, _loaded_at = now() where id % 100 = 7").format(
                sql.Identifier("raw", table), sql.SQL(column), load_id
            )
        )
    usage = sql.Identifier("raw", "odoo_c_billing_internal_cur")
    restated = sql.SQL(
        "_deleted_at is null and period_date = (select max(period_date) from {0}) and payer_id <= "
        "(select ceil(max(payer_id) * 0.24) from {0})"
    ).format(usage)
    names = [
        name
        for (name,) in connection.execute(
            "select attname from pg_attribute where attrelid = 'raw.odoo_c_billing_internal_cur'::regclass "
            "and attnum > 0 and attname not in ('id', 'cost', '_load_id')"
        )
    ]
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(
        sql.SQL(
            "with old as (select * from {usage} where {restated}), "
            "gone as (update {usage} as u set _deleted_at = now(), _load_id = {load} from old where old.id = u.id) "
            "insert into {usage} (id, cost, _load_id, {names}) select old.id + 1000000000, old.cost + 1, {load}, "
            "{names} from old"
        ).format(usage=usage, restated=restated, load=load_id, names=listed)
    )
    return int(load_id.as_string(None))


def _new_load(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "insert into ops.load (source, table_name, run_id, mode, status) "
        "values ('odoo', 'all', 'benchmark', 'xid', 'failed') returning load_id"
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    return int(row[0])


def _raw_type(declared: str) -> str:
    kind = declared.rstrip("?")
    return {"bigint": "integer", "timestamptz": "timestamp"}.get(kind, kind)


def _value(table: str, column: str, kind: str, rows: Mapping[str, int]) -> sql.Composable:
    """Return an expression over `i` for a column: keys that exist, and values of the field's usual shape."""
    points_to = {
        "partner_id": "odoo_res_partner",
        "commercial_partner_id": "odoo_res_partner",
        "c_aws_company_id": "odoo_res_partner",
        "payer_id": "odoo_c_aws_accounts",
        "account_id": "odoo_c_aws_accounts",
        "c_aws_account_id": "odoo_c_aws_accounts",
        "bill_id": "odoo_c_billing_bill",
        "stage_id": "odoo_crm_stage",
        "team_id": "odoo_crm_team",
        "tag_id": "odoo_crm_tag",
        "user_id": "odoo_res_users",
        "company_id": "odoo_res_company",
        "currency_id": "odoo_res_currency",
        "company_currency_id": "odoo_res_currency",
        "country_id": "odoo_res_country",
        "state_id": "odoo_res_country_state",
        "product_id": "odoo_product_template",
    }
    special = {
        ("odoo_res_partner", "commercial_partner_id"): "case when i % 3 = 0 then i - 1 else i end",
        ("odoo_res_partner", "name"): "'Company ' || md5((i / 2)::text)",
        ("odoo_res_partner", "website"): "'https://www.' || left(md5((i / 2)::text), 10) || '.com/about'",
        ("odoo_res_country", "code"): "(array['US', 'DE'])[i]",
        ("odoo_res_currency", "name"): "(array['USD', 'EUR'])[i]",
        ("odoo_c_aws_accounts", "name"): "lpad(i::text, 12, '1')",
        ("odoo_c_billing_internal_cur", "payer_id"): f"1 + i % {max(rows['odoo_c_aws_accounts'] // 100, 1)}",
        ("odoo_crm_lead", "type"): "'opportunity'",
        ("odoo_crm_lead", "description"): f"'<p>' || {_literal(WORDS)} || i || '</p>'",
        ("odoo_crm_tag_rel", "lead_id"): "i",
    }
    if found := special.get((table, column)):
        return sql.SQL(found)
    if column == "id":
        return sql.SQL("i")
    if column in points_to and kind == "integer":
        return sql.SQL("1 + (i::bigint * 7919 % {})::integer").format(sql.Literal(rows[points_to[column]]))
    shapes = {
        "integer": "null::integer",
        "numeric": "round((i % 1000003) * 1.7, 2)",
        "boolean": "true",
        "date": f"(date '2024-12-01' + make_interval(months => i % {MONTHS}))::date",
        "timestamp": "timestamp '2026-01-01' + make_interval(mins => i % 400000)",
        "text": "'text ' || i % 50",
        "bytea": "sha256(i::text::bytea)",
    }
    return sql.SQL("({})::{}").format(sql.SQL(shapes[kind]), sql.SQL(kind))


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
