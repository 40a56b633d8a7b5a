"""The encoder against FlagEmbedding's own BGE-M3 class, on the same random weights."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedding.encoder import Encoder, Settings
from embedding.errors import GpuError, ModelError, UsageError
from embedding.weights import load_weights


@pytest.fixture(scope="module")
def oracle(tiny_model):
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(str(tiny_model), use_fp16=False, devices="cpu")


def assert_equals_oracle(encoder: Encoder, texts: list[str], wanted: dict) -> None:
    got = encoder.encode(texts)
    assert np.abs(got.dense - wanted["dense_vecs"]).max() < 1e-6
    for mine, theirs in zip(sparse_rows(got), wanted["lexical_weights"], strict=True):
        assert mine == pytest.approx({int(token): weight for token, weight in theirs.items()}, abs=1e-6)
    for mine, theirs in zip(encoder.encode_colbert(texts), wanted["colbert_vecs"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6, rtol=0)


def sparse_rows(embeddings) -> list[dict[int, float]]:
    rows = (embeddings.sparse.row(index) for index in range(len(embeddings.dense)))
    return [dict(zip(ids.tolist(), weights.tolist(), strict=True)) for ids, weights in rows]


@pytest.mark.filterwarnings("ignore")
def test_equals_flag_embedding(encoder, oracle, texts):
    wanted = oracle.encode(
        texts, batch_size=16, max_length=64, return_dense=True, return_sparse=True, return_colbert_vecs=True
    )
    assert_equals_oracle(encoder, texts, wanted)


@pytest.mark.filterwarnings("ignore")
def test_equals_flag_embedding_at_8192_tokens(tiny_model, oracle):
    long = Encoder.load(tiny_model, Settings.choose(device="cpu", dtype="float32", max_length=8_192))
    texts = ["word " * 20_000]
    wanted = oracle.encode(texts, max_length=8_192, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    assert_equals_oracle(long, texts, wanted)


def test_a_stream_gives_what_single_items_give(encoder, texts):
    items = [texts[:25], [], texts[25:]]
    tokens = [encoder.tokenizer.tokenize(item, prompt="passage") for item in items]
    for key, future in encoder.encode_stream(enumerate(tokens)):
        wanted, got = encoder.encode(items[key]), future.result()
        assert np.array_equal(got.dense, wanted.dense)
        assert sparse_rows(got) == sparse_rows(wanted)
        assert got.tokens.tolist() == wanted.tokens.tolist()
        assert (got.encoded_tokens, got.padded_tokens) == (wanted.encoded_tokens, wanted.padded_tokens)


class Failing(torch.nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, **_):
        raise self.error


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            GpuError,
            r"1 x \d+ tokens does not fit .* lower --token-budget",
        ),
        (RuntimeError("device-side assert"), RuntimeError, "^device-side assert$"),
    ],
)
def test_only_a_lack_of_memory_is_told_as_such(tiny_model, encoder, settings, raised, error, message):
    weights = load_weights(encoder.checkpoint, device="cpu", dtype="float32")
    broken = Encoder(encoder.checkpoint, settings, weights=replace(weights, transformer=Failing(raised)))
    with pytest.raises(error, match=message):
        broken.encode(["a"])
    with pytest.raises(error, match=message):
        list(broken.encode_stream([(0, broken.tokenizer.tokenize(["a"], prompt="passage"))]))


def test_nan_is_an_error_in_every_head(encoder, settings):
    weights = load_weights(encoder.checkpoint, device="cpu", dtype="float32")
    for head in (weights.sparse, weights.colbert):
        torch.nn.init.constant_(head.bias, float("nan"))
    broken = Encoder(encoder.checkpoint, settings, weights=weights)
    with pytest.raises(ModelError, match="NaN or infinity in float32"):
        broken.encode(["a"])
    with pytest.raises(ModelError, match="NaN"):
        broken.encode_colbert(["a"])
    ((_, future),) = broken.encode_stream([(0, broken.tokenizer.tokenize(["a"], prompt="passage"))])
    with pytest.raises(ModelError, match="NaN"):
        future.result()


def test_is_deterministic_and_keeps_the_order(encoder, texts):
    first = encoder.encode(texts)
    assert np.array_equal(first.dense, encoder.encode(texts).dense)
    backwards = encoder.encode(texts[::-1])
    np.testing.assert_allclose(backwards.dense[::-1], first.dense, atol=1e-6)
    assert sparse_rows(backwards)[::-1][:5] == [pytest.approx(row, abs=1e-6) for row in sparse_rows(first)[:5]]
    assert backwards.tokens[::-1].tolist() == first.tokens.tolist()


def test_sparse_ids_ascend_and_leave_special_tokens_out(encoder, texts):
    got = encoder.encode(texts)
    for index in range(len(texts)):
        ids, weights = got.sparse.row(index)
        assert (np.diff(ids) > 0).all()
        assert not set(ids.tolist()) & {0, 1, 2, 3}
        assert (weights > 0).all()


def test_no_texts_and_empty_texts(encoder):
    nothing = encoder.encode([])
    assert nothing.dense.shape == (0, 64)
    assert nothing.sparse.offsets.tolist() == [0]
    empty = encoder.encode([""])
    assert np.linalg.norm(empty.dense[0]) == pytest.approx(1)
    assert empty.tokens.tolist() == [2]
    assert sparse_rows(empty) == [{}]
    assert encoder.encode_colbert([]) == []


def test_nul_and_one_megabyte_are_encoded_and_cut(encoder):
    got = encoder.encode(["a\0b", "word " * 200_000, "x" * 1_000_000])
    assert got.truncated.tolist() == [False, True, True]
    assert got.tokens[1] > 200_000
    assert got.encoded_tokens == got.tokens[0] + 2 * 64
    assert np.isfinite(got.dense).all()


def test_all_8192_tokens_are_used(tiny_model):
    long = Encoder.load(tiny_model, Settings.choose(device="cpu", dtype="float32", max_length=8_192))
    got = long.encode(["word " * 20_000, "short"])
    assert got.truncated.tolist() == [True, False]
    assert got.encoded_tokens == 8_192 + got.tokens[1]
    with pytest.raises(UsageError, match="takes 8192 tokens, not 8193"):
        Encoder.load(tiny_model, Settings.choose(max_length=8_193))


@pytest.mark.parametrize(
    ("bad", "message"), [("lone \ud800", "text 1 holds a lone surrogate"), (None, "text 1 is NoneType")]
)
def test_what_is_no_text_is_named(encoder, bad, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode(["good", bad])


def test_bfloat16_stays_close(tiny_model, encoder, texts):
    half = Encoder.load(tiny_model, Settings.choose(device="cpu", dtype="bfloat16", max_length=64))
    assert (half.encode(texts).dense * encoder.encode(texts).dense).sum(1).min() > 0.999


def test_pickled_weights_give_the_same_vectors(tmp_path, tiny_model, encoder, settings, texts):
    # The layout of the published BGE-M3.
    pickled = shutil.copytree(tiny_model, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    again = Encoder.load(pickled, settings)
    assert np.array_equal(again.encode(texts).dense, encoder.encode(texts).dense)


def test_pickled_code_is_not_run(tmp_path, tiny_model, settings):
    hostile = shutil.copytree(tiny_model, tmp_path / "hostile")
    (hostile / "sparse_linear.pt").write_bytes(pickle.dumps({"weight": Path("/"), "bias": exit}))
    with pytest.raises(ModelError, match=r"sparse_linear\.pt is not a linear layer"):
        Encoder.load(hostile, settings)
