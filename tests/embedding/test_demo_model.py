"""The real small model: built from a package, multilingual, with prompts and all three heads."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from embedding.checkpoint import read_checkpoint
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
    wanted = oracle.encode_corpus(PASSAGES, max_length=512, return_dense=True)["dense_vecs"]
    assert np.abs(demo.encode(PASSAGES).dense - wanted).max() < 1e-6
