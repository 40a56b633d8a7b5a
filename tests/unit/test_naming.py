"""Names of raw tables: never longer than PostgreSQL allows, never two tables under one name."""

from __future__ import annotations

import pytest

from revops.naming import MAX_IDENTIFIER_BYTES, raw_table_name


def test_a_name_that_fits_is_left_alone() -> None:
    assert raw_table_name("odoo", "crm_lead") == "odoo_crm_lead"
    assert raw_table_name("odoo", "Order Lines") == "odoo_Order Lines"
    exactly = "x" * (MAX_IDENTIFIER_BYTES - len("odoo_"))
    assert raw_table_name("odoo", exactly) == f"odoo_{exactly}"


@pytest.mark.parametrize("table", ["x" * 59, "x" * 63, "é" * 40, "表" * 21, "🚀" * 15, "a" + "🚀" * 15])
def test_a_longer_name_is_cut_to_the_limit(table: str) -> None:
    name = raw_table_name("odoo", table)
    assert len(name.encode()) <= MAX_IDENTIFIER_BYTES
    assert name.startswith("odoo_" + table[:5])
    assert "\ufffd" not in name
    assert name == raw_table_name("odoo", table)


def test_names_that_differ_only_behind_the_limit_stay_different() -> None:
    names = {raw_table_name("odoo", "x" * 60 + suffix) for suffix in ("", "a", "b", "aa", "ab", "é")}
    assert len(names) == 6


def test_names_that_differ_only_in_case_stay_different() -> None:
    assert raw_table_name("odoo", "X" * 63) != raw_table_name("odoo", "x" * 63)
