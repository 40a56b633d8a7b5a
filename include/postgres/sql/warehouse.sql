-- Purpose: the login that owns the warehouse, and the database with what only a superuser may create in it.
-- Run at every start, as the superuser: what is there already stays. Passwords are set by revops-postgres.

select 'create role revops'
where not exists (select from pg_catalog.pg_roles where rolname = 'revops')
\gexec
alter role revops login nosuperuser createdb createrole noreplication nobypassrls;

-- Tables and roles are made by `python -m revops.local setup`'s migrations, which find the database.
select 'create database revops_core owner revops encoding ''UTF8'' template template0'
where not exists (select from pg_catalog.pg_database where datname = 'revops_core')
\gexec

\connect revops_core
set client_min_messages = warning;
-- Event triggers, without which the log tells less of DDL.
create extension if not exists pgaudit;
create extension if not exists pg_stat_statements;
