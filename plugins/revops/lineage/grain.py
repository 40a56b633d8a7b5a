"""Which record a row of core is made from: where its source_id comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Grain:
    """The rows of a relation that make one row of a table: those whose `key`, as text, equals the row's `output`.

    relation: a raw table or a table of core. prefix: stands before the key in `output`; of several that fit, the
    longest counts. when: values by column of the rows that it is about, of all where it is empty.
    """

    relation: str
    key: tuple[str, ...] = ("id",)
    output: tuple[str, ...] = ("source_id",)
    prefix: str = ""
    when: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.key or len(self.key) != len(self.output):
            raise ValueError(f"{self}: key and output name one column each, in the same order")
        if self.prefix and len(self.key) > 1:
            raise ValueError(f"{self}: only a key of one column has a prefix")

    def is_of(self, source: str) -> bool:
        """Tell whether rows of a source can have this grain."""
        return self.when.get("source_system", source) == source


ODOO = {"source_system": "odoo"}
ACE = {"source_system": "ace"}
RECORD = ("source_system", "source_id")

# By table. record_lineage refuses one whose relation the table's SQL file does not read.
GRAINS: dict[str, tuple[Grain, ...]] = {
    "core.account_record": (
        Grain("raw.odoo_res_partner", when=ODOO),
        Grain("raw.ace_apn_companies", when=ACE),
        # The customer of an opportunity without a company.
        Grain("raw.ace_apn_opportunity", prefix="opportunity:", when=ACE),
    ),
    "core.account_link": (Grain("core.account_record", key=RECORD, output=RECORD),),
    "core.account": (Grain("core.account_link", key=("account_id",), output=("account_id",)),),
    "core.aws_account": (Grain("raw.odoo_c_aws_accounts"),),
    "core.contact": (Grain("raw.odoo_res_partner", when=ODOO), Grain("raw.ace_apn_contacts", when=ACE)),
    "core.app_user": (Grain("raw.odoo_res_users", when=ODOO), Grain("raw.ace_apn_users", when=ACE)),
    "core.odoo_opportunities": (Grain("raw.odoo_crm_lead"),),
    "core.ace_opportunities": (Grain("raw.ace_apn_opportunity"),),
    "core.bill_line": (Grain("raw.odoo_c_billing_bill_line"),),
    "core.billing_usage": (Grain("raw.odoo_c_billing_internal_cur"),),
    "search.document": (
        Grain("core.odoo_opportunities", ("source_id",), ("entity_id",), when={"entity": "odoo_opportunity"}),
        Grain("core.ace_opportunities", ("source_id",), ("entity_id",), when={"entity": "ace_opportunity"}),
        Grain("core.account", ("account_id",), ("entity_id",), when={"entity": "account"}),
    ),
}
