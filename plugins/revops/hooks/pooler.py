"""Sessions through a connection pooler: none may run with other rights than it asked for.

A session says its role and settings at its start (`options`). pgbouncer refuses such a session, or, told to ignore
`options`, lets it run as the login, with the rights of all roles. Where the connection says `pooler=session`, they are
set by statement instead, and a pooler that gives one server session to several clients is refused.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus

# The extra of the Airflow connection that says that a pooler with pool_mode=session is in between.
EXTRA = "pooler"
# Says so in the options of a connection string; no setting of the server.
MARK = "-c revops.pooler=session"
PROBE_TIMEOUT_S = 3.0
# The settings that are rights.
CHECKED = ("role", "default_transaction_read_only")
# Connection strings of poolers that were asked.
_kept_apart: set[str] = set()


class PoolerError(RuntimeError):
    """The pooler between this machine and the warehouse does not keep sessions apart; the message says what to do."""


def marked(options: str, extra: str | None) -> str:
    """Return options, marked where the connection's extra `pooler` says that statements must set them.

    Raises PoolerError for another pool mode than session.
    """
    if extra is None:
        return options
    if extra != "session":
        raise PoolerError(
            f"pooler={extra}: only pool_mode=session keeps a session's role, advisory locks and temporary tables. "
            "Remedy: set pool_mode = session for this database in pgbouncer.ini, and pooler=session in the connection."
        )
    return f"{options} {MARK}".strip()


def settings_of(options: str) -> dict[str, str]:
    """Return the settings in libpq's command-line options `-c name=value ...`."""
    words = options.split()
    pairs = (word.partition("=") for flag, word in pairwise(words) if flag == "-c")
    return {name: value for name, _, value in pairs}


def without_options(parameters: dict[str, str]) -> tuple[dict[str, str], str]:
    """Return libpq's parameters as a pooler takes them, and the statement that sets what their options say.

    Parameters without the mark come back as they are, with an empty statement.
    """
    settings = settings_of(parameters.get("options", ""))
    if settings.pop("revops.pooler", None) is None:
        return parameters, ""
    statement = "; ".join(f"set {name} = '{value}'" for name, value in settings.items())
    return {name: value for name, value in parameters.items() if name != "options"}, statement


class Session(psycopg.Connection):
    """A session that has the settings of its connection string's options; another is not opened."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Open a session; kwargs: libpq's parameters.

        Raises psycopg.OperationalError where there is no session, and PoolerError where it has other rights.
        """
        found = conninfo_to_dict(conninfo, **kwargs)
        parameters = {name: str(value) for name, value in found.items() if value is not None}
        asked, statement = without_options(parameters)
        connection = super().connect(make_conninfo("", **asked))
        try:
            if statement:
                _run(connection, statement)
                refuse_shared_sessions(connection, make_conninfo("", **asked))
            check_settings(parameters.get("options", ""), lambda query: _run(connection, query))
        except BaseException:
            connection.close()
            raise
        return connection


def open_session(dsn: str) -> psycopg.Connection:
    """Open a session that has the settings of the connection string's options; raises what Session.connect raises."""
    return Session.connect(dsn)


def check_settings(options: str, ask: Callable[[str], str]) -> None:
    """Raise PoolerError where a session has other rights than its options say; ask: runs a query, returns its value."""
    settings = settings_of(options)
    for name in CHECKED:
        if name in settings and (found := ask(f"show {name}")) != settings[name]:
            raise PoolerError(
                f"the session asked for {name}={settings[name]} and has {found}: a pooler in between ignores "
                "`options`. Remedy: take `options` out of ignore_startup_parameters in pgbouncer.ini, and with "
                "pool_mode = session add pooler=session to the connection (docs/pgbouncer.md)."
            )


def refuse_shared_sessions(connection: psycopg.Connection, dsn: str) -> None:
    """Raise PoolerError where an idle client's session is given to another, as with pool_mode=transaction.

    Asks once a process. A pool that has no session left to answer with keeps them apart.
    """
    if dsn in _kept_apart:
        return
    # The session that was used last is the first that such a pooler hands out.
    if _run(connection, "select pg_backend_pid()") == _pid_of_another(dsn):
        raise PoolerError(
            "the pooler gives one session of the server to several clients at a time: roles, advisory locks and "
            "temporary tables of one would be another's. Remedy: pool_mode = session for this database in "
            "pgbouncer.ini."
        )
    _kept_apart.add(dsn)


def _pid_of_another(dsn: str) -> str | None:
    """Return the server process of one more client, or None where none is free within PROBE_TIMEOUT_S."""
    try:
        second = psycopg.connect(dsn, autocommit=True, connect_timeout=round(PROBE_TIMEOUT_S))
    except psycopg.OperationalError:
        return None
    try:
        second.pgconn.send_query(b"select pg_backend_pid()")
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        second.pgconn.consume_input()
        while second.pgconn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([second.pgconn.socket], [], [], left)[0]:
                return None
            second.pgconn.consume_input()
        result = second.pgconn.get_result()
        value = None if result is None else result.get_value(0, 0)
        return None if value is None else value.decode()
    finally:
        second.close()


def _run(connection: psycopg.Connection, statement: str) -> str:
    """Run statements outside of a transaction block and return the first value of the last, as text."""
    result = connection.pgconn.exec_(statement.encode())
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise psycopg.OperationalError(result.error_message.decode(errors="replace").strip())
    value = result.get_value(0, 0) if result.status == ExecStatus.TUPLES_OK else None
    return "" if value is None else value.decode()
