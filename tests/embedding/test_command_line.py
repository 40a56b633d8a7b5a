from __future__ import annotations

import re

import pytest
import torch
from conftest import run_cli, write_input

from embedding.__main__ import _parser
from embedding.device import choose_device
from embedding.errors import ExitCode, UsageError


def test_stdout_holds_one_json_object_a_line(job, texts):
    write_input(job.source / "a.parquet", texts)
    code, events, _ = run_cli(
        "batch", "--model", job.model, "--input", job.source, "--output", job.output, "--shard-rows", 40,
        "--threads", 1, "--token-budget", 512,
    )  # fmt: skip
    assert code == ExitCode.OK
    start, *shards, end = events
    assert list(start)[:3] == ["event", "device", "device_name"]
    assert start.keys() >= {"device", "dtype", "model_name", "model_key", "dim", "documents", "shards_todo"}
    assert (start["event"], start["documents"], start["shards_todo"]) == ("start", len(texts), 2)
    for done, shard in enumerate(shards, 1):
        assert (shard["event"], shard["done"], shard["total"]) == ("shard", done, 2)
        assert shard.keys() >= {"file", "documents", "tokens", "truncated", "padding_ratio", "seconds"}
    assert end["event"] == "end"
    assert end["documents"] == sum(shard["documents"] for shard in shards) == len(texts)
    assert end["tokens"] == sum(shard["tokens"] for shard in shards)


def test_describe_names_the_key_that_batch_uses(tiny_model, encoder):
    options = ("--max-length", 64, "--dtype", "float32", "--device", "cpu")
    code, events, _ = run_cli("describe", "--model", tiny_model, *options)
    assert code == ExitCode.OK
    assert (events[0]["model_name"], events[0]["model_key"]) == ("tiny", encoder.model_key())


def test_exit_codes_and_messages(job, tmp_path):
    (job.source / "bad.parquet").write_text("no parquet")
    output = ("--output", job.output)
    code, events, said = run_cli("batch", "--model", job.model, "--input", job.source, *output)
    assert (code, events) == (ExitCode.INPUT, [])
    assert "bad.parquet" in said
    code, _, said = run_cli("batch", "--model", tmp_path / "nowhere", "--input", job.source, *output)
    assert code == ExitCode.MODEL
    assert f"{tmp_path / 'nowhere'}" in said
    assert "demo-model" in said
    code, _, said = run_cli("batch", "--model", job.model)
    assert code == ExitCode.USAGE
    assert "--input" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_required_gpu_is_not_replaced_by_the_cpu(job):
    code, events, said = run_cli(
        "batch", "--model", job.model, "--input", job.source, "--output", job.output, "--require-gpu"
    )
    assert (code, events) == (ExitCode.GPU, [])
    assert "a GPU is required" in said


@pytest.mark.parametrize("is_there", [True, False])
def test_a_required_gpu_is_not_ruled_out(monkeypatch, is_there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    with pytest.raises(UsageError, match="--require-gpu and --device cpu contradict each other"):
        choose_device("cpu", require_gpu=True)


def test_help_tells_what_the_exit_codes_mean(capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["batch", "--help"])
    said = capsys.readouterr().out
    for code in ExitCode:
        assert re.search(rf"^  {code:d} +\w", said, re.MULTILINE), code.name
    assert re.search(r"^  143 +stopped by SIGTERM", said, re.MULTILINE)
