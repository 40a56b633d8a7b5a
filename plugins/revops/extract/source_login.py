"""What the login of a source may do there besides reading, by the source's own catalogue."""

from __future__ import annotations

import psycopg

from revops.extract.errors import ExtractError

# Memberships that let a login write, or run programs or end sessions, without a right in any table.
POWERFUL_ROLES = (
    "pg_write_all_data",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_signal_backend",
    "pg_maintain",
    "pg_create_subscription",
    "rds_superuser",
    "cloudsqlsuperuser",
    "azure_pg_admin",
)

# Everything that a login is, or may become by SET ROLE. Tables: one pass over the catalogue, whatever their number.
# Temporary tables are left out, which every login may create unless it was taken from all.
_RIGHTS = """
with reachable as (
    select r.* from pg_roles as r
    where pg_has_role(session_user, r.oid, 'usage')
        or pg_has_role(session_user, r.oid, case when %(version)s >= 160000 then 'set' else 'member' end)
),
ours as (
    select n.oid, n.nspname, n.nspowner from pg_namespace as n
    where n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
),
relation as (
    select c.oid, c.relkind, c.relowner, format('%%I.%%I', n.nspname, c.relname) as name
    from pg_class as c join ours as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
),
found (place, what, name) as (
    select 1, case
        when r.rolsuper then 'is a superuser' when a.kind = 1 then 'may create roles'
        when a.kind = 2 then 'may create databases' else 'may replicate' end, null::text
    from reachable as r cross join generate_series(0, 3) as a (kind)
    where case a.kind when 0 then r.rolsuper when 1 then r.rolcreaterole when 2 then r.rolcreatedb
        else r.rolreplication end
    union all
    select 2, 'has the rights of ' || r.rolname, null from reachable as r where r.rolname = any(%(powerful)s)
    union all
    select 3, 'owns database', d.datname::text from pg_database as d join reachable as r on r.oid = d.datdba
    where d.datname = current_database()
    union all
    select 3, 'owns schema', n.nspname::text from ours as n join reachable as r on r.oid = n.nspowner
    union all
    select 3, 'owns', t.name from relation as t join reachable as r on r.oid = t.relowner
    union all
    select 4, 'may create objects in database', current_database()::text from reachable as r
    where has_database_privilege(r.oid, current_database(), 'create')
    union all
    select 4, 'may create objects in schema', n.nspname::text from ours as n cross join reachable as r
    where has_schema_privilege(r.oid, n.oid, 'create')
    union all
    select 5, 'may write to', t.name from relation as t cross join reachable as r
    where t.relkind <> 'S' and has_table_privilege(r.oid, t.oid, 'insert, update, delete, truncate, trigger')
    union all
    select 5, 'may write to columns of', t.name
    from relation as t
    join (select distinct attrelid from pg_attribute where attacl is not null) as c on c.attrelid = t.oid
    cross join reachable as r
    where has_any_column_privilege(r.oid, t.oid, 'insert, update')
        and not has_table_privilege(r.oid, t.oid, 'insert, update')
    union all
    select 5, 'may advance sequence', t.name from relation as t cross join reachable as r
    where t.relkind = 'S' and has_sequence_privilege(r.oid, t.oid, 'usage, update')
)
select what, count(distinct name), min(name) from found group by place, what order by place, what
"""


class WritingLoginError(ExtractError):
    """The login of a source may write there, and REVOPS_REQUIRE_READ_ONLY_SOURCE is on."""


def find_write_rights(source: psycopg.Connection) -> list[str]:
    """Return what the session's login may do in its database besides reading; empty for a login that may only read.

    By the catalogue, so that nothing is tried; one query, also where there are thousands of tables. What a function
    does that runs with its owner's rights is not seen. Ends no transaction.
    """
    rows = source.execute(_RIGHTS, {"version": source.info.server_version, "powerful": list(POWERFUL_ROLES)}).fetchall()
    if any(what == "is a superuser" for what, _, _ in rows):
        return ["is a superuser"]
    return [_describe(str(what), int(number), name) for what, number, name in rows]


def require_read_only(source: psycopg.Connection, connection_id: str) -> None:
    """Raise WritingLoginError where the session's login may do more than read. Ends the transaction."""
    rights = find_write_rights(source)
    source.rollback()
    if rights:
        raise WritingLoginError(f"{describe_rights(connection_id, source.info.user, rights)} {REMEDY}")


def describe_rights(source: str, login: str, rights: list[str]) -> str:
    """Return in words that a login may write."""
    return f"{source}: the login {login} is not read-only: it {', '.join(rights)}."


def record_source_login(
    warehouse: psycopg.Connection, *, source: str, login: str, rights: list[str], run_id: str
) -> None:
    """Write what was found to ops.source_login, a new row where it differs from the last. Does not commit."""
    parameters = {"source": source, "login": login, "rights": rights, "run": run_id}
    updated = warehouse.execute(
        "update ops.source_login as l set last_run_id = %(run)s, last_seen_at = clock_timestamp() "
        "where l.source_login_id = (select max(source_login_id) from ops.source_login where source = %(source)s) "
        "and l.login = %(login)s and l.write_rights = %(rights)s::text[]",
        parameters,
    ).rowcount
    if not updated:
        warehouse.execute(
            "insert into ops.source_login (source, login, write_rights, first_run_id, last_run_id) "
            "values (%(source)s, %(login)s, %(rights)s, %(run)s, %(run)s)",
            parameters,
        )


REMEDY = (
    "Remedy: give the connection a login with CONNECT, USAGE on the schema and SELECT on its tables only "
    "(docs/security.md, Sources), or switch REVOPS_REQUIRE_READ_ONLY_SOURCE off."
)


def _describe(what: str, number: int, name: str | None) -> str:
    if name is None:
        return what
    return f"{what} {name}" if number == 1 else f"{what} {number} of them, such as {name}"
