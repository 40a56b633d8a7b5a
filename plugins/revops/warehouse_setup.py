"""Set up the warehouse: create the database, check the server, apply the migrations, load the seeds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revops.access_log import read_audit_mode, record_audit_mode
from revops.errors import explain
from revops.seeds import SeedError, load_seeds
from revops.sources import INCLUDE

MINIMUM_SERVER_VERSION = 150000
LOCK_KEY = "revops.migrate"
# Databases to connect to while the warehouse does not exist yet.
MAINTENANCE_DATABASES = ("postgres", "template1")
ATTEMPTS = 6
SEEDS = INCLUDE / "seeds"

Progress = Callable[[str], None]


class SetupError(RuntimeError):
    """The warehouse can't be set up; the message says where to look and what to do."""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file of include/sql/migrations."""

    name: str
    statement: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statement.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """Return the migrations of a folder in the order of their numbers.

    Raises SetupError when numbers are missing, doubled or malformed: two branches that both added `0007` must be told.
    """
    files = sorted(folder.glob("*.sql"))
    numbers = [path.name.split("_", 1)[0] for path in files]
    expected = [f"{number:04d}" for number in range(1, len(files) + 1)]
    if not files or numbers != expected:
        raise SetupError(
            f"{folder}: migrations must be numbered 0001, 0002, ... without gaps; found {numbers or 'none'}"
        )
    return [Migration(path.name, path.read_text()) for path in files]


def set_up_warehouse(
    conninfo: str, migrations: list[Migration], *, progress: Progress, seeds: Path = SEEDS
) -> list[str]:
    """Create the database where it is missing and apply the migrations that it lacks; return their names.

    The seed tables are brought to the state of the folder `seeds` as well. Everything but CREATE DATABASE is one
    transaction under an advisory lock: a failure leaves nothing behind, and of several set-ups at once each succeeds.
    Raises SetupError.
    """
    parameters = conninfo_to_dict(conninfo)
    target = f"{parameters.get('dbname')} on {parameters.get('host')}:{parameters.get('port') or 5432}"
    progress(f"connecting to {target}")
    try:
        _create_database(conninfo, progress=progress)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with psycopg.connect(conninfo, application_name="revops:setup") as connection:
                    check_server(connection)
                    return _migrate(connection, migrations, progress=progress, seeds=seeds)
            except (errors.InternalError_, errors.UniqueViolation, errors.DeadlockDetected):
                # Roles are shared by all databases of a server: a set-up of another database may be granting
                # them right now.
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0.2 * attempt)
    except SeedError as error:
        raise SetupError(str(error)) from error
    except psycopg.Error as error:
        raise SetupError(explain(error, conninfo, setting="AIRFLOW_CONN_REVOPS_CORE")) from error
    raise AssertionError("unreachable")


def _create_database(conninfo: str, *, progress: Progress) -> None:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error) or "database" not in str(error):
            raise
    else:
        return
    name = conninfo_to_dict(conninfo)["dbname"]
    progress(f"creating database {name}")
    with _connect_for_maintenance(conninfo) as connection:
        connection.autocommit = True
        try:
            connection.execute(
                sql.SQL("create database {} encoding 'UTF8' template template0").format(sql.Identifier(str(name)))
            )
        except (errors.DuplicateDatabase, errors.UniqueViolation):
            progress(f"database {name} was created by another set-up at the same time")


def _connect_for_maintenance(conninfo: str) -> psycopg.Connection:
    failure: psycopg.OperationalError | None = None
    for database in MAINTENANCE_DATABASES:
        try:
            return psycopg.connect(make_conninfo(conninfo, dbname=database))
        except psycopg.OperationalError as error:
            failure = error
    raise failure or AssertionError("no maintenance database is configured")


def check_server(connection: psycopg.Connection) -> None:
    """Raise SetupError where a server is too old or lacks an extension."""
    version = connection.info.server_version
    if version < MINIMUM_SERVER_VERSION:
        raise SetupError(
            f"the server is PostgreSQL {version // 10000}; Revops needs 15 or newer. "
            "Remedy: upgrade it, or point AIRFLOW_CONN_REVOPS_CORE at a newer server."
        )
    missing = connection.execute(
        "select name from unnest(array['vector', 'pg_trgm', 'unaccent']) as name "
        "where name not in (select name from pg_available_extensions) order by name"
    ).fetchall()
    if missing:
        names = ", ".join(name for (name,) in missing)
        raise SetupError(
            f"the server lacks the extension(s) {names}. Remedy: install pgvector and postgresql-contrib on the server "
            "(Debian: postgresql-17-pgvector; on RDS and Aurora both are there), then run `make setup` again."
        )


def pending_migrations(connection: psycopg.Connection, migrations: list[Migration]) -> list[Migration]:
    """Return the migrations that a warehouse lacks; raises SetupError where it was built with others."""
    applied: dict[str, str] = {}
    if connection.execute("select to_regclass('ops.migration')").fetchone() != (None,):
        applied = dict(connection.execute("select name, checksum from ops.migration").fetchall())
    for migration in migrations:
        if migration.name in applied and applied[migration.name] != migration.checksum:
            raise SetupError(
                f"include/sql/migrations/{migration.name} differs from what this warehouse was built with. "
                "Remedy: restore the file (git checkout) and put the change into a new migration."
            )
    if unknown := sorted(set(applied) - {migration.name for migration in migrations}):
        raise SetupError(
            f"the warehouse has migrations that this checkout lacks: {', '.join(unknown)}. "
            "Remedy: update the checkout; an older one must not run against a newer warehouse."
        )
    return [migration for migration in migrations if migration.name not in applied]


def _migrate(
    connection: psycopg.Connection, migrations: list[Migration], *, progress: Progress, seeds: Path
) -> list[str]:
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK_KEY,))
    pending = pending_migrations(connection, migrations)
    for migration in pending:
        progress(f"applying {migration.name}")
        connection.execute(migration.statement.encode())
        connection.execute("reset role")
    connection.execute("set local role revops_owner")
    for migration in pending:
        connection.execute(
            "insert into ops.migration (name, checksum) values (%s, %s)", (migration.name, migration.checksum)
        )
    if load_seeds(connection, seeds):
        progress(f"loaded {seeds.parent.name}/{seeds.name}")
    audit = read_audit_mode(connection)
    # Migrations may be applied in part, as when an older warehouse is built on purpose.
    if connection.execute("select to_regclass('ops.access_audit_mode') is not null").fetchone() == (True,):
        record_audit_mode(connection, audit)
    progress(f"access log: {audit.mode}" + "".join(f"; {fault}" for fault in audit.faults))
    connection.commit()
    return [migration.name for migration in pending]
