"""The service in a thread of the test's own process, and its model held back when a test says so."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from embedding.encoder import Encoder
from embedding.service_app import Service
from embedding.service_bodies import BodyReader
from embedding.service_metrics import Metrics
from embedding.service_work import Work
from embedding.waiting import Limits


class Held:
    """The real encoder behind a gate; counts the texts of each batch."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.fails_at: set[int] = set()  # batches of these lengths in tokens a text
        self.error: Exception = RuntimeError("the device said no")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_tokens(self, tokens: Any) -> Any:
        self._pass(len(tokens.counts))
        if self.fails_at & set(tokens.lengths.tolist()):
            raise self.error
        return self._encoder.encode_tokens(tokens)

    def encode_colbert(self, texts: Sequence[str], **options: Any) -> Any:
        self._pass(len(texts))
        return self._encoder.encode_colbert(texts, **options)

    def _pass(self, texts: int) -> None:
        self.entered.set()
        assert self.open.wait(20)
        self.batches.append(texts)


@dataclass
class Running:
    """A service that answers on `port`."""

    port: int
    model: Held
    service: Service
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPMessage]:
        """Return status, content and headers; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content)
            answer = connection.getresponse()
            said = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(said) if is_json else said.decode(), answer.headers
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return self.ask("POST", path, body)[:2]

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0

    def wait_for(self, **metrics: float) -> None:
        """Wait until gauges and counters have these values."""
        pause = threading.Event()
        for _ in range(1_000):
            if all(self.metric(f"embedding_{name}") == value for name, value in metrics.items()):
                return
            pause.wait(0.01)
        raise AssertionError({name: self.metric(f"embedding_{name}") for name in metrics})


@contextmanager
def running(
    encoder: Encoder,
    *,
    budget: int = 256,
    queue_texts: int = 1_000,
    queue_tokens: int = 100_000,
    window: float = 0.002,
    cache: int = 100,
    max_texts: int = 200,
    max_body: int = 1_000_000,
) -> Iterator[Running]:
    """Serve an encoder meanwhile."""
    service = Service(Metrics(), BodyReader(max_body), max_texts)
    held = Held(encoder)
    thread = ThreadPoolExecutor(1)
    server = uvicorn.Server(uvicorn.Config(service.app(), port=0, lifespan="off", log_config=None, access_log=False))
    limits = Limits(budget, queue_texts, queue_tokens, window)

    async def serve() -> None:
        service.work = Work(held, limits, cache_size=cache, thread=thread, metrics=service.metrics)
        encoding = asyncio.create_task(service.work.coalescer.run())
        await server.serve()
        encoding.cancel()
        with suppress(asyncio.CancelledError):
            await encoding

    service.about = {
        "model_name": encoder.checkpoint.name,
        "model_key": encoder.model_key(),
        "dim": encoder.checkpoint.dim,
        "sparse_dim": encoder.checkpoint.vocabulary,
    }
    main = threading.Thread(target=lambda: asyncio.run(serve()))
    main.start()
    while not server.started:
        assert main.is_alive()
        threading.Event().wait(0.01)
    try:
        yield Running(server.servers[0].sockets[0].getsockname()[1], held, service)
    finally:
        held.open.set()
        server.should_exit = True
        main.join()
        thread.shutdown()
