"""A private certificate authority and the server certificates that it signs: for the embedded and the Compose stack."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = dt.timedelta(days=3650)
# Browsers and Apple's libraries refuse servers' certificates of longer life.
SERVER_LIFETIME = dt.timedelta(days=825)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Authority:
    """A CA: its key, and the certificate that clients trust."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str, *, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
        """Make a CA of this name; with a kept key, certificates that it signed before are still its own."""
        key = key or new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key(), CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, names: Iterable[str], *, lifetime: dt.timedelta = SERVER_LIFETIME
    ) -> x509.Certificate:
        """Return a server's certificate for its names, the first of which is its subject; it ends before the CA's."""
        names = list(names)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        ends = min(_now() + lifetime, self.certificate.not_valid_after_utc)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            _builder(subject, self.certificate.subject, public_key, ends - _now())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def has_signed(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is one of this CA's own."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a random key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as a file holds it, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(data: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key of a file; raises ValueError when it holds none of the kind that `new_key` makes."""
    key = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("is not an elliptic-curve key")
    return key


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as a file holds it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a server's certificate is valid for, in its order."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def ends_within(certificate: x509.Certificate, time: dt.timedelta) -> bool:
    """Tell whether a certificate has ended or will end within that time."""
    return certificate.not_valid_after_utc <= _now() + time


def write_throwaway(folder: Path) -> None:
    """Write `ca.crt`, `server.crt` and `server.key` (mode 0600) for the loopback names into a folder.

    The CA's own key is thrown away: nothing else can be signed by it, hence the certificate lives as long as the CA.
    """
    authority = Authority.create("Revops embedded CA")
    key = new_key()
    certificate = authority.issue(key.public_key(), LOOPBACK, lifetime=CA_LIFETIME)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(certificate_to_pem(authority.certificate))
    (folder / "server.crt").write_bytes(certificate_to_pem(certificate))
    key_file = folder / "server.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(key_to_pem(key))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - dt.timedelta(hours=1))  # a clock that is a little behind still accepts it
        .not_valid_after(_now() + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
