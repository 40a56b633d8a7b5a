"""Airflow assets: what other DAGs wait for."""

from __future__ import annotations

from airflow.sdk import Asset

ODOO_OPPORTUNITIES = Asset(
    name="core.odoo_opportunities", uri="postgres://revops_core/revops_core/core/odoo_opportunities"
)
ACE_OPPORTUNITIES = Asset(
    name="core.ace_opportunities", uri="postgres://revops_core/revops_core/core/ace_opportunities"
)
EMBEDDING = Asset(name="search.embedding", uri="postgres://revops_core/revops_core/search/embedding")
