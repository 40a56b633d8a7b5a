"""The model's supply from a real web server on this machine: whole and verified, or not there."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import run_cli
from repository import REVISION, Server, make_repository

from embedding import fetch as fetching
from embedding.checkpoint import read_checkpoint
from embedding.convert import to_safetensors
from embedding.encoder import Encoder
from embedding.errors import ExitCode, FetchError, ModelError, OutputError, UsageError
from embedding.fetch import fetch
from embedding.manifest import BGE_M3, WEIGHTS, File, Manifest

NO_PAUSE = (0.0, 0.0)


@pytest.fixture(scope="module")
def published(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "model"
    return folder, make_repository(tiny_model, folder)


@pytest.fixture
def manifest(published) -> Manifest:
    return published[1]


@pytest.fixture
def server(published, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(published[0]).running() as running:
        yield running


@pytest.fixture
def call(server, manifest, tmp_path):
    """A function that fetches into tmp_path/model and returns the events."""

    def fetch_now(**changes) -> list[dict]:
        events: list[dict] = []
        arguments = {"output": tmp_path / "model", "endpoint": server.url, "pauses": NO_PAUSE, **changes}
        fetch(arguments.pop("manifest", manifest), emit=events.append, **arguments)
        return events

    return fetch_now


def names(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_fetched_is_the_model_and_says_where_it_came_from(call, manifest, tmp_path, encoder, settings, texts):
    events = call()
    model = tmp_path / "model"
    assert [event["event"] for event in events if event["event"] != "download"] == [
        *["verified"] * len(manifest.files),
        "converted",
        "model",
    ]
    assert events[-1]["built"] is True
    kept = {file.name for file in manifest.files} - {WEIGHTS}
    assert names(model) == kept | {"model.safetensors", "revops_model.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in model.rglob("*"))
    about = json.loads((model / "revops_model.json").read_text())
    assert (about["source"], about["revision"], about["license"]) == ("example/tiny", REVISION, "MIT")
    assert about["files"] == {file.name: file.sha256 for file in manifest.files}
    assert about["safetensors"] == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert read_checkpoint(model).name == "example/tiny"
    np.testing.assert_array_equal(Encoder.load(model, settings).encode(texts).dense, encoder.encode(texts).dense)


def test_a_second_call_asks_nobody_and_a_damaged_model_is_made_again(call, server, tmp_path):
    call()
    asked = len(server.asked)
    assert [event["built"] for event in call()] == [False]
    assert len(server.asked) == asked
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert call()[-1]["built"] is True
    assert weights.read_bytes() == whole


def test_a_cut_connection_is_gone_on_with(call, server):
    server.cut_after = [1000, 5000]
    call()
    assert [bytes_asked for name, bytes_asked in server.asked if name == WEIGHTS] == ["", "bytes=1000-", "bytes=6000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(call, server, manifest, tmp_path):
    server.cut_after = [1000, 0, 0, 0]
    with pytest.raises(FetchError, match=rf"{WEIGHTS} brings nothing after 3 tries: run it again"):
        call()
    assert not (tmp_path / "model").exists()
    before = len(server.asked)
    server.status = [503]
    events = call()
    assert server.asked[before : before + 2] == [(WEIGHTS, "bytes=1000-")] * 2
    assert [name for name, _ in server.asked[before + 2 :]] == [
        file.name for file in manifest.files if file.name > WEIGHTS
    ]
    assert events[-1]["built"] is True


def test_a_server_without_ranges_sends_all_again(call, server):
    server.knows_ranges, server.cut_after = False, [1000]
    assert call()[-1]["built"] is True


@pytest.mark.parametrize("changed", [lambda content: content[:-1] + b"?", lambda content: content + b"more"])
def test_a_changed_file_is_refused_and_not_kept(call, server, published, tmp_path, changed):
    server.changed = {"tokenizer.json": changed((published[0] / "tokenizer.json").read_bytes())}
    with pytest.raises(FetchError, match=r"tokenizer\.json.*--from"):
        call()
    assert not (tmp_path / "model").exists()
    assert "tokenizer.json" not in names(tmp_path / ".model.partial")
    server.changed = {}
    assert call()[-1]["built"] is True


def test_a_missing_file_is_named_with_the_remedy(call, server, manifest):
    gone = Manifest("example/tiny", "elsewhere", "MIT", manifest.files)
    with pytest.raises(FetchError, match=r"/resolve/elsewhere/.* answers 404 .*--endpoint or HF_ENDPOINT.*--from"):
        call(manifest=gone)
    assert len(server.asked) == 1


def test_nobody_there_is_said(call):
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9/.* brings nothing"):
        call(endpoint="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="no http"):
        call(endpoint="file:///etc")


def test_too_small_a_disk_is_said_before_anything_is_fetched(call, server, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    with pytest.raises(OutputError, match=rf"{tmp_path} has 0\.0 GB free, 0\.1 GB are needed"):
        call()
    assert server.asked == []


def test_a_disk_that_fills_meanwhile_is_no_fault_of_the_server(call, server, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As a full disk, for files of this process: a write beyond it fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OutputError, match=r"File too large.*free space"):
            call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert call()[-1]["built"]
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_something_else_is_left_alone(call, tmp_path, server):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("keep")
    with pytest.raises(OutputError, match="holds something else"):
        call()
    assert (tmp_path / "model" / "mine").read_text() == "keep"
    assert server.asked == []


def test_two_calls_do_not_make_one_model(call, tmp_path):
    with fetching._aside(tmp_path / "model"), pytest.raises(OutputError, match="another process"):
        call()


def test_files_from_a_folder_need_no_network(call, server, published, tmp_path):
    folder = shutil.copytree(published[0], tmp_path / "stick")
    before = names(folder)
    assert call(source=folder)[-1]["built"] is True
    assert server.asked == []
    assert names(folder) == before
    shutil.rmtree(tmp_path / "model")
    (folder / WEIGHTS).write_bytes(b"x" * 10)
    with pytest.raises(FetchError, match=rf"stick/{WEIGHTS} is not the file"):
        call(source=folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FetchError, match=rf"stick/{WEIGHTS} is missing"):
        call(source=folder)


def test_pickled_code_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"weight": Evil()}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match="holds no plain tensors"):
        to_safetensors(tmp_path / WEIGHTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_kind_of_tensor_comes_back_equal(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    odd = {"nan": torch.tensor([float("nan"), -0.0]), "scalar": torch.tensor(1, dtype=torch.int64)}
    torch.save({**odd, "one": shared, "two": shared, "turned": shared.T}, tmp_path / WEIGHTS)
    assert to_safetensors(tmp_path / WEIGHTS, tmp_path / "out") == 5


def test_the_manifest_of_bge_m3_is_complete():
    assert {"config.json", "tokenizer.json", "sparse_linear.pt", "colbert_linear.pt"} < {f.name for f in BGE_M3.files}
    assert BGE_M3.weights == File(
        WEIGHTS, 2_271_145_830, "b5e0ce3470abf5ef3831aa1bd5553b486803e83251590ab7ff35a117cf6aad38"
    )
    assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in BGE_M3.files)


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(tmp_path).running() as empty:
        code, events, said = run_cli("fetch-model", "--output", tmp_path / "model", "--endpoint", empty.url)
    assert (code, events) == (ExitCode.FETCH, [])
    assert f"/BAAI/bge-m3/resolve/{BGE_M3.revision}/config.json answers 404" in said
