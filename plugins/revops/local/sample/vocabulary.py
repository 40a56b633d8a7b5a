"""The words that the sample's people, companies and places are made of; all of them invented or generic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One town: its postal code and, where the country uses states, the state's code ('' where not)."""

    city: str
    postal_code: str
    state: str = ""


@dataclass(frozen=True)
class Country:
    """One country, with Odoo's id of it; `suffixes` are legal forms, `street` takes a number and a name."""

    id: int
    code: str
    name: str
    currency: str
    phone_code: int
    language: str
    suffixes: tuple[str, ...]
    street: str
    places: tuple[Place, ...]


COUNTRIES = (
    Country(
        233, "US", "United States", "USD", 1, "en_US",
        ("Inc.", "LLC", "Corp.", "Incorporated", "Co.", "Holdings, Inc."), "{number} {name} Street",
        (
            Place("Denver", "80202", "CO"), Place("Boston", "02110", "MA"), Place("Austin", "78701", "TX"),
            Place("Portland", "97204", "OR"), Place("Columbus", "43215", "OH"), Place("Tampa", "33602", "FL"),
            Place("Salt Lake City", "84101", "UT"), Place("San Diego", "92101", "CA"), Place("Chicago",
            "60606", "IL"),
        ),
    ),
    Country(
        231, "GB", "United Kingdom", "GBP", 44, "en_GB",
        ("Ltd", "Limited", "PLC", "LLP"), "{number} {name} Road",
        (Place("London", "EC2A 4BX"), Place("Leeds", "LS1 4DY"), Place("Bristol", "BS1 6QA"), Place("Glasgow",
        "G2 5SG")),
    ),
    Country(
        57, "DE", "Germany", "EUR", 49, "de_DE",
        ("GmbH", "AG", "GmbH & Co. KG", "SE"), "{name}straße {number}",
        (Place("Berlin", "10115"), Place("München", "80331"), Place("Köln", "50667"), Place("Nürnberg",
        "90402")),
    ),
    Country(
        75, "FR", "France", "EUR", 33, "fr_FR",
        ("SA", "SAS", "SARL"), "{number} rue {name}",
        (Place("Lyon", "69002"), Place("Paris", "75009"), Place("Nantes", "44000")),
    ),
    Country(
        68, "ES", "Spain", "EUR", 34, "es_ES",
        ("S.A.", "S.L.", "SLU"), "Calle {name} {number}",
        (Place("Málaga", "29001"), Place("Madrid", "28004"), Place("A Coruña", "15001")),
    ),
    Country(
        165, "NL", "Netherlands", "EUR", 31, "nl_NL",
        ("B.V.", "N.V."), "{name}laan {number}",
        (Place("Utrecht", "3511 AB"), Place("Rotterdam", "3011 AA")),
    ),
    Country(
        43, "CH", "Switzerland", "EUR", 41, "de_DE",
        ("AG", "GmbH", "Sàrl"), "{name}gasse {number}",
        (Place("Zürich", "8001"), Place("Genève", "1201")),
    ),
    Country(
        38, "CA", "Canada", "USD", 1, "en_US",
        ("Inc.", "Ltd.", "Corp."), "{number} {name} Avenue",
        (Place("Toronto", "M5H 2N2", "ON"), Place("Montréal", "H3B 1A7", "QC"), Place("Calgary", "T2P 1J9",
        "AB")),
    ),
    Country(
        31, "BR", "Brazil", "USD", 55, "pt_BR",
        ("S.A.", "Ltda."), "Rua {name}, {number}",
        (Place("São Paulo", "01310-100", "SP"), Place("Florianópolis", "88010-000", "SC")),
    ),
    Country(
        104, "IN", "India", "USD", 91, "en_US",
        ("Pvt. Ltd.", "Private Limited", "Ltd."), "{number}, {name} Marg",
        (Place("Pune", "411001", "MH"), Place("Bengaluru", "560001", "KA")),
    ),
    Country(
        197, "SG", "Singapore", "USD", 65, "en_US",
        ("Pte. Ltd.", "Pte Ltd"), "{number} {name} Quay",
        (Place("Singapore", "048616"),),
    ),
    Country(
        129, "LK", "Sri Lanka", "USD", 94, "en_US",
        ("(Pvt) Ltd", "PLC"), "No. {number}, {name} Mawatha",
        (Place("Colombo", "00300"), Place("Kandy", "20000")),
    ),
    Country(
        13, "AU", "Australia", "USD", 61, "en_GB",
        ("Pty Ltd", "Pty. Limited"), "{number} {name} Parade",
        (Place("Melbourne", "3000", "VIC"), Place("Brisbane", "4000", "QLD")),
    ),
    Country(
        113, "JP", "Japan", "USD", 81, "ja_JP",
        ("株式会社", "K.K.", "Co., Ltd."), "{name} {number}-4",
        (Place("東京", "100-0005"), Place("Osaka", "530-0001")),
    ),
)  # fmt: skip
COUNTRY_WEIGHTS = (46, 11, 8, 4, 4, 3, 2, 5, 3, 4, 3, 2, 3, 2)
COUNTRY_OF_CODE = {country.code: country for country in COUNTRIES}

STATES = (
    ("US", "CO", "Colorado"), ("US", "MA", "Massachusetts"), ("US", "TX", "Texas"), ("US", "OR", "Oregon"),
    ("US", "OH", "Ohio"), ("US", "FL", "Florida"), ("US", "UT", "Utah"), ("US", "CA", "California"),
    ("US", "IL", "Illinois"), ("CA", "ON", "Ontario"), ("CA", "QC", "Québec"), ("CA", "AB", "Alberta"),
    ("BR", "SP", "São Paulo"), ("BR", "SC", "Santa Catarina"), ("IN", "MH", "Maharashtra"),
    ("IN", "KA",
    "Karnataka"), ("AU", "VIC", "Victoria"), ("AU", "QLD", "Queensland"),
)  # fmt: skip

FIRST_NAMES = (
    "Amara", "Anna", "Arjun", "Beatriz", "Ben", "Camille", "Carlos", "Chen", "Chloé", "Daniel", "David",
    "Dilani", "Elena", "Emma", "Farid", "Fatima", "Felix", "Grace", "Hannah", "Haruto", "Ibrahim", "Ines",
    "Isabel", "Jakob", "James", "Jasmin", "José", "Julia", "Kavya", "Kenji", "Laura", "Liam", "Lina", "Lucas",
    "Maria", "Mateo", "Maya", "Michael", "Mònica", "Nadia", "Nina", "Nuwan", "Oliver", "Omar", "Patricia",
    "Paul", "Priya", "Rachel", "Rafael", "Rosa", "Samuel", "Sara", "Sofia", "Søren", "Thomas", "Tomás",
    "Victoria", "Wei", "Yara", "Zoe",
)  # fmt: skip

LAST_NAMES = (
    "Abeysekera", "Almeida", "Andersson", "Baker", "Becker", "Bennett", "Bianchi", "Brandt", "Carvalho",
    "Castillo", "Chen", "Cooper", "Costa", "D'Souza", "Dubois", "Fernando", "Fischer", "Foster", "García",
    "Gomez", "Gupta", "Hansen", "Harris", "Hoffmann", "Hughes", "Ito", "Jansen", "Johansson", "Kaplan",
    "Keller", "Khan", "Kim", "Kowalski", "Lambert", "Lee", "Lindqvist", "Marchetti", "Mbeki", "Meyer",
    "Moreau", "Murphy", "Müller", "Nakamura", "Nguyen", "Novak", "O'Neill", "Okafor", "Oliveira", "Patel",
    "Perera", "Petrov", "Quinn", "Ramírez", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Tanaka",
    "van Dijk", "Vargas", "Weber", "Williams", "Wright", "Yamamoto", "Zimmermann",
)  # fmt: skip

JOB_TITLES = (
    "CTO", "CIO", "IT Director", "Head of Infrastructure", "VP Engineering", "Cloud Architect", "DevOps Lead",
    "CISO", "Procurement Manager", "Data Platform Manager", "Founder", "Leiter IT-Betrieb",
    "Directeur des systèmes d'information", "Finance Controller", "Product Owner",
)  # fmt: skip

STREETS = (
    "Market", "Harbour", "Linden", "Station", "Mill", "Cedar", "Garden", "King", "Bridge", "Chestnut",
    "River", "Park", "Industrial", "Foundry", "Orchard", "Meridian", "Canal", "Summit",
)  # fmt: skip

STEMS = (
    "Alder", "Amber", "Arco", "Argent", "Atlas", "Auro", "Bel", "Blue", "Bright", "Cal", "Cinder", "Clear",
    "Coral", "Corvi", "Crest", "Delta", "Dura", "East", "Ember", "Evo", "Fair", "Falcon", "Fern", "Fore",
    "Gran", "Green", "Halo", "Harbor", "Hearth", "Helio", "High", "Iron", "Juni", "Kestr", "Key", "Lake",
    "Lark", "Lumi", "Maple", "Mar", "Med", "Merid", "Mont", "Nord", "North", "Nova", "Oak", "Omni", "Opal",
    "Orbi", "Pal", "Pine", "Polar", "Prim", "Quartz", "Quill", "Red", "Ridge", "River", "Sage", "Sand", "Sil",
    "Sol", "Spring", "Stone", "Summit", "Swift", "Tal", "Terra", "Tide", "True", "Urban", "Val", "Vela",
    "Ver", "Vista", "West", "Wild", "Wind", "Zen",
)  # fmt: skip

ENDINGS = (
    "acre", "anta", "ara", "bay", "beck", "bridge", "brook", "cora", "crest", "dale", "edge", "field", "ford",
    "gate", "grove", "haven", "ia", "ion", "ix", "land", "line", "lock", "mark", "mere", "mont", "mora",
    "ora", "path", "peak", "point", "port", "rise", "rock", "stead", "stone", "vale", "vance", "view",
    "ville", "vista", "ward", "way", "well", "wick", "wood", "worth", "yard", "zeta",
)  # fmt: skip

# ACE's spelling first; Odoo and the older exchange write "&" where the API writes "and".
INDUSTRY_WORDS = {
    "Aerospace": ("Aerospace", "Avionics", "Space Systems"),
    "Agriculture": ("Farms", "Agro", "Seeds", "Irrigation"),
    "Automotive": ("Motors", "Automotive", "Mobility", "Axles"),
    "Computers and Electronics": ("Devices", "Electronics", "Semiconductors", "Sensors"),
    "Consumer Goods": ("Foods", "Apparel", "Home Products", "Beverages"),
    "Education": ("University", "Academy", "School District", "Learning"),
    "Energy - Oil and Gas": ("Petroleum", "Pipelines", "Drilling"),
    "Energy - Power and Utilities": ("Power", "Energy", "Water Authority", "Solar"),
    "Financial Services": ("Bank", "Capital", "Insurance", "Credit Union", "Payments"),
    "Gaming": ("Games", "Interactive", "Play Studios"),
    "Government": ("County", "Transit Agency", "Housing Authority"),
    "Healthcare": ("Health", "Medical Center", "Clinics", "Dental Group"),
    "Hospitality": ("Hotels", "Resorts", "Dining Group"),
    "Life Sciences": ("Biotech", "Pharma", "Genomics", "Diagnostics"),
    "Manufacturing": ("Manufacturing", "Industries", "Tooling", "Plastics"),
    "Marketing and Advertising": ("Media Group", "Advertising", "Insights"),
    "Media and Entertainment": ("Studios", "Broadcasting", "Pictures", "Publishing"),
    "Mining": ("Mining", "Minerals", "Resources"),
    "Non-Profit Organization": ("Foundation", "Relief Fund", "Trust"),
    "Professional Services": ("Consulting", "Partners", "Advisors", "Legal"),
    "Real Estate and Construction": ("Properties", "Builders", "Realty"),
    "Retail": ("Stores", "Outfitters", "Market", "Pharmacy"),
    "Software and Internet": ("Software", "Labs", "Data", "Technologies", "Cloud"),
    "Telecommunications": ("Telecom", "Networks", "Wireless"),
    "Transportation and Logistics": ("Logistics", "Freight", "Shipping", "Couriers"),
    "Travel": ("Airways", "Travel", "Cruises"),
    "Wholesale and Distribution": ("Distribution", "Supply", "Wholesale"),
    "Other": ("Group", "Collective", "Ventures"),
}
INDUSTRIES = tuple(INDUSTRY_WORDS)
