"""
### Odoo, every night

**What**: brings CRM, sales and billing from Odoo into the warehouse, checks and normalises them, and makes
them searchable.

**Reads**: the tables listed in `include/sources/odoo.yaml`, over the connection `odoo_source`, in one snapshot.

**Writes**: `raw.odoo_*`, `core.account`, `core.odoo_opportunities`, `search.document`, `search.embedding`, and
the records in `ops`.

**When**: 02:00 UTC. Switching the DAG on starts nothing by itself.

**Re-run**: safe at any task. Only what changed since the last load is read; the parameter `full_refresh` reads
everything again.

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
    core_tables={"account": [], "odoo_opportunities": [ODOO_OPPORTUNITIES]},
)
