-- Purpose: two databases that stand for Odoo and ACE, each with the login that owns it and one that only reads.
-- Run at every start, as the superuser: what is there already stays. Passwords are set by revops-postgres.
-- The same logins and rights as plugins/revops/local/databases.py gives them in the embedded server.

select format('create role %I', name)
from unnest(array['odoo', 'ace', 'odoo_reader', 'ace_reader']) as name
where not exists (select from pg_catalog.pg_roles where rolname = name)
\gexec
select format('alter role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', name)
from unnest(array['odoo', 'ace', 'odoo_reader', 'ace_reader']) as name
\gexec
alter role odoo_reader set default_transaction_read_only = on;
alter role ace_reader set default_transaction_read_only = on;

select format('create database %I owner %I encoding ''UTF8'' template template0', name, owner)
from (values ('odoo', 'odoo'), ('c303_prod_apn_01', 'ace')) as wanted (name, owner)
where not exists (select from pg_catalog.pg_database where datname = name)
\gexec
revoke all on database odoo, c303_prod_apn_01 from public;
grant connect on database odoo to odoo_reader;
grant connect on database c303_prod_apn_01 to ace_reader;

\connect odoo
revoke create on schema public from public;
grant usage, create on schema public to odoo;
grant usage on schema public to odoo_reader;
grant select on all tables in schema public to odoo_reader;
alter default privileges for role odoo in schema public grant select on tables to odoo_reader;

\connect c303_prod_apn_01
revoke create on schema public from public;
grant usage, create on schema public to ace;
grant usage on schema public to ace_reader;
grant select on all tables in schema public to ace_reader;
alter default privileges for role ace in schema public grant select on tables to ace_reader;
