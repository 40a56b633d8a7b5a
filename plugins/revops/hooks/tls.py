"""TLS of every session: encrypted and verified, or not opened at all."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

# Where systems keep the certificate authorities that they trust.
SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
PROTOCOLS = ("TLSv1.2", "TLSv1.3")
BINDINGS = ("require", "prefer", "disable")


class TlsSettingError(ValueError):
    """A connection asks for less than a verified, encrypted session; the message names it and the remedy."""


def tls_parameters(connection_id: str, host: str, extras: Mapping[str, str]) -> dict[str, str]:
    """Return the libpq parameters by which a session with a host is encrypted and verified; none for a Unix socket.

    The connection's own `sslrootcert`, `channel_binding` and `ssl_min_protocol_version` count; without the first, the
    authorities that the machine trusts do. Raises TlsSettingError for whatever would weaken the session.
    """
    if host.startswith(("/", "@")):
        return {}
    mode = extras.get("sslmode", "verify-full")
    if mode != "verify-full":
        raise TlsSettingError(
            f"connection {connection_id!r} says sslmode={mode}, by which its server is not verified; no session is "
            "opened without. Remedy: leave sslmode out, and name the CA of the server with sslrootcert=/path/to/ca.pem "
            "(a self-signed certificate is its own CA). Through a tunnel keep the server's name as host, and add "
            "hostaddr=127.0.0.1 and the tunnel's port."
        )
    return {
        "sslmode": mode,
        "sslrootcert": _authorities(connection_id, extras.get("sslrootcert", "")),
        "ssl_min_protocol_version": _one_of(
            connection_id, "ssl_min_protocol_version", extras.get("ssl_min_protocol_version", PROTOCOLS[0]), PROTOCOLS
        ),
        "channel_binding": _one_of(
            connection_id, "channel_binding", extras.get("channel_binding", BINDINGS[0]), BINDINGS
        ),
        # Where there is a Kerberos ticket, libpq would take that road instead, and look at no certificate.
        "gssencmode": "disable",
    }


def _authorities(connection_id: str, named: str) -> str:
    # psycopg's own OpenSSL looks for the machine's authorities where no machine has them: `system` finds none.
    named = named or os.environ.get("PGSSLROOTCERT", "").strip()
    if named not in ("", "system"):
        return named
    candidates = (ssl.get_default_verify_paths().cafile, *SYSTEM_AUTHORITIES)
    for path in candidates:
        if path and Path(path).exists():
            return path
    raise TlsSettingError(
        f"connection {connection_id!r} names no CA, and this machine has none in {', '.join(SYSTEM_AUTHORITIES)}. "
        "Remedy: add sslrootcert=/path/to/ca.pem to the connection (for RDS and Aurora Amazon's bundle), or install "
        "the package ca-certificates."
    )


def _one_of(connection_id: str, name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise TlsSettingError(
            f"connection {connection_id!r} says {name}={value}. Remedy: leave it out, or choose {' or '.join(known)}."
        )
    return value
