"""What is computed: one table a SQL file, and which of its rows a changed key concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SourceName = Literal["odoo", "ace"]
BOTH: tuple[SourceName, ...] = ("odoo", "ace")


@dataclass(frozen=True)
class Scope:
    """How the rows of one raw table and of the target that an incremental run computes anew are told.

    key: expression over the columns of `input`; type: its type; a SQL file reads the rows whose key is to be computed
    as `scoped_<input>`. target: expression over the target's columns that is `prefix` and the key as text.
    row_key: column of `input` that, after `prefix`, is the target's source_id.
    """

    input: str
    key: str = "id"
    type: str = "bigint"
    target: str = "source_id"
    prefix: str = ""
    row_key: str = "id"
    row_key_type: str = "bigint"


@dataclass(frozen=True)
class Target:
    """A table that one SQL file describes.

    key: its primary key. sources: in whose runs it is computed. scopes: what an incremental run is narrowed by; without
    them every run computes everything and writes what differs. is_shared: its rows belong to no single source.
    quarantine_key: the columns that name a row in ops.quarantine. months: the column that it is partitioned by.
    """

    schema: Literal["core", "search"]
    name: str
    key: tuple[str, ...]
    sources: tuple[SourceName, ...]
    scopes: tuple[Scope, ...] = ()
    is_shared: bool = False
    quarantine_key: tuple[str, ...] = ("source_id",)
    months: str | None = None

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


ENTITY = ("source_system", "source_id")

# In the order in which they depend on each other.
_ALL = (
    Target(
        "core",
        "account_record",
        ENTITY,
        BOTH,
        (
            Scope("odoo_res_partner"),
            Scope("ace_apn_companies", type="text", row_key_type="text"),
            Scope("ace_apn_opportunity", type="text", row_key_type="text", prefix="opportunity:"),
        ),
    ),
    Target("core", "account_link", ENTITY, BOTH, is_shared=True),
    Target("core", "account", ("account_id",), BOTH, is_shared=True, quarantine_key=("account_id",)),
    Target("core", "aws_account", ENTITY, ("odoo",), (Scope("odoo_c_aws_accounts"),)),
    Target(
        "core",
        "contact",
        ENTITY,
        BOTH,
        (Scope("odoo_res_partner"), Scope("ace_apn_contacts", type="text", row_key_type="text")),
    ),
    Target(
        "core",
        "app_user",
        ENTITY,
        BOTH,
        (Scope("odoo_res_users"), Scope("ace_apn_users", type="text", row_key_type="text")),
    ),
    Target("core", "odoo_opportunities", ENTITY, ("odoo",), (Scope("odoo_crm_lead"),)),
    Target(
        "core",
        "ace_opportunities",
        ENTITY,
        ("ace",),
        (Scope("ace_apn_opportunity", type="text", row_key_type="text"),),
    ),
    Target("core", "bill_line", ("source_id",), ("odoo",), (Scope("odoo_c_billing_bill_line"),)),
    Target(
        "core",
        "billing_usage",
        ("source_id", "billing_month"),
        ("odoo",),
        # A restated month of a payer comes as a whole, under new ids.
        (
            Scope(
                "odoo_c_billing_internal_cur",
                # Not to_char, which takes no date that a timestamp could not hold.
                key="concat(payer_id, '|', extract(year from period_date), '-', extract(month from period_date))",
                type="text",
                target="concat(payer_source_id, '|', extract(year from billing_month), '-', "
                "extract(month from billing_month))",
            ),
        ),
        months="billing_month",
    ),
    Target(
        "search",
        "document",
        ("source_system", "entity", "entity_id"),
        BOTH,
        quarantine_key=("entity", "entity_id"),
    ),
)

TARGETS = {target.name: target for target in _ALL}


def core_tables(source: str) -> list[str]:
    """Return the tables of core that a source's run computes, in the order in which they depend on each other."""
    return [target.name for target in _ALL if target.schema == "core" and source in target.sources]
