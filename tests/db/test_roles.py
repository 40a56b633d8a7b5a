"""Each role may do what its tasks do and nothing else: every object of the catalogue, every kind of statement."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from builders import query
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from revops.hooks.warehouse import ROLE_SETTINGS, session_options
from revops.local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.db

TEMPLATE = "warehouse_template"
ROLES = ("revops_ingest", "revops_transform", "revops_embed", "revops_quality", "revops_api", "revops_audit")
SCHEMAS = ("raw", "core", "search", "ops")
READ = frozenset({"select"})
WRITE = frozenset({"select", "insert", "update", "delete"})
NOTHING: frozenset[str] = frozenset()
OWNER = frozenset({"select", "insert", "update", "delete", "truncate", "alter", "drop", "trigger"})

# What a role may do with a table of a schema, whatever its name: a new table is covered by itself.
BY_SCHEMA: dict[str, dict[str, frozenset[str]]] = {
    "revops_ingest": {"raw": OWNER, "core": NOTHING, "search": NOTHING, "ops": READ},
    "revops_transform": {"raw": READ, "core": WRITE, "search": NOTHING, "ops": READ},
    "revops_embed": {"raw": NOTHING, "core": NOTHING, "search": WRITE, "ops": READ},
    "revops_quality": {"raw": READ, "core": READ, "search": READ, "ops": READ},
    "revops_api": {"raw": NOTHING, "core": READ, "search": READ, "ops": READ},
    "revops_audit": {"raw": NOTHING, "core": NOTHING, "search": NOTHING, "ops": READ},
}
ADD = frozenset({"select", "insert"})
KEEP = frozenset({"select", "insert", "update"})
# Where a task writes its own records, or reads more than the rest of a schema. Of columns: "insert*" and so on.
BY_TABLE: dict[str, dict[str, frozenset[str]]] = {
    "revops_ingest": {
        **dict.fromkeys(("ops.load", "ops.schema_change", "ops.source_snapshot"), KEEP),
        **dict.fromkeys(("ops.watermark", "ops.load_range", "ops.encrypted_column", "ops.data_key_use"), WRITE),
        "ops.key_rotation": KEEP,
        "ops.value_reading": ADD,
        "ops.period_restatement": ADD,
        **dict.fromkeys(("ops.access_audit_mode", "ops.source_login"), frozenset({"select", "insert", "update*"})),
    },
    "revops_transform": {
        **dict.fromkeys(("ops.transform_run", "ops.quarantine"), KEEP),
        **dict.fromkeys(("ops.transform_state", "ops.seed"), WRITE),
        "ops.rule_result": ADD,
        "ops.lineage_definition": frozenset({"select", "insert", "update*"}),
        **dict.fromkeys(("ops.lineage_definition_edge", "ops.lineage_definition_grain", "ops.lineage_run"), ADD),
    },
    "revops_embed": {
        **dict.fromkeys(("core.odoo_opportunities", "core.ace_opportunities", "core.account"), READ),
        **dict.fromkeys(("core.contact", "core.app_user"), frozenset({"select*"})),
        **dict.fromkeys(("ops.transform_run", "ops.embedding_run"), KEEP),
        "ops.transform_state": WRITE,
        "ops.rule_result": ADD,
        "ops.lineage_definition": frozenset({"select", "insert", "update*"}),
        **dict.fromkeys(("ops.lineage_definition_edge", "ops.lineage_definition_grain", "ops.lineage_run"), ADD),
    },
    "revops_quality": {
        **dict.fromkeys(("ops.quality_run", "ops.quality_result"), KEEP),
        **dict.fromkeys(("ops.quality_score", "ops.quality_total", "ops.quality_failed_key"), ADD),
        "ops.pruning": ADD,
        "ops.quality_metric": WRITE,
        "ops.anomaly": frozenset({"select", "insert*", "update*", "delete"}),
    },
    "revops_api": {},
    "revops_audit": {},
}
# A view shows what a role may see of each of its tables.
VIEWS_OF = {
    "core.opportunity": ("core.odoo_opportunities", "core.ace_opportunities"),
    "core.person": ("core.contact", "core.app_user"),
}
# Functions that run with their owner's rights, and who may run them besides the owner.
WITH_OWNERS_RIGHTS = {
    "core.add_billing_months": {"revops_transform"},
    "ops.review_anomaly": {"revops_quality"},
    "ops.prune": {"revops_quality"},
    "ops.trace": {"revops_quality", "revops_api", "revops_transform", "revops_audit"},
    "ops.trace_back": {"revops_quality", "revops_api", "revops_transform", "revops_audit"},
    "search.begin_load": {"revops_embed"},
    "search.analyze_load": {"revops_embed"},
    "search.index_load": {"revops_embed"},
    "search.finish_load": {"revops_embed"},
    "search.drop_vectors": {"revops_embed"},
    "search.keep_query_vector": {"revops_api"},
}
# What no role may do, in the warehouse or to its server.
FORBIDDEN = (
    "create schema mine",
    "create table core.mine (id integer)",
    "create table search.mine (id integer)",
    "create table ops.mine (id integer)",
    "create table public.mine (id integer)",
    "create function core.mine() returns integer language sql return 1",
    "create view search.mine as select 1 as one",
    "create extension hstore",
    "create role mine",
    "create database mine",
    "alter role revops_api createdb",
    "alter role revops superuser",
    "alter role revops password 'x'",
    "grant revops_owner to revops_api",
    "alter default privileges for role revops_owner grant select on tables to public",
    "alter system set ssl = off",
    "alter database postgres set log_statement = 'none'",
    "set log_statement = 'none'",
    "set session_replication_role = 'replica'",
    "alter table ops.load owner to revops_api",
    "drop schema ops cascade",
    "drop owned by revops_owner",
    "comment on schema ops is 'mine'",
    "copy (select 1) to program 'id'",
    "copy (select 1) to '/tmp/out.csv'",
    "select pg_read_file('postgresql.conf')",
    "select pg_ls_dir('.')",
    "select lo_import('/etc/passwd')",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' limit 1",
    "select * from pg_authid",
    "select * from pg_user_mapping",
    "create foreign data wrapper mine",
    "create publication mine for all tables",
    "create event trigger mine on ddl_command_start execute function pg_catalog.suppress_redundant_updates_trigger()",
    "checkpoint",
    "update ops.migration set checksum = ''",
    "delete from ops.access_audit_mode",
    "delete from ops.load",
)


@pytest.fixture
def owner(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    """A warehouse in which each kind of table exists, and some that no migration knows."""
    ingest = as_role("revops_ingest")
    ingest.execute("create table raw.odoo_t (id integer primary key, name text, _deleted_at timestamptz)")
    ingest.commit()
    connection = as_role("revops_owner")
    connection.execute("create table core.new_table (id integer primary key, name text)")
    connection.execute("create table search.new_table (id integer primary key, name text)")
    connection.execute("create table ops.new_table (id integer primary key, name text)")
    connection.execute("create function core.new_function() returns integer language sql return 1")
    connection.execute("create sequence core.new_numbers")
    connection.commit()
    return connection


@pytest.fixture(autouse=True)
def _without_new(warehouse_dsn: str) -> Iterator[None]:
    yield
    with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_owner")) as connection:
        for schema in ("core", "search", "ops"):
            connection.execute(f"drop table if exists {schema}.new_table".encode())
        connection.execute("drop function if exists core.new_function(); drop sequence if exists core.new_numbers")


def relations(connection: psycopg.Connection) -> list[tuple[str, str, bool]]:
    """Schema, name and whether it is a table, of everything that holds rows; partitions go by their parent's rights."""
    return [
        (str(schema), str(name), kind != "v")
        for schema, name, kind in query(
            connection,
            "select relnamespace::regnamespace::text, relname, relkind::text from pg_class "
            "where relnamespace::regnamespace::text = any(%s) and relkind in ('r', 'p', 'v', 'm') "
            "and not relispartition order by 1, 2",
            list(SCHEMAS),
        )
    ]


def expected(role: str, relation: str) -> frozenset[str]:
    schema = relation.partition(".")[0]
    return BY_TABLE[role].get(relation, BY_SCHEMA[role][schema])


def attempts(connection: psycopg.Connection, schema: str, name: str) -> dict[str, sql.Composed]:
    """A statement of each kind that moves no row. EXPLAIN checks the right that the statement needs."""
    table = sql.Identifier(schema, name)
    columns = [
        sql.Identifier(column)
        for (column,) in query(
            connection,
            "select attname from pg_attribute where attrelid = format('%%I.%%I', %s::text, %s::text)::regclass "
            "and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = '' order by attnum",
            schema,
            name,
        )
    ]
    listed, first = sql.SQL(", ").join(columns), columns[0]
    return {
        "select": sql.SQL("explain select {} from {}").format(listed, table),
        "insert": sql.SQL("explain insert into {} ({}) select {} from (select * from {}) as s").format(
            table, listed, sql.SQL(", ").join([sql.SQL("null")] * len(columns)), sql.SQL("generate_series(1, 0)")
        ),
        "update": sql.SQL("explain update {} set {}").format(
            table, sql.SQL(", ").join(sql.SQL("{} = default").format(column) for column in columns)
        ),
        "delete": sql.SQL("explain delete from {}").format(table),
        "truncate": sql.SQL("truncate {} cascade").format(table),
        "alter": sql.SQL("alter table {} alter column {} set statistics 10").format(table, first),
        "drop": sql.SQL("drop table {} cascade").format(table),
        "trigger": sql.SQL(
            "create trigger mine before insert on {} for each statement "
            "execute function pg_catalog.suppress_redundant_updates_trigger()"
        ).format(table),
    }


def is_refused(session: psycopg.Connection, statement: sql.Composable | str) -> bool:
    """Run a statement and undo it; tell whether the role lacked the right."""
    text = sql.SQL(statement) if isinstance(statement, str) else statement  # type: ignore[arg-type]
    try:
        session.execute(text)
    except errors.InsufficientPrivilege:
        return True
    finally:
        session.rollback()
    return False


def may(role: str, relation: str, kind: str, *, is_table: bool) -> bool:
    """What the tables above say."""
    tables = () if is_table else VIEWS_OF.get(relation, ())
    return all(kind in expected(role, name) for name in (relation, *tables))


@pytest.mark.parametrize("role", ROLES)
def test_every_table_by_every_statement(
    owner: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], role: str
) -> None:
    session = as_role(role)
    found = relations(owner)
    assert {f"{schema}.{name}" for schema, name, _ in found} >= set(BY_TABLE[role]), "a table that is no more"
    wrong = []
    for schema, name, is_table in found:
        relation = f"{schema}.{name}"
        for kind, statement in attempts(owner, schema, name).items():
            if not is_table and kind != "select":
                continue
            is_allowed = may(role, relation, kind, is_table=is_table)
            if is_refused(session, statement) is is_allowed:
                wrong.append(f"{role} {'may not' if is_allowed else 'may'} {kind} {relation}")
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_rights_in_columns_are_those_that_are_listed(owner: psycopg.Connection, role: str) -> None:
    """Of a table that a role may write in part, nothing more; and no right in a column where none is listed."""
    rows = query(
        owner,
        "select attrelid::regclass::text, array_agg(distinct lower(x.privilege_type) || '*') from pg_attribute "
        "join pg_class c on c.oid = attrelid cross join lateral aclexplode(attacl) as x "
        "where relnamespace::regnamespace::text = any(%s) and x.grantee = %s::regrole group by 1",
        list(SCHEMAS),
        role,
    )
    listed = {
        relation: {kind for kind in kinds if kind.endswith("*")}
        for relation, kinds in BY_TABLE[role].items()
        if any(kind.endswith("*") for kind in kinds)
    }
    assert {relation: set(kinds) for relation, kinds in rows} == listed


@pytest.mark.parametrize("role", ROLES)
def test_what_no_role_may_do(
    owner: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], role: str
) -> None:
    session = as_role(role)
    done = []
    for statement in FORBIDDEN:
        session.autocommit = statement.startswith(("create database", "alter system", "checkpoint"))
        try:
            session.execute(statement.encode())
            done.append(statement)
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
            pass
        finally:
            session.rollback()
    assert done == []
    for schema in SCHEMAS:
        creates = is_refused(session, f"create table {schema}.mine (id integer)") is False
        assert creates is ((role, schema) == ("revops_ingest", "raw"))


def test_a_role_can_not_take_up_another_ones_rights(as_role: Callable[[str], psycopg.Connection]) -> None:
    for role, other in itertools.permutations((*ROLES, "revops_owner"), 2):
        held = query(as_role("revops_owner"), "select pg_has_role(%s, %s, 'member')", role, other)
        assert held == [(False,)], f"{role} is a member of {other}"


def test_functions_with_their_owners_rights_are_few_and_closed(owner: psycopg.Connection) -> None:
    rows = query(
        owner,
        "select pronamespace::regnamespace::text || '.' || proname, proowner::regrole::text, "
        "(select x from unnest(proconfig) as x where x like 'search_path=%%'), "
        "(select array_agg(grantee::regrole::text) from aclexplode(proacl) where privilege_type = 'EXECUTE') "
        "from pg_proc where prosecdef and pronamespace::regnamespace::text = any(%s)",
        list(SCHEMAS),
    )
    assert {name for name, *_ in rows} == set(WITH_OWNERS_RIGHTS)
    for name, its_owner, path, who in rows:
        # What a caller makes for itself must never be found first.
        assert path is not None, name
        assert path.startswith("search_path=pg_catalog"), (name, path)
        assert path.endswith(", pg_temp"), (name, path)
        assert set(who) - {its_owner} == WITH_OWNERS_RIGHTS[name] - {its_owner}, name
        assert its_owner in ("revops_owner", "revops_quality")


def test_views_show_nobody_more_than_their_tables(owner: psycopg.Connection) -> None:
    rows = query(
        owner,
        "select oid::regclass::text from pg_class where relkind = 'v' and relnamespace::regnamespace::text = any(%s) "
        "and not coalesce(reloptions, '{}') @> '{security_invoker=true}'",
        list(SCHEMAS),
    )
    assert rows == []
    materialized = query(owner, "select relname from pg_class where relkind = 'm'")
    assert materialized == [], "a materialized view has no invoker"


def test_everybody_has_no_right(owner: psycopg.Connection, warehouse_dsn: str) -> None:
    """PUBLIC has nothing in our schemas, also not in what is made after the migrations."""
    rows = query(
        owner,
        "with ours as (select oid from pg_namespace where nspname = any(%s)), "
        "rights (what, acl) as ("
        "select 'schema ' || nspname, nspacl from pg_namespace where oid in (table ours) "
        "union all select oid::regclass::text, coalesce(relacl, acldefault('r', relowner)) from pg_class "
        "where relnamespace in (table ours) and relkind not in ('i', 'I', 'c') "
        "union all select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) from pg_proc "
        "where pronamespace in (table ours) "
        "union all select attrelid::regclass || '.' || attname, attacl from pg_attribute where attacl is not null "
        "and attrelid in (select oid from pg_class where relnamespace in (table ours))"
        ") select what, x.privilege_type from rights cross join lateral aclexplode(acl) as x where x.grantee = 0",
        list(SCHEMAS),
    )
    assert rows == []
    assert query(owner, "select has_schema_privilege('public', 'public', 'create')") == [(False,)]
    for role in ("revops_ingest", "revops_quality"):
        with psycopg.connect(make_conninfo(warehouse_dsn, options=f"-c role={role}")) as session:
            made = "raw.f" if role == "revops_ingest" else "pg_temp.f"
            session.execute(f"create function {made}() returns integer language sql return 1".encode())
            acl = query(session, "select has_function_privilege('public', %s, 'execute')", f"{made}()")
            assert acl == [(False,)], role
            session.rollback()


def test_owners_are_those_who_must_alter(owner: psycopg.Connection) -> None:
    rows = query(
        owner,
        "select distinct relnamespace::regnamespace::text, relowner::regrole::text from pg_class "
        "where relnamespace::regnamespace::text = any(%s) order by 1",
        list(SCHEMAS),
    )
    assert rows == [
        ("core", "revops_owner"),
        ("ops", "revops_owner"),
        ("raw", "revops_ingest"),
        ("search", "revops_owner"),
    ]


@pytest.mark.parametrize("role", ROLES)
def test_a_session_has_the_limits_of_its_role(warehouse_dsn: str, role: str) -> None:
    with psycopg.connect(make_conninfo(warehouse_dsn, options=session_options(role))) as session:  # type: ignore[arg-type]
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            wanted = ROLE_SETTINGS[role][name]
            assert query(session, f"select current_setting('{name}')::interval = %s::interval", wanted) == [(True,)]
            assert ROLE_SETTINGS[role][name] != "0"


@pytest.mark.usefixtures("_template")
def test_a_login_that_forgets_its_transaction_is_ended_too(warehouse_dsn: str) -> None:
    """In the database that was set up; the tests' own are copies, which have no settings of logins."""
    with psycopg.connect(make_conninfo(warehouse_dsn, dbname=TEMPLATE)) as session:
        assert query(session, "show idle_in_transaction_session_timeout") == [("1h",)]


def test_a_login_of_the_tasks_alone_needs_no_more_than_their_roles(
    postgres: EmbeddedPostgres, warehouse_dsn: str
) -> None:
    """As docs/security.md has it: who runs tasks need not be able to migrate, or to make roles."""
    database = str(psycopg.conninfo.conninfo_to_dict(warehouse_dsn)["dbname"])
    with psycopg.connect(postgres.conninfo(database), autocommit=True) as superuser:
        superuser.execute("create role revops_tasks login noinherit password 'tasks-only'")
        try:
            superuser.execute(f"grant {', '.join(ROLES)} to revops_tasks".encode())
            superuser.execute(sql.SQL("grant connect on database {} to revops_tasks").format(sql.Identifier(database)))
            dsn = postgres.conninfo(database, user="revops_tasks", password="tasks-only")
            for role in ROLES:
                with psycopg.connect(make_conninfo(dsn, options=session_options(role))) as session:  # type: ignore[arg-type]
                    assert query(session, "select current_user, count(*) >= 0 from ops.load") == [(role, True)]
            with psycopg.connect(dsn) as session:
                for statement in ("select * from ops.load", "select * from core.account", "set role revops_owner"):
                    assert is_refused(session, statement), statement
        finally:
            superuser.execute("drop owned by revops_tasks; drop role revops_tasks")
