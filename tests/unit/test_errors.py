"""Database errors: which are worth a retry, what to do about the others, and that they quote no row."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from revops.errors import describe, explain, is_transient
from revops.local.postgres import EmbeddedPostgres

CONNINFO = "host=db.example.com port=5433 dbname=revops_core user=revops password=hunter2"
TRANSIENT = ("08000", "08001", "08006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "25P03")
PERMANENT = ("22P02", "23505", "28P01", "3D000", "42501", "42601", "42703", "42P01", "53100", "57014")


@pytest.mark.parametrize("state", TRANSIENT)
def test_states_that_pass_by_themselves(state: str) -> None:
    kind = errors.lookup(state) if state not in ("08000",) else errors.ConnectionException
    assert is_transient(kind("x"))


@pytest.mark.parametrize("state", PERMANENT)
def test_states_that_a_retry_meets_again(state: str) -> None:
    assert not is_transient(errors.lookup(state)("server closed the connection unexpectedly"))


@pytest.mark.parametrize(
    "message",
    [
        "consuming input failed: server closed the connection unexpectedly",
        "consuming input failed: SSL connection has been closed unexpectedly",
        "the connection is lost",
        "the connection is closed",
        'connection to server at "10.0.0.1", port 5432 failed: Connection refused',
        "connection timeout expired",
        'could not translate host name "db" to address: Temporary failure in name resolution',
        'connection to server at "10.0.0.1", port 5432 failed: FATAL:  the database system is starting up',
        'connection to server at "10.0.0.1", port 5432 failed: FATAL:  sorry, too many clients already',
    ],
)
def test_lost_connections_carry_no_state_and_are_tried_again(message: str) -> None:
    assert is_transient(psycopg.OperationalError(message))


@pytest.mark.parametrize(
    "message",
    [
        'FATAL:  password authentication failed for user "revops"',
        'FATAL:  database "revops_cor" does not exist',
        'FATAL:  role "revops" does not exist',
        'FATAL:  role "revops" is not permitted to log in',
        'FATAL:  permission denied for database "revops_core"',
        'FATAL:  permission denied to set role "revops_ingest"',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "revops", database "revops_core", no encryption',
        "SSL error: certificate verify failed",
        'server certificate for "a" does not match host name "b"',
        'root certificate file "/ca.pem" does not exist',
        "fe_sendauth: no password supplied",
        "server does not support SSL, but SSL was required",
        "channel binding is required, but server did not offer an authentication method that supports channel binding",
        "SSL error: tlsv1 alert protocol version",
        "SSL error: provider signature failure",
    ],
)
def test_refused_logins_carry_no_state_either_and_are_not_tried_again(message: str) -> None:
    assert not is_transient(psycopg.OperationalError(f'connection to server at "h", port 5432 failed: {message}'))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError("late"), True),
        (ValueError("wrong"), False),
        (psycopg.ProgrammingError("no results to fetch"), False),
        (psycopg.DataError("NUL"), False),
    ],
)
def test_other_errors(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('could not translate host name "db" to address: Name or service not known', "the host name is wrong"),
        ("failed to resolve host 'db': [Errno -2]", "the host name is wrong"),
        ("connection failed: Connection refused\n\tIs the server running on that host?", "nothing listens"),
        ("connection timeout expired", "does not answer"),
        ("connection failed: No route to host", "does not answer"),
        ("SSL error: certificate verify failed", "sslrootcert in REVOPS_SETTING"),
        # A CA of the same name, made anew.
        ("SSL error: provider signature failure", "sslrootcert in REVOPS_SETTING"),
        ('server certificate for "a" does not match host name "b"', "sslrootcert in REVOPS_SETTING"),
        ('root certificate file "/ca.pem" does not exist', "sslrootcert in REVOPS_SETTING"),
        ("server does not support SSL, but SSL was required", "offers no TLS"),
        ("channel binding is required, but server did not offer it", "add channel_binding=prefer to REVOPS_SETTING"),
        ("SSL error: tlsv1 alert protocol version", "no version of TLS in common"),
        ("SSL error: unsupported protocol", "no version of TLS in common"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2"', "pg_hba.conf has no line"),
        ('FATAL:  password authentication failed for user "revops"', "user or password is wrong"),
        ("fe_sendauth: no password supplied", "user or password is wrong"),
        ('FATAL:  role "revops" is not permitted to log in', "ALTER ROLE ... LOGIN"),
        ("permission denied to create database", "ALTER ROLE ... CREATEDB"),
        ("permission denied to create role", "ALTER ROLE ... CREATEROLE"),
        ('permission denied to create extension "vector"', "CREATE EXTENSION vector, pg_trgm and unaccent"),
        ('FATAL:  database "revops_core" does not exist', "run `make setup`"),
        ('permission denied to set role "revops_ingest"', "run `make setup`"),
        ("FATAL:  sorry, too many connections", "raise max_connections"),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER", "raise max_connections"),
        ('could not extend file "base/1/2": No space left on device', "disk is full"),
        ("something that nobody has seen yet", "check REVOPS_SETTING, then the server's log"),
    ],
)
def test_every_family_has_a_remedy(message: str, remedy: str) -> None:
    text = explain(psycopg.OperationalError(message), CONNINFO, setting="REVOPS_SETTING")
    place, last = text.splitlines()
    assert place.startswith("db.example.com:5433/revops_core as revops: ")
    assert last.startswith("Remedy: ")
    assert remedy in last
    assert "{" not in last
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (psycopg.errors.QueryCanceled, "raise `statement_timeout_s` of the source in include/sources"),
        (psycopg.errors.DiskFull, "free space and run it again"),
    ],
)
def test_a_statement_that_was_ended_says_what_to_do(
    error: type[psycopg.Error], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error, "diag", SimpleNamespace(message_primary="it ended"))
    text = describe(error("it ended"))
    assert text.startswith(f"{error.__name__} {error.sqlstate}: it ended. Remedy: ")
    assert remedy in text


def test_the_default_port_is_named() -> None:
    text = explain(psycopg.OperationalError("x"), "host=h dbname=d user=u", setting="S")
    assert text.startswith("h:5432/d as u: x")


@pytest.mark.db
@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"password": "hunter2"}, "user or password is wrong"),
        ({"dbname": "there_is_no_such"}, "run `make setup`"),
        ({"port": "closed"}, "nothing listens"),
        ({"sslmode": "verify-full", "sslrootcert": "/no/such/ca.pem"}, "sslrootcert in SETTING"),
        ({"options": "-c role=there_is_no_such"}, "run `make setup`"),
        ({"host": "there-is-no-such-host.invalid"}, "the host name is wrong"),
    ],
)
def test_what_a_real_server_says_is_understood(warehouse_dsn: str, changes: dict[str, str], remedy: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        if changes.get("port") == "closed":
            changes = {"port": str(unused.getsockname()[1])}
        conninfo = make_conninfo(warehouse_dsn, **changes)
        with pytest.raises(psycopg.Error) as caught:
            psycopg.connect(conninfo)
    text = explain(caught.value, conninfo, setting="SETTING")
    assert remedy in text
    assert "hunter2" not in text
    assert is_transient(caught.value) is (remedy in ("nothing listens", "the host name is wrong"))


@pytest.mark.db
def test_a_session_that_the_server_ends_is_tried_again(warehouse_dsn: str, postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(warehouse_dsn) as connection:
        with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select 1")
        assert is_transient(caught.value)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select 1")
        assert is_transient(caught.value)


@pytest.mark.db
@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "insert into deal values (1, 'secret client'), (1, 'secret client')",
            'UniqueViolation 23505: duplicate key value violates unique constraint "deal_pkey"',
        ),
        (
            "insert into deal values (2, null)",
            'NotNullViolation 23502: null value in column "name" of relation "deal" violates not-null constraint',
        ),
        (
            "insert into deal values (3, 'secret cl\"ient'), (4, 'tiny'), (5, repeat('secret', 9))",
            "StringDataRightTruncation 22001: value too long for type character varying(20)",
        ),
        (
            "select 'secret \"cl\nient'::integer",
            'InvalidTextRepresentation 22P02: invalid input syntax for type integer: "..."',
        ),
        (
            "select 'secret'::date",
            'InvalidDatetimeFormat 22007: invalid input syntax for type date: "..."',
        ),
        (
            "select '99999999990'::integer",
            'NumericValueOutOfRange 22003: value "..." is out of range for type integer',
        ),
        (
            "select '2026-99-01'::date",
            'DatetimeFieldOverflow 22008: date/time field value out of range: "..."',
        ),
        ("select * from nowhere", 'UndefinedTable 42P01: relation "nowhere" does not exist'),
    ],
)
def test_a_description_quotes_no_row(warehouse_dsn: str, statement: str, expected: str) -> None:
    with psycopg.connect(warehouse_dsn) as connection:
        connection.execute("create temp table deal (id integer primary key, name varchar(20) not null)")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement.encode())
    text = describe(caught.value)
    assert text == expected
    assert "secret" not in text
    assert "DETAIL" not in text


def test_a_description_of_another_error_is_its_class_and_words() -> None:
    assert describe(ValueError("too late")) == "ValueError: too late"
