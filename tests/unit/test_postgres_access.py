"""Who gets into the Compose stack's servers: the lines of pg_hba.conf."""

from __future__ import annotations

from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "include" / "postgres" / "conf" / "pg_hba.conf"


def rules() -> list[list[str]]:
    lines = [line.split() for line in RULES.read_text().splitlines()]
    return [line for line in lines if line and not line[0].startswith("#")]


def test_who_gets_in_is_encrypted_and_has_a_password() -> None:
    admitted = [line for line in rules() if line[-1] != "reject"]
    assert {(line[0], line[-1]) for line in admitted} == {("hostssl", "scram-sha-256")}


def test_backups_reach_the_server_by_each_address_of_localhost() -> None:
    """Of both, libpq takes the one that the container's hosts file has first: for sessions and for replication."""
    superusers = [line for line in rules() if line[2] == "postgres"]
    for database in ("all", "replication"):
        addresses = [line[3] for line in superusers if line[1] == database and line[-1] != "reject"]
        assert addresses == ["127.0.0.1/32", "::1/128"], database
    # The first line that fits counts: from elsewhere the superuser is refused before all others are admitted.
    assert superusers[-1] == ["host", "all", "postgres", "all", "reject"]
    assert rules()[-1] == ["hostssl", "all", "all", "all", "scram-sha-256"]
    assert [line[2] for line in rules() if line[1] == "replication"] == ["postgres", "postgres"]
