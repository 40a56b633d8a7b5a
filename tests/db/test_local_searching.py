"""Searches from the shell, as far as they go without an encoder."""

from __future__ import annotations

import io
from collections.abc import Callable

import psycopg
import pytest
from rich.console import Console

from revops.local import searching
from revops.local.searching import Asked, show_similar
from revops.local.stack import Stack
from revops.search import SearchError

pytestmark = pytest.mark.db


def test_an_older_warehouse_is_told_with_the_remedy(
    as_role: Callable[[str], psycopg.Connection], warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = as_role("revops_api")
    monkeypatch.setattr(searching, "_connect", lambda stack, settings: api)
    stack = Stack.of_checkout()
    console = Console(file=io.StringIO())
    with pytest.raises(SearchError, match=r"search\.document has no account"):
        show_similar(stack, None, "account", "odoo:1", console, Asked())  # type: ignore[arg-type]
    api = as_role("revops_api")
    # What an older version has not.
    api.execute("set search_path = pg_catalog")
    monkeypatch.setattr(
        searching, "similar_documents", lambda warehouse, *_, **__: warehouse.execute("select search.nearest()")
    )
    with pytest.raises(SearchError, match=r"older than this version of Revops: .*Remedy: `make setup`"):
        show_similar(stack, None, "account", "odoo:1", console, Asked())  # type: ignore[arg-type]
