"""Until when a server's certificate holds: libpq verifies it for a session, and tells nothing of it."""

from __future__ import annotations

import datetime as dt
import socket
import ssl

import psycopg

SOON = dt.timedelta(days=30)
TIMEOUT_S = 10
# The first words of PostgreSQL's protocol: may what follows be encrypted? S for yes.
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def certificate_warnings(session: psycopg.Connection) -> tuple[str, ...]:
    """Return a warning where the certificate of an encrypted session's server ends soon, or can't be seen."""
    host = session.info.host
    if host.startswith(("/", "@")):
        return ()
    try:
        ends = _end_of_certificate(session)
    except OSError as error:
        return (f"until when the certificate of {host} holds could not be seen: {error}",)
    left = ends - dt.datetime.now(dt.UTC)
    told = (
        f"the certificate of {host} ends on {ends:%Y-%m-%d}, in {left.days} days; no session is opened after that. "
        "Remedy: renew it there; for a server of the Compose stack, make up"
    )
    return (told,) if left <= SOON else ()


def _end_of_certificate(session: psycopg.Connection) -> dt.datetime:
    """Ask the server for its certificate again, up to where a session would log in; raises OSError."""
    said = {option.keyword: option.val or b"" for option in session.pgconn.info}
    # The name is libpq's to verify, and it has: it knows some that Python refuses, such as those without alternatives.
    context = ssl.create_default_context(cafile=said[b"sslrootcert"].decode())
    context.check_hostname = False
    address = (session.info.hostaddr, session.info.port)
    with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
        if said.get(b"sslnegotiation") == b"direct":
            context.set_alpn_protocols(["postgresql"])
        else:
            connection.sendall(SSL_REQUEST)
            if connection.recv(1) != b"S":
                raise OSError("the server offers no encryption to a second session")
        with context.wrap_socket(connection, server_hostname=session.info.host) as encrypted:
            certificate = encrypted.getpeercert() or {}
    return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), dt.UTC)
