"""Checks of databases: reachable, encrypted, verified, new enough; the warehouse migrated, the sources read-only."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revops.errors import is_transient
from revops.extract.source_login import describe_rights, find_write_rights
from revops.hooks.postgres import connect
from revops.hooks.source import connect_source
from revops.hooks.warehouse import CONNECTION_ID, warehouse_conninfo
from revops.preflight.outcome import CheckError, Passed
from revops.preflight.server_certificate import certificate_warnings
from revops.settings import requires_read_only_source
from revops.sources import INCLUDE
from revops.warehouse_setup import MAINTENANCE_DATABASES, check_server, pending_migrations, read_migrations


def check_warehouse() -> Passed:
    """Check the warehouse's server and what it lacks; raises CheckError, SetupError and what `conninfo` raises.

    A warehouse that is still to be made, or to be migrated, is a warning; so is a certificate that ends soon.
    """
    dsn = warehouse_conninfo(None, task="preflight")
    name = str(conninfo_to_dict(dsn)["dbname"])
    remedy = "Remedy: `make setup`; the Compose stack does it at each start"
    with _open_warehouse(dsn) as warehouse:
        found = describe_session(warehouse)
        ending = certificate_warnings(warehouse)
        check_server(warehouse)
        if warehouse.info.dbname != name:
            return Passed(found, (*ending, f"the database {name} is still to be made. {remedy}"))
        migrations = read_migrations(INCLUDE / "sql" / "migrations")
        pending = pending_migrations(warehouse, migrations)
    if pending:
        told = f"{len(pending)} of {len(migrations)} migrations are still to be applied. {remedy}"
        return Passed(found, (*ending, told))
    return Passed(f"{found}; all {len(migrations)} migrations applied", ending)


def check_source(connection_id: str) -> Passed:
    """Check a source's server and that its login may only read; raises CheckError and what `conninfo` raises.

    A login that can write is a warning, or an error where REVOPS_REQUIRE_READ_ONLY_SOURCE is on. A certificate
    that ends soon is always one.
    """
    try:
        source = connect_source(connection_id, task="preflight", may_write=True)
    except psycopg.OperationalError as error:
        raise CheckError(str(error), may_pass=is_transient(error)) from error
    with source:
        found = describe_session(source)
        ending = certificate_warnings(source)
        rights = find_write_rights(source)
        login = source.info.user
    if not rights:
        return Passed(f"{found}; {login} may only read", ending)
    told = describe_rights(connection_id, login, rights)
    if requires_read_only_source():
        raise CheckError(f"{told} Remedy: give it a login that may only read (docs/security.md, Sources).")
    remedy = "Remedy: give it a login that may only read (docs/security.md, Sources)."
    return Passed(found, (*ending, f"{told} {remedy}"))


def describe_session(connection: psycopg.Connection) -> str:
    """Return server version and encryption of a session in words, as the server has them; raises CheckError."""
    row = connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    is_encrypted, protocol = row or (False, None)
    version = connection.info.parameter_status("server_version")
    if connection.info.host.startswith(("/", "@")):
        return f"PostgreSQL {version} over a Unix socket"
    if not is_encrypted:
        raise CheckError(
            "the server says that this session is not encrypted. Remedy: is there a pooler or tunnel in between? It "
            "has to encrypt on both sides (docs/security.md)."
        )
    mode = connection.info.get_parameters().get("sslmode", "no sslmode")
    return f"PostgreSQL {version} at {connection.info.host}, {protocol}, {mode}"


def _open_warehouse(dsn: str) -> psycopg.Connection:
    """Open a session in the warehouse, or beside it where it is still to be made; raises CheckError."""
    failure: psycopg.OperationalError | None = None
    for database in (None, *MAINTENANCE_DATABASES):
        try:
            return connect(CONNECTION_ID, make_conninfo(dsn, dbname=database) if database else dsn)
        except psycopg.OperationalError as error:
            failure = failure or error
            if not ("database" in str(error) and "does not exist" in str(error)):
                break
    raise CheckError(str(failure), may_pass=failure is not None and is_transient(failure)) from failure
