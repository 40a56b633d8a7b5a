"""Loads of a test's table, and which of their failures the next try mends."""

from __future__ import annotations

from typing import Any

import psycopg

from revops.errors import is_transient
from revops.extract.errors import TryAgainError
from revops.extract.load import LoadResult, load_table
from revops.extract.sessions import Route
from revops.sources import Source


def source_config(name: str = "t", **settings: Any) -> Source:
    """Return a source `odoo` with one table; settings of the source and of its table, by their names."""
    own = {key: value for key, value in settings.items() if key in Source.model_fields}
    return Source.model_validate(
        {
            "source": "odoo",
            "connection": "odoo_source",
            "schedule": "0 2 * * *",
            "lock_timeout_s": 2,
            "statement_timeout_s": 60,
            **own,
            "tables": [{"name": name, **{key: value for key, value in settings.items() if key not in own}}],
        }
    )


def is_mended_by_retry(error: BaseException) -> bool:
    """Tell whether the task's next try is expected to succeed."""
    return isinstance(error, TryAgainError) or is_transient(error)


def load(source_dsn: str, warehouse_dsn: str, *, config: Source, run_id: str, **options: Any) -> LoadResult:
    """Load the only table of a source as a task does."""
    route = Route(source=lambda: psycopg.connect(source_dsn), warehouse=lambda: psycopg.connect(warehouse_dsn))
    return load_table(route, config=config, table=config.tables[0], run_id=run_id, accept_deletions=True, **options)
