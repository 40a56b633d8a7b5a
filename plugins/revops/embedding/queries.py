"""Queries as the model sees them, and texts as it judges them: by the embedding service."""

from __future__ import annotations

from dataclasses import dataclass

from revops.embedding.service import ask_service
from revops.settings import Settings


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
    if not texts:
        return []
    body = {"query": query, "texts": texts, "truncate": True}
    scores: list[float] = ask_service(settings, "/rerank", body, model_key=model_key)["scores"]
    return scores
