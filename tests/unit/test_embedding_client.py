"""The client of the embedding service, against servers on this machine that answer as it may."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from revops.embedding import service as module
from revops.embedding.queries import QueryVectors, encode_queries, rerank
from revops.embedding.service import Found, ServiceError, find_service
from revops.settings import Settings

NOBODY = "http://127.0.0.1:9"
KEY = "0011223344556677:512:float32"
ROW = {"dense": [0.6, 0.8], "sparse": {"ids": [3, 250001], "weights": [0.5, 0.25]}, "tokens": 3, "truncated": False}


@dataclass
class Answers:
    """What a server says; `posts` are taken one after the other, the last one stays."""

    key: str = KEY
    status: str = "ok"
    posts: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    health: int = 0

    def post(self) -> tuple[int, dict[str, str], Any]:
        return self.posts.pop(0) if len(self.posts) > 1 else self.posts[0]


class Handler(BaseHTTPRequestHandler):
    answers: Answers

    def do_GET(self) -> None:
        self.answers.health += 1
        is_ready = self.answers.status == "ok"
        health = {"status": self.answers.status, **({"model_key": self.answers.key} if is_ready else {})}
        self._say(200 if is_ready else 503, {}, health)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answers.asked.append((self.path, body))
        self._say(*self.answers.post())

    def _say(self, status: int, headers: dict[str, str], content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """A function that starts a server and returns its address."""
    with ExitStack() as ends:

        def start(answers: Answers) -> str:
            server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"answers": answers}))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            ends.callback(server.server_close)
            ends.callback(thread.join)
            ends.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield start


@pytest.fixture(autouse=True)
def proxy_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment, which nobody answers at."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOBODY)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_answered", {})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client makes, which take no time."""
    made: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        made.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return made


def settings(*urls: str) -> Settings:
    return Settings.model_validate(
        {
            "REVOPS_ALERT_EMAIL": "a@example.com",
            "REVOPS_EMBEDDING_PYTHON": sys.executable,
            "REVOPS_EMBEDDING_MODEL": "/models/bge-m3",
            "REVOPS_EMBEDDING_HANDOFF": "/handoff",
            **({"REVOPS_EMBEDDING_URL": ",".join(urls)} if urls else {}),
        }
    )


def test_queries_become_vectors_in_their_order(serve: Callable[[Answers], str]) -> None:
    answers = Answers(posts=[(200, {}, {"model_key": KEY, "embeddings": [ROW, {**ROW, "dense": [1.0, 0.0]}]})])
    found = encode_queries(settings(serve(answers)), ["first", "réduire la facture"], model_key=KEY)
    assert found == [
        QueryVectors([0.6, 0.8], {3: 0.5, 250001: 0.25}, KEY),
        QueryVectors([1.0, 0.0], {3: 0.5, 250001: 0.25}, KEY),
    ]
    body = {"inputs": ["first", "réduire la facture"], "prompt": "query", "truncate": True}
    assert answers.asked == [("/embed", body)]


def test_texts_become_scores(serve: Callable[[Answers], str]) -> None:
    answers = Answers(posts=[(200, {}, {"model_key": KEY, "scores": [0.25, 0.75]})])
    assert rerank(settings(serve(answers)), "q", ["a", "b"], KEY) == [0.25, 0.75]
    assert answers.asked == [("/rerank", {"query": "q", "texts": ["a", "b"], "truncate": True})]


def test_nothing_to_ask_asks_nobody() -> None:
    assert encode_queries(settings(NOBODY), []) == []
    assert rerank(settings(NOBODY), "q", [], KEY) == []


def test_the_service_with_the_wanted_model_is_found_behind_others(serve: Callable[[Answers], str]) -> None:
    loading, other, wanted = serve(Answers(status="loading")), serve(Answers(key="other")), serve(Answers())
    everything = settings(NOBODY, loading, other, wanted)
    assert find_service(everything, KEY) == Found(wanted, KEY)
    assert find_service(everything) == Found(other, "other")


def test_why_none_can_be_asked_is_said_of_each(serve: Callable[[Answers], str]) -> None:
    loading, other = serve(Answers(status="loading")), serve(Answers(key="aaaa:512:bfloat16"))
    with pytest.raises(ServiceError) as caught:
        encode_queries(settings(NOBODY, loading, other), ["secret"], model_key=KEY)
    text = str(caught.value)
    assert f"{NOBODY} can't be reached (" in text
    assert f"{loading} is not ready (loading). Remedy: wait" in text
    assert f"{other} has model aaaa:512:bfloat16, wanted is {KEY}. Remedy: start `embed serve`" in text
    assert "secret" not in text
    with pytest.raises(ServiceError, match="Remedy: set REVOPS_EMBEDDING_URL"):
        find_service(settings())


def test_an_answer_that_is_none_is_told(serve: Callable[[Answers], str]) -> None:
    garbled = serve(Answers(posts=[(200, {}, b"<html>")]))
    with pytest.raises(ServiceError, match="a moment ago and answers with another"):
        encode_queries(settings(garbled), ["x"])
    switched = serve(Answers(posts=[(200, {}, {"model_key": "other", "embeddings": []})]))
    with pytest.raises(ServiceError, match=f"had model {KEY} a moment ago"):
        encode_queries(settings(switched), ["x"])
    refusal = {"error": {"message": "too many texts", "code": "too_many_texts"}}
    with pytest.raises(ServiceError, match="refused with 413: too many texts"):
        encode_queries(settings(serve(Answers(posts=[(413, {}, refusal)]))), ["x"])
    with pytest.raises(ServiceError, match="refused with 500"):
        encode_queries(settings(serve(Answers(posts=[(500, {}, b"")]))), ["x"])


def test_an_overloaded_service_is_asked_again_as_late_as_it_says(
    serve: Callable[[Answers], str], waits: list[float]
) -> None:
    full = (429, {"Retry-After": "3"}, {"error": {"message": "full"}})
    answers = Answers(posts=[full, (429, {}, b""), (200, {}, {"model_key": KEY, "scores": [0.5]})])
    assert rerank(settings(serve(answers)), "q", ["a"], KEY) == [0.5]
    assert len(waits) == 2
    assert 3.0 <= waits[0] <= 3.75
    assert 0.4 <= waits[1] <= 0.5


def test_a_service_that_stays_overloaded_is_given_up(serve: Callable[[Answers], str], waits: list[float]) -> None:
    answers = Answers(posts=[(429, {"Retry-After": "1"}, b"")])
    with pytest.raises(ServiceError, match=r"is overloaded and took nothing for 20 s\. Remedy: try again later"):
        encode_queries(settings(serve(answers)), ["x"])
    assert sum(waits) <= module.PATIENCE_S
    assert len(answers.asked) > 3


def test_a_service_that_answered_is_asked_again_at_once(serve: Callable[[Answers], str]) -> None:
    good = (200, {}, {"model_key": KEY, "scores": [0.5]})
    answers = Answers(posts=[good])
    own = settings(serve(answers))
    for _ in range(3):
        assert rerank(own, "q", ["a"], KEY) == [0.5]
    assert (answers.health, len(answers.asked)) == (1, 3)


def test_a_service_that_changed_is_left_for_the_one_with_the_model(serve: Callable[[Answers], str]) -> None:
    good = (200, {}, {"model_key": KEY, "scores": [0.5]})
    first, second = Answers(posts=[good]), Answers(posts=[(200, {}, {"model_key": KEY, "scores": [0.75]})])
    both = settings(serve(first), serve(second))
    assert rerank(both, "q", ["a"], KEY) == [0.5]
    first.key, first.posts = "other", [(200, {}, {"model_key": "other", "scores": [0.1]})]
    assert rerank(both, "q", ["a"], KEY) == [0.75]
    second.status, second.posts = "loading", [(503, {}, b"")]
    first.key, first.posts = KEY, [good]
    assert rerank(both, "q", ["a"], KEY) == [0.5]
