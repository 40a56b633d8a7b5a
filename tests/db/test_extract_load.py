"""Loads from a real source into a real warehouse: raw equals the source, whatever happens in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import BIG, PEOPLE, Extract, counts, query, source_config
from psycopg.conninfo import make_conninfo

from revops.extract import ledger, stream
from revops.extract.errors import ExtractError, TableMissingError
from revops.extract.ledger import Ledger, record_given_up

pytestmark = pytest.mark.db


def test_first_load_equals_the_source(extract: Extract) -> None:
    extract.run(PEOPLE)
    assert counts(extract.load()) == (10, 10, 0, 0, 0)
    extract.assert_same()
    load = extract.last_load()
    assert (load["status"], load["full_read_reason"], load["source_rows"]) == ("succeeded", "first load", 10)
    assert load["bytes"] > 0
    assert load["finished_at"] >= load["started_at"]
    assert query(extract.warehouse, "select distinct _load_id, _deleted_at from raw.odoo_t") == [
        (load["load_id"], None)
    ]
    assert query(extract.warehouse, "select load_id from ops.watermark") == [(load["load_id"],)]


def test_second_load_reads_nothing(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    before = extract.everything()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.last_load()["full_read_reason"] is None
    assert extract.everything() == before


def test_an_update_that_touches_no_timestamp_is_found(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("update t set name = 'silent' where id = 4")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


def test_a_row_written_back_to_its_old_value_is_read_but_not_written(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    before = extract.everything()
    extract.run("update t set name = name where id <= 3")
    assert counts(extract.load()) == (3, 0, 0, 3, 0)
    assert extract.everything() == before


def test_a_transaction_open_during_a_load_is_found_by_the_next(extract: Extract) -> None:
    extract.run(PEOPLE)
    late = extract.connect_source()
    late.execute("insert into t (id, name) values (11, 'late')")
    late.execute("update t set name = 'late too' where id = 1")
    late.execute("delete from t where id = 2")
    # Younger transactions finish before the older one does.
    extract.run("insert into t (id, name) values (12, 'younger')")
    assert counts(extract.load()) == (11, 11, 0, 0, 0)
    extract.assert_same()
    extract.run("insert into t (id, name) values (13, 'younger still')")
    extract.load()
    late.commit()
    result = extract.load()
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    extract.assert_same()


def test_insert_update_delete_and_revive(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("insert into t (id, name) values (11, 'new'); update t set name = 'changed' where id = 2")
    extract.run("delete from t where id in (3, 4)")
    assert counts(extract.load()) == (2, 1, 1, 0, 2)
    extract.assert_same()
    load_id = extract.last_load()["load_id"]
    gone = "select id, name, _load_id from raw.odoo_t where _deleted_at is not null order by id"
    assert query(extract.warehouse, gone) == [(3, "name 3", load_id), (4, "name 4", load_id)]
    # The same row comes back with the same values: it lives again all the same.
    extract.run("insert into t select 3, 'name 3', written from t where id = 1")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()
    assert query(extract.warehouse, gone) == [(4, "name 4", load_id)]


def test_a_deleted_row_is_marked_once(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("delete from t where id = 3")
    extract.load()
    before = extract.everything()
    assert counts(extract.load()) == (0, 0, 0, 0, 0)
    assert extract.everything() == before


def test_all_rows_deleted_and_truncated(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("truncate t")
    assert counts(extract.load()) == (0, 0, 0, 0, 10)
    assert extract.raw() == extract.in_source() == Counter()
    extract.run("insert into t (id, name) values (1, 'again')")
    assert counts(extract.load()) == (1, 0, 1, 0, 0)
    extract.assert_same()


@pytest.mark.parametrize(
    "changes",
    [
        "delete from t where id in (2, 3); insert into t (id, name) values (11, 'a'), (12, 'b')",
        "delete from t where id in (1, 10); insert into t (id, name) values (0, 'a'), (11, 'b')",
        "update t set id = id + 100 where id in (5, 6)",
        "update t set id = -id",
    ],
)
def test_as_many_rows_deleted_as_inserted(extract: Extract, changes: str) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run(changes)
    result = extract.load()
    assert result.inserted == result.deleted > 0
    extract.assert_same()


def test_a_row_missing_in_raw_is_noticed_and_full_refresh_mends_it(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("delete from raw.odoo_t where id = 7")
    extract.ingest.commit()
    before = extract.everything()
    with pytest.raises(ExtractError, match=r"raw\.odoo_t lacks 1 row\(s\) of the source by id: 7\..*full_refresh"):
        extract.load()
    assert extract.last_load()["status"] == "failed"
    assert extract.everything() == before
    assert counts(extract.load(full_refresh=True)) == (10, 1, 0, 9, 0)
    extract.assert_same()


def test_a_key_exchanged_in_raw_is_noticed_by_the_digest(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("update raw.odoo_t set id = 99 where id = 7")
    extract.ingest.commit()
    with pytest.raises(ExtractError, match=r"lacks 1 row\(s\) of the source by id: 7\."):
        extract.load()


def test_full_refresh_corrects_values_changed_in_raw(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.ingest.execute("update raw.odoo_t set name = 'wrong' where id = 7")
    extract.ingest.commit()
    with pytest.raises(ExtractError, match=r"differs from the source in column\(s\) name by id: 7\..*full_refresh"):
        extract.load()
    assert counts(extract.load(full_refresh=True)) == (10, 0, 1, 9, 0)
    assert extract.last_load()["full_read_reason"] == "full_refresh was asked for"
    extract.assert_same()


def test_mode_full_reads_every_row_each_time(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load(mode="full")
    extract.run("update t set name = 'x' where id = 1")
    assert counts(extract.load(mode="full")) == (10, 0, 1, 9, 0)
    extract.assert_same()


def test_loads_add_up(extract: Extract) -> None:
    extract.run(PEOPLE)
    extract.load()
    extract.run("update t set name = 'x' where id < 4; update t set name = name where id = 9")
    extract.run("insert into t (id) values (20); delete from t where id = 10")
    extract.load()
    load = extract.last_load()
    kinds = ("rows_read", "inserted", "updated", "unchanged", "deleted", "quarantined", "source_rows")
    assert [load[kind] for kind in kinds] == [5, 1, 3, 1, 1, 0, 10]
    # The warehouse itself refuses a load that does not add up.
    with pytest.raises(psycopg.errors.CheckViolation):
        extract.warehouse.execute("update ops.load set inserted = inserted + 1 where load_id = %s", (load["load_id"],))


def test_a_run_that_gives_up_says_so(extract: Extract) -> None:
    config = source_config()
    error = psycopg.OperationalError("the source is down")
    record_given_up(extract.ingest, config=config, table=config.tables[0], run_id="r1", error=error)
    load = extract.last_load()
    assert (load["status"], load["is_final"], load["run_id"]) == ("failed", True, "r1")
    assert "the source is down" in load["error"]
    with pytest.raises(TableMissingError) as failure:
        extract.load()
    run_id = extract.last_load()["run_id"]
    record_given_up(extract.ingest, config=config, table=config.tables[0], run_id=run_id, error=failure.value)
    assert query(extract.warehouse, "select count(*), bool_and(is_final) from ops.load") == [(2, True)]


def test_a_running_load_tells_others_how_far_it_is(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TELL_S", 0.0)
    monkeypatch.setattr(stream, "PROGRESS_S", 0.0)
    seen: list[tuple[Any, ...]] = []
    columns = "status, phase, rows_read, bytes, expected_rows, format, full_read_reason, seconds"

    update = Ledger._update

    def told(self: Ledger, **facts: Any) -> None:
        update(self, **facts)
        seen.extend(query(extract.warehouse, f"select {columns} from ops.load order by load_id desc limit 1"))

    monkeypatch.setattr(Ledger, "_update", told)
    extract.run(f"{BIG}; analyze t")
    extract.load()
    phases = list(dict.fromkeys(phase for _, phase, *_ in seen))
    assert phases == ["reading", "indexing", "comparing"]
    assert {status for status, *_ in seen} == {"running"}
    reading = [row for row in seen if row[1] == "reading" and row[2] is not None]
    assert len(reading) > 10
    assert [row[2] for row in reading] == sorted(row[2] for row in reading)
    assert 0 < reading[0][2] < 5000
    assert 59_000 < reading[-1][2] <= 60_001
    assert all(row[3] > 300 * row[2] for row in reading)
    assert {row[4:7] for row in reading} == {(60_000, "binary", "first load")}
    assert reading[-1][7] > 0
    seen.clear()
    extract.run("update t set text = 'x' where id <= 100")
    extract.load()
    assert list(dict.fromkeys(phase for _, phase, *_ in seen)) == ["reading", "merging", "comparing"]
    # How many rows have changed is known when they have been read.
    assert {row[4] for row in seen} == {None}
    load = extract.last_load()
    assert (load["status"], load["phase"], load["rows_read"]) == ("succeeded", None, 100)


MEMORY = """
import json, sys
import psycopg
from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.sources import Source

dsns = json.loads(sys.stdin.read())
config = Source.model_validate(
    {"source": "odoo", "connection": "x", "schedule": "@daily", "tables": [{"name": "t"}]}
)
route = Route(lambda: psycopg.connect(dsns[0]), lambda: psycopg.connect(dsns[1]))
result = load_table(route, config=config, table=config.tables[0], run_id="run")
assert result.read == 300_000 and result.bytes > 300_000_000, result
# Not getrusage: its peak counts what the process that started this one had in memory.
status = open("/proc/self/status").read()
print("peak", status.split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_table(extract: Extract) -> None:
    extract.run("create table t (id integer primary key, text text); alter table t alter text set storage plain")
    extract.run("insert into t select n, repeat(md5(n::text), 31) from generate_series(1, 300000) n")
    ingest = make_conninfo(extract.warehouse_dsn, options="-c role=revops_ingest")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=json.dumps([extract.source_dsn, ingest]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "plugins")},
    )
    assert done.returncode == 0, done.stderr
    peak_kb = int(done.stdout.rsplit("peak", 1)[1])
    assert peak_kb < 150_000
    assert extract.last_load()["inserted"] == 300_000
