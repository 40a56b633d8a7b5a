"""An encoder ended in every way: the next try goes on where it stopped, to the same bits, and nothing is left."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from docker import APIClient

from revops.embedding import container as containers
from revops.embedding.container import INSTALLATION, ContainerRunner
from tests.docker.conftest import SHARDS, Desk, Task, assert_equal, read_shards
from tests.docker.cut import Way

Begin = Callable[..., tuple[Task, str]]
ABANDONED = 7
# So long Airflow lets a task that it ends put things in order.
GRACE_S = 5


def finish_by_a_second_try(desk: Desk, run_id: str, expected: dict[str, pa.Table]) -> Task:
    """Run the task again: it must encode what is missing, and no more."""
    done = len(read_shards(desk.run_folder(run_id) / "out"))
    assert 0 < done < SHARDS
    task = desk.start(run_id, attempt=2, texts=1)
    assert task.xcom["documents"] == sum(len(table) for table in expected.values()) * (SHARDS - done) // SHARDS
    assert_equal(read_shards(desk.run_folder(run_id) / "out"), expected)
    assert desk.containers() == []
    return task


def test_sigkill_of_the_task(desk: Desk, interrupted: Begin, expected: dict[str, pa.Table]) -> None:
    task, container = interrupted("killed")
    task.process.kill()
    task.finish()
    # The engine closes its input with the connection of the client: it works for nobody no longer.
    assert desk.engine.wait(container, timeout=60)["StatusCode"] == ABANDONED
    second = finish_by_a_second_try(desk, "killed", expected)
    assert "removing a container" in second.log


def test_sigkill_of_the_container(desk: Desk, interrupted: Begin, expected: dict[str, pa.Table]) -> None:
    task, container = interrupted("container")
    desk.engine.kill(container)
    assert task.finish() != 0
    assert "EncoderInterruptedError: the encoder ended with code 137 (killed)" in task.log
    assert desk.containers() == []
    finish_by_a_second_try(desk, "container", expected)


def test_removal_of_the_container(desk: Desk, interrupted: Begin, expected: dict[str, pa.Table]) -> None:
    task, container = interrupted("removed")
    desk.engine.remove_container(container, force=True)
    assert task.finish() != 0
    # Its exit code may still have come before it was gone.
    assert re.search("EncoderInterruptedError: the encoder('s container was removed| ended with code 137)", task.log)
    finish_by_a_second_try(desk, "removed", expected)


@pytest.fixture
def way(engine: APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Way, str]]:
    address = engine.base_url
    if address != "http+docker://localhost":
        pytest.skip(f"the engine is not reached by a unix socket: {address}")
    path = Path(engine._custom_adapter.socket_path)

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(path))
        return made

    here = tmp_path_factory.mktemp("way") / "docker.sock"
    made = Way(here, connect)
    yield made, f"unix://{here}"
    made.close()


@pytest.mark.parametrize("is_lasting", [False, True], ids=["for a moment", "for good"])
def test_loss_of_the_connection(
    desk: Desk, interrupted: Begin, expected: dict[str, pa.Table], way: tuple[Way, str], is_lasting: bool
) -> None:
    path, address = way
    task, container = interrupted("cut", DOCKER_HOST=address)
    (path.close if is_lasting else path.cut)()
    assert task.finish() != 0
    assert "EncoderInterruptedError" in task.log
    if is_lasting:
        # Nobody could remove it, but it has ended, and the next try does.
        assert desk.engine.wait(container, timeout=60)["StatusCode"] == ABANDONED
    else:
        assert desk.containers() == []
    finish_by_a_second_try(desk, "cut", expected)


def test_a_task_that_airflow_ends_removes_its_container_in_time(desk: Desk, interrupted: Begin) -> None:
    task, _ = interrupted("ended")
    task.process.terminate()
    try:
        task.process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        task.process.kill()
    assert desk.containers() == []
    assert task.finish() != 0


def test_what_was_left_is_swept_and_what_is_others_is_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"revops.dag": "odoo", "revops.task": "encode", "revops.map_index": "-1"}
    runner = ContainerRunner(desk.engine, desk.settings, own)
    here = {INSTALLATION: str(desk.handoff)}

    def left(labels: dict[str, str], *, runs: bool) -> str:
        made = desk.engine.create_container(desk.settings.embedding_image, entrypoint=["sleep", "600"], labels=labels)
        if runs:
            desk.engine.start(made["Id"])
        return str(made["Id"])

    running = left({**own, **here, "revops.run": "yesterday"}, runs=True)
    created = left({**own, **here}, runs=False)
    other_task = left({**own, **here, "revops.task": "model"}, runs=True)
    other_place = left({**own, INSTALLATION: "/elsewhere"}, runs=True)
    try:
        ContainerRunner(desk.engine, desk.settings, {}).sweep()
        assert {item["Id"] for item in desk.containers()} == {running, created, other_task}
        runner.sweep()
        assert {item["Id"] for item in desk.containers()} == {other_task}
        # Older than any task may run, it is nobody's.
        monkeypatch.setattr(containers, "STALE_S", -60)
        runner.sweep()
        assert desk.containers() == []
        assert desk.engine.inspect_container(other_place)["State"]["Running"]
    finally:
        desk.engine.remove_container(other_place, force=True)


def test_a_task_that_was_ended_starts_no_container(desk: Desk) -> None:
    own = {"revops.dag": "odoo", "revops.task": "model", "revops.map_index": "-1"}
    runner = ContainerRunner(desk.engine, desk.settings, own)
    runner.kill()
    with pytest.raises(containers.EncoderInterruptedError, match="ended before its encoder began"):
        list(runner.run(["describe", "--model", str(desk.settings.embedding_model)]))
    assert desk.containers() == []
