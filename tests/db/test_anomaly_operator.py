"""The task that measures and judges: which tables it takes, what it returns, and how it stops a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from anomaly_history import CONFIG, review
from builders import query
from structlog.testing import capture_logs

from revops.operators import profile as operators
from revops.quality.anomaly_config import read_anomaly_config
from revops.sources import load_source

pytestmark = pytest.mark.db

# A record with one of these keys kills the task in Airflow's supervisor.
FATAL_KEYS = {"target", "level", "msg"}


@pytest.fixture
def owner(
    warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection], monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """The warehouse, which the task reaches as its role."""
    monkeypatch.setattr(operators, "connect_warehouse", lambda role, **_: as_role(role))
    with psycopg.connect(warehouse_dsn, autocommit=True) as connection:
        yield connection


def loaded(
    owner: psycopg.Connection, table: str, *, run: str = "run", rows: int = 5, status: str = "succeeded"
) -> None:
    """A table of raw, and a load of it."""
    owner.execute(
        f"set role revops_ingest; create table if not exists raw.odoo_{table} (id integer, _deleted_at timestamptz);"
        f"insert into raw.odoo_{table} select generate_series(1, {rows}); reset role"
    )
    owner.execute(
        "insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, unchanged, "
        "deleted, quarantined) values ('odoo', %s, %s, 'xid', %s, %s, %s, 0, 0, 0, 0)",
        (table, run, status, rows, rows),
    )


def run_task(layer: str, run: str = "run", tables: list[str] | None = None) -> Any:
    task = operators.ProfileOperator(task_id=f"profile_{layer}", source_name="odoo", layer=layer, tables=tables)
    with capture_logs() as records:
        try:
            return task.execute({"run_id": run})  # type: ignore[arg-type]
        finally:
            assert not [record for record in records if FATAL_KEYS & set(record) - {"log_level"}]


def measured(owner: psycopg.Connection, run: str = "run") -> list[str]:
    statement = "select distinct dataset from ops.quality_metric where run_id = %s order by 1"
    return [dataset for (dataset,) in query(owner, statement, run)]


def test_of_raw_it_takes_the_listed_tables_that_are_there_and_what_the_run_has_loaded(
    owner: psycopg.Connection,
) -> None:
    listed = [table.name for table in load_source("odoo").tables]
    assert "crm_lead" in listed
    loaded(owner, "crm_lead")
    loaded(owner, "res_partner", run="another")
    loaded(owner, "fits_a_pattern")
    loaded(owner, "fitted_before", run="another")
    loaded(owner, "failed_now", status="failed")
    result = run_task("raw")
    assert measured(owner) == ["raw.odoo_crm_lead", "raw.odoo_fits_a_pattern", "raw.odoo_res_partner"]
    assert result["tables"] == len(listed) + 1
    assert result["anomalies"] == 0
    assert result["metrics"] == query(owner, "select count(*) from ops.quality_metric")[0][0]


def test_of_core_it_takes_what_the_transforms_wrote_or_is_told(owner: psycopg.Connection) -> None:
    for target, source, status in [
        ("core.contact", "odoo", "succeeded"),
        ("core.app_user", "odoo", "failed"),
        ("core.account", "ace", "succeeded"),
        ("search.document", "odoo", "succeeded"),
    ]:
        owner.execute(
            "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, "
            "quarantined) values ('earlier', %s, %s, %s, 0, 0, 0, 0, 0)",
            (source, target, status),
        )
    run_task("core")
    assert measured(owner) == ["core.contact"]
    run_task("core", "told", tables=["bill_line", "account"])
    assert measured(owner, "told") == ["core.account", "core.bill_line"]


def test_a_table_that_was_emptied_fails_the_task_at_once_until_that_is_accepted(
    owner: psycopg.Connection, as_role: Callable[[str], psycopg.Connection]
) -> None:
    loaded(owner, "crm_lead", run="first", rows=5)
    assert run_task("raw", "first")["anomalies"] == 0
    owner.execute("update raw.odoo_crm_lead set _deleted_at = now()")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"raw\.odoo_crm_lead had 5 rows and has none(.|\n)*Remedy"):
            run_task("raw", "second")
    ((anomaly,),) = query(owner, "select anomaly_id from ops.anomaly")
    review(as_role("revops_quality"), anomaly, "accepted")
    assert run_task("raw", "second")["anomalies"] == 0
    assert run_task("raw", "third")["anomalies"] == 0


def test_other_anomalies_warn(owner: psycopg.Connection) -> None:
    loaded(owner, "crm_lead", rows=1000)
    for night in range(CONFIG.least_runs):
        assert run_task("raw", f"night {night}")["anomalies"] == 0
    owner.execute("delete from raw.odoo_crm_lead where id > 400")
    task = operators.ProfileOperator(task_id="profile", source_name="odoo", layer="raw")
    with capture_logs() as records:
        assert task.execute({"run_id": "tonight"})["anomalies"] == 1  # type: ignore[arg-type]
    (warning,) = [record for record in records if record["event"] == "anomaly"]
    assert warning["reason"].startswith("raw.odoo_crm_lead: rows is 400, usual are ")
    assert (warning["log_level"], warning["severity"], warning["is_new"]) == ("warning", "critical", True)


def test_a_wrong_configuration_fails_the_task_at_once(
    owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "anomaly.yaml"
    file.write_text("warning: 1\n")
    monkeypatch.setattr(operators, "read_anomaly_config", lambda: read_anomaly_config(file))
    with pytest.raises(AirflowFailException, match="metrics: Field required"):
        run_task("raw")
