"""From a row of core to its source and back, over a warehouse whose rows are written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from builders import query
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from revops.lineage.edges import Edge
from revops.lineage.grain import GRAINS, Grain
from revops.lineage.record import record_lineage

pytestmark = pytest.mark.db

META = "_loaded_at timestamptz default '2026-11-02 02:10+00', _load_id bigint default 1, _deleted_at timestamptz"
RAW = {
    "odoo_crm_lead": "id integer primary key",
    "odoo_res_partner": "id integer primary key",
    "odoo_crm_stage": "id integer primary key",
    "odoo_c_billing_internal_cur": "id bigint primary key",
    "ace_apn_companies": "id text primary key",
    "ace_apn_opportunity": "id text primary key",
}
# What each table reads besides the records that its rows are made from.
JOINS = {
    "core.odoo_opportunities": (
        Edge("raw.odoo_crm_stage", "name", "core.odoo_opportunities", "stage", "value"),
        Edge("raw.odoo_crm_stage", "is_won", "core.odoo_opportunities", "status", "condition"),
        Edge("raw.odoo_crm_stage", "id", "core.odoo_opportunities", "*", "condition"),
        Edge("raw.odoo_crm_stage", "id", "core.odoo_opportunities", "stage", "condition"),
    ),
}
ENTITY = {"source_system": "odoo", "raw_load_id": 1}
COLUMNS = {
    "core.odoo_opportunities": {"title": "t", "lead_type": "lead", "status": "open", "tags": []},
    "core.ace_opportunities": {"title": "t", "delivery_models": []},
    "core.account_record": {
        "name": "n", "normalised_name": "n", "is_company": True, "is_archived": False, "aws_account_ids": []
    },
    "core.account_link": {"reason": "only record", "state": "live"},
    "core.account": {
        "name": "n", "normalised_name": "n", "is_company": True, "is_archived": False, "aws_account_ids": [],
        "records": 1, "systems": [],
    },
    "core.billing_usage": {"billing_month": "2026-10-01"},
}  # fmt: skip

Step = tuple[Any, ...]


class World:
    """A warehouse with raw tables, loads and transforms of odoo's first run; more is added by each test."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.owner = psycopg.connect(dsn, autocommit=True)
        self.ingest = psycopg.connect(make_conninfo(dsn, options="-c role=revops_ingest"), autocommit=True)
        self.transforms = {
            schema: psycopg.connect(make_conninfo(dsn, options=f"-c role={role}"), autocommit=True)
            for schema, role in (("core", "revops_transform"), ("search", "revops_embed"))
        }
        self.api = psycopg.connect(make_conninfo(dsn, options="-c role=revops_api"), autocommit=True)
        for table, columns in RAW.items():
            self.ingest.execute(f"create table raw.{table} ({columns}, {META})")
        self.ingest.execute(
            "insert into ops.source_snapshot (source, run_id, snapshot_name, exported_at) "
            "values ('odoo', 'night 1', '0000-1', '2026-11-02 02:00+00')"
        )
        self.load("crm_lead")

    def close(self) -> None:
        for connection in (self.owner, self.ingest, *self.transforms.values(), self.api):
            connection.close()

    def load(
        self, table: str, *, source: str = "odoo", run_id: str = "night 1", snapshot: str | None = "0000-1"
    ) -> int:
        """One load that succeeded; without a snapshot of the run it read in its own."""
        row = self.ingest.execute(
            "insert into ops.load (source, table_name, run_id, mode, status, snapshot, is_shared_snapshot, rows_read, "
            "inserted, updated, unchanged, deleted, quarantined, started_at, finished_at) "
            "values (%s, %s, %s, 'xid', 'succeeded', %s, %s, 1, 1, 0, 0, 0, 0, "
            "'2026-11-02 02:01+00', '2026-11-02 02:09+00') returning load_id",
            (source, table, run_id, snapshot or "own", snapshot is not None),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def run(
        self, target: str, *, source: str = "odoo", run_id: str = "night 1", recorded: bool = True,
        grains: tuple[Grain, ...] | None = None,
    ) -> int:  # fmt: skip
        """One transform that succeeded, with its lineage."""
        session = self.transforms[target.split(".")[0]]
        row = session.execute(
            "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, "
            "quarantined, deleted, started_at) "
            "values (%s, %s, %s, 'succeeded', 5, 4, 0, 0, 1, 0, '2026-11-02 03:00+00') returning transform_run_id",
            (run_id, source, target),
        ).fetchone()
        assert row is not None
        if recorded:
            grains = GRAINS[target] if grains is None else grains
            main = [Edge(g.relation, g.key[0], target, g.output[0], "value") for g in grains if g.is_of(source)]
            record_lineage(
                session,
                transform_run_id=row[0],
                target=target,
                source=source,
                edges=[*main, *JOINS.get(target, ())],
                grains=grains,
            )
        return int(row[0])

    def raw(self, table: str, **values: Any) -> None:
        self._insert(self.ingest, sql.Identifier("raw", table), values)

    def core(self, table: str, run: int, **values: Any) -> None:
        everything = {**ENTITY, "transform_run_id": run, **COLUMNS[table], **values}
        self._insert(self.owner, sql.Identifier(*table.split(".")), everything)

    def document(self, entity: str, entity_id: str, *, source: str = "odoo") -> None:
        values = {"source_system": source, "entity": entity, "entity_id": entity_id}
        self._insert(
            self.owner,
            sql.Identifier("search", "document"),
            {**values, "title": "t", "text": "t", "text_hash": b"1"},
        )

    def quarantine(self, target: str, source: str, key: str, rule: str, *, released: bool = False) -> None:
        self.owner.execute(
            "insert into ops.quarantine (target, source, source_key, rule, reason, first_seen_at, last_seen_at, "
            "first_run_id, last_run_id, released_at) values (%s, %s, %s, %s, %s, '2026-11-01 03:00+00', "
            "'2026-11-02 03:00+00', 'night 0', 'night 1', %s)",
            (target, source, key, rule, f"{rule}. Mend it.", "2026-11-03 03:00+00" if released else None),
        )

    def trace(self, relation: str, key: str) -> list[Step]:
        """(depth, relation, key, what) of each step, as the console's role sees it."""
        return query(self.api, "select depth, relation, key, what from ops.trace(%s, %s) order by step", relation, key)

    def trace_back(self, relation: str, key: str) -> list[Step]:
        return query(
            self.api, "select depth, relation, key, what from ops.trace_back(%s, %s) order by step", relation, key
        )

    def _insert(self, session: psycopg.Connection, table: sql.Identifier, values: dict[str, Any]) -> None:
        session.execute(
            sql.SQL("insert into {} ({}) values ({})").format(
                table,
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join([sql.Placeholder()] * len(values)),
            ),
            list(values.values()),
        )


@pytest.fixture
def world(warehouse_dsn: str) -> Iterator[World]:
    made = World(warehouse_dsn)
    made.owner.execute("select core.add_billing_months(array['2026-09-01', '2026-10-01']::date[])")
    yield made
    made.close()


def loaded(depth: int, source: str, table: str, load: int, key: str, what: str = "load") -> list[Step]:
    """The steps from a load to its snapshot."""
    return [
        (depth, "ops.load", str(load), what),
        (depth + 1, f"{source}.{table}", key, "source record"),
        (depth + 1, "ops.source_snapshot", "0000-1", "snapshot of the run"),
    ]


def test_an_opportunity_leads_to_its_source_step_by_step(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", run, source_id="42", issues=["ACE id is malformed"])
    utc = "set timezone = 'UTC'"
    world.api.execute(utc)
    assert query(
        world.api,
        "select step, depth, relation, key, what, load_id, transform_run_id, run_id, at::text, detail "
        "from ops.trace('core.odoo_opportunities', '42') order by step",
    ) == [
        (
            1, 0, "core.odoo_opportunities", "odoo:42", "row", 1, run, "night 1", None,
            {"issues": ["ACE id is malformed"]},
        ),
        (
            2, 1, "ops.transform_run", str(run), "transform run", None, run, "night 1", "2026-11-02 03:00:00+00",
            {
                "source": "odoo", "status": "succeeded", "rows_read": 5, "inserted": 4, "updated": 0, "unchanged": 0,
                "quarantined": 1, "deleted": 0,
            },
        ),
        (
            3, 1, "raw.odoo_crm_lead", "42", "row", 1, None, None, "2026-11-02 02:10:00+00",
            {"loaded_at": "2026-11-02T02:10:00+00:00"},
        ),
        (
            4, 2, "ops.load", "1", "load", 1, None, "night 1", "2026-11-02 02:09:00+00",
            {
                "source": "odoo", "table": "crm_lead", "mode": "xid", "status": "succeeded", "attempt": 1,
                "rows_read": 1,
            },
        ),
        (5, 3, "odoo.crm_lead", "42", "source record", None, None, "night 1", None, None),
        (
            6, 3, "ops.source_snapshot", "0000-1", "snapshot of the run", 1, None, "night 1",
            "2026-11-02 02:00:00+00", None,
        ),
        (
            7, 1, "raw.odoo_crm_stage", None, "joined relation", None, None, None, None,
            {"columns": {"id": ["*", "stage"], "is_won": ["status"], "name": ["stage"]}},
        ),
    ]  # fmt: skip


def test_a_key_may_name_its_system(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", run, source_id="42")
    assert world.trace("core.odoo_opportunities", "odoo:42") == world.trace("core.odoo_opportunities", "42")
    assert world.trace("core.odoo_opportunities", "ace:42") == [(0, "core.odoo_opportunities", "ace:42", "not found")]


def test_a_deleted_row_still_leads_to_the_record_that_was_deleted(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42, _load_id=2, _deleted_at="2026-11-03 02:00+00")
    world.load("crm_lead", run_id="night 1")
    world.core(
        "core.odoo_opportunities", run, source_id="42", raw_load_id=2, deleted_at="2026-11-03 02:00+00"
    )  # fmt: skip
    steps = world.trace("core.odoo_opportunities", "42")
    assert steps[:-1] == [
        (0, "core.odoo_opportunities", "odoo:42", "deleted row"),
        (1, "ops.transform_run", str(run), "transform run"),
        (1, "raw.odoo_crm_lead", "42", "deleted row"),
        *loaded(2, "odoo", "crm_lead", 2, "42"),
    ]
    assert query(
        world.api,
        "select relation, at = '2026-11-03 02:00+00', detail ->> 'deleted_at' from ops.trace(%s, '42') "
        "where what = 'deleted row' order by step",
        "core.odoo_opportunities",
    ) == [
        ("core.odoo_opportunities", True, None),
        ("raw.odoo_crm_lead", True, "2026-11-03T02:00:00+00:00"),
    ]


def test_a_record_that_raw_has_no_more_is_said_to_be_missing(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    world.core("core.odoo_opportunities", run, source_id="42")
    assert world.trace("core.odoo_opportunities", "42")[2:-1] == [
        (1, "raw.odoo_crm_lead", "42", "missing row"),
        *loaded(2, "odoo", "crm_lead", 1, "42"),
    ]


def test_what_raw_holds_since_is_told_from_what_core_was_made_from(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    later = world.load("crm_lead", run_id="night 2", snapshot=None)
    world.raw("odoo_crm_lead", id=42, _load_id=later)
    world.core("core.odoo_opportunities", run, source_id="42")
    assert world.trace("core.odoo_opportunities", "42")[2:-1] == [
        (1, "raw.odoo_crm_lead", "42", "row"),
        *loaded(2, "odoo", "crm_lead", 1, "42"),
        (2, "ops.load", str(later), "later load"),
        (3, "odoo.crm_lead", "42", "source record"),
        (3, "ops.load", "own", "snapshot of the load"),
    ]


def test_a_row_in_quarantine_says_which_rule_it_broke(world: World) -> None:
    world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42)
    world.quarantine("core.odoo_opportunities", "odoo", "42", "title is missing")
    world.quarantine("core.odoo_opportunities", "odoo", "42", "an older rule", released=True)
    world.quarantine("core.odoo_opportunities", "odoo", "43", "title is missing")
    world.quarantine("core.account_record", "odoo", "42", "name is missing")
    assert world.trace("core.odoo_opportunities", "42") == [
        (0, "core.odoo_opportunities", "42", "not found"),
        (1, "ops.quarantine", "odoo:42", "quarantined"),
        (1, "ops.quarantine", "odoo:42", "was quarantined"),
        (1, "raw.odoo_crm_lead", "42", "row"),
        *loaded(2, "odoo", "crm_lead", 1, "42"),
    ]
    assert query(
        world.api,
        "select run_id, at = '2026-11-02 03:00+00', detail from ops.trace(%s, '42') where what = 'quarantined'",
        "core.odoo_opportunities",
    ) == [
        (
            "night 1",
            True,
            {
                "rule": "title is missing",
                "reason": "title is missing. Mend it.",
                "first_seen_at": "2026-11-01T03:00:00+00:00",
                "first_run_id": "night 0",
            },
        )
    ]


def test_a_row_whose_newer_state_is_in_quarantine_says_so(world: World) -> None:
    """Core keeps the last good state meanwhile."""
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", run, source_id="42")
    world.quarantine("core.odoo_opportunities", "odoo", "42", "title is missing")
    world.quarantine("core.odoo_opportunities", "odoo", "42", "mended long ago", released=True)
    assert world.trace("core.odoo_opportunities", "42")[:4] == [
        (0, "core.odoo_opportunities", "odoo:42", "row"),
        (1, "ops.transform_run", str(run), "transform run"),
        (1, "ops.quarantine", "odoo:42", "quarantined"),
        (1, "raw.odoo_crm_lead", "42", "row"),
    ]


def test_a_key_that_is_nowhere_gives_one_row_that_says_so(world: World) -> None:
    world.run("core.odoo_opportunities")
    assert world.trace("core.odoo_opportunities", "42") == [(0, "core.odoo_opportunities", "42", "not found")]
    # Raw has it, though no run has made core of it yet.
    world.raw("odoo_crm_lead", id=42)
    assert world.trace("core.odoo_opportunities", "42") == [
        (0, "core.odoo_opportunities", "42", "not found"),
        (1, "raw.odoo_crm_lead", "42", "row"),
        *loaded(2, "odoo", "crm_lead", 1, "42"),
    ]


def accounts(world: World) -> dict[str, int]:
    """Odoo's partner 7, ACE's company C1 and the customer of ACE's opportunity O1 form the account odoo:7."""
    world.load("apn_companies", source="ace", run_id="ace night")
    world.load("apn_opportunity", source="ace", run_id="ace night")
    world.ingest.execute(
        "insert into ops.source_snapshot (source, run_id, snapshot_name) values ('ace', 'ace night', '0000-1')"
    )
    runs = {
        "odoo": world.run("core.account_record"),
        "ace": world.run("core.account_record", source="ace", run_id="ace night"),
        "link": world.run("core.account_link", source="ace", run_id="ace night"),
        "account": world.run("core.account", source="ace", run_id="ace night"),
    }
    world.raw("odoo_res_partner", id=7)
    world.raw("ace_apn_companies", id="C1", _load_id=2)
    world.raw("ace_apn_opportunity", id="O1", _load_id=3)
    for run, system, key, load in (
        ("odoo", "odoo", "7", 1),
        ("ace", "ace", "C1", 2),
        ("ace", "ace", "opportunity:O1", 3),
    ):
        row = {"source_system": system, "source_id": key, "raw_load_id": load}
        world.core("core.account_record", runs[run], **row)
        world.core("core.account_link", runs["link"], **row, account_id="odoo:7")
    world.core("core.account", runs["account"], account_id="odoo:7", source_id="7")
    return runs


def record_steps(
    depth: int, runs: dict[str, int], system: str, key: str, raw: str, raw_key: str, load: int
) -> list[Step]:
    source, table = raw.split("_", 1)
    return [
        (depth, "core.account_record", f"{system}:{key}", "row"),
        (depth + 1, "ops.transform_run", str(runs[system]), "transform run"),
        (depth + 1, f"raw.{raw}", raw_key, "row"),
        *loaded(depth + 2, source, table, load, raw_key),
    ]


def test_a_record_is_made_from_the_raw_table_that_its_key_tells(world: World) -> None:
    runs = accounts(world)
    by_key = {
        "7": ("odoo", "7", "odoo_res_partner", "7", 1),
        "ace:C1": ("ace", "C1", "ace_apn_companies", "C1", 2),
        "opportunity:O1": ("ace", "opportunity:O1", "ace_apn_opportunity", "O1", 3),
        "ace:opportunity:O1": ("ace", "opportunity:O1", "ace_apn_opportunity", "O1", 3),
    }
    # Raw tables of other rows, loads of crm_lead: the load tells its own table.
    world.owner.execute("update ops.load set table_name = 'res_partner' where load_id = 1")
    for key, (system, source_id, raw, raw_key, load) in by_key.items():
        assert world.trace("core.account_record", key) == record_steps(0, runs, system, source_id, raw, raw_key, load)


def test_an_account_leads_through_its_links_to_every_record_that_forms_it(world: World) -> None:
    runs = accounts(world)
    world.owner.execute("update ops.load set table_name = 'res_partner' where load_id = 1")
    expected: list[Step] = [
        (0, "core.account", "odoo:7", "row"),
        (1, "ops.transform_run", str(runs["account"]), "transform run"),
    ]
    for system, key, raw, raw_key, load in (
        ("ace", "C1", "ace_apn_companies", "C1", 2),
        ("ace", "opportunity:O1", "ace_apn_opportunity", "O1", 3),
        ("odoo", "7", "odoo_res_partner", "7", 1),
    ):
        expected += [
            (1, "core.account_link", f"{system}:{key}", "row"),
            (2, "ops.transform_run", str(runs["link"]), "transform run"),
            *record_steps(2, runs, system, key, raw, raw_key, load),
        ]
    assert world.trace("core.account", "odoo:7") == expected
    assert query(world.api, "select detail from ops.trace('core.account_link', 'odoo:7') where step = 1") == [
        ({"reason": "only record", "state": "live"},)
    ]
    assert world.trace("core.account", "odoo:8") == [(0, "core.account", "odoo:8", "not found")]


def test_a_document_leads_to_the_entity_that_it_is_of(world: World) -> None:
    runs = accounts(world)
    world.load("apn_opportunity", source="ace", run_id="ace night")
    of_deal = world.run("core.odoo_opportunities")
    of_documents = world.run("search.document")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", of_deal, source_id="42")
    world.document("odoo_opportunity", "42")
    world.document("account", "odoo:7")
    number = query(world.owner, "select document_id::text from search.document where entity = 'odoo_opportunity'")[0][0]
    expected = [
        (0, "search.document", "odoo_opportunity:42", "row"),
        (1, "ops.transform_run", str(of_documents), "latest transform run"),
        (1, "core.odoo_opportunities", "odoo:42", "row"),
        (2, "ops.transform_run", str(of_deal), "transform run"),
        (2, "raw.odoo_crm_lead", "42", "row"),
        *loaded(3, "odoo", "crm_lead", 1, "42"),
        (2, "raw.odoo_crm_stage", None, "joined relation"),
    ]
    for key in ("odoo_opportunity:42", "odoo:odoo_opportunity:42", number):
        assert world.trace("search.document", key) == expected
    assert world.trace("search.document", "account:odoo:7")[:4] == [
        (0, "search.document", "account:odoo:7", "row"),
        (1, "ops.transform_run", str(of_documents), "latest transform run"),
        (1, "core.account", "odoo:7", "row"),
        (2, "ops.transform_run", str(runs["account"]), "transform run"),
    ]
    # A deal that is gone from search is told to be deleted.
    world.owner.execute("delete from search.document where entity = 'odoo_opportunity'")
    world.owner.execute("update core.odoo_opportunities set deleted_at = now()")
    assert world.trace("search.document", "odoo_opportunity:42")[:2] == [
        (0, "search.document", "odoo_opportunity:42", "not found"),
        (1, "core.odoo_opportunities", "odoo:42", "deleted row"),
    ]


def test_billing_rows_are_found_in_every_month(world: World) -> None:
    run = world.run("core.billing_usage")
    for key, month in (("1", "2026-09-01"), ("2", "2026-10-01")):
        world.raw("odoo_c_billing_internal_cur", id=int(key))
        world.core("core.billing_usage", run, source_id=key, billing_month=month)
    for key in ("1", "2"):
        assert world.trace("core.billing_usage", key) == [
            (0, "core.billing_usage", f"odoo:{key}", "row"),
            (1, "ops.transform_run", str(run), "transform run"),
            (1, "raw.odoo_c_billing_internal_cur", key, "row"),
            *loaded(2, "odoo", "crm_lead", 1, key),
        ]


def test_the_lineage_is_that_of_the_run_that_wrote_the_row(world: World) -> None:
    """A later SQL file reads another relation; rows that it has not written yet keep what they were made from."""
    first = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=1)
    world.core("core.odoo_opportunities", first, source_id="1")
    second = world.run("core.odoo_opportunities", grains=(Grain("raw.odoo_res_partner"),))
    world.raw("odoo_res_partner", id=2)
    world.core("core.odoo_opportunities", second, source_id="2")
    unrecorded = world.run("core.odoo_opportunities", recorded=False)
    world.core("core.odoo_opportunities", unrecorded, source_id="3")
    statement = (
        "select relation from ops.trace('core.odoo_opportunities', %s) where relation like 'raw.%%' order by step"
    )
    assert query(world.api, statement, "1") == [("raw.odoo_crm_lead",), ("raw.odoo_crm_stage",)]
    assert query(world.api, statement, "2") == [("raw.odoo_res_partner",), ("raw.odoo_crm_stage",)]
    assert query(world.api, statement, "3") == [("raw.odoo_res_partner",), ("raw.odoo_crm_stage",)]
    detail = "select detail ->> 'lineage' from ops.trace('core.odoo_opportunities', %s) where what = 'transform run'"
    assert query(world.api, detail, "1") == [(None,)]
    assert query(world.api, detail, "3") == [(f"of transform run {second}",)]


def test_without_any_recorded_lineage_a_trace_says_that(world: World) -> None:
    run = world.run("core.odoo_opportunities", recorded=False)
    world.core("core.odoo_opportunities", run, source_id="1")
    assert world.trace("core.odoo_opportunities", "1") == [
        (0, "core.odoo_opportunities", "odoo:1", "row"),
        (1, "ops.transform_run", str(run), "transform run"),
    ]
    assert query(
        world.api, "select detail ->> 'lineage' from ops.trace('core.odoo_opportunities', '1') where step = 2"
    ) == [("none is recorded",)]


def test_back_from_raw_to_all_that_was_made_from_a_record(world: World) -> None:
    accounts(world)
    world.run("search.document")
    world.run("core.odoo_opportunities")
    world.document("account", "odoo:7")
    assert world.trace_back("raw.odoo_res_partner", "7") == [
        (0, "raw.odoo_res_partner", "7", "row"),
        (1, "core.account_record", "odoo:7", "row"),
        (2, "core.account_link", "odoo:7", "row"),
        (3, "core.account", "odoo:7", "row"),
        (4, "search.document", "account:odoo:7", "row"),
    ]
    assert world.trace_back("raw.ace_apn_opportunity", "O1") == [
        (0, "raw.ace_apn_opportunity", "O1", "row"),
        (1, "core.account_record", "ace:opportunity:O1", "row"),
        (2, "core.account_link", "ace:opportunity:O1", "row"),
        (3, "core.account", "odoo:7", "row"),
        (4, "search.document", "account:odoo:7", "row"),
    ]
    assert world.trace_back("core.account_link", "ace:C1")[0] == (0, "core.account_link", "ace:C1", "row")
    # Who only joins a record is told by table, not by row.
    world.raw("odoo_crm_stage", id=3)
    assert world.trace_back("raw.odoo_crm_stage", "3") == [
        (0, "raw.odoo_crm_stage", "3", "row"),
        (1, "core.odoo_opportunities", None, "read by"),
    ]
    assert query(world.api, "select detail from ops.trace_back('raw.odoo_crm_stage', '3') where what = 'read by'") == [
        ({"columns": {"id": ["*", "stage"], "is_won": ["status"], "name": ["stage"]}},)
    ]


def test_back_from_a_key_that_looks_like_another_relation_s(world: World) -> None:
    """An ACE company called `opportunity:O1` is not the customer of the opportunity O1."""
    accounts(world)
    world.raw("ace_apn_companies", id="opportunity:O1")
    assert world.trace_back("raw.ace_apn_companies", "opportunity:O1") == [
        (0, "raw.ace_apn_companies", "opportunity:O1", "row")
    ]


def test_back_from_records_that_are_deleted_or_gone(world: World) -> None:
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=1, _deleted_at="2026-11-03 02:00+00")
    for key in ("1", "2"):
        world.core("core.odoo_opportunities", run, source_id=key, deleted_at="2026-11-03 02:00+00")
    for key, what in (("1", "deleted row"), ("2", "not found")):
        assert world.trace_back("raw.odoo_crm_lead", key) == [
            (0, "raw.odoo_crm_lead", key, what),
            (1, "core.odoo_opportunities", f"odoo:{key}", "deleted row"),
        ]
    assert world.trace_back("raw.odoo_crm_lead", "3") == [(0, "raw.odoo_crm_lead", "3", "not found")]


HOSTILE = (
    "",
    "'",
    "'; drop table core.odoo_opportunities; --",
    "42; select 1",
    "042",
    " 42",
    "42.0",
    "-1",
    "99999999999999999999999",
    "NaN",
    "odoo:",
    ":",
    "::::",
    "odoo:odoo:42",
    "%",
    "%s %(x)s",
    "\\",
    "é✓" * 1000,
    "x" * 1_000_000,
    "$1",
    '{"source_id": "42"}',
)


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: key[:12])
def test_a_hostile_key_finds_nothing_and_does_nothing(world: World, key: str) -> None:
    run = world.run("core.odoo_opportunities")
    world.run("search.document")
    world.run("core.account_record")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", run, source_id="42")
    for relation in ("core.odoo_opportunities", "search.document", "core.account", "core.account_record"):
        assert world.trace(relation, key) == [(0, relation, key, "not found")]
    for relation in ("raw.odoo_crm_lead", "raw.ace_apn_companies", "core.odoo_opportunities"):
        assert world.trace_back(relation, key)[0] == (0, relation, key, "not found")
    assert query(world.owner, "select count(*) from core.odoo_opportunities") == [(1,)]


@pytest.mark.parametrize(
    "relation",
    [
        "", "core", "core.", ".", "core.nothing", "core.odoo_opportunities; drop table core.account",
        '"core"."odoo_opportunities"', "pg_catalog.pg_authid", "ops.load", "public.t", "core.billing_usage_2026_09",
        "core.opportunity", "a.b.c.d", "x" * 10_000,
    ],
)  # fmt: skip
def test_only_tables_of_core_and_search_are_traced(world: World, relation: str) -> None:
    for function in ("trace", "trace_back"):
        with pytest.raises(errors.UndefinedTable, match="is no table that can be traced"):
            query(world.api, f"select * from ops.{function}(%s, '1')", relation)
    with pytest.raises(errors.UndefinedTable, match=r"Known are core\.account, .*ops\.trace_back"):
        query(world.api, "select * from ops.trace('raw.odoo_crm_lead', '1')")


def test_views_and_types_that_raw_s_makers_add_are_not_run(world: World) -> None:
    """The functions read with more rights than those who may make things in raw have."""
    world.ingest.execute("create function raw.boom(integer) returns integer language plpgsql as "
                         "'begin raise exception ''run''; end'")  # fmt: skip
    world.ingest.execute("drop table raw.odoo_crm_lead")
    world.ingest.execute(f"create table raw.hidden (id integer primary key, {META})")
    world.ingest.execute(
        "create view raw.odoo_crm_lead as select raw.boom(id) as id, _loaded_at, _load_id, _deleted_at from raw.hidden"
    )
    world.ingest.execute("insert into raw.hidden values (42)")
    run = world.run("core.odoo_opportunities")
    world.core("core.odoo_opportunities", run, source_id="42")
    assert (1, "raw.odoo_crm_lead", "42", "missing row") in world.trace("core.odoo_opportunities", "42")
    world.ingest.execute("drop view raw.odoo_crm_lead")
    world.ingest.execute("create domain raw.odd as integer check (raw.boom(value) > 0)")
    world.ingest.execute(f"create table raw.odoo_crm_lead (id raw.odd, {META})")
    assert (1, "raw.odoo_crm_lead", "42", "missing row") in world.trace("core.odoo_opportunities", "42")
    # Row-level security would run a function of the table's owner: the trace stops instead.
    world.ingest.execute("drop table raw.odoo_crm_lead")
    world.ingest.execute(f"create table raw.odoo_crm_lead (id integer primary key, {META})")
    world.ingest.execute("insert into raw.odoo_crm_lead values (42)")
    world.ingest.execute("create policy p on raw.odoo_crm_lead using (raw.boom(id) > 0)")
    world.ingest.execute("alter table raw.odoo_crm_lead enable row level security")
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        world.trace("core.odoo_opportunities", "42")
    world.ingest.execute("drop table raw.odoo_crm_lead; drop domain raw.odd; drop function raw.boom")


@pytest.mark.parametrize("role", ["revops_api", "revops_quality", "revops_transform", "revops_audit"])
def test_who_may_trace_sees_keys_without_reading_raw(world: World, role: str) -> None:
    run = world.run("core.odoo_opportunities")
    world.raw("odoo_crm_lead", id=42)
    world.core("core.odoo_opportunities", run, source_id="42")
    session = psycopg.connect(
        make_conninfo(world.dsn, options=f"-c role={role} -c default_transaction_read_only=on"), autocommit=True
    )
    with session:
        assert len(query(session, "select * from ops.trace('core.odoo_opportunities', '42')")) == 7
        assert len(query(session, "select * from ops.trace_back('raw.odoo_crm_lead', '42')")) == 2
        if role in ("revops_api", "revops_audit"):
            with pytest.raises(errors.InsufficientPrivilege):
                query(session, "select * from raw.odoo_crm_lead")
        for call in (
            "ops.trace_rows('raw.odoo_crm_lead', '{}', '{}')",
            "ops.trace_made('core.odoo_opportunities', '{}', 0)",
        ):
            if role != "revops_quality":
                with pytest.raises(errors.InsufficientPrivilege):
                    query(session, f"select * from {call}")


@pytest.mark.parametrize("role", ["revops_ingest", "revops_embed"])
def test_others_may_not_trace(world: World, role: str) -> None:
    with psycopg.connect(make_conninfo(world.dsn, options=f"-c role={role}"), autocommit=True) as session:
        for function in ("trace", "trace_back"):
            with pytest.raises(errors.InsufficientPrivilege):
                query(session, f"select * from ops.{function}('core.account', '1')")


def test_the_role_that_traces_can_make_nothing_in_ops(world: World) -> None:
    with psycopg.connect(make_conninfo(world.dsn, options="-c role=revops_quality"), autocommit=True) as session:
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("create table ops.t (id integer)")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("create or replace function ops.trace_key(of_relation text, of_row jsonb) returns text "
                            "language sql as 'select ''x'''")  # fmt: skip


def test_null_gives_no_rows(world: World) -> None:
    assert query(world.api, "select * from ops.trace(null, '1')") == []
    assert query(world.api, "select * from ops.trace_back('raw.odoo_crm_lead', null)") == []


LARGE = {
    "raw.odoo_crm_lead": "insert into raw.odoo_crm_lead (id) select n from generate_series(1, 20000) n",
    "raw.odoo_c_billing_internal_cur": (
        "insert into raw.odoo_c_billing_internal_cur (id) select n from generate_series(1, 20000) n"
    ),
    "core.odoo_opportunities": (
        "insert into core.odoo_opportunities (source_id, title, lead_type, status, tags, raw_load_id, "
        "transform_run_id) select n, 't', 'lead', 'open', '{}', 1, 1 from generate_series(1, 20000) n"
    ),
    "core.billing_usage": (
        "insert into core.billing_usage (source_id, billing_month, raw_load_id, transform_run_id) "
        "select n, '2026-09-01'::date + interval '1 month' * (n % 2), 1, 2 from generate_series(1, 20000) n"
    ),
    "core.account_record": (
        "insert into core.account_record (source_system, source_id, name, normalised_name, is_company, is_archived, "
        "aws_account_ids, raw_load_id, transform_run_id) "
        "select 'odoo', n, 'n', 'n', true, false, '{}', 1, 3 from generate_series(1, 20000) n"
    ),
    "core.account_link": (
        "insert into core.account_link (source_system, source_id, account_id, reason, state, raw_load_id, "
        "transform_run_id) select 'odoo', n, 'odoo:' || n, 'only record', 'live', 1, 4 from generate_series(1, 20000) n"
    ),
    "core.account": (
        "insert into core.account (account_id, source_system, source_id, name, normalised_name, is_company, "
        "is_archived, aws_account_ids, records, systems, raw_load_id, transform_run_id) "
        "select 'odoo:' || n, 'odoo', n, 'n', 'n', true, false, '{}', 1, '{}', 1, 5 from generate_series(1, 20000) n"
    ),
    "search.document": (
        "insert into search.document (source_system, entity, entity_id, title, text, text_hash) "
        "select 'odoo', e, n, 't', 't', '1' from generate_series(1, 10000) n, "
        "unnest(array['odoo_opportunity', 'account']) as e"
    ),
    "ops.quarantine": (
        "insert into ops.quarantine (target, source, source_key, rule, reason, first_run_id, last_run_id) "
        "select 'core.odoo_opportunities', 'odoo', n, 'r', 'r', 'r', 'r' from generate_series(20001, 40000) n"
    ),
    "ops.load": (
        "insert into ops.load (source, table_name, run_id, mode, status) "
        "select 'odoo', 't', n, 'xid', 'failed' from generate_series(1, 20000) n"
    ),
    "ops.source_snapshot": (
        "insert into ops.source_snapshot (source, run_id, snapshot_name) "
        "select 'odoo', n, 's' from generate_series(1, 20000) n"
    ),
    "ops.transform_run": (
        "insert into ops.transform_run (run_id, source, target, status) "
        "select n, 'odoo', 'core.odoo_opportunities', 'failed' from generate_series(1, 20000) n"
    ),
    "ops.lineage_run": (
        "insert into ops.lineage_run (transform_run_id, definition_id) "
        "select t.transform_run_id, 1 from ops.transform_run as t where t.status = 'failed'"
    ),
}


def test_no_large_table_is_scanned(world: World) -> None:
    """What is found by an index takes as long on ten million rows as on these."""
    for target in ("odoo_opportunities", "billing_usage", "account_record", "account_link", "account"):
        world.run(f"core.{target}")
    world.run("search.document")
    for table, statement in LARGE.items():
        world.owner.execute("set role revops_ingest" if table.startswith("raw.") else "reset role")
        world.owner.execute(statement)
        world.owner.execute(sql.SQL("analyze {}").format(sql.Identifier(*table.split("."))))
    calls = [
        ("trace", "core.odoo_opportunities", "15000", 7),
        ("trace", "core.odoo_opportunities", "odoo:15000", 7),
        ("trace", "core.odoo_opportunities", "30000", 2),
        ("trace", "core.odoo_opportunities", "50000", 1),
        ("trace", "core.billing_usage", "15000", 6),
        ("trace", "core.account_record", "15000", 6),
        ("trace", "core.account", "odoo:15000", 10),
        ("trace", "search.document", "odoo_opportunity:7000", 9),
        ("trace", "search.document", "6999", 9),
        ("trace", "search.document", "account:odoo:7000", 11),
        ("trace_back", "raw.odoo_crm_lead", "7000", 3),
        ("trace_back", "raw.odoo_c_billing_internal_cur", "7000", 2),
        ("trace_back", "core.account_record", "7000", 3),
    ]
    for function, relation, key, expected in calls:
        with world.api.transaction():
            rows = query(world.api, f"select * from ops.{function}(%s, %s)", relation, key)
            assert len(rows) == expected, (function, relation, key)
            scanned = query(
                world.api,
                "select schemaname || '.' || relname from pg_stat_xact_user_tables "
                "where (seq_scan > 0 or idx_tup_fetch > 50) "
                "and (schemaname || '.' || relname = any(%s) or relname like 'billing_usage%%') "
                # To read the months that other tests have left empty costs nothing.
                "and relid in (select oid from pg_class where reltuples > 0)",
                list(LARGE),
            )
        assert scanned == [], (function, relation, key)
