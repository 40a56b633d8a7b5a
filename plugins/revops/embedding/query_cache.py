"""Vectors of queries that were asked before: kept in the warehouse, so that every process spares the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import psycopg
import structlog
from psycopg import errors

from revops.embedding.queries import QueryVectors

log = structlog.get_logger(__name__)

MOST_QUERIES = 10_000
# How often a query that is asked again and again is noted as used: reading must not mean writing.
NOTED_EVERY = "1 hour"

# Keeping a query is never worth failing a search: the server takes no writes (by its settings, or as a standby), or
# others hold the write up.
_NOT_KEPT = (
    errors.ReadOnlySqlTransaction,
    errors.FeatureNotSupported,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.QueryCanceled,
)

Encode = Callable[[list[str]], list[QueryVectors]]


def vectors_of_queries(
    warehouse: psycopg.Connection, queries: list[str], encode: Encode, *, most: int = MOST_QUERIES
) -> list[QueryVectors]:
    """Return the current model's vectors of queries, in their order; `encode` is asked for those that are not kept.

    Only the hash of a query is stored. Commits, also where the session is read-only by default. Raises what `encode`
    raises.
    """
    found = {query: vectors for query in set(queries) if (vectors := _read(warehouse, query, most)) is not None}
    if missing := sorted(set(queries) - set(found)):
        encoded = dict(zip(missing, encode(missing), strict=True))
        for query, vectors in encoded.items():
            _keep(warehouse, query, vectors, most)
        found |= encoded
    return [found[query] for query in queries]


def _read(warehouse: psycopg.Connection, query: str, most: int) -> QueryVectors | None:
    from pgvector.psycopg import register_vector

    register_vector(warehouse)
    with warehouse.transaction():
        row: Any = warehouse.execute(
            "select q.dense, q.sparse, m.dimensions, m.model_key, q.used_at < now() - %s::interval "
            "from search.query_vector q join search.embedding_model m using (model_id) "
            "where m.is_current and q.query_hash = %s",
            (NOTED_EVERY, _hash(query)),
        ).fetchone()
    if row is None:
        return None
    dense, sparse, dimensions, model_key, is_stale = row
    vectors = QueryVectors(
        dense.to_list()[:dimensions], dict(zip(sparse.indices(), sparse.values(), strict=True)), model_key
    )
    if is_stale:
        _keep(warehouse, query, vectors, most)
    return vectors


def _keep(warehouse: psycopg.Connection, query: str, vectors: QueryVectors, most: int) -> None:
    dense, sparse = to_database(vectors)
    # Inside of another transaction, which has read already, nothing could be written.
    warehouse.commit()
    try:
        with warehouse.transaction():
            warehouse.execute("set transaction read write")
            warehouse.execute(
                "select search.keep_query_vector(model_id, %s, %s, %s, %s) from search.embedding_model "
                "where model_key = %s",
                (_hash(query), dense, sparse, most, vectors.model_key),
            )
    except _NOT_KEPT as error:
        # The query is encoded anew the next time, or comes from the primary's cache.
        log.info("query vectors are not kept", why=error.diag.message_primary)


def to_database(vectors: QueryVectors) -> tuple[Any, Any]:
    """Return a query's vectors as columns of the warehouse hold them, zeros behind those of smaller models."""
    from pgvector import HalfVector, SparseVector

    from revops.embedding.shards import DENSE_DIMENSIONS, SPARSE_DIMENSIONS

    padding = [0.0] * (DENSE_DIMENSIONS - len(vectors.dense))
    return HalfVector([*vectors.dense, *padding]), SparseVector(vectors.sparse, SPARSE_DIMENSIONS)


def _hash(query: str) -> bytes:
    return hashlib.sha256(query.encode()).digest()
