"""Edges between columns, as they are read from statements."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from revops.lineage.edges import Edge, read_edges
from revops.lineage.errors import LineageError
from tests.lineage_statements import CASES, INPUTS, short


def edges_of(statement: str, **options: object) -> dict[str, str]:
    order = {"target": "core.made", "inputs": INPUTS, "name": "made.sql", **options}
    return short(read_edges(statement, **order))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_every_edge_of_a_statement(name: str) -> None:
    assert edges_of(CASES[name].statement) == CASES[name].edges


def test_edges_name_relations_and_are_sorted() -> None:
    statement = "select t.id as source_id, c.name from scoped_odoo_t as t join core.thing as c on c.source_id = t.a"
    made = "core.made"
    assert read_edges(statement, target=made, inputs=INPUTS, name="made.sql") == (
        Edge("core.thing", "name", made, "name", "value"),
        Edge("core.thing", "source_id", made, "*", "condition"),
        Edge("core.thing", "source_id", made, "name", "condition"),
        Edge("raw.odoo_t", "a", made, "*", "condition"),
        Edge("raw.odoo_t", "a", made, "name", "condition"),
        Edge("raw.odoo_t", "id", made, "source_id", "value"),
    )


BOTH = """
    with everything as (
        select 'odoo' as system, id, a as c from odoo_t where flag
        union all
        select 'ace' as system, id, x from odoo_u where y > 1
    ),
    cleaned as (select system, id, upper(c) as c from everything)
"""
COUNTED = f"{BOTH}, counted as (select system, c, count(*) as n from cleaned group by system, c)"
PLACED = f"{BOTH}, placed as (select id, system, row_number() over (order by c) as place from cleaned)"
NONE = f"{BOTH}, none as (select id from cleaned where system = %(source)s)"
NUMBER = f"{BOTH}, none as (select count(*) as n from cleaned where system = %(source)s)"


@pytest.mark.parametrize(
    ("statement", "source", "expected"),
    [
        # Without knowing the source: both.
        (f"{BOTH} select id, c from cleaned where system = %(source)s", None,
         {"*": "| t.flag u.y", "c": "t.a u.x", "id": "t.id u.id"}),
        (f"{BOTH} select id, c from cleaned where system = %(source)s", "odoo",
         {"*": "| t.flag", "c": "t.a", "id": "t.id"}),
        (f"{BOTH} select id, c from cleaned where system = %(source)s", "ace",
         {"*": "| u.y", "c": "u.x", "id": "u.id"}),
        (f"{BOTH} select id, c from cleaned where c <> '' and %(source)s = system", "ace",
         {"*": "| u.x u.y", "c": "u.x", "id": "u.id"}),
        (f"{BOTH} select id, c from cleaned where (system = %(source)s::text) and id > 0", "odoo",
         {"*": "| t.flag t.id", "c": "t.a", "id": "t.id"}),
        # Neither of them, or not by an equation.
        (f"{BOTH} select id, c from cleaned where system = %(source)s", "erp", {}),
        (f"{BOTH} select id, c from cleaned where system <> %(source)s", "odoo",
         {"*": "| t.flag u.y", "c": "t.a u.x", "id": "t.id u.id"}),
        (f"{BOTH} select id, c from cleaned where system = %(source)s or id = 1", "odoo",
         {"*": "| t.flag t.id u.id u.y", "c": "t.a u.x", "id": "t.id u.id"}),
        # Who compares rows sees those that the condition has left.
        (f"{BOTH} select c, count(*) as n from cleaned where system = %(source)s group by c", "odoo",
         {"*": "| t.a t.flag", "c": "t.a", "n": "| t.a t.flag"}),
        (f"{COUNTED} select c, n from counted where system = %(source)s", "odoo",
         {"*": "| t.a t.flag u.x u.y", "c": "t.a u.x", "n": "| t.a t.flag u.x u.y"}),
        (f"{PLACED} select id, place from placed where system = %(source)s", "odoo",
         {"*": "| t.flag u.y", "id": "t.id u.id", "place": "| t.a t.flag u.x u.y"}),
        # An aggregate has its row, from no rows too; a full join keeps what it is joined with.
        (f"{BOTH} select count(*) as n, max(v.k) as k from cleaned cross join odoo_v as v where system = %(source)s",
         "erp", {"k": "v.k", "n": "| v.*"}),
        (f"{NONE} select v.k from none full join odoo_v as v on v.id = none.id",
         "erp", {"*": "| v.id", "k": "v.k | v.id"}),
        (f"{NUMBER} select v.k, none.n from none cross join odoo_v as v", "erp", {"*": "| v.*", "k": "v.k"}),
        # A constant condition.
        ("select id from odoo_t where 'odoo' = %(source)s", "odoo", {"*": "| t.*", "id": "t.id"}),
        ("select id from odoo_t where 'odoo' = %(source)s", "ace", {}),
        ("select id from odoo_t where 'odoo' = %(source)s union all select id from odoo_u where 'ace' = %(source)s",
         "ace", {"*": "| u.*", "id": "u.id"}),
    ],
)  # fmt: skip
def test_parts_of_another_source_have_no_edges(statement: str, source: str | None, expected: dict[str, str]) -> None:
    assert edges_of(statement, parameters={"source": source} if source else None) == expected


def test_what_rejects_a_row_decides_which_rows_there_are() -> None:
    statement = "select id as source_id, a, case when b = '' then array['b is missing'] end as _rejected from odoo_t"
    assert edges_of(statement, rejected="_rejected") == {"*": "| t.b", "a": "t.a", "source_id": "t.id"}
    assert edges_of(statement)["_rejected"] == "| t.b"


def test_rules_around_a_statement() -> None:
    """As the engine writes them: fixes, then casts, issues and rejections."""
    given = "select id::text as source_id, a as title, n as amount from scoped_odoo_t where flag"
    fixed = (
        "select source_id, case when (length(title) > 9) then (left(title, 9)) else title end as title, amount, "
        "case when (length(title) > 9) then array_remove(array[case when (length(title) > 9) then 'long' end], null) "
        f"end as _fixed from ({given}) as given"
    )
    statement = (
        "select source_id::text as source_id, title::text as title, _fixed || case when (amount < 0) then "
        "array_remove(array[case when (amount < 0) then 'negative' end]::text[], null) end as issues, "
        "case when (title = '') then array_remove(array[case when (title = '') then 'no title' end]::text[], null) end "
        f"as _rejected from ({fixed}) as fixed"
    )
    assert edges_of(statement, rejected="_rejected") == {
        "*": "| t.a t.flag",
        "issues": "| t.a t.n",
        "source_id": "t.id",
        "title": "t.a",
    }


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select t.nothing as x from odoo_t as t", "column 'x': t has no column 'nothing', only id, a, b"),
        ("select nothing as x from odoo_t as t", "column 'x': 'nothing' is a column of none of: t (line 1)"),
        ("select\n  a,\n  nothing as x\nfrom odoo_t", "(line 3)"),
        ("select s.a from odoo_t as t", "s.a names no relation of the query"),
        ("select s.* from odoo_t as t", "s.* names no relation of the query"),
        ("select id as x from odoo_t as t, odoo_u as u", "'id' is a column of t and u: ambiguous"),
        ("select a from odoo_nothing", "odoo_nothing is no input; known are core.thing, odoo_t, odoo_u"),
        ("select a from raw.odoo_nothing", "raw.odoo_nothing is no input"),
        ("select a from ops.load", "ops.load is no input"),
        ("with c as (select nothing as y from odoo_t) select y as x from c", "in c: column 'y': 'nothing' is a column"),
        ("select x from (select a from odoo_t) as s", "'x' is a column of none of: s"),
        ("select a || b from odoo_t", "output column 1 has no name"),
        ("select a as x, b as x from odoo_t", "output column 'x' is there 2 times"),
        ("select t.*, u.* from odoo_t as t, odoo_u as u", "output column 'id' is there 2 times"),
        ("select f.* from odoo_t as t cross join lateral jsonb_each(t.j) as f",
         "the columns of the function f are not told"),
        ("select id as x from odoo_t where a in (select nothing from odoo_u)", "'nothing' is a column of none of"),
        ("select id as x from odoo_t order by nothing limit 1", "'nothing' is a column of none of"),
        ("select id as x from odoo_t group by nothing", "'nothing' is a column of none of"),
        ("select t.id as x from odoo_t as t join odoo_v as v using (a)",
         "a join uses 'a', which not both of its sides have"),
        ("select id as x, a as y from odoo_t union all select id from odoo_u", "a union of 2 and 1 columns"),
        ("select id as x from odoo_t; select id as x from odoo_u", "it is 2 statements, not one query"),
        ("", "it is 0 statements, not one query"),
        ("select (a from odoo_t", "it can't be parsed"),
        ("delete from odoo_t", "a Delete is not understood, only queries"),
        ("create table x as select id from odoo_t", "a Create is not understood, only queries"),
        ("with d as (delete from odoo_t returning id) select id as x from d", "a Delete is not understood"),
        ("with recursive r as (select id, a from odoo_t union all select nothing, a from r) select id as x from r",
         "in r: column 'nothing'"),
    ],
)  # fmt: skip
def test_what_can_t_be_followed_is_an_error_with_file_column_and_remedy(statement: str, message: str) -> None:
    with pytest.raises(LineageError) as failure:
        edges_of(statement)
    told = str(failure.value)
    assert told.startswith("made.sql: the lineage of core.made can't be read: ")
    assert message in told
    assert "Remedy: correct the name; name the columns of an input in inputs.yaml" in told


def test_a_column_that_an_input_lost_is_an_error() -> None:
    """The edges follow inputs.yaml and the catalogue: they can't name what is not there."""
    inputs = {**INPUTS, "odoo_t": ("id", "b")}
    with pytest.raises(LineageError, match="'a' is a column of none of: t"):
        edges_of("select t.id as source_id, a from odoo_t as t", inputs=inputs)


def test_placeholders_are_left_to_psycopg() -> None:
    columns = "id as source_id, n %% 2 as odd, %(day)s::date as day, a like '100%%' as full"
    statement = f"select {columns} from odoo_t where b = %(b)s"
    assert edges_of(statement) == {"*": "| t.b", "full": "t.a", "odd": "t.n", "source_id": "t.id"}


# What sqlglot's own lineage says otherwise, and PostgreSQL (tests/db/test_lineage_oracle.py) does not: columns that
# joins merge are taken from both sides, the right side of except and intersect counts as a value; functions in the from
# clause, rows as values, lateral subqueries with a limit, `->` in a call and columns that a recursion swaps are lost.
OTHERWISE = {
    "using", "using, inner", "using, right", "natural join", "star over using", "except", "intersect",
    "function of a subquery", "rows from", "whole row", "lateral", "implicitly lateral",
    "mutual columns of a recursion", "json", "row fields",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(CASES) - OTHERWISE))
def test_sqlglot_s_own_lineage_agrees(name: str) -> None:
    """It follows one column at a time and knows no conditions of joins and rows; what it finds must be found here."""
    from sqlglot import exp
    from sqlglot.lineage import lineage

    schema = {
        table.removeprefix("core."): dict.fromkeys((*columns, "_load_id", "_deleted_at"), "text")
        for table, columns in (*INPUTS.items(), ("scoped_odoo_t", INPUTS["odoo_t"]))
    }
    aliases = {"odoo_t": "t", "scoped_odoo_t": "t", "odoo_u": "u", "odoo_v": "v", "thing": "thing"}
    statement = CASES[name].statement.replace("%(source)s", "'odoo'").replace("%%", "%").replace("core.thing", "thing")
    for column, listed in CASES[name].edges.items():
        if column == "*":
            continue
        values, _, conditions = listed.partition("|")
        written = column if re.fullmatch("[a-z_]+", column) else f'"{column}"'
        found = {
            f"{aliases[node.source.name]}.{node.name.split('.')[-1].strip(chr(34))}"
            for node in lineage(written, statement, schema=schema, dialect="postgres").walk()
            if not node.downstream and isinstance(node.source, exp.Table)
        }
        assert set(values.split()) <= found
        assert found <= {*values.split(), *conditions.split()}


def test_a_dag_file_that_imports_lineage_loads_no_parser() -> None:
    """Airflow parses DAG files every few seconds; sqlglot and the OpenLineage client take half a second each."""
    modules = "revops.lineage.edges, revops.lineage.record, revops.lineage.grain, revops.lineage.openlineage"
    program = f"import sys, {modules}; print([name for name in ('sqlglot', 'openlineage') if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "plugins")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "[]\n"
