"""What is read from a model directory, what is refused, and what changes its key."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny import make_tiny_model

from embedding.checkpoint import read_checkpoint
from embedding.encoder import Encoder
from embedding.errors import ModelError
from embedding.model_key import model_key


@pytest.fixture
def copy(tmp_path, tiny_model):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def key(path, *, max_length=512, dtype="float32") -> str:
    return model_key(read_checkpoint(path), max_length=max_length, dtype=dtype)


def test_key_is_stable_and_names_length_and_precision(copy, tiny_model):
    assert key(copy) == key(tiny_model)
    assert key(copy).endswith(":512:float32")
    assert len(key(copy).partition(":")[0]) == 16
    assert len({key(copy), key(copy, max_length=64), key(copy, dtype="bfloat16")}) == 3


def test_key_changes_with_everything_that_changes_vectors(copy, tmp_path):
    before = key(copy)
    assert key(make_tiny_model(tmp_path / "other", seed=1)) != before
    head = torch.load(copy / "sparse_linear.pt")
    torch.save({name: tensor + 1 for name, tensor in head.items()}, copy / "sparse_linear.pt")
    changed = {before, key(copy)}
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    changed.add(key(copy))
    (copy / "config_sentence_transformers.json").write_text('{"prompts": {"query": "find: "}}')
    changed.add(key(copy))
    assert len(changed) == 4


def test_a_file_that_cannot_be_read_is_named(copy):
    checkpoint = read_checkpoint(copy)
    (copy / "sparse_linear.pt").unlink()
    with pytest.raises(ModelError, match=r"sparse_linear\.pt cannot be read .*`make model`"):
        model_key(checkpoint, max_length=64, dtype="float32")


def test_bge_m3_defaults(tiny_model):
    checkpoint = read_checkpoint(tiny_model)
    assert (checkpoint.name, checkpoint.pooling, checkpoint.prompts) == ("tiny", "cls", {})
    assert (checkpoint.dim, checkpoint.max_tokens) == (64, 8_192)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt"])
def test_a_missing_file_is_named(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(ModelError, match=rf"{missing}.*demo-model"):
        read_checkpoint(copy)


@pytest.mark.parametrize("damaged", ["config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt"])
def test_a_damaged_file_is_an_error_with_a_remedy(copy, settings, damaged):
    (copy / damaged).write_bytes((copy / damaged).read_bytes()[:100])
    with pytest.raises(ModelError, match="demo-model"):
        Encoder.load(copy, settings)


def test_weights_that_are_not_there_are_not_invented(copy, settings):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"lack encoder\.layer\.2"):
        Encoder.load(copy, settings)


def test_unknown_pooling_and_model_types_are_refused(copy):
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling/config.json").write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(ModelError, match="lasttoken"):
        read_checkpoint(copy)
    (copy / "config.json").write_text('{"model_type": "llama", "hidden_size": 1, "vocab_size": 1}')
    with pytest.raises(ModelError):
        read_checkpoint(copy)
