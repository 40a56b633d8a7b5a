"""The service's routes."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedding.service_bodies import ApiError, BodyReader, EmbedBody, OpenAIBody, RerankBody, json_response, parse
from embedding.service_heads import Vectors
from embedding.service_metrics import CONTENT_TYPE, Metrics
from embedding.service_work import Left, Work

log = logging.getLogger(__name__)
Answer = Callable[[Request, bytes, Work], Awaitable[Response]]


@dataclass
class Service:
    """Hold what the routes share; `work` is None until the model is warm, `about` describes the model."""

    metrics: Metrics
    bodies: BodyReader
    max_texts: int
    work: Work | None = None
    about: dict[str, Any] = field(default_factory=dict)
    running: int = 0
    asked: int = 0
    last_asked: float = field(default_factory=time.monotonic)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/embed", self._post("/embed", self._embed), methods=["POST"]),
            Route("/rerank", self._post("/rerank", self._rerank), methods=["POST"]),
            Route("/v1/embeddings", self._post("/v1/embeddings", self._openai), methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._unknown})

    def _post(self, route: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self.running += 1
            try:
                response = await self._answer(request, answer)
            finally:
                self.running -= 1
                self.asked += 1
                self.last_asked = time.monotonic()
            self.metrics.requests.labels(route, response.status_code).inc()
            return response

        return handle

    async def _answer(self, request: Request, answer: Answer) -> Response:
        try:
            if self.work is None:
                raise ApiError(503, "loading", "the model is being loaded: try again shortly", retry_after=1)
            with self.bodies.hold() as chunks:
                body = await self.bodies.read(request, chunks)
                return await answer(request, body, self.work)
        except ApiError as refused:
            return refused.response()
        except Exception:
            log.exception("a request failed")
            return ApiError(500, "internal", "the service failed; its log says why").response()

    async def _embed(self, request: Request, body: bytes, work: Work) -> Response:
        asked = parse(EmbedBody, body)
        self._limit(asked.inputs)
        rows = await work.vectors(asked.inputs, prompt=asked.prompt, truncate=asked.truncate, left=_leaving(request))
        embeddings = [
            {
                "dense": row.dense,
                "sparse": {"ids": row.sparse_ids, "weights": row.sparse_weights},
                "tokens": row.tokens,
                "truncated": row.truncated,
            }
            for row in rows
        ]
        shape = {name: self.about[name] for name in ("model_key", "dim", "sparse_dim")}
        return json_response({**shape, "embeddings": embeddings})

    async def _rerank(self, request: Request, body: bytes, work: Work) -> Response:
        asked = parse(RerankBody, body)
        self._limit(asked.texts)
        scores = await work.scores(asked.query, asked.texts, truncate=asked.truncate, left=_leaving(request))
        return json_response({"model_key": self.about["model_key"], "scores": [score.value for score in scores]})

    async def _openai(self, request: Request, body: bytes, work: Work) -> Response:
        asked = parse(OpenAIBody, body)
        self._limit(asked.input)
        name, key, dim = (self.about[field] for field in ("model_name", "model_key", "dim"))
        if asked.model not in (None, name, key):
            raise ApiError(404, "model_not_found", f"the model here is {name} ({key})", param="model")
        if asked.dimensions not in (None, dim):
            raise ApiError(422, "wrong_dimensions", f"the model has {dim} dimensions, no fewer", param="dimensions")
        rows = await work.vectors(asked.input, prompt=asked.prompt, truncate=False, left=_leaving(request))
        tokens = sum(row.tokens for row in rows)
        data = [
            {"object": "embedding", "index": index, "embedding": _openai_vector(row, asked.encoding_format)}
            for index, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": name, "usage": usage})

    def _limit(self, texts: list[str]) -> None:
        if len(texts) > self.max_texts:
            raise ApiError(413, "too_many_texts", f"{len(texts)} texts, the limit is {self.max_texts} a request")

    async def _health(self, request: Request) -> Response:
        self.last_asked = time.monotonic()
        status = "loading" if self.work is None else "ok" if await self.work.is_well(_leaving(request)) else "failing"
        return json_response({"status": status, **self.about}, status=200 if status == "ok" else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _unknown(self, _: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        self.metrics.requests.labels("other", status).inc()
        return ApiError(
            status, "no_such_route", "the routes: /embed /rerank /v1/embeddings /health /metrics"
        ).response()


def _openai_vector(row: Vectors, encoding: str) -> Any:
    return base64.b64encode(row.dense.astype("<f4").tobytes()).decode() if encoding == "base64" else row.dense


def _leaving(request: Request) -> Left:
    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return left
