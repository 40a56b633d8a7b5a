"""Logins and databases of the embedded server: Airflow's own, the warehouse's login, the two sample sources."""

from __future__ import annotations

import psycopg
from psycopg import sql

# Login -> what it may do beyond logging in, and how many sessions at most: none can take all that the server has.
LOGINS = {
    "airflow": "connection limit 60",
    "revops": "createdb createrole connection limit 80",
    "odoo": "",
    "ace": "",
    "odoo_reader": "connection limit 40",
    "ace_reader": "connection limit 40",
}
# Database -> (owner, the login that only reads it).
DATABASES = {
    "airflow": ("airflow", None),
    "odoo": ("odoo", "odoo_reader"),
    "c303_prod_apn_01": ("ace", "ace_reader"),
}


def ensure_databases(superuser_conninfo: str, passwords: dict[str, str]) -> None:
    """Create the logins and databases that are missing; set each login's password. Commits.

    The warehouse itself is not made here: `make setup` creates it, as it would on any other server.
    """
    with psycopg.connect(superuser_conninfo, autocommit=True) as connection:
        ensure_logins(connection, passwords)
        databases = {name for (name,) in connection.execute("select datname from pg_database").fetchall()}
        for database, (owner, _) in DATABASES.items():
            if database not in databases:
                connection.execute(
                    sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(owner))
                )
        # Airflow's driver writes values into its statements, and polls: of its database sessions and DDL are logged.
        connection.execute("alter database airflow set log_statement = 'ddl'")
        connection.execute("alter database airflow set log_min_error_statement = 'panic'")
    for database, (owner, reader_login) in DATABASES.items():
        if reader_login is not None:
            grant_reading(superuser_conninfo, database, owner=owner, reader=reader_login)


def ensure_logins(superuser: psycopg.Connection, passwords: dict[str, str]) -> None:
    """Create the logins that are missing, and set their rights and passwords. The session is in autocommit."""
    roles = {name for (name,) in superuser.execute("select rolname from pg_roles").fetchall()}
    for login, rights in LOGINS.items():
        verb = "alter" if login in roles else "create"
        name = sql.Identifier(login)
        superuser.execute(sql.SQL("{} role {} login {}").format(sql.SQL(verb), name, sql.SQL(rights)))
        # The server sees a SCRAM verifier only, and no statement with it comes into the log.
        verifier = superuser.pgconn.encrypt_password(passwords[login].encode(), login.encode(), b"scram-sha-256")
        with superuser.transaction():
            superuser.execute("set local log_statement = 'none'")
            superuser.execute("set local log_min_error_statement = 'panic'")
            superuser.execute(sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier.decode())))
    for reader in ("odoo_reader", "ace_reader"):
        superuser.execute(
            sql.SQL("alter role {} set default_transaction_read_only = on").format(sql.Identifier(reader))
        )


def drop_databases(superuser_conninfo: str, names: tuple[str, ...]) -> None:
    """Drop databases with everything in them, ending their sessions; missing ones are passed over. Commits."""
    with psycopg.connect(superuser_conninfo, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def grant_reading(superuser_conninfo: str, database: str, *, owner: str, reader: str) -> None:
    conninfo = psycopg.conninfo.make_conninfo(superuser_conninfo, dbname=database)
    with psycopg.connect(conninfo) as connection:
        for statement in (
            "revoke create on schema public from public",
            "grant usage, create on schema public to {owner}",
            "grant usage on schema public to {reader}",
            "grant select on all tables in schema public to {reader}",
            "alter default privileges for role {owner} in schema public grant select on tables to {reader}",
        ):
            connection.execute(sql.SQL(statement).format(owner=sql.Identifier(owner), reader=sql.Identifier(reader)))
