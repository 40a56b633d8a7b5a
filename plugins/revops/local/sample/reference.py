"""The sample Odoo's small tables: currencies, countries, companies, users, teams, stages, tags, products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from revops.local.sample import vocabulary as words
from revops.local.sample.chance import moment, stream
from revops.local.sample.loading import Row

EUR, USD, GBP = 1, 2, 147
CURRENCY_IDS = {"EUR": EUR, "USD": USD, "GBP": GBP}
EUR_PER_USD = Decimal("0.92")
OWN_DOMAIN = "nimbusridge.example"

STAGE_NEW, STAGE_QUALIFIED, STAGE_PROPOSITION, STAGE_WON, STAGE_NEGOTIATION = 1, 2, 3, 4, 5
OPEN_STAGES = (STAGE_NEW, STAGE_QUALIFIED, STAGE_PROPOSITION, STAGE_NEGOTIATION)
LOST_REASONS = ("Too expensive", "Lost to competitor", "No budget", "Customer stays on premises", "No answer")
TEAMS = (
    (1, "Sales", True), (2, "Website", False), (3, "Point of Sale", False), (4, "eBay", False),
    (5,
    "Americas", True), (6, "Europe", True), (7, "Partner Alliance", True),
)  # fmt: skip
LEAD_TEAMS = (1, 5, 6, 7)
TAGS = (
    "Migration", "MAP", "Resell", "Managed Services", "SPP", "POD", "Well-Architected", "Data & AI",
    "Security", "Renewal", "AWS Referral", "Event 2025", "Greenfield", "Public Sector", "Strategic",
    "Windows/SQL",
)  # fmt: skip


@dataclass(frozen=True)
class Company:
    """One of our own companies; amounts of its records are in `currency`."""

    id: int
    name: str
    currency: str
    partner_id: int


@dataclass(frozen=True)
class User:
    """One Odoo user; name and e-mail live in its partner. Ids 1 to 5 are Odoo's technical accounts."""

    id: int
    login: str
    name: str
    active: bool
    company_id: int
    partner_id: int


COMPANIES = (
    Company(1, "Nimbus Ridge Cloud, Inc.", "USD", 1),
    Company(2, "Nimbus Ridge Europe B.V.", "EUR", 6),
)
COMPANY_OF_ID = {company.id: company for company in COMPANIES}
_STAFF = (
    ("Renata Fuchs", True), ("Marcus Bell", True), ("Ishara de Silva", True), ("Peter Olsson", False),
    ("Joana Pires", True),
    ("Caleb Whitfield", True), ("Theresa Nguyen", True), ("Adil Rahman", True), ("Greta Lang", True),
    ("Tom Hughes", False),
    ("Yuki Morita", True), ("Sandra Velez", True), ("Noah Brandt", True), ("Bea Kowalczyk", True),
)  # fmt: skip
USERS = (
    User(1, "__system__", "OdooBot", False, 1, 2),
    User(2, "admin", "Administrator", True, 1, 3),
    User(3, "default", "Default User Template", False, 1, 4),
    User(4, "public", "Public user", False, 1, 5),
    User(5, "portaltemplate", "Portal User Template", False, 1, 7),
    *(
        User(6 + n, f"{name.split()[0].lower()}@{OWN_DOMAIN}", name, active, 2 if n % 4 == 3 else 1, 10 + n)
        for n, (name, active) in enumerate(_STAFF)
    ),
)
SALES_USERS = USERS[5:]


STATE_IDS = {(country, code): n for n, (country, code, _) in enumerate(words.STATES, start=1)}


@dataclass(frozen=True)
class Product:
    """One product_template; the line tables of Odoo itself refer to its variant, `variant_id`, instead."""

    id: int
    variant_id: int
    name: str
    price: Decimal


_PRODUCT_NAMES = (
    "AWS Usage", "AWS Support Resale", "AWS Marketplace Resale", "Reserved Instance Fee", "Savings Plan Fee",
    "EDP Discount",
    "SPP Discount", "Distributor Discount", "Managed Services - Essential", "Managed Services - Advanced",
    "Managed Services - 24x7", "Well-Architected Review", "Migration Readiness Assessment",
    "Migration Sprint",
    "Landing Zone Setup", "Security Assessment", "Data Lake Workshop", "GenAI Workshop",
    "DevOps Engineer Day",
    "Cloud Architect Day", "Project Manager Day", "Training Day", "Backup Service", "Monitoring Service",
    "FinOps Report",
    "Account Setup Fee", "Cost Anomaly Service", "Disaster Recovery Test", "Credit Note Adjustment",
    "Tax Adjustment",
)  # fmt: skip
PRODUCTS = tuple(
    Product(n, n + 11, name, Decimal(price) / 100)
    for n, (name, price) in enumerate(
        zip(_PRODUCT_NAMES, (0, 10_000, 0, 0, 0, 0, 0, 0, 150_000, 290_000, 480_000, 750_000, *range(90_000,
        270_000, 10_000)), strict=True),
        start=3,
    )
)  # fmt: skip


def reference_rows(seed: int, today: date) -> Iterator[tuple[str, list[Row]]]:
    """Yield each small table with its rows, own partners included."""
    setup = datetime.combine(today - timedelta(days=1500), time(9, 12, 44, 218731))
    log = {"create_uid": 1, "create_date": setup, "write_uid": 1, "write_date": setup}
    yield "res_currency", [
        {"id": EUR, "name": "EUR", "symbol": "€", "rounding": Decimal("0.010000"), "decimal_places": 2,
        "active": True, "position": "after"} | log,
        {"id": USD, "name": "USD", "symbol": "$", "rounding": Decimal("0.01"), "decimal_places": 2,
        "active": True, "position": "before"} | log,
        {"id": GBP, "name": "GBP", "symbol": "£", "rounding": Decimal("0.01"), "decimal_places": 2,
        "active": False, "position": "before"} | log,
    ]  # fmt: skip
    yield (
        "res_country",
        [
            {
                "id": country.id,
                "name": country.name,
                "code": country.code,
                "address_format": "%(street)s\n%(city)s %(state_code)s %(zip)s\n%(country_name)s",
                "currency_id": CURRENCY_IDS[country.currency],
                "phone_code": country.phone_code,
            }
            | log
            for country in words.COUNTRIES
        ],
    )
    yield (
        "res_country_state",
        [
            {"id": n, "country_id": words.COUNTRY_OF_CODE[country].id, "code": code, "name": name} | log
            for n, (country, code, name) in enumerate(words.STATES, start=1)
        ],
    )
    yield "res_company", [_company_row(company, today) | log for company in COMPANIES]
    yield "res_partner", [*_own_partner_rows(log)]
    yield "res_users", [*_user_rows(seed, today)]
    yield "crm_team", [
        {"id": n, "name": name, "sequence": n, "active": active,
        "company_id": 2 if name == "Europe" else None, "alias_id": n,
         "use_leads": True, "use_opportunities": True, "invoiced_target": 0.0} | log
        for n, name, active in TEAMS
    ]  # fmt: skip
    yield (
        "crm_stage",
        [
            {"id": n, "name": name, "sequence": sequence, "is_won": won, "fold": fold} | log
            for n, name, sequence, won, fold in (
                (STAGE_NEW, "New", 1, None, False),
                (STAGE_QUALIFIED, "Qualified", 2, None, False),
                (STAGE_PROPOSITION, "Proposition", 3, None, False),
                (STAGE_WON, "Won", 70, True, False),
                (STAGE_NEGOTIATION, "Negotiation", 60, False, False),
                (9, "Parked (old)", 99, False, True),
            )
        ],
    )
    yield (
        "crm_lost_reason",
        [{"id": n, "name": name, "active": n != 4} | log for n, name in enumerate(LOST_REASONS, start=1)],
    )
    yield "crm_tag", [{"id": n, "name": name, "color": n % 11} | log for n, name in enumerate(TAGS, start=2)]
    yield "product_template", [*_product_rows(log)]


def _company_row(company: Company, today: date) -> dict[str, object]:
    return {
        "id": company.id,
        "name": company.name,
        "partner_id": company.partner_id,
        "currency_id": CURRENCY_IDS[company.currency],
        "sequence": 10,
        "email": f"office@{OWN_DOMAIN}",
        "fiscalyear_last_day": 31,
        "fiscalyear_last_month": "12",
        "account_opening_date": date(today.year - 4, 1, 1),
        "quotation_validity_days": 30,
        "logo_web": b"\x89PNG\r\n\x1a\n\x00sample",
    }


def _own_partner_rows(log: Row) -> Iterator[Row]:
    shared = {
        "type": "contact",
        "lang": "en_US",
        "color": 0,
        "partner_share": False,
        "customer_rank": 0,
        "supplier_rank": 0,
        **log,
    }
    for company in COMPANIES:
        yield shared | {
            "id": company.partner_id,
            "name": company.name,
            "display_name": company.name,
            "active": True,
            "is_company": True,
            "email": f"office@{OWN_DOMAIN}",
            "commercial_partner_id": company.partner_id,
            "commercial_company_name": company.name,
        }
    for user in USERS:
        own = COMPANY_OF_ID[user.company_id]
        email = user.login if "@" in user.login else f"{user.login.strip('_')}@{OWN_DOMAIN}"
        yield shared | {
            "id": user.partner_id,
            "name": user.name,
            "display_name": f"{own.name}, {user.name}",
            "active": user.active,
            "is_company": False,
            "employee": True,
            "parent_id": own.partner_id,
            "commercial_partner_id": own.partner_id,
            "commercial_company_name": own.name,
            "email": email,
            "email_normalized": email,
            "company_id": user.company_id,
        }


def _user_rows(seed: int, today: date) -> Iterator[Row]:
    rng = stream(seed, "users")
    for user in USERS:
        created = moment(rng, today - timedelta(days=1490 - 20 * user.id))
        salt, digest = f"{rng.getrandbits(88):022x}", f"{rng.getrandbits(340):086x}"
        yield {
            "id": user.id,
            "active": user.active,
            "login": user.login,
            "password": None if user.id in {1, 3, 4, 5} else f"$pbkdf2-sha512$25000${salt}${digest}",
            "totp_secret": f"{rng.getrandbits(80):020x}".upper() if user.id in {2, 6, 11} else None,
            "company_id": user.company_id,
            "partner_id": user.partner_id,
            "signature": f"<p>--<br>{user.name}</p>",
            "share": user.id in {4, 5},
            "notification_type": "email",
            "odoobot_state": "onboarding_idle",
            "sale_team_id": LEAD_TEAMS[user.id % len(LEAD_TEAMS)] if user.id > 5 else None,
            "create_uid": 1,
            "create_date": created,
            "write_uid": user.id if user.id > 5 else 1,
            "write_date": moment(rng, today - timedelta(days=rng.randint(1, 200))),
        }


def _product_rows(log: Row) -> Iterator[Row]:
    for product in PRODUCTS:
        yield {
            "id": product.id,
            "name": product.name,
            "sequence": 1,
            "type": "service",
            "categ_id": 1,
            "list_price": product.price,
            "sale_ok": True,
            "purchase_ok": False,
            "uom_id": 1,
            "uom_po_id": 1,
            "active": product.id % 13 != 0,
            "default_code": f"NR-{product.id:03}" if product.id % 4 else "",
            "sale_line_warn": "no-message",
            "service_type": "manual",
            "invoice_policy": "order",
            "description_sale": None if product.id % 3 else f"{product.name}, billed monthly",
            **log,
        }
