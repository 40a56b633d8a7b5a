"""Customers of the sample: companies with their people and addresses, and Odoo's res_partner rows of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from revops.local.sample import vocabulary as words
from revops.local.sample.chance import WriteDates, between, gapped_ids, moment, stream
from revops.local.sample.loading import Row
from revops.local.sample.reference import COMPANIES, SALES_USERS, STATE_IDS
from revops.local.sample.vocabulary import Country, Place

FIRST_PARTNER_ID = 60
COMPANIES_PER_SCALE = 285
STRANGERS_PER_SCALE = 260


@dataclass(frozen=True)
class Person:
    """One contact; `partner_id` is None for people that only ACE knows."""

    partner_id: int | None
    first: str
    last: str
    title: str
    email: str | None
    phone: str | None

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


@dataclass(frozen=True)
class Address:
    """One invoice or delivery address of a company, a partner of its own in Odoo."""

    partner_id: int
    kind: str
    name: str | None
    street: str
    place: Place


@dataclass(frozen=True)
class Party:
    """One real customer; `partner_id` is None for companies that only ACE knows."""

    partner_id: int | None
    name: str
    brand: str
    domain: str
    country: Country
    place: Place
    street: str
    industry: str
    duns: str
    company_id: int | None
    people: tuple[Person, ...]
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Parties:
    """Odoo's customers, and strangers that only ACE knows, some of them under the name of a customer."""

    customers: tuple[Party, ...]
    strangers: tuple[Party, ...]


def make_parties(seed: int, scale: float) -> Parties:
    """Return the customers of (seed, scale); always the same, so that a later day can ask for them again."""
    rng = stream(seed, "parties")
    ids = gapped_ids(rng, FIRST_PARTNER_ID)
    customers: list[Party] = []
    taken: set[str] = set()
    for _ in range(max(12, round(COMPANIES_PER_SCALE * scale))):
        twin = rng.choice(customers) if customers and rng.random() < 0.06 else None
        customers.append(make_party(rng, ids, twin=twin, taken=taken))
    strangers: list[Party] = []
    for _ in range(max(10, round(STRANGERS_PER_SCALE * scale))):
        twin = rng.choice(customers) if rng.random() < 0.45 else None
        strangers.append(make_party(rng, None, twin=twin, taken=taken))
    return Parties(tuple(customers), tuple(strangers))


def make_party(rng: Random, ids: Iterator[int] | None, *, twin: Party | None, taken: set[str]) -> Party:
    """Return a new company; one with a `twin` has its brand or a part of it, elsewhere.

    Its domain is none of `taken` and joins them: two companies may share a name, never a domain.
    """
    country = rng.choices(words.COUNTRIES, words.COUNTRY_WEIGHTS)[0]
    industry = rng.choice(words.INDUSTRIES)
    brand = _brand(rng, industry)
    if twin is not None:
        country = rng.choice([other for other in words.COUNTRIES if other is not twin.country])
        if rng.random() < 0.6:
            brand, industry = twin.brand, twin.industry
        else:
            brand = f"{twin.brand.split()[0]} {rng.choice(words.INDUSTRY_WORDS[industry])}"
    place = rng.choice(country.places)
    ending = f"-{country.code.lower()}{rng.randint(1, 99)}" if twin is not None else ""
    domain = f"{_ascii(brand)}{ending}.example"
    while domain in taken:
        domain = f"{_ascii(brand)}{rng.randint(2, 9_999)}.example"
    taken.add(domain)
    partner_id = next(ids) if ids else None
    return Party(
        partner_id=partner_id,
        name=_with_legal_form(rng, brand, country),
        brand=brand,
        domain=domain,
        country=country,
        place=place,
        street=_street(rng, country),
        industry=industry,
        duns=f"{rng.randrange(10**8, 10**9)}",
        company_id=_company_of(rng, country),
        people=tuple(
            make_person(rng, ids, domain=domain, country=country)
            for _ in range(rng.choices((0, 1, 2, 3), (12, 60, 22, 6))[0] if ids else 1)
        ),
        addresses=tuple(
            _address(rng, ids, country=country, brand=brand)
            for _ in range(rng.choices((0, 1, 2), (56, 29, 15))[0] if ids else 0)
            if ids
        ),
    )


def make_person(rng: Random, ids: Iterator[int] | None, *, domain: str, country: Country) -> Person:
    """Return a contact with an address at `domain`, now and then a private one or none."""
    first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
    # The free mail provider refuses underscores, so that none of these can be anybody's address.
    private = f"{_ascii(first)}_{_ascii(last)}@gmail.com"
    email = rng.choices((f"{_ascii(first)}.{_ascii(last)}@{domain}", private, None), (86, 7, 7))[0]
    return Person(
        partner_id=next(ids) if ids else None,
        first=first,
        last=last,
        title=rng.choice(words.JOB_TITLES),
        email=email,
        phone=None if rng.random() < 0.15 else phone(rng, country),
    )


def phone(rng: Random, country: Country) -> str:
    """Return a number out of the ranges kept for fiction, or with their 555 where a country keeps none."""
    if country.phone_code == 1:
        return f"+1 {rng.choice(('303', '512', '617', '416'))}-555-01{rng.randrange(100):02}"
    return f"+{country.phone_code} {rng.randrange(20, 99)} 5550 {rng.randrange(10_000):04}"


def partner_rows(seed: int, parties: Parties, *, today: date) -> Iterator[Row]:
    """Yield the res_partner rows of all customers, a company before its people and addresses."""
    rng = stream(seed, "partner rows")
    dates = WriteDates(rng, today)
    for party in parties.customers:
        yield from party_rows(
            rng,
            party,
            created=between(rng, today - timedelta(days=1100), today - timedelta(days=40)),
            dates=dates,
        )


def party_rows(rng: Random, party: Party, *, created: date, dates: WriteDates) -> Iterator[Row]:
    """Yield the res_partner rows of one customer, created on one day."""
    site = rng.choices((f"https://www.{party.domain}", party.domain, "", None), (55, 20, 5, 20))[0]
    email = rng.choices((f"info@{party.domain}", f"Office <office@{party.domain}>", None), (45, 5, 50))[0]
    tax_number = f"{party.country.code}{rng.randrange(10**8, 10**9)}"
    base = _common(rng, party, created=created, dates=dates)
    yield base | {
        "id": party.partner_id,
        "name": party.name,
        "display_name": party.name,
        "type": "contact",
        "is_company": True,
        "website": site,
        "email": email,
        "email_normalized": _normalised(email),
        "phone": None if rng.random() < 0.3 else phone(rng, party.country),
        "vat": tax_number if rng.random() < 0.4 else None,
        "ref": f"C{party.partner_id:05}" if rng.random() < 0.5 else None,
        "comment": rng.choice((None, None, "", "Prefers e-mail.\r\nInvoices by post.", "<p>Key account</p>")),
        "industry_id": words.INDUSTRIES.index(party.industry) + 1,
        "customer_rank": rng.randint(0, 4),
        "signup_token": f"{rng.getrandbits(100):025x}" if rng.random() < 0.06 else None,
        "signup_type": "signup" if rng.random() < 0.06 else None,
        "credit_limit": 0.0,
        "x_duns": party.duns if rng.random() < 0.35 else None,
        "user_id": rng.choice(SALES_USERS).id if rng.random() < 0.6 else None,
        **_at(party.country, party.place, party.street),
    }
    for person in party.people:
        yield base | {
            "id": person.partner_id,
            "name": person.name,
            "display_name": f"{party.name}, {person.name}",
            "type": "contact",
            "is_company": False,
            "parent_id": party.partner_id,
            "function": person.title,
            "email": person.email,
            "email_normalized": _normalised(person.email),
            "phone": person.phone,
            "mobile": phone(rng, party.country) if rng.random() < 0.3 else None,
            "phone_sanitized": re.sub(r"[ -]", "", person.phone) if person.phone else None,
            "customer_rank": 0,
            "active": rng.random() >= 0.03,
            **_at(party.country, party.place, party.street),
        }
    for address in party.addresses:
        yield base | {
            "id": address.partner_id,
            "name": address.name,
            "display_name": f"{party.name}, {address.name or address.kind.capitalize() + ' Address'}",
            "type": address.kind,
            "is_company": False,
            "parent_id": party.partner_id,
            "customer_rank": 0,
            **_at(party.country, address.place, address.street),
        }


def _common(rng: Random, party: Party, *, created: date, dates: WriteDates) -> dict[str, object]:
    create_date = moment(rng, created)
    return {
        "company_id": party.company_id,
        "lang": party.country.language,
        "tz": "UTC",
        "active": rng.random() >= 0.02,
        "employee": False,
        "color": 0,
        "partner_share": True,
        "commercial_partner_id": party.partner_id,
        "commercial_company_name": party.name,
        "message_bounce": 0,
        "invoice_warn": "no-message",
        "sale_warn": "no-message",
        "supplier_rank": 0,
        "create_uid": 2,
        "create_date": create_date,
        "write_uid": rng.choice((1, 2, 6, 7)),
        "write_date": dates.after(create_date),
    }


def _at(country: Country, place: Place, street: str) -> dict[str, object]:
    return {
        "street": street,
        "zip": place.postal_code,
        "city": place.city,
        "state_id": STATE_IDS.get((country.code, place.state)),
        "country_id": country.id,
    }


def _brand(rng: Random, industry: str) -> str:
    kind = rng.random()
    word = rng.choice(words.INDUSTRY_WORDS[industry])
    coined = rng.choice(words.STEMS) + rng.choice(words.ENDINGS)
    if kind < 0.62:
        return f"{coined} {word}"
    if kind < 0.78:
        return f"{rng.choice(words.LAST_NAMES)} {rng.choice(('&', 'and'))} {rng.choice(words.LAST_NAMES)} {word}"
    if kind < 0.9:
        return f"{rng.choice(words.STEMS)} {rng.choice(('Valley', 'Coast', 'County', 'Lake', 'City'))} {word}"
    return f"{coined} {rng.choice(words.STEMS)} {rng.choice(('International', 'Global', 'Digital'))} {word}"


def _with_legal_form(rng: Random, brand: str, country: Country) -> str:
    if rng.random() < 0.22:
        return brand
    form = rng.choice(country.suffixes)
    return f"{brand}, {form}" if country.code == "US" and rng.random() < 0.3 else f"{brand} {form}"


def _company_of(rng: Random, country: Country) -> int | None:
    if rng.random() < 0.15:
        return None
    return next((company.id for company in COMPANIES if company.currency == country.currency), COMPANIES[0].id)


def _street(rng: Random, country: Country) -> str:
    return country.street.format(number=rng.randint(1, 480), name=rng.choice(words.STREETS))


def _address(rng: Random, ids: Iterator[int], *, country: Country, brand: str) -> Address:
    return Address(
        partner_id=next(ids),
        kind=rng.choice(("invoice", "delivery")),
        name=f"{brand} - {rng.choice(('Accounts Payable', 'Warehouse', 'Billing'))}" if rng.random() < 0.4 else None,
        street=_street(rng, country),
        place=rng.choice(country.places),
    )


def _normalised(email: str | None) -> str | None:
    if not email:
        return None
    return email.partition("<")[2].rstrip(">").lower() if "<" in email else email.lower()


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("ø", "o").replace("ß", "ss")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())
