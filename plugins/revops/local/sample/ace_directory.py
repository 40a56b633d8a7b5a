"""Who is who in the sample ACE database: its users, companies and contacts, and its schema bookkeeping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from random import Random

from revops.local.sample import noise
from revops.local.sample.chance import moment, stream
from revops.local.sample.loading import Row
from revops.local.sample.parties import Party, Person
from revops.local.sample.pipeline import Opportunity
from revops.local.sample.reference import OWN_DOMAIN, SALES_USERS

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Directory:
    """Where each party's company and each person's contact stand in ACE."""

    companies: dict[str, str]
    contacts: dict[tuple[str, str], str]


def record_id(prefix: str, number: int) -> str:
    """Return an 18 character id in mixed case; two ids may differ in nothing but the case of a letter."""
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return f"{prefix}8c00001{digits}QA"


def utc(value: datetime) -> datetime:
    """Mark a naive UTC time as UTC, for a timestamptz."""
    return value.replace(tzinfo=UTC)


def migration_rows(today: date) -> Iterator[Row]:
    """Yield the bookkeeping of the application's own schema migrations."""
    for n, description in enumerate(
        ("create users", "create opportunities", "add companies and contacts", "aws fields")
    ):
        installed = utc(moment(stream(n, "sqlx"), today - timedelta(days=900 - 120 * n)))
        yield {
            "version": int(f"{installed:%Y%m%d%H%M%S}"),
            "description": description,
            "installed_on": installed,
            "success": True,
            "checksum": sha256(description.encode()).digest(),
            "execution_time": 4_000_000 + n,
        }


def user_rows(seed: int, today: date) -> Iterator[Row]:
    """Yield the apn_users rows: most of our sales users under the same e-mail, and a robot."""
    rng = stream(seed, "ace users")
    people = [(user.name, user.login, user.active) for user in SALES_USERS[:10]]
    for n, (name, email, active) in enumerate([*people, ("Sync Robot", f"ace-sync@{OWN_DOMAIN}", True)]):
        created = utc(moment(rng, today - timedelta(days=800 - 30 * n)))
        salt, digest = f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(256):064x}"
        yield {
            "id": record_id("005", 700 + 37 * n),
            "email": email.upper() if n == 3 else email,
            "first_name": name.split()[0],
            "last_name": name.partition(" ")[2],
            "role": rng.choice(("Alliance Lead", "Sales", "Admin")),
            "is_active": active,
            "password_hash": f"$argon2id$v=19$m=19456,t=2,p=1${salt}${digest}",
            "api_token": f"{rng.getrandbits(160):040x}" if n in {0, 10} else None,
            "last_login_at": utc(moment(rng, today - timedelta(days=rng.randint(1, 90)))) if active else None,
            "created_at": created,
            "updated_at": created + timedelta(days=rng.randint(0, 300), microseconds=rng.randrange(10**6)),
        }


def make_directory(opportunities: Iterable[Opportunity], *, first: int = 5_000) -> Directory:
    """Give each company and person of `opportunities` an id in ACE, numbered from `first`."""
    companies: dict[str, str] = {}
    contacts: dict[tuple[str, str], str] = {}
    for found in opportunities:
        companies.setdefault(found.party.domain, record_id("001", first + 7 * len(companies)))
        if found.person:
            contacts.setdefault((found.party.domain, found.person.name), record_id("003", first + 3 * len(contacts)))
    return Directory(companies, contacts)


def company_rows(
    seed: int,
    opportunities: Iterable[Opportunity],
    directory: Directory,
    *,
    today: date,
    occasion: str = "start",
) -> Iterator[Row]:
    """Yield the apn_companies rows of the directory, each at its first opportunity."""
    rng = stream(seed, "ace companies", occasion)
    seen: set[str] = set()
    for found in opportunities:
        party = found.party
        if party.domain in seen:
            continue
        seen.add(party.domain)
        created = utc(moment(rng, min(found.deal.created, today - timedelta(days=1))))
        yield {
            "id": directory.companies[party.domain],
            "name": noise.company_name(rng, party.name, party.place.city),
            "website": noise.website(rng, party.domain),
            "duns": party.duns if rng.random() < 0.4 else None,
            "industry": industry(rng, party),
            "street": party.street,
            "city": party.place.city,
            "state_or_region": party.place.state or rng.choice((None, "")),
            "postal_code": party.place.postal_code,
            "country_code": party.country.code,
            "created_at": created,
            "updated_at": created + timedelta(seconds=rng.randrange(86_400), microseconds=rng.randrange(10**6)),
        }


def contact_rows(
    seed: int,
    opportunities: Iterable[Opportunity],
    directory: Directory,
    *,
    today: date,
    occasion: str = "start",
) -> Iterator[Row]:
    """Yield the apn_contacts rows of the directory."""
    rng = stream(seed, "ace contacts", occasion)
    seen: set[tuple[str, str]] = set()
    for found in opportunities:
        person = found.person
        if person is None or (key := (found.party.domain, person.name)) in seen:
            continue
        seen.add(key)
        created = utc(moment(rng, min(found.deal.created, today - timedelta(days=1))))
        yield {
            "id": directory.contacts[key],
            "company_id": directory.companies[found.party.domain],
            "first_name": person.first,
            "last_name": person.last,
            "email": person.email.upper() if person.email and rng.random() < 0.05 else person.email,
            "phone": e164(person),
            "business_title": person.title,
            "created_at": created,
            "updated_at": created + timedelta(seconds=rng.randrange(86_400), microseconds=rng.randrange(10**6)),
        }


def industry(rng: Random, party: Party) -> str | None:
    """Return the industry in one of its spellings; None now and then."""
    if rng.random() < 0.03:
        return None
    return noise.ampersand(party.industry) if rng.random() < 0.3 else party.industry


def e164(person: Person) -> str | None:
    """Return the phone number without blanks and dashes."""
    return person.phone.replace(" ", "").replace("-", "") if person.phone else None
