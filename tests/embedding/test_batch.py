from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import command, environment, write_input

from embedding.batch import Job, run
from embedding.device import use_threads
from embedding.encoder import Settings
from embedding.errors import InputError, ModelError, OutputError, UsageError
from embedding.shards import open_output


def collect(job: Job) -> list[dict]:
    events: list[dict] = []
    run(job, events.append)
    return events


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_output_contract(job, encoder, texts):
    write_input(job.source / "b.parquet", texts[30:])
    write_input(job.source / "a.parquet", texts[:30])
    events = collect(job)
    assert [event["event"] for event in events] == ["start", "shard", "shard", "shard", "shard", "end"]
    table = pq.read_table([str(path) for path in sorted(job.output.glob("part-*.parquet"))])
    assert [str(field.type) for field in table.schema] == [
        "binary",
        "fixed_size_list<element: halffloat>[64]",
        "list<element: int32>",
        "list<element: float>",
        "int32",
        "bool",
    ]
    assert table.column_names == ["text_hash", "dense", "sparse_ids", "sparse_weights", "tokens", "truncated"]
    assert table.column("text_hash").to_pylist() == [hashlib.sha256(text.encode()).digest() for text in texts]
    wanted = encoder.encode(texts)
    dense = np.array(table.column("dense").to_pylist(), np.float32)
    np.testing.assert_allclose(dense, wanted.dense, atol=5e-4)
    assert table.column("sparse_ids").to_pylist()[3] == wanted.sparse.row(3)[0].tolist()
    assert table.column("tokens").to_pylist() == wanted.tokens.tolist()
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert metadata == {
        "model_name": "tiny",
        "model_key": encoder.model_key(),
        "dim": "64",
        "sparse_dim": str(encoder.checkpoint.vocabulary),
        "max_length": "64",
        "dtype": "float32",
        "prompt": "passage",
    }


def test_a_second_run_has_nothing_to_do(job, texts):
    write_input(job.source / "a.parquet", texts)
    collect(job)
    before = contents(job.output)
    events = collect(job)
    assert [event["event"] for event in events] == ["start", "end"]
    assert (events[0]["shards_todo"], events[1]["documents_skipped"]) == (0, len(texts))
    assert contents(job.output) == before


def test_lost_damaged_and_half_written_shards_are_made_again(job, texts):
    write_input(job.source / "a.parquet", texts)
    collect(job)
    before = contents(job.output)
    first, second, *_ = sorted(job.output.iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:500])
    (job.output / "part-00003-0123.tmp").write_bytes(b"half")
    assert collect(job)[0]["shards_todo"] == 2
    assert contents(job.output) == before


def test_other_prompt_and_other_model_use_other_files(job, texts):
    write_input(job.source / "a.parquet", texts)
    collect(job)
    assert collect(dataclasses.replace(job, prompt="query"))[0]["shards_todo"] == 4
    other = Settings.choose(device="cpu", dtype="float32", max_length=32)
    assert collect(dataclasses.replace(job, settings=other))[0]["shards_todo"] == 4


@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_and_resumed_equals_uninterrupted(job, texts, told):
    for name in "abcdefgh":
        write_input(job.source / f"{name}.parquet", [f"{name} {i} " + " ".join(texts[:12]) for i in range(100)])
    options = ("--model", job.model, "--input", job.source, "--output", job.output, "--shard-rows", 100)
    options = (*options, "--dtype", "float32", "--device", "cpu", "--max-length", 128)
    use_threads(None)
    settings = Settings.choose(device="cpu", dtype="float32", max_length=128)
    killed = subprocess.Popen(
        command("batch", *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in killed.stdout:
        if json.loads(line).get("done") == 2:
            killed.send_signal(told)
            break
    _, said = killed.communicate(timeout=30)
    if told == signal.SIGTERM:
        assert killed.returncode == 143
        assert said.splitlines()[-1].startswith("embedding: stopped by SIGTERM; finished shards stay")
        assert not list(job.output.glob("*.tmp"))
    else:
        assert killed.returncode == -signal.SIGKILL

    resumed = dataclasses.replace(job, settings=settings, shard_rows=100)
    assert 0 < collect(resumed)[0]["shards_todo"] <= 6
    whole = dataclasses.replace(job, output=job.output.with_name("whole"), settings=settings, shard_rows=100)
    collect(whole)
    assert contents(job.output) == contents(whole.output)


def test_no_files_and_no_rows_are_fine(job):
    assert [event["event"] for event in collect(job)] == ["start", "end"]
    write_input(job.source / "a.parquet", [])
    assert collect(job)[0]["documents"] == 0
    assert contents(job.output) == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, "needs one column text_hash, of type binary; it has text"),
        ({"text_hash": [b"h"], "text": [1]}, "column text is int64; write it as string"),
        ({"text_hash": ["h"], "text": ["a"]}, "column text_hash is string; write it as binary"),
        ({"text_hash": [b"1", b"2"], "text": ["a", None]}, "column text is null in row 1"),
        ({"text_hash": [b"1", None], "text": ["a", "b"]}, "column text_hash is null in row 1"),
    ],
)
def test_bad_columns_are_named(job, columns, message):
    pq.write_table(pa.table(columns), job.source / "bad.parquet")
    with pytest.raises(InputError, match=rf"bad\.parquet.*{message}"):
        collect(job)


def test_a_file_that_is_no_parquet_is_named(job):
    (job.source / "bad.parquet").write_text("text_hash,text")
    with pytest.raises(InputError, match=r"bad\.parquet is not a readable Parquet file"):
        collect(job)


def test_bytes_that_are_not_utf8_are_named(job):
    raw = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"text_hash": [b"h"], "text": raw}), job.source / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is damaged in row 0 .*UTF8"):
        collect(job)


def test_a_lone_surrogate_is_named_by_its_row(job):
    raw = pa.array([b"good", b"fine", "zebra \ud800".encode("utf-8", "surrogatepass"), b"good"])
    texts = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    pq.write_table(pa.table({"text_hash": [b"a", b"b", b"c", b"d"], "text": texts}), job.source / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is damaged in row 2 .*: clean the text") as caught:
        collect(job)
    assert "zebra" not in str(caught.value)
    assert contents(job.output) == {}


def test_a_hundred_thousand_identical_texts(job, encoder):
    write_input(job.source / "a.parquet", ["same again"] * 100_000)
    wide = dataclasses.replace(job.settings, token_budget=16_384)
    events = collect(dataclasses.replace(job, shard_rows=4_096, settings=wide))
    assert (events[-1]["documents"], events[-1]["shards"], events[-1]["padding_ratio"]) == (100_000, 25, 1.0)
    wanted = encoder.encode(["same again"]).dense[0]
    for path in job.output.glob("part-*.parquet"):
        dense = pq.read_table(path).column("dense").combine_chunks().flatten().to_numpy().reshape(-1, len(wanted))
        np.testing.assert_allclose(dense.astype(np.float32), np.broadcast_to(wanted, dense.shape), atol=5e-4)


def test_one_megabyte_is_cut_and_counted(job):
    write_input(job.source / "a.parquet", ["short", "word " * 200_000])
    *_, shard, end = collect(job)
    assert (shard["truncated"], end["truncated"]) == (1, 1)
    table = pq.read_table(job.output / shard["file"])
    assert table.column("truncated").to_pylist() == [False, True]
    assert table.column("tokens").to_pylist()[1] > 200_000


def test_progress_tells_the_pace(job, texts):
    write_input(job.source / "a.parquet", texts)
    start, *shards, end = collect(job)
    assert start["documents_todo"] == len(texts)
    assert start["device_name"].endswith("threads")
    assert [event["documents_done"] for event in shards] == [20, 40, 60, len(texts)]
    assert {event["documents_total"] for event in shards} == {len(texts)}
    for event in (*shards, end):
        assert event["documents_per_second"] > 0
        assert event["tokens_per_second"] > event["documents_per_second"]


def test_a_full_disk_keeps_what_is_finished(job, texts):
    write_input(job.source / "a.parquet", texts)
    collect(job)
    names = sorted(contents(job.output))
    before = contents(job.output)
    for name in names:
        (job.output / name).unlink()

    def fill_up(event: dict) -> None:
        if event.get("done") == 2:
            (job.output / names[2]).with_suffix(".tmp").symlink_to("/dev/full")

    with pytest.raises(OutputError, match=r"No space left on device.*make room there.*finished shards stay"):
        run(job, fill_up)
    kept = contents(job.output)
    assert kept.items() >= {name: before[name] for name in names[:2]}.items()
    assert names[2] not in kept
    assert not [name for name in kept if name.endswith(".tmp")]
    assert collect(job)[0]["shards_todo"] == len(names) - len(kept)
    assert contents(job.output) == before


def test_directories_that_do_not_fit_are_refused(job, tmp_path):
    with pytest.raises(InputError, match="no input directory"):
        collect(dataclasses.replace(job, source=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="both"):
        collect(dataclasses.replace(job, output=job.source))
    with pytest.raises(ModelError, match="demo-model"):
        collect(dataclasses.replace(job, model=tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        collect(dataclasses.replace(job, output=tmp_path / "file"))


def test_two_runs_do_not_write_one_directory(job):
    with open_output(job.output), pytest.raises(OutputError, match="another run"):
        collect(job)
