"""Values planted in the sample sources that must never be seen where they have no business."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

# Never leave the source.
SECRETS = {"password": "canary-password-Kq7vXw2p", "one-time secret": "CANARYTOTPKQ7VXW2P"}
# In the warehouse as tokens only.
SEALED = {
    "e-mail": "canary.qzx7@sealed-example.com",
    "phone": "+49305550917391",
    "contact's name": "Canarina Qzxwell",
    "ACE's e-mail": "canary.ace9@sealed-example.com",
    "ACE's name": "Canarius-Vwqx",
}
# Typed into a text that raw and core keep; taken out of what is searched, and in no log.
TYPED = {"typed e-mail": "canary.typed3@typed-example.com"}
# A company's name, which is searched by, and in no log either.
COMPANY = {"company": "Canaryholm Qzx Industries"}
EVERYTHING = (SECRETS, SEALED, TYPED, COMPANY)


def plant(odoo: psycopg.Connection, ace: psycopg.Connection) -> None:
    """Write them into rows that there are: a contact, a user, a lead with its description, an opportunity. Commits."""
    odoo.execute(
        "update res_partner set email = %s, phone = %s where id = "
        "(select min(id) from res_partner where not is_company and email is not null)",
        (SEALED["e-mail"], SEALED["phone"]),
    )
    odoo.execute(
        "update res_partner set name = %s, display_name = %s where id = "
        "(select max(id) from res_partner where is_company and active)",
        (COMPANY["company"], COMPANY["company"]),
    )
    odoo.execute(
        "update res_users set password = %s, totp_secret = %s where id = (select max(id) from res_users)",
        (SECRETS["password"], SECRETS["one-time secret"]),
    )
    # A lead whose text is searched.
    odoo.execute(
        "update crm_lead set email_from = %s, contact_name = %s, phone = %s, description = %s where id = "
        "(select max(id) from crm_lead where active and type = 'opportunity' and description is not null)",
        (
            SEALED["e-mail"],
            SEALED["contact's name"],
            SEALED["phone"],
            f"They move to the cloud in spring and want a review. Write to {TYPED['typed e-mail']} before.",
        ),
    )
    ace.execute(
        "update apn_opportunity set customer_email = %s, customer_last_name = %s "
        "where id = (select max(id) from apn_opportunity)",
        (SEALED["ACE's e-mail"], SEALED["ACE's name"]),
    )
    odoo.commit()
    ace.commit()


def found_in(text: str, *kinds: dict[str, str]) -> set[str]:
    """Return which canaries a text holds, whatever the case."""
    lowered = text.lower()
    return {name for kind in kinds for name, value in kind.items() if value.lower() in lowered}


def mail_text(path: Path) -> str:
    """Return a mail's subject and what its parts say, decoded."""
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    parts = [str(part.get_content()) for part in mail.walk() if part.get_content_maintype() in ("text", "application")]
    return "\n".join([str(mail["Subject"]), *parts])


def handed_over(path: Path) -> list[str]:
    """Return the texts of a Parquet file that one task handed to another; of one that was cut off, none."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return []
    return [str(text) for text in table.column("text").to_pylist()] if "text" in table.column_names else []
