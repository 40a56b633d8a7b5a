"""Rotation that is killed goes on where it stopped; rotation beside loads loses nothing, and neither waits for long."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import Extract, query
from rotating import Keys, decrypted, key_ids, rotate

from revops.keyring import Keyring
from revops.rotation import record, vacuum
from revops.rotation import table as table_module
from revops.rotation.record import Standing
from revops.rotation.run import rotate_keys

pytestmark = [pytest.mark.db, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
SECRET: dict[str, Any] = {"encrypt": ["email"]}
OF: list[dict[str, Any]] = [{"name": "t", **SECRET}]


def people(rows: int) -> str:
    return (
        "create table t (id integer primary key, name text, email text);"
        f"insert into t select n, repeat('x', 40), 'mail-' || n || '@example.com' from generate_series(1, {rows}) n"
    )


@pytest.fixture
def keys() -> Keys:
    return Keys()


# As a process of its own: what is killed must not be the tests. It says each batch and waits for nobody.
ROTATION = """
import json, sys
import psycopg
from revops.keyring import Keyring
from revops.rotation import table
from revops.rotation.run import rotate_keys

given = json.load(sys.stdin)
table.BATCH_ROWS = 200
table.MOST_PAGES = 16
rotate_keys(
    lambda: psycopg.connect(given["dsn"], options="-c role=revops_ingest"),
    Keyring.parse(given["data"], given["index"]),
    run_id="killed",
    sources=[],
    tell=lambda standing: print(standing.renewed, flush=True),
)
"""


def test_a_rotation_that_was_killed_goes_on_from_the_tokens(
    extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "MOST_PAGES", 16)
    extract.run(people(6000))
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.run("delete from t where id % 100 = 0")
    extract.load(keyring=keys.ring(1), **SECRET)
    before = decrypted(extract.warehouse, keys.ring(1))
    with subprocess.Popen(
        [sys.executable, "-c", ROTATION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "plugins")},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        data = f"2:{keys.data[2]},1:{keys.data[1]}"
        json.dump({"dsn": extract.warehouse_dsn, "data": data, "index": keys.indexes[0]}, process.stdin)
        process.stdin.close()
        said = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while query(extract.warehouse, "select count(*) from pg_locks where locktype = 'advisory'") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    done = key_ids(extract.warehouse)
    assert done[2] >= said > 0
    assert done[1] > 0
    # Half way, everything is readable, and the record is as far as the rows.
    assert decrypted(extract.warehouse, keys.ring(2, 1)) == before
    assert query(extract.warehouse, "select status, rows_renewed from ops.key_rotation") == [("running", done[2])]

    finished = rotate(extract, keys.ring(2, 1), of=OF)

    assert finished.rows == {"odoo_t": 6000 - done[2]}
    assert key_ids(extract.warehouse) == {2: 6000}
    assert decrypted(extract.warehouse, keys.ring(2)) == before
    rotations = "select run_id, status, rows_renewed, error from ops.key_rotation order by key_rotation_id"
    assert query(extract.warehouse, rotations) == [
        ("killed", "failed", done[2], record.LOST),
        ("rotation", "succeeded", 6000 - done[2], None),
    ]


class Rotation(threading.Thread):
    """A rotation beside the test; `join` raises what it raised."""

    def __init__(self, extract: Extract, keyring: Keyring) -> None:
        super().__init__()
        self._extract, self._keyring = extract, keyring
        self.began = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            rotate(self._extract, self._keyring, of=OF, tell=self._tell)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error

    def _tell(self, _: Standing) -> None:
        self.began.set()

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def test_loads_beside_a_rotation_lose_nothing_and_do_not_fail(
    extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "BATCH_ROWS", 50)
    monkeypatch.setattr(table_module, "POLL_S", 0.01)
    monkeypatch.setattr(table_module, "VACUUM_ROWS", 500)
    extract.run(people(4000))
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute("analyze raw.odoo_t")
    rotation = Rotation(extract, keys.ring(2, 1))
    rotation.start()
    assert rotation.began.wait(20)
    loads = 0
    while rotation.is_alive() or loads == 0:
        loads += 1
        extract.run(f"update t set email = 'changed-{loads}-' || id where id % 97 = {loads}")
        extract.run(f"delete from t where id % 101 = {loads}; insert into t values ({10_000 + loads}, 'new', 'new')")
        if loads == 2:
            extract.run("alter table t add column extra integer default 7")
        # Workers that were not restarted yet would be refused; these know both keys.
        result = extract.load(keyring=keys.ring(2, 1), full_refresh=loads == 3, **SECRET)
        assert result.deleted > 0
    rotation.join(60)
    assert set(key_ids(extract.warehouse)) == {2}
    extract.load(keyring=keys.ring(2), **SECRET)
    hidden = ("_loaded_at", "_load_id", "email_blind_index")
    rows = decrypted(extract.warehouse, keys.ring(2), hidden=hidden)
    live = Counter((key, name, email) for key, name, email, deleted_at, *_ in rows.elements() if deleted_at == "None")
    assert live == Counter(query(extract.source, "select id::text, name, email from t"))
    assert rows.total() > live.total()
    assert query(extract.warehouse, "select count(*) from ops.load where status <> 'succeeded'") == [(0,)]
    print(f"{loads} loads beside the rotation")


def test_room_of_renewed_rows_is_used_again(extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "BATCH_ROWS", 500)
    monkeypatch.setattr(table_module, "VACUUM_ROWS", 1000)
    extract.run(people(20_000))
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute("analyze raw.odoo_t")
    size = "select pg_relation_size('raw.odoo_t')"
    before = query(extract.warehouse, size)[0][0]
    rotate(extract, keys.ring(2, 1), of=OF)
    assert key_ids(extract.warehouse) == {2: 20_000}
    grown = query(extract.warehouse, size)[0][0] / before
    print(f"raw grew to {grown:.2f} of its size")
    assert grown < 1.5


def test_a_vacuum_gives_way_to_who_waits_for_the_table(
    extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "POLL_S", 0.01)
    extract.run(people(30_000))
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute("update raw.odoo_t set name = name || 'y'")

    def connect() -> Any:
        session = extract.connect_ingest()
        # So slow that it would take minutes.
        session.execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1")
        session.commit()
        return session

    outcome: list[bool] = []
    worker = threading.Thread(target=lambda: outcome.append(vacuum.vacuum(connect, "odoo_t")))
    worker.start()
    time.sleep(0.3)
    started = time.monotonic()
    extract.ingest.execute("set lock_timeout = '20s'; alter table raw.odoo_t add column late integer")
    extract.ingest.commit()
    waited = time.monotonic() - started
    worker.join(20)
    assert outcome == [False]
    assert waited < 10


@pytest.mark.long
def test_the_pace_of_many_rows(extract: Extract, keys: Keys) -> None:
    extract.run(people(200_000))
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute("analyze raw.odoo_t")
    started = time.monotonic()
    done = rotate_keys(extract.connect_ingest, keys.ring(2, 1), run_id="pace", sources=[])
    seconds = time.monotonic() - started
    assert done is not None
    assert (done.rows, done.tokens, done.retired) == ({"odoo_t": 200_000}, 200_000, [1])
    assert query(extract.warehouse, "select status, tokens_left from ops.key_rotation") == [("succeeded", 0)]
    print(f"200,000 rows in {seconds:.1f} s: {200_000 / seconds:,.0f} rows/s")
