"""What the encoder's container may do, and what is said when a part of it is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from docker import APIClient

from revops.embedding.container import ContainerRunner
from revops.embedding.encoder import EncoderError, describe_model, encode_texts
from tests.docker.conftest import Desk, assert_equal, read_shards, write_texts


def runner(desk: Desk, **changes: str) -> ContainerRunner:
    desk.environment.update(changes)
    return ContainerRunner(desk.engine, desk.settings, {})


def test_the_result_is_that_of_a_process_to_the_bit(desk: Desk, expected: dict[str, pa.Table]) -> None:
    folder = desk.run_folder("whole")
    texts = write_texts(folder / "in")
    described = desk.start("whole", command="describe").xcom
    task = desk.start("whole", texts=texts)
    encoded = task.xcom
    assert_equal(read_shards(folder / "out"), expected)
    assert encoded["documents"] == texts
    assert (encoded["model_key"], encoded["device"]) == (described["key"], "cpu")
    assert (described["name"], described["dimensions"]) == ("tiny", 128)
    assert desk.containers() == []
    # The log tells what it runs on, and how far it is.
    start = next(line for line in task.lines if "encoder start" in line)
    assert all(word in start for word in ("device", "dtype", "model_key"))
    shards = [line for line in task.lines if "encoder shard" in line]
    assert len(shards) == len(expected)
    assert all("documents_per_second" in line and "total" in line for line in shards)
    assert "hunter2" not in task.log
    assert "migration" not in task.log


def test_no_texts_start_nothing(desk: Desk) -> None:
    # An image that does not exist: asked for anything, the engine would say so.
    encoded = desk.start("none", texts=0, REVOPS_EMBEDDING_IMAGE="there-is-none").xcom
    assert (encoded["documents"], encoded["device"]) == (0, "none")


def test_a_container_can_reach_read_and_change_nothing_else(desk: Desk, interrupted: Any) -> None:
    task, container = interrupted("inside")
    found = desk.engine.inspect_container(container)
    host, config = found["HostConfig"], found["Config"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["PidsLimit"], host["Memory"], host["MemorySwap"]) == (1024, 8 << 30, 8 << 30)
    assert host["Init"] is True
    assert not host["Privileged"]
    assert not host["DeviceRequests"]
    assert config["User"] == f"{os.geteuid() or 10001}:10001"
    mounts = {mount["Destination"]: (mount["Type"], mount["RW"]) for mount in found["Mounts"]}
    folder = desk.run_folder("inside")
    assert mounts == {
        "/models": ("volume", False),
        str(folder / "in"): ("bind", False),
        str(folder / "out"): ("bind", True),
    }
    environment = json.dumps(config["Env"])
    assert "hunter2" not in environment
    assert "AIRFLOW" not in environment
    assert "REVOPS" not in environment
    assert {name: config["Labels"][f"revops.{name}"] for name in ("dag", "task", "map_index", "run", "try")} == {
        "dag": "odoo", "task": "batch", "map_index": "-1", "run": "inside", "try": "1",
    }  # fmt: skip
    seen = _inside(
        desk.engine,
        container,
        "import json, os, pathlib\n"
        "def tries(path):\n"
        "    try: pathlib.Path(path).write_text('x'); return 'written'\n"
        "    except OSError as error: return error.strerror\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)\n"
        "print(json.dumps({'net': sorted(os.listdir('/sys/class/net')), 'uid': os.getuid(),\n"
        " 'root': tries('/x'), 'home': tries('/usr/x'), 'model': tries('/models/tiny/x'), 'tmp': tries('/tmp/x'),\n"
        " 'capabilities': status['CapBnd'].strip(), 'no_new_privileges': status['NoNewPrivs'].strip()}))",
    )
    read_only = "Read-only file system"
    assert seen == {
        "net": ["lo"],
        "uid": os.geteuid() or 10001,
        "root": read_only,
        "home": read_only,
        "model": read_only,
        "tmp": "written",
        "capabilities": "0000000000000000",
        "no_new_privileges": "1",
    }
    task.process.terminate()
    assert task.finish() != 0


def _inside(engine: APIClient, container: str, program: str) -> Any:
    made = engine.exec_create(container, ["python3", "-c", program])
    return json.loads(engine.exec_start(made["Id"]))


def test_the_handoff_may_be_a_volume(desk: Desk, expected: dict[str, pa.Table]) -> None:
    """The hand-off's volume, reached from here at the folder where the engine keeps it."""
    volume = desk.engine.create_volume("revops-test-handoff")
    point = Path(volume["Mountpoint"])
    try:
        if not os.access(point, os.W_OK):
            pytest.skip(f"{point} is on the engine's machine, or not this account's")
        desk.environment["REVOPS_EMBEDDING_HANDOFF"] = str(point)
        desk.environment["REVOPS_EMBEDDING_HANDOFF_VOLUME"] = volume["Name"]
        folder = desk.run_folder("volume")
        folder.mkdir(parents=True, mode=0o700)
        texts = write_texts(folder / "in")
        assert desk.start("volume", texts=texts).xcom["documents"] == texts
        assert_equal(read_shards(folder / "out"), expected)
    finally:
        desk.engine.remove_volume("revops-test-handoff", force=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"REVOPS_EMBEDDING_IMAGE": "revops-there-is-none"}, ["no image revops-there-is-none", "docker build -t"]),
        ({"REVOPS_EMBEDDING_MODEL_VOLUME": "revops-there-is-none"}, ["no volume revops-there-is-none", "make model"]),
        ({"REVOPS_EMBEDDING_MODEL": "/models/nowhere"}, ["no model directory at /models/nowhere", "code 3"]),
        ({"REVOPS_EMBEDDING_GPU": "require"}, ["REVOPS_EMBEDDING_GPU=require", "Container Toolkit"]),
        ({"REVOPS_EMBEDDING_MEMORY": "96m"}, ["more memory than the 96m", "REVOPS_EMBEDDING_MEMORY"]),
    ],
    ids=["image", "volume", "model", "gpu", "memory"],
)
def test_what_is_missing_is_named_with_its_remedy(desk: Desk, changes: dict[str, str], words: list[str]) -> None:
    if "REVOPS_EMBEDDING_GPU" in changes and "nvidia" in desk.engine.info()["Runtimes"]:
        pytest.skip("this engine has a GPU")
    changed = runner(desk, **changes)
    with pytest.raises(EncoderError) as caught:
        describe_model(changed.settings, runner=changed)
    assert all(word in str(caught.value) for word in words), caught.value
    volumes = [volume["Name"] for volume in desk.engine.volumes()["Volumes"] or ()]
    assert "revops-there-is-none" not in volumes
    assert desk.containers() == []


def test_an_image_that_is_no_encoder_is_named(desk: Desk, engine: APIClient) -> None:
    base = engine.inspect_image(desk.environment["REVOPS_EMBEDDING_IMAGE"])
    other = engine.create_container("revops-embedding:test", entrypoint=["echo", "hello"])["Id"]
    made = engine.commit(other, repository="revops-no-encoder", conf={"Entrypoint": ["echo", "hello"]})
    try:
        with pytest.raises(EncoderError, match="no event of its own"):
            describe_model(desk.settings, runner=runner(desk, REVOPS_EMBEDDING_IMAGE="revops-no-encoder"))
    finally:
        engine.remove_container(other)
        engine.remove_image("revops-no-encoder", force=True)
    assert made["Id"] != base["Id"]


def test_a_folder_that_the_engine_does_not_have_is_named(desk: Desk) -> None:
    changes = {"REVOPS_EMBEDDING_MODEL": "/there/is/none"}
    del desk.environment["REVOPS_EMBEDDING_MODEL_VOLUME"]
    changed = runner(desk, **changes)
    with pytest.raises(EncoderError, match="REVOPS_EMBEDDING_MODEL_VOLUME"):
        describe_model(changed.settings, runner=changed)


def test_an_engine_that_does_not_answer_is_tried_again(desk: Desk, tmp_path: Path) -> None:
    task = desk.start("nobody", command="describe", DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    assert task.finish() != 0
    assert "EncoderInterruptedError: the Docker engine does not answer" in task.log
    assert "DOCKER_HOST" in task.log


def test_damaged_texts_are_not_tried_again(desk: Desk) -> None:
    folder = desk.run_folder("damaged")
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "texts.parquet").write_text("no parquet")
    with pytest.raises(EncoderError, match=r"texts\.parquet is not a readable Parquet file"):
        encode_texts(desk.settings, source=folder / "in", output=folder / "out", runner=runner(desk))


def test_another_model_than_the_one_described_is_refused_before_it_encodes(desk: Desk) -> None:
    folder = desk.run_folder("other")
    write_texts(folder / "in", shards=1)
    with pytest.raises(EncoderError, match=r"clear the task `embed\.model`"):
        encode_texts(
            desk.settings, source=folder / "in", output=folder / "out", runner=runner(desk), model_key="another:512:x"
        )
    assert read_shards(folder / "out") == {}
    assert desk.containers() == []
