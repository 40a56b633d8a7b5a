"""
### Odoo, every night

**What**: brings CRM, sales and billing from Odoo into the warehouse, checks and normalises them, and makes
them searchable.

**Reads**: the tables listed in `include/sources/odoo.yaml`, over the connection `odoo_source`, in one snapshot.

**Writes**: `raw.odoo_*`; `core.account_record`, `core.account_link`, `core.account`, `core.aws_account`,
`core.contact`, `core.app_user`, `core.odoo_opportunities`, `core.bill_line`, `core.billing_usage`; `search.document`,
`search.embedding`; the records in `ops`.

**When**: 02:00 UTC. Switching the DAG on starts nothing by itself.

**Re-run**: safe at any task. Only what changed since the last load is read and computed; the parameter
`full_refresh` reads and computes everything again.

**If it fails**: a mail names table, error and remedy; every table is as it was before the failed task. Mend
the cause, then clear
the failed tasks. A failed check on raw leaves core as it was; a failed check on core leaves the search as it was.
"""

from revops.assets import ODOO_OPPORTUNITIES
from revops.source_dag import source_dag

# An Airflow DAG: the scheduler looks for these two words before it reads a file.
dag = source_dag(
    "odoo",
    doc=__doc__,
    assets={"odoo_opportunities": ODOO_OPPORTUNITIES},
)
