-- Purpose: extensions, the group roles and the four schemas with their rights.
-- Run as: the login of the connection revops_core, which needs CREATEDB and CREATEROLE, no superuser.
-- Roles are cluster-wide: another database of this server may have made them already, also at this very moment.

create extension if not exists vector;
create extension if not exists pg_trgm;
create extension if not exists unaccent;

do $$
declare
    role_name text;
    -- From PostgreSQL 16 on the creator of a role administers it but may not adopt it without a grant.
    right_to_adopt text := case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end;
begin
    foreach role_name in array array[
        'revops_owner', 'revops_ingest', 'revops_transform', 'revops_embed',
        'revops_quality', 'revops_api', 'revops_audit'
    ] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            raise notice 'role % exists already', role_name;
        end;
        -- The login adopts one of these roles for each task (see hooks/warehouse.py).
        if not pg_has_role(current_user, role_name, right_to_adopt) then
            execute format('grant %I to %I', role_name, current_user);
        end if;
    end loop;

    execute format('revoke all on database %I from public', current_database());
    execute format(
        'grant connect, temporary on database %I to revops_owner, revops_ingest, revops_transform, revops_embed, '
        'revops_quality', current_database()
    );
    execute format('grant connect on database %I to revops_api, revops_audit', current_database());
    execute format('grant create on database %I to revops_owner', current_database());
end
$$;

-- A schema that exists already, made by hand or by an older set-up, keeps its tables and is taken over.
create schema if not exists raw;
create schema if not exists core;
create schema if not exists search;
create schema if not exists ops;
alter schema raw owner to revops_owner;
alter schema core owner to revops_owner;
alter schema search owner to revops_owner;
alter schema ops owner to revops_owner;

set local role revops_owner;

-- raw: the ingester makes and alters its tables as the sources change, so it owns them; everybody else reads.
grant usage, create on schema raw to revops_ingest;
grant usage on schema raw to revops_transform, revops_quality;
-- core: written by transforms, read by the rest.
grant usage on schema core to revops_transform, revops_embed, revops_quality, revops_api;
-- search: documents and vectors are written by the embedding step.
grant usage on schema search to revops_embed, revops_quality, revops_api;
-- ops: every step writes its own records.
grant usage on schema ops to
revops_ingest, revops_transform, revops_embed, revops_quality, revops_api, revops_audit;

alter default privileges in schema core grant select, insert, update, delete on tables to revops_transform;
alter default privileges in schema core grant select on tables to revops_embed, revops_quality, revops_api;
alter default privileges in schema core grant usage on sequences to revops_transform;
alter default privileges in schema search grant select, insert, update, delete on tables to revops_embed;
alter default privileges in schema search grant select on tables to revops_quality, revops_api;
alter default privileges in schema search grant usage on sequences to revops_embed;
alter default privileges in schema ops grant select on tables to
revops_ingest, revops_transform, revops_embed, revops_quality, revops_api, revops_audit;
alter default privileges revoke execute on functions from public;

reset role;
set local role revops_ingest;
alter default privileges in schema raw grant select on tables to revops_transform, revops_quality;
