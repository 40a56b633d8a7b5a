"""Which database errors pass by themselves, and what to do about the others."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

# SQLSTATE classes and codes after which the same work may succeed: lost connections, restarts, locks, serialisation.
TRANSIENT_CLASSES = ("08",)
TRANSIENT_STATES = frozenset({"57P01", "57P02", "57P03", "53300", "40001", "40P01", "55P03", "25P03"})
# Out of range, malformed dates and times, text that is no number: these messages quote the value.
VALUE_STATES = frozenset({"22003", "22007", "22008", "22P02"})
_STATE_REMEDIES = {
    "57014": (
        "somebody cancelled the statement, or it ran into its time-out: look at what slows that server down, or raise "
        "`statement_timeout_s` of the source in include/sources."
    ),
    "53100": "the server's disk is full: free space and run it again. Nothing was half applied.",
}
_QUOTED = re.compile(r'["«„“].*["»”“]', re.DOTALL)

_CONNECTION_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("could not translate host name", "Name or service not known", "failed to resolve host"),
        "the host name is wrong or DNS does not know it: check the host in {setting}.",
    ),
    (
        ("Connection refused",),
        "nothing listens on that host and port: start the server, or correct host and port in {setting}.",
    ),
    (
        ("timeout expired", "timed out", "No route to host"),
        "the host does not answer: check the host in {setting}, the firewall or security group, and the VPN.",
    ),
    (
        ("certificate verify failed", "does not match host name", "root certificate file", "signature failure"),
        (
            "TLS verification failed: set sslrootcert in {setting} to the CA of this server "
            "(for RDS and Aurora Amazon's bundle), and use the host name that the certificate was made for."
        ),
    ),
    (
        ("server does not support SSL", "SSL is not enabled"),
        (
            "the server offers no TLS, and no session is opened without: switch ssl on in its postgresql.conf, with a "
            "certificate (docs/security.md)."
        ),
    ),
    (
        ("channel binding",),
        (
            "the server can't bind the password to the encrypted session: keep the login's password as scram-sha-256 "
            "(set password_encryption, then the password anew) and let pg_hba.conf ask for scram-sha-256. Behind RDS "
            "Proxy or a pooler, or for IAM and certificate logins, add channel_binding=prefer to {setting}."
        ),
    ),
    (
        ("protocol version", "unsupported protocol", "no protocols available"),
        (
            "server and client have no version of TLS in common, which is 1.2 at least: upgrade a server without it; "
            "{setting} may ask for TLSv1.3 only where the server has it."
        ),
    ),
    (
        ("no pg_hba.conf entry",),
        (
            "the server's pg_hba.conf has no line for this user, database, address and encryption: add one such as "
            "`hostssl all all <address> scram-sha-256`."
        ),
    ),
    (
        ("password authentication failed", "no password supplied"),
        "user or password is wrong: check both in {setting} (special characters as %XX).",
    ),
    (
        ("is not permitted to log in",),
        "the role may not log in: ALTER ROLE ... LOGIN, or use another user in {setting}.",
    ),
    (
        ("permission denied to create database",),
        "the role may not create databases: ALTER ROLE ... CREATEDB, or create the database by hand.",
    ),
    (
        ("permission denied to create role", "must have admin option", "permission denied to grant role"),
        "the role may not create roles: ALTER ROLE ... CREATEROLE.",
    ),
    (
        ("permission denied to create extension",),
        "let an administrator run CREATE EXTENSION vector, pg_trgm and unaccent in this database once.",
    ),
    (
        ("permission denied to set role", "must be able to SET ROLE", "does not exist"),
        "the database, or a role of the warehouse, is missing: check the name in {setting}, then run `make setup`.",
    ),
    (
        ("too many connections", "remaining connection slots"),
        "the server has no connection left: raise max_connections or end idle sessions.",
    ),
    (
        ("No space left on device", "could not extend file"),
        "the server's disk is full: free space and run it again. Nothing was half applied.",
    ),
)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may pass by itself, so that a retry makes sense.

    A connection that breaks carries no SQLSTATE; wrong passwords and missing hosts carry none either, but say
    so in words.
    """
    if not isinstance(error, psycopg.Error):
        return isinstance(error, (ConnectionError, TimeoutError))
    if error.sqlstate is not None:
        return error.sqlstate in TRANSIENT_STATES or error.sqlstate[:2] in TRANSIENT_CLASSES
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        permanent = (
            "authentication failed",
            "permission denied",
            "not permitted to log in",
            "does not exist",
            "certificate",
            "signature failure",
            "pg_hba.conf",
            "no password",
            "not support SSL",
            "channel binding",
            "protocol version",
            "unsupported protocol",
        )
        return not any(fragment in str(error) for fragment in permanent)
    return False


def explain(error: psycopg.Error, conninfo: str, *, setting: str) -> str:
    """Return what failed, which setting to look at, and how to mend it; never the password."""
    parameters = conninfo_to_dict(conninfo)
    text = " ".join(str(error).split())
    place = (
        f"{parameters.get('host')}:{parameters.get('port') or 5432}/{parameters.get('dbname')} "
        f"as {parameters.get('user')}"
    )
    for fragments, remedy in _CONNECTION_REMEDIES:
        if any(fragment in text for fragment in fragments):
            return f"{place}: {text}\nRemedy: {remedy.format(setting=setting)}"
    return f"{place}: {text}\nRemedy: check {setting}, then the server's log."


def describe(error: BaseException) -> str:
    """Return an error's class and first message without row values, and a remedy where there is one.

    DETAIL and CONTEXT lines quote them, and so do the messages about values that do not fit their type.
    """
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        message = error.diag.message_primary
        if error.sqlstate in VALUE_STATES:
            message = _QUOTED.sub('"..."', message)
        remedy = _STATE_REMEDIES.get(error.sqlstate or "")
        told = f"{type(error).__name__} {error.sqlstate or ''}: {message}".strip()
        return f"{told}. Remedy: {remedy}" if remedy else told
    return f"{type(error).__name__}: {error}"
