"""What the service answers on each route, and what it refuses."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from service import running

ROUTES = {"/embed": "inputs", "/v1/embeddings": "input"}


@pytest.fixture(scope="module")
def service(encoder):
    with running(encoder) as started:
        yield started


def test_embed_returns_what_the_encoder_computes(service, encoder, texts):
    status, answer = service.post("/embed", {"inputs": texts, "prompt": "passage", "truncate": True})
    assert status == 200
    assert answer["model_key"] == encoder.model_key()
    assert (answer["dim"], answer["sparse_dim"]) == (64, encoder.checkpoint.vocabulary)
    wanted = encoder.encode(texts)
    assert len(answer["embeddings"]) == len(texts)
    for row, found in enumerate(answer["embeddings"]):
        # Other batches than here: the last bits differ.
        np.testing.assert_allclose(found["dense"], wanted.dense[row], atol=1e-6)
        ids, weights = wanted.sparse.row(row)
        assert found["sparse"]["ids"] == ids.tolist()
        np.testing.assert_allclose(found["sparse"]["weights"], weights, atol=1e-6)
        assert (found["tokens"], found["truncated"]) == (wanted.tokens[row], wanted.truncated[row])


def test_one_text_alone_gives_the_same_bits(service, encoder):
    _, answer = service.post("/embed", {"inputs": ["a text of its own"], "prompt": "query"})
    wanted = encoder.encode(["a text of its own"], prompt="query").dense[0]
    assert np.array(answer["embeddings"][0]["dense"], np.float32).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "\0",
        "Straße, naïve, smørrebrød",
        "生成AIチャットボット",
        "миграция базы данных",
        "بنك في دبي",
        "👩‍👩‍👧 🇪🇸",
        "e\u0301",
    ],
)
def test_any_text_has_vectors(service, encoder, text):
    status, answer = service.post("/embed", {"inputs": [text]})
    assert status == 200
    (found,) = answer["embeddings"]
    np.testing.assert_allclose(found["dense"], encoder.encode([text]).dense[0], atol=1e-6)
    assert np.isclose(np.linalg.norm(found["dense"]), 1)


def test_no_texts_have_no_vectors(service):
    assert service.post("/embed", {"inputs": []})[1]["embeddings"] == []
    assert service.post("/rerank", {"query": "q", "texts": []})[1]["scores"] == []


def test_openai_floats_and_base64_are_equal(service, encoder):
    status, floats = service.post("/v1/embeddings", {"input": ["first", "second text"], "model": "tiny", "user": "u"})
    assert status == 200
    _, packed = service.post("/v1/embeddings", {"input": ["first", "second text"], "encoding_format": "base64"})
    counts = encoder.encode(["first", "second text"]).tokens.sum()
    for answer in (floats, packed):
        assert (answer["object"], answer["model"]) == ("list", "tiny")
        assert answer["usage"] == {"prompt_tokens": counts, "total_tokens": counts}
        assert [(row["object"], row["index"]) for row in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    unpacked = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in packed["data"]]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in floats["data"]], np.float32), unpacked)
    _, alone = service.post("/v1/embeddings", {"input": "first"})
    np.testing.assert_allclose(alone["data"][0]["embedding"], floats["data"][0]["embedding"], atol=1e-6)


def test_openai_takes_no_other_model_and_no_fewer_dimensions(service, encoder):
    for name in ("tiny", encoder.model_key()):
        assert service.post("/v1/embeddings", {"input": "x", "model": name, "dimensions": 64})[0] == 200
    status, answer = service.post("/v1/embeddings", {"input": "x", "model": "text-embedding-3-small"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")
    assert encoder.model_key() in answer["error"]["message"]
    status, answer = service.post("/v1/embeddings", {"input": "x", "dimensions": 32})
    assert (status, answer["error"]["code"]) == (422, "wrong_dimensions")


@pytest.mark.filterwarnings("ignore")
def test_rerank_scores_as_flag_embedding_does(service, tiny_model, texts):
    from FlagEmbedding import BGEM3FlagModel

    oracle = BGEM3FlagModel(str(tiny_model), use_fp16=False, devices="cpu", query_max_length=64, passage_max_length=64)
    query, passages = "Oracle database for a bank", texts[:20]
    matrices = oracle.encode([query, *passages], return_dense=False, return_colbert_vecs=True)["colbert_vecs"]
    wanted = [float(oracle.colbert_score(matrices[0], matrix)) for matrix in matrices[1:]]
    status, answer = service.post("/rerank", {"query": query, "texts": passages, "truncate": True})
    assert status == 200
    assert answer["model_key"] == service.service.about["model_key"]
    np.testing.assert_allclose(answer["scores"], wanted, atol=1e-6)


def test_a_text_that_is_too_long_is_refused_or_cut(service, encoder):
    text = "migration " * 100
    tokens = int(encoder.encode([text]).tokens[0])
    message = f"a text has {tokens} tokens, the limit is 64: send a shorter one, or have it cut with truncate"
    for path, body in (
        ("/embed", {"inputs": ["short", text]}),
        ("/v1/embeddings", {"input": text}),
        ("/rerank", {"query": "short", "texts": [text]}),
        ("/rerank", {"query": text, "texts": ["short"]}),
    ):
        status, answer = service.post(path, body)
        assert (status, answer["error"]["code"], answer["error"]["message"]) == (413, "too_long", message)
    for _ in range(2):  # from the model, then from the cache
        status, answer = service.post("/embed", {"inputs": [text], "truncate": True})
        assert (status, answer["embeddings"][0]["tokens"], answer["embeddings"][0]["truncated"]) == (200, tokens, True)
    assert service.post("/embed", {"inputs": [text]})[0] == 413
    assert service.post("/rerank", {"query": "q", "texts": [text], "truncate": True})[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/embed", b"", 400, "not_json"),
        ("/embed", b"{", 400, "not_json"),
        ("/embed", b'{"inputs": ["\xff"]}', 400, "not_json"),
        ("/embed", b'{"inputs": ["secret \\ud800"]}', 400, "not_json"),
        ("/embed", b"[" * 100_000, 400, "not_json"),
        ("/embed", b"[]", 422, "wrong_fields"),
        ("/embed", {}, 422, "wrong_fields"),
        ("/embed", {"inputs": "secret"}, 422, "wrong_fields"),
        ("/embed", {"inputs": ["secret", None]}, 422, "wrong_fields"),
        ("/embed", {"inputs": ["secret"], "prompt": "secret"}, 422, "wrong_fields"),
        ("/embed", {"inputs": ["secret"], "truncat": True}, 422, "wrong_fields"),
        ("/embed", {"inputs": ["secret"] * 201}, 413, "too_many_texts"),
        ("/embed", {"inputs": ["secret " * 200_000]}, 413, "body_too_large"),
        ("/rerank", {"query": ["secret"], "texts": []}, 422, "wrong_fields"),
        ("/rerank", {"query": "q", "texts": ["secret"] * 201}, 413, "too_many_texts"),
        ("/v1/embeddings", {"input": []}, 422, "wrong_fields"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "wrong_fields"),
        ("/v1/embeddings", {"input": "secret", "encoding_format": "secret"}, 422, "wrong_fields"),
    ],
)
def test_what_is_wrong_is_said_without_quoting_it(service, path, body, status, code):
    found, answer = service.post(path, body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert "secret" not in str(answer)
    assert service.ask("GET", "/health")[0] == 200


def test_a_megabyte_of_text_is_counted_and_refused(service):
    status, answer = service.post("/embed", {"inputs": ["x y " * 240_000]})
    assert (status, answer["error"]["code"]) == (413, "too_long")


def test_other_routes_and_methods(service):
    assert service.ask("GET", "/nowhere")[0] == 404
    assert service.ask("GET", "/embed")[0] == 405
    assert service.ask("GET", "/nowhere")[1]["error"]["code"] == "no_such_route"


def test_health_waits_for_the_model(service, encoder):
    status, answer, _ = service.ask("GET", "/health")
    assert (status, answer["status"], answer["model_key"]) == (200, "ok", encoder.model_key())
    work, service.service.work = service.service.work, None
    try:
        assert service.ask("GET", "/health")[0] == 503
        status, answer, headers = service.ask("POST", "/embed", {"inputs": ["x"]})
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "loading", "1")
    finally:
        service.service.work = work


def test_metrics_are_prometheus_text(service):
    service.post("/embed", {"inputs": ["counted"]})
    status, said, headers = service.ask("GET", "/metrics")
    assert status == 200
    assert headers.get_content_type() == "text/plain"
    for name in (
        'embedding_requests_total{route="/embed",status="200"}',
        'embedding_texts_total{head="vectors"}',
        "embedding_tokens_total",
        "embedding_batch_fill_bucket",
        "embedding_padding_ratio_sum",
        "embedding_queue_wait_seconds_count",
        "embedding_encode_seconds_sum",
        "embedding_cache_hits_total",
        "embedding_queue_texts",
        "embedding_queue_tokens",
    ):
        assert f"\n{name}" in said
