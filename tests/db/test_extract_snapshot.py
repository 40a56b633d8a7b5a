"""One picture of the source for a run: held until nobody needs it any more, and never longer than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from builders import Extract, query

from revops.extract import snapshot
from revops.extract.snapshot import (
    SharedSnapshot,
    all_have_left,
    exported_snapshot,
    find_snapshot,
    hold_snapshot,
    leave_snapshot,
)

pytestmark = pytest.mark.db

TASKS = ["crm_lead", "res_partner", "rest"]
RUN = {"source_name": "odoo", "run_id": "run"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "POLL_S", 0.02)


Holder = Callable[..., threading.Thread]


@pytest.fixture
def hold(extract: Extract) -> Iterator[Holder]:
    """Hold a snapshot in the background until all tasks have left it, as the task of a run does."""
    threads: list[threading.Thread] = []

    def start(tasks: list[str] = TASKS, *, run_id: str = "run", hold_s: float = 20.0) -> threading.Thread:
        thread = threading.Thread(
            target=hold_snapshot,
            args=(extract.connect_reader(), extract.connect_ingest()),
            kwargs={
                "source_name": "odoo",
                "run_id": run_id,
                "is_done": lambda warehouse: all_have_left(warehouse, source_name="odoo", run_id=run_id, tasks=tasks),
                "hold_s": hold_s,
            },
        )
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(25)


def leave(extract: Extract, *tasks: str, run_id: str = "run") -> None:
    for task in tasks:
        leave_snapshot(extract.ingest, source_name="odoo", run_id=run_id, task=task)


def found(extract: Extract, *, run_id: str = "run", wait_s: float = 5.0) -> SharedSnapshot | None:
    return find_snapshot(extract.ingest, source_name="odoo", run_id=run_id, wait_s=wait_s)


def records(extract: Extract) -> list[tuple[Any, ...]]:
    """(run, is released, finished tasks) of each run."""
    return query(
        extract.warehouse,
        "select run_id, released_at is not null, finished from ops.source_snapshot order by run_id",
    )


def open_transactions(extract: Extract) -> int:
    return int(
        query(
            extract.source,
            "select count(*) from pg_stat_activity where application_name = 'reader' "
            "and datname = current_database() and xact_start is not null",
        )[0][0]
    )


def test_it_is_held_until_the_last_task_has_left(extract: Extract, hold: Holder) -> None:
    extract.run("create table t (id integer primary key); insert into t values (1)")
    holder = hold()
    shared = found(extract)
    assert shared is not None
    extract.run("insert into t values (2)")
    for task in TASKS[:2]:
        leave(extract, task)
        holder.join(0.2)
        assert holder.is_alive()
    # Whoever comes late still reads the picture of the export.
    extract.load(snapshot=shared)
    assert extract.raw() == {("1",): 1}
    leave(extract, "rest")
    holder.join(5)
    assert not holder.is_alive()
    assert records(extract) == [("run", True, TASKS)]
    assert open_transactions(extract) == 0
    assert found(extract) is None


def test_tasks_that_end_before_the_export_are_not_waited_for(extract: Extract, hold: Holder) -> None:
    """A table's task may fail at once, as for a missing setting, while the holder is still connecting."""
    leave(extract, "rest", "crm_lead")
    assert records(extract) == [("run", False, ["rest", "crm_lead"])]
    # There is no snapshot yet.
    assert found(extract, wait_s=0) is None
    holder = hold()
    assert found(extract) is not None
    holder.join(0.2)
    assert holder.is_alive()
    leave(extract, "res_partner")
    holder.join(5)
    assert not holder.is_alive()


def test_when_all_have_left_before_it_ends_at_once(extract: Extract, hold: Holder) -> None:
    leave(extract, *TASKS)
    holder = hold()
    holder.join(5)
    assert not holder.is_alive()
    assert records(extract) == [("run", True, TASKS)]


def test_a_run_that_is_repeated_begins_anew(extract: Extract, hold: Holder) -> None:
    first = hold()
    assert found(extract) is not None
    leave(extract, *TASKS)
    first.join(5)
    (before,) = query(extract.warehouse, "select snapshot_name, exported_at from ops.source_snapshot")
    again = hold()
    again.join(0.3)
    # What the tasks did the first time does not count.
    assert again.is_alive()
    shared = found(extract)
    assert shared is not None
    assert records(extract) == [("run", False, [])]
    (after,) = query(extract.warehouse, "select snapshot_name, exported_at from ops.source_snapshot")
    assert after[0] == shared.name
    assert after[1] > before[1]
    leave(extract, *TASKS)
    again.join(5)
    assert not again.is_alive()


def test_a_holder_that_is_tried_again_remembers_who_has_left(extract: Extract, hold: Holder) -> None:
    """The first one was killed: nobody released its snapshot, and those who have read need no second one."""
    extract.ingest.execute(
        "insert into ops.source_snapshot (source, run_id, snapshot_name) values ('odoo', 'run', '00000003-00000002-1')"
    )
    extract.ingest.commit()
    leave(extract, "crm_lead", "rest")
    holder = hold()
    holder.join(0.3)
    assert holder.is_alive()
    shared = found(extract)
    assert shared is not None
    assert shared.name != "00000003-00000002-1"
    leave(extract, "res_partner")
    holder.join(5)
    assert not holder.is_alive()


def test_runs_do_not_share(extract: Extract, hold: Holder) -> None:
    first, second = hold(run_id="one"), hold(run_id="two")
    shared = [found(extract, run_id=run_id) for run_id in ("one", "two")]
    assert None not in shared
    assert shared[0] != shared[1]
    leave(extract, *TASKS, run_id="one")
    first.join(5)
    assert not first.is_alive()
    assert second.is_alive()
    assert found(extract, run_id="one") is None
    assert found(extract, run_id="two") == shared[1]
    leave(extract, *TASKS, run_id="two")


@pytest.mark.parametrize(
    ("left", "tasks", "expected"),
    [
        ([], ["a"], False),
        (["a"], ["a"], True),
        (["a", "a"], ["a", "b"], False),
        (["b", "a", "a"], ["a", "b"], True),
        (["a", "b", "c"], ["a"], True),
        (["A"], ["a"], False),
        (["{a,b}"], ["a", "b"], False),
        (['x"y', "NULL", ""], ["NULL", 'x"y'], True),
    ],
)
def test_who_has_left(extract: Extract, left: list[str], tasks: list[str], expected: bool) -> None:
    leave(extract, *left)
    assert all_have_left(extract.ingest, source_name="odoo", run_id="run", tasks=tasks) is expected
    assert all_have_left(extract.ingest, source_name="ace", run_id="run", tasks=tasks) is False


def test_those_who_wait_find_it_as_soon_as_it_is_there(extract: Extract, hold: Holder) -> None:
    timer = threading.Timer(0.3, hold)
    timer.start()
    started = time.monotonic()
    assert found(extract) is not None
    assert 0.2 < time.monotonic() - started < 4
    timer.join()
    leave(extract, *TASKS)


def test_a_server_that_ends_idle_transactions_is_kept_awake(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "KEEP_ALIVE_S", 0.1)
    source = extract.connect_reader()
    source.execute("set idle_in_transaction_session_timeout = '400ms'")
    source.commit()
    hold_snapshot(source, extract.connect_ingest(), **RUN, is_done=lambda _: False, hold_s=1.0)
    assert not source.broken
    assert source.execute("select 1").fetchone() == (1,)


def test_a_failure_releases_it(extract: Extract) -> None:
    def fail(_: psycopg.Connection) -> bool:
        raise KeyboardInterrupt

    source = extract.connect_reader()
    with pytest.raises(KeyboardInterrupt):
        hold_snapshot(source, extract.connect_ingest(), **RUN, is_done=fail, hold_s=20)
    assert records(extract) == [("run", True, [])]
    assert source.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_snapshot_of_ones_own_ends_with_its_use(extract: Extract) -> None:
    extract.run("create table t (id integer primary key); insert into t values (1)")
    with exported_snapshot(extract.connect_reader, None) as name:
        assert open_transactions(extract) == 1
        extract.run("insert into t values (2)")
        extract.load(snapshot=name)
        assert extract.raw() == {("1",): 1}
    deadline = time.monotonic() + 5
    while open_transactions(extract):
        assert time.monotonic() < deadline
    with exported_snapshot(extract.connect_reader, SharedSnapshot("shared")) as name:
        assert name == "shared"
        assert open_transactions(extract) == 0
