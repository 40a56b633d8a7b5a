-- Purpose: the login and the database of Airflow's own records; `airflow db migrate` makes the tables.
-- Run at every start, as the superuser: what is there already stays. Passwords are set by revops-postgres.

select 'create role airflow'
where not exists (select from pg_catalog.pg_roles where rolname = 'airflow')
\gexec
alter role airflow login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

select 'create database airflow owner airflow encoding ''UTF8'' template template0'
where not exists (select from pg_catalog.pg_database where datname = 'airflow')
\gexec
revoke all on database airflow from public;
