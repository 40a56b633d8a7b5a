from __future__ import annotations

import json
import subprocess

from conftest import command, environment

from embedding.errors import ExitCode


def start(tiny_model, **options) -> subprocess.Popen:
    return subprocess.Popen(
        command("--end-with-stdin", "describe", "--model", tiny_model),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_an_encoder_whose_caller_is_gone_before_it_begins_ends_at_once(tiny_model):
    with start(tiny_model, stdin=subprocess.DEVNULL) as process:
        said, _ = process.communicate(timeout=120)
    assert (process.returncode, said) == (ExitCode.ABANDONED, "")


def test_it_works_as_long_as_its_input_is_open_whatever_comes_in(tiny_model):
    with start(tiny_model, stdin=subprocess.PIPE) as process:
        process.stdin.write("anything\n" * 10_000)
        process.stdin.flush()
        said = process.stdout.read()
        assert process.wait(timeout=120) == ExitCode.OK
    assert json.loads(said)["event"] == "model"
