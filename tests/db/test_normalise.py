"""The functions that give one spelling to sites, names, ACE's values and texts, over tables of real-world cases."""

from __future__ import annotations

import html
import html.entities
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import errors, sql
from publicsuffixlist import PublicSuffixList

from revops.local.postgres import EmbeddedPostgres
from revops.local.sample import ace, noise, parties, vocabulary
from revops.warehouse_setup import SEEDS, read_migrations, set_up_warehouse

pytestmark = pytest.mark.db

MIGRATIONS = Path(__file__).resolve().parents[2] / "include" / "sql" / "migrations"
MEGABYTES_5 = 5_000_000


@pytest.fixture
def warehouse(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_transform")


def outcome(connection: psycopg.Connection, function: str, texts: list[str | None]) -> dict[str | None, Any]:
    """What a function makes of each of the texts."""
    statement = f"select t, core.{function}(t) from unnest(%s::text[]) as u (t)"
    return dict(query(connection, statement, texts))


NAMES = {
    None: None,
    "Acme": "acme",
    "  ACME  ": "acme",
    "Acme, Inc.": "acme",
    "ACME INC": "acme",
    "Acme Co., Ltd.": "acme",
    "Acme Corp. Ltd. Co.": "acme",
    "The Coca-Cola Company": "coca cola",
    "The The": "the",
    "The": "the",
    "Theodor": "theodor",
    "I B M": "ibm",
    "I.B.M. Corp.": "ibm",
    "J. P. Morgan Chase & Co.": "jp morgan chase",
    "Plan B": "plan b",
    "3 M": "3m",
    "AT&T Inc.": "at and t",
    "A & B GmbH": "a and b",
    "Johnson & Johnson": "johnson and johnson",
    "Johnson and Johnson": "johnson and johnson",
    "Smith & Co.": "smith",
    "Smith and Company": "smith",
    "Müller & Söhne GmbH & Co. KG": "muller and sohne",
    "Mu\u0308ller KG": "muller",
    "Straße AG": "strasse",
    "Gebr. Weiß Gesellschaft mit beschränkter Haftung": "gebr weiss",
    "Nürnberg Maschinenbau Gesellschaft mbH": "nurnberg maschinenbau gesellschaft",
    "Bauhaus UG (haftungsbeschränkt)": "bauhaus",
    "Grupo Bimbo, S.A.B. de C.V.": "grupo bimbo",
    "Cementos S. de R.L. de C.V.": "cementos",
    "Café Zürich Sàrl": "cafe zurich",
    "Boulangerie S.à r.l.": "boulangerie",
    "L'Oréal S.A.": "loreal",
    "L’Oréal SA": "loreal",
    "McDonald's Corporation": "mcdonalds",
    "O`Neill Ltd": "oneill",
    "Tata Consultancy Services Pvt. Ltd.": "tata consultancy services",
    "Ceylon Tea (Pvt) Ltd": "ceylon tea",
    "Atlassian Pty Ltd": "atlassian",
    "Grab Pte. Ltd.": "grab",
    "Petronas Sdn. Bhd.": "petronas",
    "トヨタ自動車株式会社": "トヨタ自動車",
    "株式会社トヨタ": "トヨタ",
    "株式会社 トヨタ": "トヨタ",
    "(株)日立製作所": "日立製作所",
    "㈱日立製作所": "日立製作所",
    "ｱｸﾒ株式会社": "アクメ",
    "株式会社": "株式会社",
    "华为技术有限公司": "华为技术",
    "华为股份有限公司": "华为",
    "삼성전자 주식회사": "삼성전자",
    "주식회사삼성전자": "삼성전자",
    "(주)카카오": "카카오",
    "Sony K.K.": "sony",
    "Sony Kabushiki Kaisha": "sony",
    "Philips N.V.": "philips",
    "Coolblue B.V.": "coolblue",
    "Coöperatie Rabobank U.A.": "cooperatie rabobank",
    "Volvo AB (publ)": "volvo",
    "Maersk A/S": "maersk",
    "Equinor ASA": "equinor",
    "Novo Nordisk ApS": "novo nordisk",
    "Nokia Oyj": "nokia",
    "Ålesund Fisk AS": "alesund fisk",
    "Ørsted A/S": "orsted",
    "Łódź Sp. z o.o.": "lodz",
    "Allegro Sp. z o. o. Sp. k.": "allegro",
    "Škoda Auto a.s.": "skoda auto",
    "ESET, spol. s r.o.": "eset",
    "OTP Bank Nyrt.": "otp bank",
    "Krka d.d.": "krka",
    "Koç Holding A.Ş.": "koc holding",
    "İŞ BANKASI A.Ş.": "is bankasi",
    "Natura Cosméticos Ltda.": "natura cosmeticos",
    "Petróleo Brasileiro S/A": "petroleo brasileiro",
    "Enel S.p.A.": "enel",
    "Enel SpA": "enel",
    "ENEL S.P.A.": "enel",
    "Serenity Day Spa": "serenity day spa",
    "SERENITY DAY SPA": "serenity day spa",
    "OÜ Bolt": "ou bolt",
    "Bolt Technology OÜ": "bolt technology",
    "ΟΔΥΣΣΕΥΣ Α.Ε.": "οδυσσευσ",
    "Οδυσσεύς ΑΕ": "οδυσσευσ",
    "ООО «Ромашка»": "ромашка",
    "Ромашка ООО": "ромашка",
    "Ёлка ЗАО": "елка",
    "हिन्दी पुस्तक": "हिन्दी पुस्तक",
    "شركة أرامكو": "شركة أرامكو",
    "ไทยประกันชีวิต": "ไทยประกันชีวิต",
    "Acme® Software™ Inc": "acme software",
    "Ａｃｍｅ　Ｉｎｃ．": "acme",
    "Acme\u00a0Inc": "acme",
    "Ac\u200bme": "acme",
    "Acme 🚀 Labs": "acme labs",
    "1️⃣ Stop": "1 stop",
    "\u202eemca\u202c": "emca",
    "Acme\tLabs\r\nLtd": "acme labs",
    "Amazon.com, Inc.": "amazon com",
    "7-Eleven": "7 eleven",
    "Yahoo!": "yahoo",
    "A+E Networks": "ae networks",
    "Wells Fargo Bank, N.A.": "wells fargo bank",
    # Holdings is a company of its own.
    "Acme Holdings, Inc.": "acme holdings",
    # A legal form alone is a name.
    "Inc.": "inc",
    "S.A.": "sa",
    "S.p.A.": "spa",
    "GmbH & Co. KG": "gmbh",
    "Ltd. Ltd.": "ltd",
    "Company Co.": "company",
    "": "",
    "   ": "",
    "!!! --- ...": "",
    "🚀🔥": "",
    "®": "",
}  # fmt: skip


def test_names(warehouse: psycopg.Connection) -> None:
    assert outcome(warehouse, "normalised_name", list(NAMES)) == NAMES


def test_every_way_of_the_sample_to_write_a_name_but_typos_gives_one(warehouse: psycopg.Connection) -> None:
    rng = random.Random(5)
    for country in vocabulary.COUNTRIES:
        for form in country.suffixes:
            brand = f"{rng.choice(vocabulary.STEMS)}{rng.choice(vocabulary.ENDINGS)} Data"
            spellings = [brand, f"{brand} {form}", f"{brand}, {form}", f" {brand} {form}  ", f"The {brand}",
                         f"{brand} {form}".replace(" ", "\u00a0")]  # fmt: skip
            if form != "Holdings, Inc.":
                assert set(outcome(warehouse, "normalised_name", spellings).values()) == {brand.lower()}


def corpus(rng: random.Random, size: int) -> list[str]:
    """Names of random words, legal forms, single letters and signs in many scripts."""
    forms = [line.split(",")[0] for line in (SEEDS / "legal_form.csv").read_text().splitlines()[1:]]
    words = [
        "the", "The", "and", "&", "a", "B", "3", "Acme", "Überall", "ŁÓDŹ", "日", "本", "株式会社", "トヨタ", "ﾄﾖﾀ",
        "삼성", "주식회사", "Ромашка", "ΟΔΥΣΣΕΥΣ", "İŞ", "ß", "ﬁn", "ﷺ", "हिन्दी", "\u0301", "e\u0301", "'", "’s", "®",
        "🚀", "\u200d", "…", "½", "①", "Ʀ", "ǅ", "ẞ", "K", "Å", "x" * 60,
    ]  # fmt: skip
    blanks = [" ", "  ", "", ", ", ".", "-", "\u00a0", "/", "\n"]
    made = []
    for _ in range(size):
        parts = [rng.choice(words if rng.random() < 0.6 else forms) for _ in range(rng.randrange(1, 8))]
        made.append("".join(part + rng.choice(blanks) for part in parts))
    made += ["".join(chr(rng.choice((rng.randrange(1, 0x3000), rng.randrange(1, 0xD800)))) for _ in range(12))
             for _ in range(size // 4)]  # fmt: skip
    return made


def test_a_normalised_name_gives_itself(warehouse: psycopg.Connection) -> None:
    first = outcome(warehouse, "normalised_name", [*corpus(random.Random(11), 20_000), *NAMES])
    results = sorted({name for name in first.values() if name is not None})
    assert len(results) > 10_000
    assert {
        name: again for name, again in outcome(warehouse, "normalised_name", results).items() if again != name
    } == {}
    assert [name for name in results if name != name.strip() or "  " in name] == []


def test_every_character_of_unicode_in_a_name(warehouse: psycopg.Connection) -> None:
    """Letters and digits stay, signs part words, and what comes out gives itself."""
    characters = [
        chr(point)
        for point in range(1, sys.maxunicode + 1)
        if unicodedata.category(chr(point)) not in ("Cn", "Co", "Cs")
        # Of the many alike of China and Korea every fiftieth.
        and (point % 50 == 0 or not (0x3400 <= point < 0xA000 or 0xAC00 <= point < 0xD7A4 or point >= 0x17000))
    ]
    assert len(characters) > 20_000
    alone = outcome(warehouse, "normalised_name", characters)
    between = outcome(warehouse, "normalised_name", [f"q{character}q" for character in characters])
    lost, kept = [], []
    for character in characters:
        category = unicodedata.category(character)
        plain = unicodedata.normalize("NFKC", character)
        # Lm: marks that are used as letters, such as the okina; many of them are apostrophes.
        if any(unicodedata.category(part) in ("Lu", "Ll", "Lt", "Lo", "Nd", "Nl", "No") for part in plain):
            if not alone[character] and character not in "™℠":
                lost.append(hex(ord(character)))
        # Apostrophes and accents that stand alone part nothing.
        elif (
            category[0] in "PSZ"
            and ord(character) < 0x10000
            and character not in "&﹠＆゛゜"
            and between[f"q{character}q"] not in ("q q", "qq")
        ):
            kept.append(hex(ord(character)))
    assert (lost, kept) == ([], [])
    twice = outcome(warehouse, "normalised_name", sorted(set(between.values())))
    assert [name for name, again in twice.items() if name != again] == []


SITES = {
    None: None,
    "": None,
    "   ": None,
    "acme.com": "acme.com",
    "ACME.COM": "acme.com",
    "www.acme.com": "acme.com",
    "https://www.acme.com": "acme.com",
    "http://www.acme.com/": "acme.com",
    "HTTPS://WWW.ACME.COM/About?x=1#top": "acme.com",
    "  https://acme.com \n": "acme.com",
    "\u00a0acme.com\u00a0": "acme.com",
    "acme.com.": "acme.com",
    "https://acme.com:8443/x": "acme.com",
    "acme.com:8080": "acme.com",
    "http://user:secret@shop.acme.com/": "acme.com",
    "https://medium.acme.com/@someone": "acme.com",
    "acme.com?mail=a@gmail.com": "acme.com",
    "acme.com/redirect?to=http://other.com": "acme.com",
    "//acme.com/x": "acme.com",
    "http:/acme.com": "acme.com",
    "http:acme.com": "acme.com",
    "http//acme.com": "acme.com",
    "http://http://acme.com": "acme.com",
    "mailto:info@acme.com": "acme.com",
    "info@acme.com": "acme.com",
    "info@mail.acme.co.uk": "acme.co.uk",
    "Office <office@acme.com>": "acme.com",
    '"Office, Acme" <office@acme.com>': "acme.com",
    "<https://acme.com>": "acme.com",
    "acme.com, acme.de": "acme.com",
    "acme.com / acme.de": "acme.com",
    "see www.acme.com (English)": "acme.com",
    "Acme Inc. (acme.com)": "acme.com",
    "www,acme.com": "acme.com",
    "*.acme.com": "acme.com",
    ".acme.com": "acme.com",
    "acme.com\\index.html": "acme.com",
    "a.b.c.d.e.f.g.h.i.acme.com": "acme.com",
    "my_shop.acme.com": "acme.com",
    "acme.co.uk": "acme.co.uk",
    "www.acme.com.au": "acme.com.au",
    "shop.acme.co.jp": "acme.co.jp",
    "acme.kyoto.jp": "acme.kyoto.jp",
    "acme.ide.kyoto.jp": "acme.ide.kyoto.jp",
    "www.city.kobe.jp": "city.kobe.jp",
    "c.kobe.jp": None,
    "acme.k12.ak.us": "acme.k12.ak.us",
    "b.c.mm": "b.c.mm",
    "c.mm": None,
    "www.ck": "www.ck",
    "www.gov.uk": "www.gov.uk",
    # Unknown endings: inner networks, and the ones kept for examples.
    "acme.example": "acme.example",
    "https://shop.acme.example/": "acme.example",
    "srv1.acme.internal": "acme.internal",
    # IDN: both spellings are one, and so are capitals, decomposed letters and full stops of other scripts.
    "münchen.de": "xn--mnchen-3ya.de",
    "MÜNCHEN.de": "xn--mnchen-3ya.de",
    "mu\u0308nchen.de": "xn--mnchen-3ya.de",
    "https://www.xn--mnchen-3ya.de/": "xn--mnchen-3ya.de",
    "XN--MNCHEN-3YA.DE": "xn--mnchen-3ya.de",
    "straße.de": "xn--strae-oqa.de",
    "www.食狮.com.cn": "xn--85x722f.com.cn",
    "食狮。公司。cn": "xn--85x722f.xn--55qx5d.cn",
    "пример.рф": "xn--e1afmkfd.xn--p1ai",
    "info@пример.рф": "xn--e1afmkfd.xn--p1ai",
    "ａｃｍｅ．ｃｏｍ": "acme.com",
    "ac\u00adme.com": "acme.com",
    # No domain.
    "localhost": None,
    "acme": None,
    "acme,com": None,
    "192.168.0.1": None,
    "http://10.0.0.1:8069/web": None,
    "http://[2001:db8::1]/": None,
    "2001:db8::1": None,
    "::ffff:1.2.3.4": None,
    "1.2.3": None,
    "acme.c0m.1": None,
    "com": None,
    "co.uk": None,
    ".com": None,
    "www.": None,
    "n/a": None,
    "N.A.": None,
    "t.b.d.": None,
    "none": None,
    "-": None,
    "?": None,
    "@": None,
    "@acme": None,
    "acme..com": None,
    "-acme.com": None,
    "acme-.com": None,
    "foo_bar.com": None,
    "ac me.c om": None,
    "file:///home/x.txt": None,
    "/home/acme.com/x": None,
    "tel:+1.303.555.0100": None,
    "i❤.ws": None,
    # Whoever gives out names below a domain of his own.
    "github.io": None,
    "www.github.io": None,
    "acme.github.io": "acme.github.io",
    "https://acme.github.io/docs/": "acme.github.io",
    "acme.uk.com": "acme.uk.com",
    "acme.myshopify.com": "acme.myshopify.com",
    # Shared.
    "gmail.com": None,
    "jane.doe@gmail.com": None,
    "jane@GoogleMail.com": None,
    "jane@yahoo.co.uk": None,
    "jane@mail.ru": None,
    "jane@vip.qq.com": None,
    "https://acme.wixsite.com/home": None,
    "https://acme.weebly.com": None,
    "https://acme.wordpress.com": None,
    "https://sites.google.com/view/acme": None,
    "https://www.google.com/about": "google.com",
    "https://www.linkedin.com/company/acme": None,
    "facebook.com/acme": None,
    "https://m.facebook.com/acme": None,
    "https://twitter.com/acme": None,
    "https://x.com/acme": None,
    "https://linktr.ee/acme": None,
    "https://bit.ly/3abc": None,
    "https://www.crunchbase.com/organization/acme": None,
    "https://example.com": None,
    # Their names within other names say nothing.
    "notgmail.com": "notgmail.com",
    "gmail.com.acme.com": "acme.com",
    "facebook.com.br": "facebook.com.br",
}


def test_sites(warehouse: psycopg.Connection) -> None:
    assert outcome(warehouse, "registrable_domain", list(SITES)) == SITES


def test_a_registrable_domain_gives_itself(warehouse: psycopg.Connection) -> None:
    rng = random.Random(3)
    endings = [line for line in (SEEDS / "public_suffix_list.dat").read_text().splitlines() if line[:1].isalpha()]
    sites: list[str | None] = [
        ".".join(rng.choice(("www", "a", "acme", "ü", "日本", "x-1")) for _ in range(rng.randrange(1, 5)))
        + "." + rng.choice(endings)
        for _ in range(20_000)
    ]  # fmt: skip
    found = {domain for domain in outcome(warehouse, "registrable_domain", [*sites, *SITES]).values() if domain}
    assert len(found) > 10_000
    assert outcome(warehouse, "registrable_domain", sorted(found)) == {domain: domain for domain in found}


def in_punycode(label: str) -> str:
    """A label as DNS has it, by Python's own codec."""
    return label if label.isascii() else "xn--" + label.encode("punycode").decode()


def test_registrable_domains_agree_with_another_implementation_for_every_rule(warehouse: psycopg.Connection) -> None:
    lines = (SEEDS / "public_suffix_list.dat").read_text().splitlines()
    other = PublicSuffixList(lines)
    registries = PublicSuffixList(lines, only_icann=True)
    shared = [line.split(",")[0] for line in (SEEDS / "shared_domain.csv").read_text().splitlines()[1:]]
    hosts = []
    for line in lines:
        if line and not line.startswith("//"):
            ending = line.removeprefix("!").removeprefix("*.")
            hosts += [ending, f"acme.{ending}", f"b.acme.{ending}", f"a.b.acme.{ending}"]
    assert len(hosts) > 40_000
    expected: dict[str | None, str | None] = {}
    for host in dict.fromkeys(hosts):
        ascii_host = ".".join(map(in_punycode, host.split(".")))
        if any(f".{ascii_host}".endswith(f".{domain}") for domain in shared):
            expected[host] = None
            continue
        domain = other.privatesuffix(ascii_host)
        own_site = (
            domain and domain.startswith("www.") and other.publicsuffix(domain) != registries.publicsuffix(domain)
        )
        expected[host] = None if own_site else domain
    found = outcome(warehouse, "registrable_domain", list(expected))
    assert {host: (found[host], expected[host]) for host in expected if found[host] != expected[host]} == {}


def test_labels_in_punycode_agree_with_another_implementation(warehouse: psycopg.Connection) -> None:
    rng = random.Random(8)
    alphabets = ["abcdeäöüßéñø-1", "абвгдежя", "日本語中文字会社", "한국어회사", "αβγδεω", "กขคงจ", "ابتثج", "aü日한я"]
    labels = {
        "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 30))) for alphabet in alphabets for _ in range(400)
    }
    found = outcome(warehouse, "ascii_label", sorted(labels))
    assert found == {label: in_punycode(label) for label in labels}


ACE_VALUES = {
    ("stage", "Closed Lost"): "Closed Lost",
    ("stage", " closed  lost "): "Closed Lost",
    ("stage", "closed_lost"): "Closed Lost",
    ("stage", "TECHNICAL VALIDATION"): "Technical Validation",
    ("stage", "Closed Won"): "Launched",
    ("aws_stage", "Closed Incomplete"): "Closed Incomplete",
    ("review_status", "In Review"): "In review",
    ("review_status", "Draft"): "Pending Submission",
    ("industry", "Computers & Electronics"): "Computers and Electronics",
    ("industry", "Energy – Oil & Gas"): "Energy - Oil and Gas",
    ("industry", "Energy\u2014Power and\u00a0Utilities"): "Energy - Power and Utilities",
    ("closed_lost_reason", "Lost to Competitor – Google"): "Lost to Competitor - Google",
    ("aws_closed_lost_reason", "Lost to Competitor – Rackspace"): "Lost to Competitor - Rackspace",
    ("opportunity_type", "net new business"): "Net New Business",
    ("delivery_model", "SAAS OR PAAS"): "SaaS or PaaS",
    ("ownership", "aws referral"): "AWS Referral",
    ("acceptance_status", "not required"): "Not Required",
    ("competitor", "Other"): "*Other",
    # Unknown ones stay as they are.
    ("stage", " Nearly there\t"): "Nearly there",
    ("stage", "Committed (soon)"): "Committed (soon)",
    ("industry", "Banking"): "Banking",
    # A value of another field.
    ("stage", "Approved"): "Approved",
    ("stage", ""): None,
    ("stage", " \u00a0\n"): None,
    ("stage", None): None,
}


def test_ace_values(warehouse: psycopg.Connection) -> None:
    fields, spellings = zip(*ACE_VALUES, strict=True)
    rows = query(
        warehouse,
        "select f, s, core.ace_value(f, s), core.is_ace_value(f, core.ace_value(f, s)) "
        "from unnest(%s::text[], %s::text[]) as u (f, s)",
        list(fields),
        list(spellings),
    )
    assert {(field, spelling): value for field, spelling, value, _ in rows} == ACE_VALUES
    unknown = {"Nearly there", "Committed (soon)", "Banking", "Approved"}
    assert [(value, known) for _, _, value, known in rows] == [
        (value, None if value is None else value not in unknown) for value in ACE_VALUES.values()
    ]


def test_only_the_very_spelling_of_core_is_a_value(warehouse: psycopg.Connection) -> None:
    asked = ["In review", "In Review", " In review", "Draft", "", None]
    assert query(warehouse, "select core.is_ace_value('review_status', t) from unnest(%s::text[]) as u (t)", asked) == [
        (True,),
        (False,),
        (False,),
        (False,),
        (False,),
        (None,),
    ]


def test_every_spelling_of_the_sample_is_known(warehouse: psycopg.Connection) -> None:
    spellings = {
        "stage": ace.STAGES,
        "aws_stage": (*ace.STAGES, "Engaged", "Not Started"),
        "review_status": ace.STATUSES,
        "closed_lost_reason": ace.LOST_REASONS,
        "delivery_model": ace.DELIVERY_MODELS,
        "primary_need": ace.NEEDS,
        "sales_activity": ace.ACTIVITIES,
        "competitor": ace.COMPETITORS,
        "industry": (*vocabulary.INDUSTRIES, *map(noise.ampersand, vocabulary.INDUSTRIES)),
        "opportunity_type": ("Net New Business", "Expansion", "Flat Renewal"),
        "acceptance_status": ("Accepted", "Not Required", "Pending"),
        "ownership": ("AWS Referral", "Partner Referral"),
        "involvement_type": ("Co-Sell", "For Visibility Only"),
        "visibility": ("Full", "Limited"),
        "engagement_score": ("High", "Medium", "Low"),
    }
    pairs = [(field, spelling) for field, values in spellings.items() for spelling in values]
    unknown = query(
        warehouse,
        "select f, s from unnest(%s::text[], %s::text[]) as u (f, s) "
        "where not core.is_ace_value(f, core.ace_value(f, s))",
        [field for field, _ in pairs],
        [spelling for _, spelling in pairs],
    )
    assert unknown == []
    assert query(
        warehouse, "select count(*) from core.ace_value_map where field = 'industry' and spelling = value"
    ) == [(len(vocabulary.INDUSTRIES),)]


@pytest.mark.parametrize("function", ["ace_value", "is_ace_value"])
def test_a_field_that_the_map_does_not_know_is_an_error(warehouse: psycopg.Connection, function: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=r"core\.ace_value_map has no field stagee") as raised:
        query(warehouse, f"select core.{function}('stagee', 'Launched')")
    assert raised.value.diag.message_hint == "Add its values to include/seeds/ace_value.csv."


def test_aws_account_ids(warehouse: psycopg.Connection) -> None:
    wanted = {
        "123456789012": True,
        "000000000000": True,
        " 123456789012\n": True,
        "\u00a0123456789012": True,
        "12345678901": False,
        "1234567890123": False,
        "1234-5678-9012": False,
        "1234 5678 9012": False,
        "12345678901a": False,
        "١٢٣٤٥٦٧٨٩٠١٢": False,
        "123456789012\n123456789012": False,
        "123456789012.0": False,
        "": None,
        "  ": None,
        None: None,
    }
    assert outcome(warehouse, "is_aws_account_id", list(wanted)) == wanted


TEXTS = {
    None: None,
    "": None,
    " \r\n\t\u00a0 ": None,
    "plain": "plain",
    "  two \r\n\t words\u00a0\u3000here ": "two words here",
    "<p>Hello <b>World</b></p>": "Hello World",
    "<p>One</p><p>Two</p>": "One Two",
    "One<br>Two<br/>Three<BR />Four": "One Two Three Four",
    "<b>Hel</b>lo, <i>Acme</i>.": "Hello, Acme.",
    '<p>a<span style="color: red">b</span>c</p>': "abc",
    "<ul><li>x</li><li>y</li></ul>": "x y",
    "<table><tr><td>1</td><td>2</td></tr></table>": "1 2",
    "<p><br></p>": None,
    '<a href="https://acme.com/?a=1&b=2">link</a> text': "link text",
    '<a title="a > b">t</a>': "t",
    "<img alt='x > y' src='z'>after": "after",
    "<!-- hidden <b>comment</b> -->shown": "shown",
    "a<!-- x --> b": "a b",
    "before<!-- never closed <p>x": "before",
    "<style>p > a { color: red }</style>text": "text",
    "<STYLE type='text/css'>x</STYLE >text": "text",
    "a<script>if (a < b) { alert('</p>') }</script>b": "a b",
    "a<script>never closed": "a",
    "<scripted>x</scripted>": "x",
    "<?xml version='1.0'?><!DOCTYPE html><html><head><title>T</title></head><body>B</body></html>": "B",
    "<div\nclass='x'\n>multi\nline</div\n>": "multi line",
    "x < y & z > w": "x < y & z > w",
    "1 <2": "1 <2",
    "a <b": "a <b",
    "R&D, AT&T; x&y": "R&D, AT&T; x&y",
    "Tom &amp; Jerry": "Tom & Jerry",
    "&lt;b&gt;": "<b>",
    "&amp;lt;": "&lt;",
    "&amp;amp;": "&amp;",
    "&#38;lt;": "&lt;",
    "&#38;amp;nbsp;": "&amp;nbsp;",
    "&#8364;&#x20AC;&#X20ac;&euro;": "€€€€",
    "&eacute;&Eacute;&szlig;&hellip;&ndash;&mdash;": "éÉß…–—",
    "&quot;a&quot; &#39;b&#39; &apos;c&apos;": "\"a\" 'b' 'c'",
    "a&nbsp;&nbsp;b&#160;c&ensp;d": "a b c d",
    "&#150;&#x92;": "–’",
    "&#128640;&#x1F680;": "🚀🚀",
    "&#0;&#xD800;&#x110000;&#999999999;": "����",
    "&nosuch; &; &#; &#x; &#xZZ; &amp": "&nosuch; &; &#; &#x; &#xZZ; &amp",
    "&NBSP;&Nbsp;": "&NBSP;&Nbsp;",
    "soft\u00adhyphen zero\u200bwidth\ufeff": "softhyphen zerowidth",
    "עברית \u202eabc\u202c": "עברית \u202eabc\u202c",
    "日本語<br>テキスト（要確認）": "日本語 テキスト（要確認）",
    "emoji 👨‍👩‍👧 kept": "emoji 👨‍👩‍👧 kept",
    "bell\x07 and escape\x1b[0m": "bell and escape [0m",
    r"Files: C:\temp\new \N {braces} \1 $1 %s": r"Files: C:\temp\new \N {braces} \1 $1 %s",
}  # fmt: skip


def test_texts(warehouse: psycopg.Connection) -> None:
    assert outcome(warehouse, "plain_text", list(TEXTS)) == TEXTS


def test_every_entity_of_html_4_and_of_numbers_is_what_browsers_show(warehouse: psycopg.Connection) -> None:
    bodies = [*html.entities.name2codepoint, "apos"]
    bodies += [f"#{number}" for number in range(1, 0x3000)] + [f"#x{number:x}" for number in range(1, 0x3000)]
    # What HTML leaves out as no character; PostgreSQL stores it, and a text with it is folded like a blank.
    controls = {*range(1, 9), 11, *range(14, 32), *range(127, 160)}
    expected = {}
    for body in bodies:
        number = int(body[2:], 16) if body.startswith("#x") else int(body[1:]) if body.startswith("#") else -1
        shown = html.unescape(f"&{body};")
        expected[body] = chr(number) if number in controls and shown in ("", chr(number)) else shown
    assert outcome(warehouse, "html_character", bodies) == expected


HOSTILE = {
    "letters": "x",
    "blanks": " ",
    "line ends": "\r\n\u00a0",
    "signs": "!?",
    "open tags": "<a ",
    "open tags with quotes": "<a =\"'",
    "closed tags": "<b>x</b>",
    "open comments": "<!--",
    "open scripts": "<script ",
    "scripts": "<script>",
    "ampersands": "&",
    "entities": "&amp;",
    "other entities": "&#1234567",
    "dots": ".",
    "labels": "a.",
    "at signs": "a@",
    "schemes": "http://",
    "single letters": "a ",
    "legal forms": "Inc. ",
    "the": "the ",
    "Japanese legal forms": "株式会社",
    "marks": "\u0301\u0323",
    "ligatures": "ﷺ",
    "right to left": "\u202eש ",
    "emoji": "👨‍👩‍👧",
    "fractions": "½",
    "umlauts": "ü.",
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_five_megabytes_of_anything_end_soon(warehouse: psycopg.Connection, kind: str) -> None:
    """Whatever grows with the square of the length takes hours here."""
    warehouse.execute("set statement_timeout = '120s'")
    text = "a" + HOSTILE[kind] * (MEGABYTES_5 // len(HOSTILE[kind].encode())) + ">;.com"
    ((name, domain, value, known, account, plain),) = query(
        warehouse,
        "select core.normalised_name(t), core.registrable_domain(t), core.ace_value('stage', t), "
        "core.is_ace_value('stage', t), core.is_aws_account_id(t), length(core.plain_text(t)) "
        "from (select %s) as s (t)",
        text,
    )
    assert 0 < len(name) <= 1000
    assert (domain, value, known, account) == (None, text, False, False)
    assert 0 < plain <= len(text)


def test_long_hosts(warehouse: psycopg.Connection) -> None:
    long_label, longest_label = "a" * 64 + ".com", "a" * 63 + ".com"
    sites = {
        ".".join(["a"] * 300) + ".com": None,
        ".".join(["a"] * 124) + ".acme.com": None if 124 * 2 + 8 > 253 else "acme.com",
        ".".join(["a"] * 120) + ".acme.com": "acme.com",
        "ü" * 60 + ".de": None,
        long_label: None,
        longest_label: longest_label,
        f"www.{longest_label}": longest_label,
        "https://acme.com/" + "x" * 10_000: "acme.com",
    }
    assert outcome(warehouse, "registrable_domain", list(sites)) == sites


def test_who_may_call_them(as_role: Callable[[str], psycopg.Connection]) -> None:
    calls = (
        "select core.registrable_domain('www.acme.com'), core.normalised_name('Ácme, Inc.'), "
        "core.ace_value('stage', 'launched'), core.is_ace_value('stage', 'Launched'), "
        "core.is_aws_account_id('123456789012'), core.plain_text('<p>x&euro;</p>')"
    )
    for role in ("revops_transform", "revops_quality", "revops_api", "revops_owner"):
        assert query(as_role(role), calls) == [("acme.com", "acme", "Launched", True, True, "x€")]
    for role in ("revops_ingest", "revops_embed"):
        with pytest.raises(errors.InsufficientPrivilege):
            query(as_role(role), "select core.plain_text('x')")


def test_they_hold_in_parallel_workers_and_whatever_the_search_path(warehouse: psycopg.Connection) -> None:
    calls = (
        "select count(*), count(distinct n), min(n), min(d), min(v), min(p) from (select core.normalised_name(s) as n, "
        "core.registrable_domain('www.acme.co.uk') as d, core.ace_value('stage', 'LAUNCHED') as v, "
        "core.plain_text('<p>' || s || '&euro;</p>') as p from t) as s"
    )
    wanted = [(100, 1, "acme", "acme.co.uk", "Launched", "Ácme Inc€")]
    source = "(select 'Ácme Inc' as s from core.public_suffix order by ending limit 100) as t"
    warehouse.execute("set search_path = ''")
    for setting in ("off", "on"):
        warehouse.execute(f"set debug_parallel_query = {setting}")
        assert query(warehouse, calls.replace("from t)", f"from {source})")) == wanted
    unsafe = query(
        warehouse,
        "select p.proname from pg_catalog.pg_proc as p inner join pg_catalog.pg_language as l on l.oid = p.prolang "
        "where p.pronamespace = 'core'::regnamespace and p.proname = any(%s) and (p.proparallel <> 's' "
        "or l.lanname <> 'sql' and p.proconfig is null)",
        ["normalised_name", "registrable_domain", "ace_value", "is_ace_value", "is_aws_account_id", "plain_text",
         "name_words", "web_host", "ascii_label", "html_character", "spelling_key", "small_letters"],
    )  # fmt: skip
    assert unsafe == []


@pytest.fixture
def c_locale_dsn(postgres: EmbeddedPostgres, passwords: dict[str, str]) -> Iterator[str]:
    """A warehouse in a database whose locale knows ASCII letters only."""
    name = "db_locale_c"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        connection.execute(drop)
        connection.execute(
            sql.SQL("create database {} owner revops template template0 locale_provider libc locale 'C'").format(
                sql.Identifier(name)
            )
        )
        dsn = postgres.conninfo(name, user="revops", password=passwords["revops"])
        set_up_warehouse(dsn, read_migrations(MIGRATIONS), progress=lambda _: None)
        yield dsn
        connection.execute(drop)


def test_the_locale_of_the_database_does_not_matter(c_locale_dsn: str) -> None:
    with psycopg.connect(c_locale_dsn) as connection:
        assert query(connection, "select lower('Ü')") == [("Ü",)]
        assert outcome(connection, "normalised_name", list(NAMES)) == NAMES
        assert outcome(connection, "registrable_domain", list(SITES)) == SITES
        assert outcome(connection, "plain_text", list(TEXTS)) == TEXTS


def test_names_of_the_sample_are_found_again(warehouse: psycopg.Connection) -> None:
    """A customer and its spellings meet; customers with different brands do not."""
    customers = parties.make_parties(7, 1.0).customers
    found = outcome(warehouse, "normalised_name", [name for party in customers for name in (party.name, party.brand)])
    apart = [
        party.name for party in customers if "Holdings" not in party.name and found[party.name] != found[party.brand]
    ]
    assert apart == []
    brands = {party.brand.lower().replace("&", "and") for party in customers}
    assert len({found[party.brand] for party in customers}) == len(brands)
