"""Hybrid search: by meaning, by weighted tokens, by words and by title, fused by rank; and neighbours of a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import errors

from revops.embedding.queries import QueryVectors
from revops.embedding.query_cache import to_database

# How many of the fused hits a re-ranking looks at.
RERANKED = 50
_RANKINGS = ("dense", "sparse", "text", "title")

# query, texts, model key -> a score for each text
Rerank = Callable[[str, list[str], str], list[float]]


class SearchError(RuntimeError):
    """The search can't be done; the message says why and what to do."""


@dataclass(frozen=True)
class Filters:
    """What documents must be; None is no condition, several values are alternatives, bounds belong to their range.

    A document without a value is outside of every range and list of that column.
    """

    entities: list[str] | None = None
    sources: list[str] | None = None
    stages: list[str] | None = None
    teams: list[str] | None = None
    countries: list[str] | None = None
    date_from: date | None = None
    date_to: date | None = None
    amount_from: Decimal | None = None
    amount_to: Decimal | None = None


@dataclass(frozen=True)
class Hit:
    """A document found. ranks and scores: by ranking (dense, sparse, text, title), where that one has the document.

    score: of the fusion, or of the re-ranking where there was one. matched: words of the query in the document, as it
    has them: a misspelt word stands corrected.
    """

    document_id: int
    source_system: str
    entity: str
    entity_id: str
    title: str
    score: float
    ranks: dict[str, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    matched: tuple[str, ...] = ()

    @property
    def reasons(self) -> str:
        """Why the document was found, e.g. `meaning #1, words #3`."""
        names = {"dense": "meaning", "sparse": "weighted words", "text": "words", "title": "title"}
        return ", ".join(f"{names[ranking]} #{rank}" for ranking, rank in self.ranks.items())


def find_documents(
    warehouse: psycopg.Connection,
    query: str,
    vectors: QueryVectors | None,
    *,
    limit: int = 10,
    filters: Filters | None = None,
    rerank: Rerank | None = None,
) -> list[Hit]:
    """Return the best documents for a query, best first; without vectors by words and titles only.

    rerank: gives the first 50 hits another order. Ends its transaction. Raises SearchError where the query is empty or
    no text, no model has vectors yet, or the query was encoded with another model than the documents.
    """
    query = check_query(query)
    with warehouse.transaction():
        model_id, dense, sparse = None, None, None
        if vectors is not None:
            model_id = _read_model(warehouse, vectors.model_key)
            dense, sparse = _register(warehouse, vectors)
        rows: list[Any] = warehouse.execute(
            "select document_id, source_system, entity, entity_id, title, score, dense_rank, sparse_rank, text_rank, "
            "title_rank, dense_score, sparse_score, text_score, title_score, matched_words "
            "from search.hybrid(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                query, dense, sparse, model_id, max(limit, RERANKED) if rerank else limit,
                *astuple(filters or Filters()),
            ),
        ).fetchall()  # fmt: skip
        hits = [_hit(row[:6], _RANKINGS, row[6:10], row[10:14], row[14]) for row in rows]
        texts = _read_texts(warehouse, hits[:RERANKED]) if rerank else {}
    if rerank and vectors is not None and hits:
        # A document that was found may be gone when its text is read.
        first = [hit for hit in hits[:RERANKED] if hit.document_id in texts]
        scores = rerank(query, [texts[hit.document_id] for hit in first], vectors.model_key)
        hits = [*_reranked(first, scores), *hits[RERANKED:]]
    return hits[:limit]


def similar_documents(
    warehouse: psycopg.Connection, entity: str, entity_id: str, *, limit: int = 10, filters: Filters | None = None
) -> list[Hit]:
    """Return the documents most like one, best first, by the current model's vectors of both.

    Raises SearchError where there is no such document, or it has no vector yet.
    """
    try:
        with warehouse.transaction():
            rows: list[Any] = warehouse.execute(
                "select document_id, source_system, entity, entity_id, title, score, dense_rank, sparse_rank, "
                "dense_score, sparse_score from search.similar(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (entity, entity_id, limit, *astuple(filters or Filters())),
            ).fetchall()
    except errors.NoDataFound as error:
        raise SearchError(
            f"{error.diag.message_primary}: {entity} {entity_id}. Remedy: correct entity and id, or run the DAG of its "
            "source, which writes documents and embeds them."
        ) from error
    return [_hit(row[:6], _RANKINGS[:2], row[6:8], row[8:10], ()) for row in rows]


def check_query(query: str) -> str:
    """Return a query without blanks around it; raises SearchError where nothing is left or the database can't take it.

    The message does not repeat the query.
    """
    query = query.strip()
    if not query:
        raise SearchError('the query is empty. Remedy: say what to look for, as in `make search Q="fraud detection"`.')
    if "\0" in query:
        raise SearchError("the query has a NUL character, which no document can have. Remedy: remove it.")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise SearchError(
            f"the query is not valid Unicode: half of a surrogate pair at position {error.start}. Remedy: remove it."
        ) from None
    return query


def _read_model(warehouse: psycopg.Connection, model_key: str) -> int:
    """Return the id of the query's model: the current one, or one replaced so lately that its vectors are kept."""
    rows = warehouse.execute(
        "select model_id, model_key, is_current from search.embedding_model "
        "where is_current or (model_key = %s and to_regclass('search.embedding_' || model_id) is not null "
        "and was_current) order by model_key = %s desc",
        (model_key, model_key),
    ).fetchall()
    if not rows:
        raise SearchError("nothing has been embedded yet. Remedy: run the DAGs odoo and ace (`make demo`).")
    model_id, found_key, _ = rows[0]
    if found_key != model_key:
        raise SearchError(
            f"the query was encoded with model {model_key}, the documents with {found_key}. "
            "Remedy: REVOPS_EMBEDDING_MODEL must be the model that the documents were embedded with."
        )
    return int(model_id)


def _register(warehouse: psycopg.Connection, vectors: QueryVectors) -> tuple[Any, Any]:
    from pgvector.psycopg import register_vector

    register_vector(warehouse)
    return to_database(vectors)


def _hit(document: Any, rankings: tuple[str, ...], ranks: Any, scores: Any, matched: Any) -> Hit:
    document_id, source_system, entity, entity_id, title, score = document
    return Hit(
        document_id,
        source_system,
        entity,
        entity_id,
        title,
        score,
        ranks={name: rank for name, rank in zip(rankings, ranks, strict=True) if rank is not None},
        scores={name: score for name, score in zip(rankings, scores, strict=True) if score is not None},
        matched=tuple(matched),
    )


def _read_texts(warehouse: psycopg.Connection, hits: list[Hit]) -> dict[int, str]:
    return dict(
        warehouse.execute(
            "select document_id, text from search.document where document_id = any(%s)",
            ([hit.document_id for hit in hits],),
        ).fetchall()
    )


def _reranked(hits: list[Hit], scores: list[float]) -> list[Hit]:
    found = [
        replace(hit, score=score, scores={**hit.scores, "rerank": score})
        for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(found, key=lambda hit: -hit.score)
