"""Lineage in ops: one definition for the same edges, a reference for each run, one view over both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import errors

from revops.lineage.edges import Edge
from revops.lineage.errors import LineageError
from revops.lineage.grain import GRAINS, Grain
from revops.lineage.record import read_columns, record_lineage

pytestmark = pytest.mark.db

TARGET = "core.contact"
EDGES = (
    Edge("raw.odoo_res_partner", "id", TARGET, "source_id", "value"),
    Edge("raw.odoo_res_partner", "name", TARGET, "name", "value"),
    Edge("raw.odoo_res_partner", "type", TARGET, "*", "condition"),
)
VIEW = (
    "select transform_run_id, run_id, source, input_relation, input_column, output_relation, output_column, kind, "
    "rows_read, inserted, updated, unchanged, quarantined, deleted from ops.lineage_edge "
    "order by transform_run_id, input_column"
)


@pytest.fixture
def session(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_transform")


def run(session: psycopg.Connection, *, target: str = TARGET, source: str = "odoo", name: str = "night 1") -> int:
    """A transform whose own transaction is open."""
    row = session.execute(
        "insert into ops.transform_run (run_id, source, target, status) values (%s, %s, %s, 'running') "
        "returning transform_run_id",
        (name, source, target),
    ).fetchone()
    assert row is not None
    return int(row[0])


def record(session: psycopg.Connection, transform_run_id: int, edges: tuple[Edge, ...] = EDGES, **changed: Any) -> int:
    order: dict[str, Any] = {"target": TARGET, "source": "odoo", "grains": GRAINS[TARGET], **changed}
    return record_lineage(session, transform_run_id=transform_run_id, edges=edges, **order)


def test_equal_edges_are_stored_once_and_shown_with_the_counts_of_each_run(session: psycopg.Connection) -> None:
    first, second = run(session), run(session, name="night 2")
    assert record(session, first) == record(session, second, tuple(reversed(EDGES)))
    session.execute(
        "update ops.transform_run set status = 'succeeded', rows_read = 9, inserted = 5, updated = 1, unchanged = 2, "
        "quarantined = 1, deleted = 3 where transform_run_id = %s",
        (second,),
    )
    session.commit()
    assert query(session, "select count(*) from ops.lineage_definition_edge") == [(3,)]
    assert query(session, VIEW) == [
        (number, name, "odoo", "raw.odoo_res_partner", column, TARGET, output, kind, *counts)
        for number, name, counts in (
            (first, "night 1", (None,) * 6), (second, "night 2", (9, 5, 1, 2, 1, 3))
        )
        for column, output, kind in (
            ("id", "source_id", "value"), ("name", "name", "value"), ("type", "*", "condition")
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"edges": EDGES[:2]},
        {"edges": (*EDGES[:2], Edge("raw.odoo_res_partner", "type", TARGET, "*", "value"))},
        {"grains": (Grain("raw.odoo_res_partner", prefix="p"),)},
        {"grains": (Grain("raw.odoo_res_partner", when={"source_system": "odoo", "contact_type": "x"}),)},
        {"grains": (Grain("raw.odoo_res_partner", key=("name",)),)},
    ],
)
def test_another_statement_is_another_definition(session: psycopg.Connection, changed: dict[str, Any]) -> None:
    before, after, again = run(session), run(session), run(session)
    first = record(session, before)
    second = record(session, after, **changed)
    assert first != second
    current = "select target, source, definition_id, transform_run_id from ops.lineage_current"
    assert query(session, current) == [(TARGET, "odoo", second, after)]
    # The file is put back as it was: the old definition is the current one again.
    assert record(session, again) == first
    assert query(session, current) == [(TARGET, "odoo", first, again)]


def test_each_source_has_its_own(session: psycopg.Connection) -> None:
    record(session, run(session))
    edges = (Edge("raw.ace_apn_contacts", "id", TARGET, "source_id", "value"),)
    record(session, run(session, source="ace"), edges, source="ace")
    assert query(
        session,
        "select d.source, g.relation, g.input_columns, g.output_columns, g.prefix, g.condition "
        "from ops.lineage_definition_grain g join ops.lineage_definition d using (definition_id) order by 1",
    ) == [
        ("ace", "raw.ace_apn_contacts", ["id"], ["source_id"], "", {"source_system": "ace"}),
        ("odoo", "raw.odoo_res_partner", ["id"], ["source_id"], "", {"source_system": "odoo"}),
    ]
    assert query(session, "select target, source from ops.lineage_current order by 2") == [
        (TARGET, "ace"),
        (TARGET, "odoo"),
    ]


def test_a_transform_that_is_rolled_back_leaves_no_lineage(session: psycopg.Connection) -> None:
    number = run(session)
    session.commit()
    record(session, number)
    session.rollback()
    assert query(
        session, "select (select count(*) from ops.lineage_definition), (select count(*) from ops.lineage_run)"
    ) == [(0, 0)]
    record(session, number)
    session.commit()
    assert query(session, "select transform_run_id from ops.lineage_run") == [(number,)]


def test_a_run_has_one_lineage(session: psycopg.Connection) -> None:
    number = run(session)
    record(session, number)
    with pytest.raises(errors.UniqueViolation):
        record(session, number)


def test_what_contradicts_itself_is_refused(session: psycopg.Connection) -> None:
    number = run(session)
    with pytest.raises(
        LineageError, match=r"core.contact: .* raw.odoo_nothing, which its SQL file does not read.*grain.py"
    ):
        record(session, number, grains=(Grain("raw.odoo_nothing"),))
    with pytest.raises(LineageError, match=r"core.contact: nothing says .* Remedy: add the table to GRAINS"):
        record(session, number, grains=(Grain("raw.ace_apn_contacts", when={"source_system": "ace"}),))
    with pytest.raises(LineageError, match=r"core.account: edges of core.contact are not its own"):
        record(session, number, target="core.account")
    assert query(session, "select count(*) from ops.lineage_definition") == [(0,)]


def test_a_statement_that_can_have_no_row_has_no_edges(session: psycopg.Connection) -> None:
    record(session, run(session), (), grains=())
    assert query(session, VIEW) == []
    assert query(session, "select count(*) from ops.lineage_run") == [(1,)]


@pytest.mark.parametrize(
    "arguments",
    [{"key": ()}, {"key": ("a", "b")}, {"key": ("a", "b"), "output": ("c", "d"), "prefix": "x"}],
)
def test_a_grain_that_can_match_nothing_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"raw\.odoo_crm_lead"):
        Grain("raw.odoo_crm_lead", **arguments)


def test_who_writes_lineage(as_role: Callable[[str], psycopg.Connection]) -> None:
    embed = as_role("revops_embed")
    edges = (
        Edge("core.odoo_opportunities", "title", "search.document", "title", "value"),
        Edge("core.ace_opportunities", "title", "search.document", "title", "value"),
        Edge("core.account", "name", "search.document", "title", "value"),
    )
    number = run(embed, target="search.document")
    record(embed, number, edges, target="search.document", grains=GRAINS["search.document"])
    embed.commit()
    for role in ("revops_api", "revops_quality", "revops_ingest", "revops_audit"):
        session = as_role(role)
        assert len(query(session, VIEW)) == 3
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("insert into ops.lineage_run (transform_run_id, definition_id) values (1, 1)")
        session.rollback()
    with pytest.raises(errors.InsufficientPrivilege):
        embed.execute("update ops.lineage_definition set target = 'x'")


def test_the_columns_of_core_are_read_from_its_catalogue(session: psycopg.Connection) -> None:
    columns = read_columns(session)
    assert columns["core.account_link"] == (
        "source_system", "source_id", "account_id", "reason", "evidence", "linked_to", "state", "deleted_at",
        "raw_load_id", "transform_run_id",
    )  # fmt: skip
    listed = query(
        session,
        "select 'core.' || table_name, array_agg(column_name::text order by ordinal_position) "
        "from information_schema.columns where table_schema = 'core' and table_name !~ '_[0-9]{4}_[0-9]{2}$' "
        "group by table_name",
    )
    assert columns == {relation: tuple(names) for relation, names in listed}
    assert {"core.billing_usage", "core.opportunity"} <= set(columns)
