"""Airflow connections as libpq connection strings, with the settings that every session shares."""

from __future__ import annotations

import ipaddress

import psycopg
from psycopg.conninfo import make_conninfo

from revops.errors import explain
from revops.hooks import pooler

# A worker that loses the network learns of it in half a minute instead of minutes.
SESSION = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
LIBPQ_EXTRAS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslnegotiation",
    "channel_binding",
    "connect_timeout",
    "target_session_attrs",
)


class ConnectionSettingError(ValueError):
    """An Airflow connection lacks something or contradicts the rules; the message names the connection and the
    remedy."""


def conninfo(connection_id: str, *, application_name: str, options: str = "") -> str:
    """Return the libpq connection string of an Airflow connection.

    TLS: `sslmode` of the connection counts; without one it is `require`, or `prefer` when the server is on
    this machine, where no
    network is crossed. options: libpq command-line options such as `-c role=revops_ingest`.
    """
    # Two seconds of a processor: spared where no connection of Airflow's is asked for, as by a search from the shell.
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        # Airflow says the same of a URI that it can't read.
        raise ConnectionSettingError(
            f"connection {connection_id!r} is not defined, or is malformed. Remedy: set "
            f"AIRFLOW_CONN_{connection_id.upper()}=postgresql://user:password@host:5432/database, with special "
            "characters of the password as %XX."
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
    extras.setdefault("sslmode", "prefer" if _is_local(connection.host) else "require")
    return make_conninfo(
        "",
        **{
            **SESSION,
            **extras,
            "host": connection.host,
            "port": connection.port or 5432,
            "dbname": connection.schema,
            "user": connection.login,
            "password": connection.password,
            "application_name": application_name[:63],
            "options": _marked(connection_id, options, connection.extra_dejson),
        },
    )


def _marked(connection_id: str, options: str, extras: dict[str, object]) -> str:
    try:
        return pooler.marked(options, str(extras[pooler.EXTRA]) if pooler.EXTRA in extras else None)
    except pooler.PoolerError as error:
        raise ConnectionSettingError(f"connection {connection_id!r}: {error}") from None


def _is_local(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connect(connection_id: str, dsn: str) -> psycopg.Connection:
    """Open a session; raises psycopg.OperationalError that says which setting to look at and how to mend it.

    It has the rights that the connection string's options say, or PoolerError is raised.
    """
    try:
        return pooler.open_session(dsn)
    except psycopg.OperationalError as error:
        # A failed connection carries no SQLSTATE: its words are all there is, and errors.is_transient reads them.
        raise psycopg.OperationalError(explain(error, dsn, setting=f"the connection {connection_id}")) from error
