"""Many requests at a time: gathered, bounded, never computed twice, never for nobody."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from service import running

from embedding.errors import GpuError


def embed(service, *texts, **options):
    return service.post("/embed", {"inputs": list(texts), **options})


def text_of(encoder, tokens: int, name: object) -> str:
    """Return a text of about so many tokens, at least as many."""
    text = f"{name}"
    while encoder.tokenizer.tokenize([text], prompt="passage").counts[0] < tokens:
        text += " a"
    return text


def hold(service, pool):
    """Let the model's thread wait within a batch; return the request that it works for."""
    service.model.open.clear()
    service.model.entered.clear()
    first = pool.submit(embed, service, "the first text")
    assert service.model.entered.wait(20)
    return first


def test_waiting_requests_share_a_batch_of_the_budget(encoder):
    with running(encoder, budget=120) as service, ThreadPoolExecutor(40) as pool:
        first = hold(service, pool)
        waiting = [pool.submit(embed, service, f"text {number}") for number in range(30)]
        service.wait_for(queue_texts=31)
        service.model.open.set()
        assert [request.result()[0] for request in (first, *waiting)] == [200] * 31
        assert sum(service.model.batches) == 31
        assert len(service.model.batches) < 10
        longest = max(int(count) for count in encoder.encode([f"text {number}" for number in range(30)]).tokens)
        assert all((texts - 1) * longest <= 120 for texts in service.model.batches)
        for number, request in enumerate(waiting):
            found = request.result()[1]["embeddings"][0]["dense"]
            np.testing.assert_allclose(found, encoder.encode([f"text {number}"]).dense[0], atol=1e-6)
        service.wait_for(queue_texts=0, queue_tokens=0)


def test_long_texts_do_not_pad_short_ones_and_nobody_waits_for_ever(encoder):
    with running(encoder, budget=200) as service, ThreadPoolExecutor(40) as pool:
        first = hold(service, pool)
        texts = [text_of(encoder, 55 if number % 2 else 8, number) for number in range(20)]
        waiting = [pool.submit(embed, service, text) for text in texts]
        service.wait_for(queue_texts=21)
        service.model.open.set()
        assert [request.result()[0] for request in (first, *waiting)] == [200] * 21
        batches = service.metric("embedding_padding_ratio_count")
        assert service.metric("embedding_padding_ratio_sum") / batches < 1.2


def test_different_prompts_and_heads_are_different_batches(encoder):
    with running(encoder) as service, ThreadPoolExecutor(8) as pool:
        first = hold(service, pool)
        others = [
            pool.submit(embed, service, "same", prompt="query"),
            pool.submit(embed, service, "same", prompt="passage"),
            pool.submit(service.post, "/rerank", {"query": "same", "texts": ["same", "other"]}),
        ]
        service.wait_for(queue_texts=4)
        service.model.open.set()
        assert [request.result()[0] for request in (first, *others)] == [200] * 4
        assert sorted(service.model.batches) == [1, 1, 1, 1, 2]


def test_equal_texts_are_encoded_once(encoder):
    with running(encoder) as service, ThreadPoolExecutor(20) as pool:
        first = hold(service, pool)
        waiting = [pool.submit(embed, service, *["the same text"] * 50) for _ in range(10)]
        service.wait_for(cache_misses_total=11)
        service.model.open.set()
        answers = [request.result()[1]["embeddings"] for request in waiting]
        assert first.result()[0] == 200
        assert all(row == answers[0][0] for rows in answers for row in rows)
        assert service.model.batches == [1, 1]
        embed(service, "the same text")
        assert service.model.batches == [1, 1]
        assert service.metric("embedding_cache_hits_total") == 1


def test_the_cache_is_bounded_and_may_be_off(encoder):
    with running(encoder, cache=2) as service:
        for text in ("a", "b", "a", "c", "a", "b"):
            embed(service, text)
        assert sum(service.model.batches) == 4  # a, b, c, and b again
    with running(encoder, cache=0) as service:
        embed(service, "a")
        embed(service, "a")
        assert service.model.batches == [1, 1]


def test_overload_is_told_and_survived(encoder):
    with running(encoder, queue_texts=5, cache=0) as service, ThreadPoolExecutor(64) as pool:
        first = hold(service, pool)
        asked = [pool.submit(service.ask, "POST", "/embed", {"inputs": [f"t {number}"]}) for number in range(60)]
        service.wait_for(queue_texts=5)
        service.model.open.set()
        asked += [pool.submit(service.ask, "POST", "/embed", {"inputs": [f"t {number}"]}) for number in range(400)]
        answers = [request.result() for request in asked]
        assert first.result()[0] == 200
        assert {status for status, *_ in answers} == {200, 429}
        for status, body, headers in answers:
            if status == 429:
                assert 1 <= int(headers["retry-after"]) <= 60
                assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "overloaded")
        assert service.ask("GET", "/health")[0] == 200
        assert embed(service, "afterwards")[0] == 200
        service.wait_for(queue_texts=0, queue_tokens=0)


def test_the_queue_is_bounded_in_tokens_too(encoder):
    with running(encoder, queue_tokens=100) as service, ThreadPoolExecutor(8) as pool:
        status, body = embed(service, *[text_of(encoder, 50, number) for number in range(3)])
        assert (status, body["error"]["code"]) == (413, "too_many_tokens")
        first = hold(service, pool)
        second = pool.submit(embed, service, text_of(encoder, 50, "second"))
        service.wait_for(queue_texts=2)
        status, body = embed(service, text_of(encoder, 50, "third"))
        assert (status, body["error"]["code"]) == (429, "overloaded")
        service.model.open.set()
        assert (first.result()[0], second.result()[0]) == (200, 200)
        service.wait_for(queue_texts=0, queue_tokens=0)


def test_nothing_is_encoded_for_a_client_that_left(encoder):
    with running(encoder) as service, ThreadPoolExecutor(8) as pool:
        first = hold(service, pool)
        body = b'{"inputs": ["nobody waits for this", "shared"]}'
        with socket.create_connection(("127.0.0.1", service.port)) as leaver:
            leaver.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            service.wait_for(queue_texts=3)
            stays = pool.submit(embed, service, "shared")
            service.wait_for(cache_misses_total=4)
        service.wait_for(dropped_total=1, queue_texts=2)
        service.model.open.set()
        assert (first.result()[0], stays.result()[0]) == (200, 200)
        assert service.model.batches == [1, 1]
        service.wait_for(queue_texts=0, queue_tokens=0)


def test_a_text_that_the_model_fails_at_fails_alone(encoder, caplog):
    with running(encoder) as service, ThreadPoolExecutor(8) as pool:
        texts = ["good", "this one is so much longer than the others", "good too"]
        service.model.fails_at = {int(encoder.encode([texts[1]]).tokens[0])}
        first = hold(service, pool)
        waiting = [pool.submit(embed, service, text) for text in texts]
        service.wait_for(queue_texts=4)
        service.model.open.set()
        assert first.result()[0] == 200
        assert [request.result()[0] for request in waiting] == [200, 500, 200]
        assert "much longer" not in caplog.text
        assert "the device said no" in caplog.text
        assert service.ask("GET", "/health")[0] == 200


def test_a_bad_text_is_no_bad_model_and_a_bad_model_may_recover(encoder):
    with running(encoder) as service:
        text = "this one is so much longer than all the others"
        service.model.fails_at = {int(encoder.encode([text]).tokens[0])}
        assert embed(service, text)[0] == 500
        assert service.ask("GET", "/health")[0] == 200
        service.model.fails_at = set(range(65))
        assert embed(service, text)[0] == 500
        assert service.ask("GET", "/health")[:2] == (503, {"status": "failing", **service.service.about})
        # Nobody asks a service that says so: it has to find out by itself.
        service.model.fails_at = set()
        assert service.ask("GET", "/health")[0] == 200
        assert embed(service, text)[0] == 200


@pytest.mark.parametrize("error", [GpuError("a batch does not fit"), RuntimeError("the device said no")])
def test_a_gpu_that_lacks_memory_or_fails_at_one_text_goes_on(encoder, error):
    with running(encoder) as service:
        service.model.settings = replace(encoder.settings, device="cuda")
        service.model.error, service.model.fails_at = error, set(range(65))
        for number in range(5):
            assert embed(service, f"text {number}")[0] == 500
        assert service.ask("GET", "/health")[0] == 503
        service.model.fails_at = set()
        assert service.ask("GET", "/health")[0] == 200
        assert embed(service, "text 0")[0] == 200


@pytest.mark.parametrize("said", [b"POST /embed HTTP/1.1\r\nContent-Length: 99\r\n\r\n{", b"\0\0\0\r\n\r\n", b"GET "])
def test_half_a_request_harms_nobody(encoder, said):
    with running(encoder) as service:
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(said)
        assert embed(service, "x")[0] == 200
