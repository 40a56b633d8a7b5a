"""Random alterations of the business tables: other types, other columns, another key, a table that goes and returns."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from tests.histories.business import Application

Change = Callable[[Application], str]

# What a column's type becomes in an upgrade, and how its values are converted.
WIDENINGS = {
    "integer": ("bigint",),
    "character varying": ("text", "character varying(2000)"),
    "numeric": ("character varying", "numeric(30,10)"),
    "double precision": ("numeric",),
    "date": ("timestamp without time zone", "character varying"),
    "timestamp without time zone": ("timestamp with time zone",),
    "boolean": ("character varying",),
}
# Names that Odoo 16 and later translate.
TRANSLATED = ("crm_stage", "crm_team", "crm_tag", "crm_lost_reason", "product_template", "res_country_state")
# Tables that a source may lack, by include/sources.
OPTIONAL = ("c_billing_internal_cur", "c_billing_bill_line", "c_billing_bill", "c_aws_accounts", "apn_companies",
            "apn_contacts")  # fmt: skip
# Columns that the extraction itself is told to look at.
NEEDED = (("c_billing_internal_cur", "payer_id"), ("c_billing_internal_cur", "period_date"))


def widen(app: Application) -> str:
    """Give a column that core reads, or the key, a wider type."""
    table = app.pick(app.tables)
    shape = app.shape(table)
    columns = [column for column in (*app.read_columns(table), *shape.key) if column.declared in WIDENINGS]
    if not columns:
        return f"nothing to widen in {table}"
    column = app.rng.choice(columns)
    declared = app.rng.choice(WIDENINGS[column.declared])
    app.run(table, "alter table {0} alter column {1} drop default", shape.table, column.identifier)
    app.run(
        table,
        "alter table {0} alter column {1} type {2} using {1}::{2}",
        shape.table,
        column.identifier,
        sql.SQL(declared),
    )
    return f"widen {table}.{column.name} to {declared}"


def translate(app: Application) -> str:
    """Make a name an object by language, as an upgrade to Odoo 16 does."""
    found = [table for table in TRANSLATED if table in app.tables]
    if not found:
        return "nothing to translate"
    table = app.pick(found)
    if "jsonb" in {column.declared for column in app.shape(table).data if column.name == "name"}:
        return f"{table} is translated already"
    app.run(
        table,
        "alter table {0} alter column name type jsonb using "
        "case when name <> '' then jsonb_build_object('en_US', name, 'fr_FR', name || ' (fr)') end",
        sql.Identifier(table),
    )
    return f"translate {table}.name"


def add_column(app: Application) -> str:
    """Add a field that nobody asked for, with a default for all rows now and then."""
    table = app.pick(app.tables)
    name = f"x_field_{app.rng.randrange(1000)}"
    default = app.rng.choice(("", " default 'x'"))
    app.run(table, "alter table {} add column {} text" + default, sql.Identifier(table), sql.Identifier(name))
    return f"add {table}.{name}{default}"


def drop_column(app: Application) -> str:
    """Drop a column that a source may lack."""
    table, name = _optional_column(app, is_there=True)
    if name is None:
        return f"nothing to drop in {table}"
    app.run(table, "alter table {} drop column {}", sql.Identifier(table), sql.Identifier(name))
    return f"drop {table}.{name}"


def return_column(app: Application) -> str:
    """Add a column again that was dropped, empty or with one value for all rows."""
    table, name = _optional_column(app, is_there=False)
    if name is None:
        return f"nothing to return to {table}"
    declared = app.inputs[table].columns[name].rstrip("?")
    default = app.rng.choice(("", " default '1'")) if declared in ("text", "bigint", "numeric") else ""
    statement = "alter table {} add column {} " + declared + default
    app.run(table, statement, sql.Identifier(table), sql.Identifier(name))
    return f"return {table}.{name}{default}"


def rename_lost_reason(app: Application) -> str:
    """Odoo 17 renamed a column of crm_lead."""
    if app.name != "odoo" or not app.shape("crm_lead").has("lost_reason"):
        return "no lost_reason"
    app.run("crm_lead", "alter table crm_lead rename column lost_reason to lost_reason_id")
    app.references["crm_lead", "lost_reason_id"] = "crm_lost_reason"
    return "rename crm_lead.lost_reason"


def change_key(app: Application) -> str:
    """Make the key one column longer, or short again."""
    table = app.rng.choice([name for name in app.tables if name not in ("crm_tag_rel", "c_billing_internal_cur")])
    shape = app.shape(table)
    row = app.connection.execute(
        "select conname from pg_constraint where contype = 'p' and conrelid = to_regclass(%s)", (table,)
    ).fetchone()
    constraint = sql.Identifier(str(row[0] if row else ""))
    app.run(table, "alter table {} drop constraint {}", shape.table, constraint)
    if len(shape.key) > 1:
        app.run(table, "alter table {} add primary key (id)", shape.table)
    else:
        app.run(table, "alter table {} add column if not exists x_part integer not null default 1", shape.table)
        app.run(table, "alter table {} add primary key (id, x_part)", shape.table)
    return f"change the key of {table}"


def vanish(app: Application) -> str:
    """Take a table away that a source may lack."""
    found = [table for table in OPTIONAL if table in app.tables]
    if not found:
        return "nothing may vanish"
    table = app.pick(found)
    app.run(table, "alter table {} set schema away", sql.Identifier(table))
    app.away.add(table)
    return f"{table} vanishes"


def come_back(app: Application) -> str:
    """Bring a table back that was taken away."""
    if not app.away:
        return "no table is away"
    table = app.rng.choice(sorted(app.away))
    app.run(table, "alter table {} set schema public", sql.Identifier("away", table))
    app.away.remove(table)
    return f"{table} comes back"


# With how often each happens.
ALTERATIONS: dict[Change, float] = {
    widen: 3,
    translate: 1,
    add_column: 1,
    drop_column: 1,
    return_column: 2,
    rename_lost_reason: 0.5,
    change_key: 1,
    vanish: 0.5,
    come_back: 1,
}


def _optional_column(app: Application, *, is_there: bool) -> tuple[str, str | None]:
    table = app.pick(app.tables)
    shape = app.shape(table)
    names = [
        name
        for name, declared in app.inputs[table].columns.items()
        if declared.endswith("?")
        and not name.endswith("_blind_index")
        and shape.has(name) is is_there
        and (table, name) not in NEEDED
        and not any(column.name == name for column in shape.key)
    ]
    return table, app.rng.choice(names) if names else None
