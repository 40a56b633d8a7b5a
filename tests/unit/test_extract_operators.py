"""The tasks of the first step: when they leave the run's snapshot, and what they tell Airflow and ops.load."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from psycopg.rows import dict_row

from revops.extract.errors import ExtractError, LoadBusyError
from revops.extract.load import LoadResult
from revops.extract.patterns import PatternResult
from revops.extract.snapshot import all_have_left
from revops.keyring import KeyringError
from revops.local.postgres import EmbeddedPostgres
from revops.operators import extract as operators
from revops.sources import Pattern, load_source

pytestmark = pytest.mark.db

MAX_TRIES = 3


@pytest.fixture
def warehouse(as_role: Callable[[str], psycopg.Connection], monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    """The warehouse as the tasks see it, without a source beside it."""
    monkeypatch.setattr(operators, "connect_warehouse", lambda role, **_: as_role(role))
    monkeypatch.setattr(operators, "SNAPSHOT_WAIT_S", 0.0)
    monkeypatch.setattr(operators, "_keyring", lambda _: None)
    return as_role("revops_ingest")


def context(try_number: int = 1) -> Any:
    return {
        "run_id": "run",
        "params": {"full_refresh": True},
        "ti": SimpleNamespace(try_number=try_number, max_tries=MAX_TRIES),
    }


def loading(monkeypatch: pytest.MonkeyPatch, outcome: LoadResult | PatternResult | Exception) -> list[dict[str, Any]]:
    """Let loads end like this; returns what they were asked for."""
    orders: list[dict[str, Any]] = []

    def load(_: Any, **order: Any) -> Any:
        orders.append(order)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(operators, "load_table", load)
    monkeypatch.setattr(operators, "load_pattern", load)
    return orders


def table_task() -> operators.ExtractOperator:
    return operators.ExtractOperator(task_id="crm_lead", source_name="odoo", entry="crm_lead")


def test_a_table_that_is_loaded(warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = loading(monkeypatch, LoadResult("odoo", "crm_lead", 7, read=3, inserted=3))
    result = table_task().execute(context())
    assert (result["load_id"], result["read"], result["inserted"], result["repaired"]) == (7, 3, 3, 0)
    (order,) = orders
    assert (order["table"].name, order["run_id"], order["snapshot"]) == ("crm_lead", "run", None)
    assert (order["full_refresh"], order["accept_deletions"]) == (True, False)
    assert all_have_left(warehouse, source_name="odoo", run_id="run", tasks=["crm_lead"])


@pytest.mark.parametrize(
    ("error", "try_number", "raised", "is_over"),
    [
        (LoadBusyError("later"), 1, LoadBusyError, False),
        (LoadBusyError("later"), MAX_TRIES, LoadBusyError, False),
        (LoadBusyError("later"), MAX_TRIES + 1, LoadBusyError, True),
        (psycopg.errors.DeadlockDetected("later"), 1, ConnectionError, False),
        (psycopg.errors.UndefinedColumn("never"), 1, AirflowFailException, True),
        (ExtractError("never"), 1, AirflowFailException, True),
        (KeyringError("never"), 1, AirflowFailException, True),
    ],
)
def test_a_task_leaves_the_snapshot_when_it_will_not_come_back(
    warehouse: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    try_number: int,
    raised: type[Exception],
    is_over: bool,
) -> None:
    loading(monkeypatch, error)
    with pytest.raises(raised):
        table_task().execute(context(try_number))
    assert all_have_left(warehouse, source_name="odoo", run_id="run", tasks=["crm_lead"]) is is_over
    # What is given up says so, even if no load had begun.
    with warehouse.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute("select table_name, status, is_final, run_id from ops.load").fetchall()
    given_up = {"table_name": "crm_lead", "status": "failed", "is_final": True, "run_id": "run"}
    assert found == ([given_up] if is_over else [])


@pytest.mark.parametrize(
    ("refused", "postponed", "raised"),
    [
        ({}, {}, None),
        ({"a": "no key"}, {}, AirflowFailException),
        ({}, {"b": "locked"}, ConnectionError),
        # A retry may mend one of them: it is worth it.
        ({"a": "no key"}, {"b": "locked"}, ConnectionError),
    ],
)
def test_a_pattern_of_tables(
    warehouse: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    refused: dict[str, str],
    postponed: dict[str, str],
    raised: type[Exception] | None,
) -> None:
    loaded = [LoadResult("odoo", "c", 1, read=5, inserted=2, deleted=1), LoadResult("odoo", "d", 2, read=7, updated=4)]
    loading(monkeypatch, PatternResult(loaded, refused, postponed))
    config = load_source("odoo").model_copy(update={"patterns": (Pattern(name="rest", like=("*",)),)})
    monkeypatch.setattr(operators, "load_source", lambda _: config)
    task = operators.ExtractOperator(task_id="rest", source_name="odoo", entry="rest")
    if raised is None:
        assert task.execute(context()) == {"tables": 2, "read": 12, "changed": 7}
    else:
        with pytest.raises(raised) as caught:
            task.execute(context())
        for name, why in (refused | postponed).items():
            assert f"{name}: {why}" in str(caught.value)
    is_over = raised is not ConnectionError
    assert all_have_left(warehouse, source_name="odoo", run_id="run", tasks=["rest"]) is is_over


@pytest.mark.parametrize("is_required", [False, True])
def test_a_run_begins_with_a_look_at_who_may_do_what(
    warehouse: psycopg.Connection,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    is_required: bool,
) -> None:
    """The source's login and the warehouse's access log are on record, also where the run is refused."""
    monkeypatch.setenv("REVOPS_REQUIRE_READ_ONLY_SOURCE", str(is_required))
    monkeypatch.setattr(operators, "connect_source", lambda *_, **__: psycopg.connect(postgres.conninfo("postgres")))
    held: list[str] = []
    monkeypatch.setattr(operators, "hold_snapshot", lambda *_, run_id, **__: held.append(run_id))
    task = operators.SnapshotOperator(task_id="snapshot", source_name="odoo")
    if is_required:
        with pytest.raises(AirflowFailException, match="odoo: the login postgres is not read-only: it is a superuser"):
            task.execute(context())
    else:
        task.execute(context())
    assert held == ([] if is_required else ["run"])
    found = warehouse.execute("select source, login, write_rights, first_run_id from ops.source_login").fetchall()
    assert found == [("odoo", "postgres", ["is a superuser"], "run")]
    assert warehouse.execute("select mode, last_run_id from ops.access_audit_mode").fetchall()[-1:] == [("none", "run")]
