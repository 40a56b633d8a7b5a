"""What people do to names, sites and texts between two systems."""

from __future__ import annotations

import html
import re
from random import Random

LEGAL_FORM = re.compile(
    r"[ ,]+(inc\.?|llc|corp\.?|incorporated|co\.|holdings, inc\.|ltd\.?|limited|plc|llp"
    r"|gmbh & co\. kg|gmbh|ag|se|sas?|sarl"
    r"|s\.a\.|s\.l\.|slu|b\.v\.|n\.v\.|sàrl|ltda\.|pvt\. ltd\.|private limited"
    r"|pte\.? ltd\.?|\(pvt\) ltd|pty ltd"
    r"|pty\. limited|株式会社|k\.k\.|co\., ltd\.)$",
    re.IGNORECASE,
)


def without_legal_form(name: str) -> str:
    """Return `name` without the legal form at its end."""
    return LEGAL_FORM.sub("", name.strip())


def acronym(name: str) -> str:
    """Return the capitals of a name of several words; the bare name where these are less than three."""
    letters = "".join(word[0] for word in re.findall(r"\w+", without_legal_form(name)) if word[0].isupper())
    return letters if len(letters) >= 3 else without_legal_form(name)


def typo(rng: Random, text: str) -> str:
    """Swap, drop or double one letter of `text`."""
    if len(text) < 4:
        return text
    at = rng.randrange(1, len(text) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind == 1 else text[:at] + text[at] + text[at:]


def company_name(rng: Random, name: str, city: str) -> str:
    """Return `name` as another person would type it; in about a third of the cases unchanged."""
    kind = rng.choices(range(9), (33, 24, 10, 5, 8, 7, 6, 4, 3))[0]
    bare = without_legal_form(name)
    variants = (
        name,
        bare,
        typo(rng, bare),
        acronym(name),
        rng.choice((name.upper(), name.lower())),
        rng.choice((f" {name}", f"{name}  ", bare.replace(" ", "  "), bare.replace(" ", "\u00a0"))),
        f"{bare} - {city}",
        f"The {bare}",
        bare.replace(" ", ""),
    )
    return variants[kind]


def website(rng: Random, domain: str) -> str | None:
    """Return the company's site as people store it; None, blank and pages of others occur."""
    brand = domain.partition(".")[0]
    return rng.choices(
        (
            f"https://www.{domain}",
            f"http://{domain}",
            domain,
            f"https://{domain}/en/home?utm_source=crm",
            f"WWW.{domain.upper()}",
            f"https://shop.{domain}/",
            f"https://www.linkedin.com/company/{brand}",
            "",
            None,
        ),
        (34, 14, 18, 6, 4, 5, 4, 6, 9),
    )[0]


def ampersand(industry: str) -> str:
    """Return an industry in the spelling of the older exchange."""
    return industry.replace(" and ", " & ")


def as_html(text: str) -> str:
    """Return `text` as the web editor of Odoo stores it."""
    return "".join(f"<p>{html.escape(part)}</p>" for part in text.split(". ")) + "<p><br></p>"


def description(rng: Random, text: str) -> str | None:
    """Return a CRM description of `text`: plain, HTML, blank, None, or with characters that break loaders."""
    kind = rng.choices(range(11), (62, 12, 5, 6, 4, 3, 2, 2, 2, 1, 1))[0]
    variants: tuple[str | None, ...] = (
        text,
        as_html(text),
        "",
        None,
        text.replace(". ", ".\r\n"),
        "Notes:\t" + text.replace(". ", ".\n\t- "),
        text + " 🚀",
        text.replace(" ", "\u00a0", 3),
        text + "（要確認）",
        text + r" Files: C:\temp\new\offer.docx",
        text + ' "quoted", semi;colon, \\N and {braces}',
    )
    return variants[kind]
