"""Queries as the model sees them, and texts as it judges them: by the embedding service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from revops.embedding.service import ask_service
from revops.settings import Settings

# What one request to re-rank may hold, of the service's own limits (`embed serve`) the least: a quarter of the tokens
# that may wait on a processor, so that there is room beside those of others; and an eighth of the bytes of a body,
# since in JSON a character takes up to six times its bytes.
MOST_TOKENS = 64 * 2048 // 4
MOST_BYTES = 8 * 1024 * 1024 // 8


@dataclass(frozen=True)
class QueryVectors:
    """A query as the model sees it: a dense vector and pairs of token id and weight."""

    dense: list[float]
    sparse: dict[int, float]
    model_key: str


def encode_queries(settings: Settings, queries: list[str], *, model_key: str | None = None) -> list[QueryVectors]:
    """Encode queries, in their order, with the service that has the wanted model; None: the first that is ready.

    Queries that are longer than the model takes are cut. Raises ServiceError.
    """
    if not queries:
        return []
    body = {"inputs": queries, "prompt": "query", "truncate": True}
    answer = ask_service(settings, "/embed", body, model_key=model_key)
    return [
        QueryVectors(
            row["dense"],
            dict(zip(row["sparse"]["ids"], row["sparse"]["weights"], strict=True)),
            answer["model_key"],
        )
        for row in answer["embeddings"]
    ]


def rerank(settings: Settings, query: str, texts: list[str], model_key: str) -> list[float]:
    """Return each text's relevance to a query, higher is better, in their order, by the model's token vectors.

    Texts that are longer than the model takes are cut, as for their vectors. Raises ServiceError.
    """
    scores: list[float] = []
    for part in _parts(texts, MOST_TOKENS // settings.embedding_max_length):
        body = {"query": query, "texts": part, "truncate": True}
        scores += ask_service(settings, "/rerank", body, model_key=model_key)["scores"]
    return scores


def _parts(texts: list[str], most: int) -> Iterator[list[str]]:
    """Yield the texts in their order, at most so many and MOST_BYTES at a time; a larger text comes alone."""
    part: list[str] = []
    held = 0
    for text in texts:
        size = len(text.encode())
        if part and (len(part) == most or held + size > MOST_BYTES):
            yield part
            part, held = [], 0
        part.append(text)
        held += size
    if part:
        yield part
