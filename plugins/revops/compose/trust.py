"""The Compose stack's certificate authority and the certificate of each of its servers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from revops.certificates import (
    LOOPBACK,
    Authority,
    certificate_to_pem,
    ends_within,
    key_from_pem,
    key_to_pem,
    names_of,
    new_key,
)
from revops.compose.files import SecretFiles, SecretsError

CA_NAME = "Revops Compose CA"
RENEWED_BEFORE = dt.timedelta(days=60)


def ensure_authority(files: SecretFiles) -> Authority:
    """Return the CA, made where it is missing; its certificate is renewed, with the kept key, before it ends."""
    key = key_from_pem(_pem(files, "ca/ca.key"))
    if (data := files.read("ca/ca.crt")) is not None:
        certificate = _certificate(files, "ca/ca.crt", data)
        if _same_key(certificate, key) and not ends_within(certificate, RENEWED_BEFORE):
            return Authority(key, certificate)
    authority = Authority.create(CA_NAME, key=key)
    files.put("ca/ca.crt", certificate_to_pem(authority.certificate))
    return authority


def ensure_server(files: SecretFiles, authority: Authority, service: str, further_names: Sequence[str]) -> None:
    """Write `ca.crt`, `server.crt` and `server.key` of a service where they are missing.

    A certificate is issued anew, for the kept key, when it ends within 60 days, lacks a name, or is another CA's. Names
    that it had once stay.
    """
    files.put(f"{service}/ca.crt", certificate_to_pem(authority.certificate))
    key = key_from_pem(_pem(files, f"{service}/server.key"))
    names = [service, *LOOPBACK, *further_names]
    name = f"{service}/server.crt"
    if (data := files.read(name)) is not None:
        certificate = _certificate(files, name, data)
        present = names_of(certificate)
        if (
            set(names) <= set(present)
            and not ends_within(certificate, RENEWED_BEFORE)
            and _same_key(certificate, key)
            and authority.has_signed(certificate)
        ):
            return
        names += present
    files.put(name, certificate_to_pem(authority.issue(key.public_key(), dict.fromkeys(names))))


def _pem(files: SecretFiles, name: str) -> bytes:
    text = files.keep(name, lambda: key_to_pem(new_key()).decode())
    try:
        key_from_pem(text.encode())
    except ValueError as error:
        raise SecretsError(
            f"{files.root / name} holds no key that Revops can use. Remedy: put back your copy, or remove the file to "
            "have a new one made"
        ) from error
    return text.encode()


def _certificate(files: SecretFiles, name: str, data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise SecretsError(f"{files.root / name} holds no certificate. Remedy: remove it to have one made") from error


def _same_key(certificate: x509.Certificate, key: object) -> bool:
    public = getattr(key, "public_key", None)
    return public is not None and _spki(certificate.public_key()) == _spki(public())


def _spki(key: object) -> bytes:
    data: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data
