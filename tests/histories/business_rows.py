"""Random changes of business rows: what users, imports, merges and restatements do to a CRM and its billing."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from tests.histories.business import Application
from tests.histories.hostile import disguised, hostile_value

Change = Callable[[Application], str]

COMPANIES = {"odoo": "res_partner", "ace": "apn_companies"}
# Few rows that many others show the names of.
LABELS = ("crm_stage", "crm_team", "crm_tag", "crm_lost_reason", "res_country", "res_country_state", "res_currency",
          "res_company", "product_template")  # fmt: skip


def insert_copies(app: Application) -> str:
    """Insert rows that are like others but for their key."""
    table = app.pick([name for name in app.tables if name != "crm_tag_rel"])
    shape = app.shape(table)
    key = shape.key[0]
    copied = [column for column in shape.data if column.identifier != key.identifier]
    others = [column.identifier for column in (*copied, *shape.key[1:])]
    statement = "insert into {0} ({1}, {2}) select {3}, {2} from {0} where {4}"
    if key.declared in ("integer", "bigint"):
        number = "(select max({1}) from {0})::{2} + row_number() over ()"
    else:
        number = "(left((select max({1}) from {0}), 12) || (100 + row_number() over ()))::{2}"
    fresh = sql.SQL(number).format(shape.table, key.identifier, sql.SQL(key.declared))
    done = app.run(table, statement, shape.table, key.identifier, sql.SQL(", ").join(others), fresh, app.some(table, 3))
    return f"insert {done} into {table}"


def edit(app: Application) -> str:
    """Give a column another value in some rows: another row's, a hostile one, or its own in another form."""
    return _edit(app, app.pick(app.tables), silent=False)


def edit_silently(app: Application) -> str:
    """Edit without touching the row's clock, as raw SQL and some of Odoo's own code do."""
    return _edit(app, app.pick(app.tables), silent=True)


def edit_label(app: Application) -> str:
    """Rename a stage, a tag, a country, a currency: rows of other tables show it."""
    labels = [table for table in LABELS if table in app.tables]
    return _edit(app, app.pick(labels), silent=app.rng.random() < 0.5, most=12) if labels else "no labels"


def repoint(app: Application) -> str:
    """Let some rows refer to another row, to none, or to one that does not exist."""
    known = {
        (table, column)
        for table, column in app.references
        if table in app.tables and column in app.inputs[table].columns and app.shape(table).has(column)
    }
    if not known:
        return "nothing to repoint"
    table = app.pick(sorted({table for table, _ in known}))
    column = app.rng.choice(sorted(column for name, column in known if name == table))
    target = app.references[table, column]
    declared = next(field.declared for field in app.shape(table).fields if field.name == column)
    missing = sql.SQL("999999::text::{}").format(sql.SQL(declared))
    found = sql.SQL("{}::text::{}").format(app.any_value(target, "id"), sql.SQL(declared))
    value = app.rng.choice((found, found, found, sql.SQL("null"), missing))
    done = app.run(
        table,
        "update {} set {} = {}{} where {}",
        sql.Identifier(table),
        sql.Identifier(column),
        value,
        app.touch(table, silent=app.rng.random() < 0.3),
        app.some(table, 10),
    )
    return f"repoint {column} of {done} {table}"


def delete_some(app: Application) -> str:
    return _delete(app, app.pick(app.tables), most=3)


def delete_many(app: Application) -> str:
    return _delete(app, app.pick(app.tables), most=40)


def bring_back(app: Application) -> str:
    """Insert rows again that were deleted, as they were, where the table still takes them."""
    kept = app.connection.execute("select tablename from pg_tables where schemaname = 'gone' order by 1").fetchall()
    tables = [name for (name,) in kept if name in app.tables]
    if not tables:
        return "nothing to bring back"
    table = app.rng.choice(tables)
    gone = sql.Identifier("gone", table)
    names = sql.SQL(", ").join(column.identifier for column in app.shape(table).fields)
    done = app.run(
        table, "insert into {0} ({1}) select {1} from {2} on conflict do nothing", sql.Identifier(table), names, gone
    )
    app.connection.execute(sql.SQL("drop table {}").format(gone))
    return f"bring back {done} {table}"


def merge_companies(app: Application) -> str:
    """Merge one company into another: whatever refers to it is moved, then it is deleted."""
    table = COMPANIES[app.name]
    if table not in app.tables:
        return "no companies"
    winner, loser = app.any_value(table, "id"), app.any_value(table, "id")
    ids = app.connection.execute(sql.SQL("select {}, {}").format(winner, loser)).fetchone()
    if ids is None or None in ids or ids[0] == ids[1]:
        return "nothing to merge"
    for (referring, column), target in app.references.items():
        if target == table and referring in app.tables and app.shape(referring).has(column):
            app.run(
                referring,
                "update {0} set {1} = {2} where {1}::text = {3}",
                sql.Identifier(referring),
                sql.Identifier(column),
                sql.Literal(ids[0]),
                sql.Literal(str(ids[1])),
            )
    app.run(table, "delete from {} where id = {}", sql.Identifier(table), sql.Literal(ids[1]))
    return f"merge {table} {ids[1]} into {ids[0]}"


def rename_company(app: Application) -> str:
    """Give a company the name, site, numbers or country of another, now and then in other letters."""
    table = COMPANIES[app.name]
    names = [column for column in app.read_columns(table) if column.name in _TELLING] if table in app.tables else []
    if not names:
        return "no companies"
    chosen = app.rng.sample(names, app.rng.randint(1, len(names)))
    other = app.any_value(table, "id")
    app.connection.execute(
        sql.SQL("create temp table other as select * from {} where id = {}").format(sql.Identifier(table), other)
    )
    values = [
        sql.SQL("{} = (select {} from other)").format(column.identifier, disguised(app.rng, column))
        for column in chosen
    ]
    done = app.run(
        table,
        "update {} set {}{} where {}",
        sql.Identifier(table),
        sql.SQL(", ").join(values),
        app.touch(table, silent=app.rng.random() < 0.3),
        app.some(table, 2),
    )
    app.connection.execute("drop table other")
    return f"{done} {table} take {', '.join(column.name for column in chosen)} of another"


_TELLING = ("name", "website", "country_id", "vat", "x_duns", "duns", "country_code", "is_company", "active")


def move_aws_account(app: Application) -> str:
    """Move an AWS account to another company, or give it the number of another one."""
    if "c_aws_accounts" not in app.tables:
        return "no AWS accounts"
    column, table = app.rng.choice((("c_aws_company_id", "res_partner"), ("name", "c_aws_accounts")))
    source = "id" if table == "res_partner" else "name"
    if not app.shape("c_aws_accounts").has(column):
        return "no AWS accounts"
    done = app.run(
        "c_aws_accounts",
        "update c_aws_accounts set {} = {}{} where {}",
        sql.Identifier(column),
        app.any_value(table, source),
        app.touch("c_aws_accounts", silent=app.rng.random() < 0.3),
        app.some("c_aws_accounts", 2),
    )
    return f"{done} c_aws_accounts take another {column}"


def restate_month(app: Application) -> str:
    """Import a billing month of a payer again: all of its lines go and come under new ids, some with other costs."""
    table = "c_billing_internal_cur"
    if table not in app.tables:
        return "no billing"
    names = [column for column in app.shape(table).data if column.name != "cost"]
    app.connection.execute(
        "create temp table restated as select * from c_billing_internal_cur where (payer_id, period_date) in "
        "(select payer_id, period_date from c_billing_internal_cur order by md5(id::text || %s::text) limit 1)",
        (str(app.rng.random()),),
    )
    app.run(table, "delete from c_billing_internal_cur where id in (select id from restated)")
    done = app.run(
        table,
        "insert into c_billing_internal_cur (id, cost, {0}) "
        "select (select max(id) + 5000 from restated) + row_number() over (order by id), {1}, {0} from restated "
        "where {2} on conflict do nothing",
        sql.SQL(", ").join(column.identifier for column in names),
        sql.SQL(app.rng.choice(("cost", "case when id % 2 = 0 then null else cost end"))),
        sql.SQL(app.rng.choice(("true", "id % 7 <> 0"))),
    )
    app.connection.execute("drop table restated")
    return f"restate a month with {done} lines"


def move_charges(app: Application) -> str:
    """Book lines of the cost roll-up to another month, payer or both, under the ids that they have."""
    table = "c_billing_internal_cur"
    if table not in app.tables:
        return "no billing"
    columns = app.rng.choice((("period_date",), ("payer_id",), ("period_date", "payer_id")))
    values = [sql.SQL("{} = {}").format(sql.Identifier(name), app.any_value(table, name)) for name in columns]
    done = app.run(
        table, "update {} set {} where {}", sql.Identifier(table), sql.SQL(", ").join(values), app.some(table, 6)
    )
    return f"move {done} charges to another {' and '.join(columns)}"


def move_people(app: Application) -> str:
    """Let people, or companies, belong to another company, or stand for themselves."""
    table, column = ("res_partner", "commercial_partner_id") if app.name == "odoo" else ("apn_contacts", "company_id")
    if table not in app.tables or not app.shape(table).has(column):
        return "no people"
    own = sql.Identifier("id") if app.name == "odoo" else sql.SQL("null")
    values = app.rng.choice((app.any_value(table, column), app.any_value(table, column), own))
    done = app.run(
        table,
        "update {} set {} = {}{} where {}",
        sql.Identifier(table),
        sql.Identifier(column),
        values,
        app.touch(table, silent=app.rng.random() < 0.3),
        app.some(table, 6),
    )
    return f"move {done} {table}"


def change_tags(app: Application) -> str:
    """Tag some leads, or take tags away."""
    if "crm_tag_rel" not in app.tables:
        return "no tags"
    if app.rng.random() < 0.5:
        return _delete(app, "crm_tag_rel", most=10)
    done = app.run(
        "crm_tag_rel",
        "insert into crm_tag_rel (lead_id, tag_id) select id, {} from crm_lead where {} on conflict do nothing",
        app.any_value("crm_tag", "id"),
        app.some("crm_lead", 10),
    )
    return f"tag {done} leads"


# With how often each happens.
ROW_CHANGES: dict[Change, float] = {
    insert_copies: 3,
    edit: 6,
    edit_silently: 3,
    edit_label: 3,
    repoint: 6,
    delete_some: 2,
    delete_many: 1,
    bring_back: 1,
    merge_companies: 2,
    rename_company: 3,
    move_aws_account: 2,
    restate_month: 2,
    move_charges: 2,
    move_people: 2,
    change_tags: 1,
}


def _edit(app: Application, table: str, *, silent: bool, most: int = 4) -> str:
    columns = app.read_columns(table)
    if not columns:
        return f"nothing to edit in {table}"
    column = app.rng.choice(columns)
    value = app.rng.choice(
        (app.any_value(table, column.name), hostile_value(app.rng, column), disguised(app.rng, column))
    )
    done = app.run(
        table,
        "update {} set {} = {}{} where {}",
        sql.Identifier(table),
        column.identifier,
        value,
        app.touch(table, silent=silent, changed=column.name),
        app.some(table, most),
    )
    return (
        f"{'silently ' if silent else ''}edit {column.name} of {done} {table}: {value.as_string(app.connection)[:80]}"
    )


def _delete(app: Application, table: str, *, most: int) -> str:
    gone = sql.Identifier("gone", table)
    condition = app.some(table, most)
    app.connection.execute(sql.SQL("drop table if exists {}").format(gone))
    app.connection.execute(
        sql.SQL("create table {} as select * from {} where {}").format(gone, sql.Identifier(table), condition)
    )
    done = app.run(table, "delete from {} where {}", sql.Identifier(table), condition)
    return f"delete {done} {table}"
