"""The client of the embedding service, against servers on this machine that answer as it may."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from revops.embedding import service as module
from revops.embedding.queries import QueryVectors, encode_queries, rerank
from revops.embedding.service import Found, ServiceError, find_service
from revops.settings import Settings

NOBODY = "http://127.0.0.1:9"
KEY = "0011223344556677:512:float32"
ROW = {"dense": [0.6, 0.8], "sparse": {"ids": [3, 250001], "weights": [0.5, 0.25]}, "tokens": 3, "truncated": False}


GOOD = (200, {}, {"model_key": KEY, "scores": [0.5]})
FULL = (429, {}, {"error": {"message": "full"}})
# What the service takes on a processor at the least: include/embedding.
BODY_BYTES = 8 * 1024 * 1024
QUEUE_TOKENS = 64 * 2048


@dataclass
class Answers:
    """What a server says, or what makes it of the body; `posts` are taken one after the other, the last one stays."""

    key: str = KEY
    status: str = "ok"
    posts: list[tuple[int, dict[str, str], Any] | Callable[[Any], Any]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    health: int = 0

    def post(self, body: Any) -> tuple[int, dict[str, str], Any]:
        self.asked.append(body)
        said = self.posts.pop(0) if len(self.posts) > 1 else self.posts[0]
        return said(body[1]) if callable(said) else said


class Handler(BaseHTTPRequestHandler):
    answers: Answers

    def do_GET(self) -> None:
        self.answers.health += 1
        is_ready = self.answers.status == "ok"
        health = {"status": self.answers.status, **({"model_key": self.answers.key} if is_ready else {})}
        self._say(200 if is_ready else 503, {}, health)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._say(*self.answers.post((self.path, body)))

    def _say(self, status: int, headers: dict[str, str], content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: a test broke the connection off, or gave up waiting."""


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """A function that starts a server and returns its address."""
    with ExitStack() as ends:

        def start(answers: Answers) -> str:
            server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"answers": answers}))
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


def settings(*urls: str, max_length: int = 512) -> Settings:
    return Settings.model_validate(
        {
            "REVOPS_ALERT_EMAIL": "a@example.com",
            "REVOPS_EMBEDDING_PYTHON": sys.executable,
            "REVOPS_EMBEDDING_MODEL": "/models/bge-m3",
            "REVOPS_EMBEDDING_HANDOFF": "/handoff",
            "REVOPS_EMBEDDING_MAX_LENGTH": str(max_length),
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


@pytest.mark.parametrize(
    ("text", "max_length"),
    [("word " * 8_192, 8_192), ("word " * 2_700, 2_700), ("🔥" * 99_990, 512), ("\x01" * 99_990, 512)],
    ids=["longest", "long", "four bytes each", "six bytes each in JSON"],
)
def test_texts_of_any_length_are_within_what_the_service_takes(
    serve: Callable[[Answers], str], text: str, max_length: int
) -> None:
    def answer(body: Any) -> tuple[int, dict[str, str], Any]:
        size = len(json.dumps(body, ensure_ascii=False).encode())
        if size > BODY_BYTES or len(body["texts"]) * max_length > QUEUE_TOKENS:
            return 413, {}, {"error": {"message": "too much"}}
        return 200, {}, {"model_key": KEY, "scores": [float(text.split()[0]) for text in body["texts"]]}

    answers = Answers(posts=[answer])
    texts = [f"{number} {text}" for number in range(50)]
    assert rerank(settings(serve(answers), max_length=max_length), "q", texts, KEY) == list(range(50))
    assert [sent for _, body in answers.asked for sent in body["texts"]] == texts


def test_texts_of_usual_length_go_at_once(serve: Callable[[Answers], str]) -> None:
    answers = Answers(posts=[(200, {}, {"model_key": KEY, "scores": [0.5] * 50})])
    assert len(rerank(settings(serve(answers)), "q", ["réduire la facture " * 100] * 50, KEY)) == 50
    assert len(answers.asked) == 1


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
    odd = Answers(posts=[(200, {}, [])])
    with pytest.raises(ServiceError, match="a moment ago and answers with another"):
        encode_queries(settings(serve(odd)), ["x"])
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


def broken_off(_: object) -> None:
    raise ConnectionAbortedError


def too_late(_: object) -> tuple[int, dict[str, str], Any]:
    time.sleep(0.5)
    return GOOD


@pytest.mark.parametrize(
    "failing",
    [
        (429, {"Retry-After": "15"}, b""),
        (500, {}, b""),
        (502, {}, b"<html>"),
        (503, {}, b""),
        (200, {}, {"model_key": "other"}),
        broken_off,
        too_late,
    ],
    ids=["overloaded", "failed", "bad gateway", "not ready", "another model", "broken off", "too late"],
)
@pytest.mark.parametrize("is_known", [False, True])
def test_another_service_answers_for_one_that_does_not(
    serve: Callable[[Answers], str], monkeypatch: pytest.MonkeyPatch, failing: Any, is_known: bool
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", httpx.Timeout(0.2, connect=3.0))
    first, second = Answers(posts=[GOOD]), Answers(posts=[(200, {}, {"model_key": KEY, "scores": [0.75]})])
    both = settings(serve(first), serve(second))
    if is_known:
        assert rerank(both, "q", ["a"], KEY) == [0.5]
    first.posts, first.asked = [failing], []
    started = time.monotonic()
    assert rerank(both, "q", ["a"], KEY) == [0.75]
    assert time.monotonic() - started < module.PATIENCE_S / 4
    # The one that answered is asked first from now on.
    assert rerank(both, "q", ["a"], KEY) == [0.75]
    assert (len(first.asked), len(second.asked)) == (1, 2)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_request_that_is_refused_for_its_own_sake_is_not_tried_elsewhere(
    serve: Callable[[Answers], str], status: int
) -> None:
    first, second = Answers(posts=[(status, {}, {"error": {"message": "too many texts"}})]), Answers(posts=[GOOD])
    url = serve(first)
    with pytest.raises(ServiceError, match=f"{url} refused with {status}: too many texts"):
        rerank(settings(url, serve(second)), "q", ["a"], KEY)
    assert second.asked == []


def test_when_all_are_overloaded_each_is_asked_again_as_late_as_it_says(
    serve: Callable[[Answers], str], waits: list[float]
) -> None:
    first = Answers(posts=[(429, {"Retry-After": "9"}, b""), GOOD])
    second = Answers(posts=[(429, {"Retry-After": "2"}, b""), (429, {"Retry-After": "2"}, b""), GOOD])
    assert rerank(settings(serve(first), serve(second)), "q", ["a"], KEY) == [0.5]
    assert (len(first.asked), len(second.asked)) == (1, 3)
    assert [2.0 <= wait <= 2.5 for wait in waits] == [True, True]


def test_what_was_wrong_with_each_is_said(serve: Callable[[Answers], str], waits: list[float]) -> None:
    full, failed, loading = Answers(posts=[FULL]), Answers(posts=[(500, {}, b"")]), Answers(status="loading")
    urls = serve(full), serve(failed), serve(loading)
    with pytest.raises(ServiceError) as caught:
        rerank(settings(*urls, NOBODY), "q", ["secret"], KEY)
    first, *faults = str(caught.value).splitlines()
    assert first == "no embedding service can be asked:"
    assert [fault.split()[0] for fault in faults] == [*urls, NOBODY]
    for fault, said in zip(
        faults,
        ("is overloaded and took nothing for 20 s", "refused with 500", "is not ready (loading)", "can't be"),
        strict=True,
    ):
        assert said in fault
        assert "Remedy: " in fault
    assert "secret" not in str(caught.value)
    assert (len(failed.asked), loading.health) == (1, 1)
    assert 0 < sum(waits) <= module.PATIENCE_S


def test_a_service_that_another_thread_lost_too_is_lost_once(serve: Callable[[Answers], str]) -> None:
    def lost(_: object) -> tuple[int, dict[str, str], Any]:
        module._answered.clear()
        return 503, {}, b""

    answers = Answers(posts=[GOOD])
    own = settings(serve(answers))
    assert rerank(own, "q", ["a"], KEY) == [0.5]
    answers.posts = [lost, GOOD]
    assert rerank(own, "q", ["a"], KEY) == [0.5]


def test_a_service_with_a_new_model_is_found_again_where_any_will_do(serve: Callable[[Answers], str]) -> None:
    rows = {"model_key": KEY, "embeddings": [ROW]}
    answers = Answers(posts=[(200, {}, rows)])
    own = settings(serve(answers))
    assert encode_queries(own, ["x"])[0].model_key == KEY
    answers.key, answers.posts = "other", [(200, {}, {**rows, "model_key": "other"})]
    assert encode_queries(own, ["x"])[0].model_key == "other"
