"""The tables of schema raw: key and indexes, and when they are made."""

from __future__ import annotations

import pytest
from builders import Extract, counts, query

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (b text, a integer, name text, primary key (a, b));"
    "insert into t select 'x', n, 'name ' || n from generate_series(1, 50) n"
)
KEY = "CREATE UNIQUE INDEX odoo_t_pkey ON raw.odoo_t USING btree (a, b)"
LATER = "CREATE INDEX odoo_t__load_id_idx ON raw.odoo_t USING btree (_load_id) WHERE (_load_id > 1)"
DELETED = "CREATE INDEX odoo_t__deleted_at_idx ON raw.odoo_t USING btree (_deleted_at) WHERE (_deleted_at IS NOT NULL)"


def indexes(extract: Extract) -> list[str]:
    found = query(
        extract.warehouse, "select indexdef from pg_indexes where schemaname = 'raw' and tablename = 'odoo_t'"
    )
    return sorted(definition for (definition,) in found)


def test_the_first_load_makes_the_key_alone(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    assert indexes(extract) == [KEY]
    columns = query(
        extract.warehouse,
        "select attname, attnotnull from pg_attribute where attrelid = %s::regclass and attnum > 0 order by 1",
        "raw.odoo_t",
    )
    assert columns == [
        ("_deleted_at", False),
        ("_load_id", True),
        ("_loaded_at", True),
        ("a", True),
        ("b", True),
        ("name", False),
    ]


@pytest.mark.parametrize("settings", [{}, {"of_source": {"ranged_above_mb": 0}}], ids=["at once", "in ranges"])
def test_the_second_load_indexes_what_later_ones_write(extract: Extract, settings: dict[str, dict[str, int]]) -> None:
    extract.run(PEOPLE)
    extract.load(**settings)  # type: ignore[arg-type]
    for _ in range(3):
        extract.load(**settings)  # type: ignore[arg-type]
        assert indexes(extract) == sorted([KEY, LATER, DELETED])


def test_a_table_without_key_gets_them_too(extract: Extract) -> None:
    extract.run("create table t as select n from generate_series(1, 5) n")
    extract.load()
    assert indexes(extract) == []
    extract.load()
    assert indexes(extract) == sorted([LATER, DELETED])


def test_changes_are_found_by_the_index(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("delete from t where a = 1; update t set name = 'new' where a = 2")
    assert counts(extract.load()) == (1, 0, 1, 0, 1)
    extract.warehouse.execute("set enable_seqscan = off")
    for condition, name in (("_load_id > 1", "_load_id"), ("_deleted_at is not null", "_deleted_at")):
        plan = query(extract.warehouse, f"explain (costs off) select name from raw.odoo_t where {condition}")
        assert f"odoo_t_{name}_idx" in str(plan)
    extract.assert_same()
