"""Airflow connections as libpq connection strings, with the settings that every session shares."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo

from revops.connection_stores import check_connection, files_of_airflow, variable_of
from revops.errors import explain
from revops.hooks.tls import TlsSettingError, tls_parameters

# A worker that loses the network learns of it in half a minute instead of minutes.
SESSION = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# What a connection's extras may say to libpq; hostaddr: where a tunnel to the host ends. TLS: see tls.py.
LIBPQ_EXTRAS = (
    "hostaddr",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "channel_binding",
    "connect_timeout",
    "target_session_attrs",
)


class ConnectionSettingError(ValueError):
    """An Airflow connection lacks something or contradicts the rules; the message names the connection and the
    remedy."""


def conninfo(connection_id: str, *, application_name: str, options: str = "") -> str:
    """Return the libpq connection string of an Airflow connection.

    Sessions are encrypted and verified (see tls.py). options: libpq command-line options such as
    `-c role=revops_ingest`. Raises ConnectionSettingError, and ConnectionFileError where Airflow could take the
    connection from a wrong place.
    """
    # Two seconds of a processor: spared where no connection of Airflow's is asked for, as by a search from the shell.
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    check_connection(connection_id)
    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        # Airflow says the same of a URI that it can't read.
        files = "".join(f", or add it to {path}" for path in files_of_airflow())
        raise ConnectionSettingError(
            f"connection {connection_id!r} is not defined, or is malformed. Remedy: set "
            f"{variable_of(connection_id)}=postgresql://user:password@host:5432/database, with special "
            f"characters of the password as %XX{files}."
        ) from None
    if connection.conn_type not in ("postgres", "postgresql"):
        raise ConnectionSettingError(
            f"connection {connection_id!r} is of type {connection.conn_type!r}; it must be postgres://..."
        )
    if not connection.host or not connection.schema:
        raise ConnectionSettingError(
            f"connection {connection_id!r} needs a host and a database: postgres://user:password@host:5432/database"
        )
    extras = {key: str(value) for key, value in connection.extra_dejson.items() if key in LIBPQ_EXTRAS}
    try:
        tls = tls_parameters(connection_id, connection.host, extras)
    except TlsSettingError as error:
        raise ConnectionSettingError(str(error)) from None
    return make_conninfo(
        "",
        **{
            **SESSION,
            **_without_tls(extras, connection.host),
            **tls,
            "host": connection.host,
            "port": connection.port or 5432,
            "dbname": connection.schema,
            "user": connection.login,
            "password": connection.password,
            "application_name": application_name[:63],
            "options": options,
        },
    )


def _without_tls(extras: dict[str, str], host: str) -> dict[str, str]:
    """Leave out what a Unix socket has no use for; libpq would ask it for a binding that it can't have."""
    if not host.startswith(("/", "@")):
        return extras
    return {name: value for name, value in extras.items() if not name.startswith("ssl") and name != "channel_binding"}


def connect(connection_id: str, dsn: str) -> psycopg.Connection:
    """Open a session; raises psycopg.OperationalError that says which setting to look at and how to mend it."""
    try:
        return psycopg.connect(dsn)
    except psycopg.OperationalError as error:
        # A failed connection carries no SQLSTATE: its words are all there is, and errors.is_transient reads them.
        raise psycopg.OperationalError(explain(error, dsn, setting=f"the connection {connection_id}")) from error
