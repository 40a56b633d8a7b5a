"""The private CA and its servers' certificates, judged by OpenSSL's own handshake."""

from __future__ import annotations

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest

from revops.certificates import (
    Authority,
    certificate_to_pem,
    ends_within,
    key_from_pem,
    key_to_pem,
    names_of,
    new_key,
    write_throwaway,
)


def handshake(folder: Path, *, trusted: Path, host: str) -> None:
    """Let a client that trusts one CA greet a server by a name, strictly; raises ssl.SSLError when it refuses."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "server.crt", folder / "server.key")
    client_side = ssl.create_default_context(cafile=str(trusted))
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert waiting == []


def write(folder: Path, authority: Authority, names: list[str]) -> None:
    folder.mkdir()
    key = new_key()
    (folder / "ca.crt").write_bytes(certificate_to_pem(authority.certificate))
    (folder / "server.key").write_bytes(key_to_pem(key))
    (folder / "server.crt").write_bytes(certificate_to_pem(authority.issue(key.public_key(), names)))


@pytest.mark.parametrize("host", ["warehouse", "localhost", "127.0.0.1", "db.example.com"])
def test_a_server_is_known_by_each_of_its_names(tmp_path: Path, host: str) -> None:
    write(tmp_path / "s", Authority.create("ca"), ["warehouse", "localhost", "127.0.0.1", "db.example.com"])
    handshake(tmp_path / "s", trusted=tmp_path / "s" / "ca.crt", host=host)


def test_a_server_is_refused_under_another_name(tmp_path: Path) -> None:
    write(tmp_path / "s", Authority.create("ca"), ["warehouse", "127.0.0.1"])
    for host in ("metadata", "127.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            handshake(tmp_path / "s", trusted=tmp_path / "s" / "ca.crt", host=host)


def test_a_server_is_refused_by_who_trusts_another_ca_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "s", Authority.create("ca"), ["warehouse"])
    write(tmp_path / "other", Authority.create("ca"), ["warehouse"])
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(tmp_path / "s", trusted=tmp_path / "other" / "ca.crt", host="warehouse")


def test_a_renewed_ca_with_the_kept_key_vouches_for_what_it_signed_before(tmp_path: Path) -> None:
    old = Authority.create("ca")
    write(tmp_path / "s", old, ["warehouse"])
    renewed = Authority.create("ca", key=old.key)
    (tmp_path / "renewed.crt").write_bytes(certificate_to_pem(renewed.certificate))
    handshake(tmp_path / "s", trusted=tmp_path / "renewed.crt", host="warehouse")


def test_an_authority_knows_its_own() -> None:
    mine, other = Authority.create("ca"), Authority.create("ca")
    certificate = mine.issue(new_key().public_key(), ["warehouse"])
    assert mine.has_signed(certificate)
    assert not other.has_signed(certificate)


def test_a_certificate_ends_before_its_ca_does_and_says_when() -> None:
    authority = Authority.create("ca")
    long = authority.issue(new_key().public_key(), ["a"], lifetime=dt.timedelta(days=36500))
    assert long.not_valid_after_utc <= authority.certificate.not_valid_after_utc
    short = authority.issue(new_key().public_key(), ["a"], lifetime=dt.timedelta(days=59))
    assert ends_within(short, dt.timedelta(days=60))
    assert not ends_within(short, dt.timedelta(days=58))


def test_names_and_addresses_are_read_back_in_their_order() -> None:
    names = ["redis", "localhost", "127.0.0.1", "::1"]
    assert names_of(Authority.create("ca").issue(new_key().public_key(), names)) == names


def test_a_key_survives_its_file() -> None:
    key = new_key()
    assert key_to_pem(key_from_pem(key_to_pem(key))) == key_to_pem(key)
    with pytest.raises(ValueError, match=r".+"):
        key_from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def test_the_embedded_servers_key_is_its_owners_alone_and_its_ca_signs_nothing_else(tmp_path: Path) -> None:
    write_throwaway(tmp_path / "tls")
    handshake(tmp_path / "tls", trusted=tmp_path / "tls" / "ca.crt", host="localhost")
    assert stat.S_IMODE((tmp_path / "tls" / "server.key").stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {"ca.crt", "server.crt", "server.key"}
