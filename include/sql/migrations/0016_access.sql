-- Purpose: what logins and roles may do, as narrow as what they do; records of the access log and of source logins.
-- Run as: the login of the connection revops_core.

-- Sessions that forget a transaction would hold locks and dead rows for ever; tasks bring limits of their own.
do $$
begin
    execute format(
        'alter role %I in database %I set idle_in_transaction_session_timeout = %L',
        session_user, current_database(), '1h'
    );
    -- Databases that are older than PostgreSQL 15 let everybody create there.
    if has_schema_privilege('public', 'public', 'create') then
        revoke create on schema public from public;
    end if;
exception when insufficient_privilege then
    raise notice 'schema public belongs to somebody else; revoke create on it from public there';
end
$$;

set local role revops_owner;

-- A temporary table is looked up first where pg_temp is not named last.
do $$
begin
    alter function core.add_billing_months(date[]) set search_path = pg_catalog, pg_temp;
end
$$;

-- Texts are made of deals and accounts; of people their names only, to take them out of what was typed.
alter default privileges in schema core revoke select on tables from revops_embed;
revoke select on all tables in schema core from revops_embed;
revoke execute on all functions in schema core from revops_embed;
grant select on core.odoo_opportunities, core.ace_opportunities, core.account to revops_embed;
grant select (source_system, account_source_id, name) on core.contact to revops_embed;
grant select (source_system, source_id, name) on core.app_user to revops_embed;

create table ops.access_audit_mode (
    access_audit_mode_id bigint generated always as identity primary key,
    mode text not null check (mode in ('pgaudit', 'log_statement', 'none')),
    settings jsonb not null,
    faults text[] not null,
    server_version text not null,
    first_run_id text,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_run_id text,
    last_seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.access_audit_mode is
'How the warehouse''s server logs what sessions do, seen at set-up and at the start of each run: a row a change.';
comment on column ops.access_audit_mode.mode is
'pgaudit: by class and object, statements in functions included. log_statement: the text of every statement that a '
'session sends. none: not, or not all.';
comment on column ops.access_audit_mode.faults is
'What is not logged although it should be, or would bring values into the log.';
comment on column ops.access_audit_mode.first_run_id is 'The first run that saw it; null before, where a set-up did.';

create table ops.source_login (
    source_login_id bigint generated always as identity primary key,
    source text not null,
    login text not null,
    write_rights text[] not null,
    is_read_only boolean not null generated always as (cardinality(write_rights) = 0) stored,
    first_run_id text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_run_id text not null,
    last_seen_at timestamptz not null default clock_timestamp()
);
create index source_login_source_idx on ops.source_login (source, source_login_id desc);
comment on table ops.source_login is
'What the login of a source may do there besides reading, by its catalogue, at the start of each run: a row a change.';

grant insert, update (first_run_id, last_run_id, last_seen_at) on ops.access_audit_mode to revops_ingest;
grant insert, update (last_run_id, last_seen_at) on ops.source_login to revops_ingest;

-- Functions that these roles should ever create are nobody else's to run.
reset role;
set local role revops_ingest;
alter default privileges revoke execute on functions from public;
reset role;
set local role revops_quality;
alter default privileges revoke execute on functions from public;
