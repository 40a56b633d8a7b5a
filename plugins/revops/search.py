"""Hybrid search: by meaning, by weighted words, by full text and by title, fused by rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from revops.embedding.queries import QueryVectors


class SearchError(RuntimeError):
    """Nothing can be searched yet; the message says what to run."""


@dataclass(frozen=True)
class Hit:
    """A document found, with its rank in each of the four rankings; None where that ranking does not have it."""

    entity: str
    entity_id: str
    title: str
    score: float
    dense_rank: int | None
    sparse_rank: int | None
    text_rank: int | None
    title_rank: int | None

    @property
    def reasons(self) -> str:
        """Why the document was found, e.g. `meaning #1, words #3`."""
        ranks = {
            "meaning": self.dense_rank,
            "weighted words": self.sparse_rank,
            "words": self.text_rank,
            "title": self.title_rank,
        }
        return ", ".join(f"{name} #{rank}" for name, rank in ranks.items() if rank is not None)


def find_documents(
    warehouse: psycopg.Connection,
    query: str,
    vectors: QueryVectors,
    *,
    limit: int = 10,
    entities: list[str] | None = None,
) -> list[Hit]:
    """Return the best documents for a query, best first; raises SearchError when no model has vectors yet."""
    from pgvector import HalfVector, SparseVector
    from pgvector.psycopg import register_vector

    register_vector(warehouse)
    model = warehouse.execute(
        "select model_id, model_key, sparse_dimensions from search.embedding_model where is_current"
    ).fetchone()
    if model is None:
        raise SearchError("nothing has been embedded yet. Remedy: run the DAGs odoo and ace (`make demo`).")
    model_id, model_key, sparse_dimensions = model
    if vectors.model_key != model_key:
        raise SearchError(
            f"the query was encoded with model {vectors.model_key}, the documents with {model_key}. "
            "Remedy: REVOPS_EMBEDDING_MODEL must be the model that the documents were embedded with."
        )
    rows: list[Any] = warehouse.execute(
        "select entity, entity_id, title, score, dense_rank, sparse_rank, text_rank, title_rank "
        "from search.hybrid(%s, %s, %s, %s, %s, %s)",
        (
            query,
            HalfVector(vectors.dense),
            SparseVector(vectors.sparse, sparse_dimensions),
            model_id,
            limit,
            entities,
        ),
    ).fetchall()
    return [Hit(*row) for row in rows]
