"""Searches from the shell, with the user's embedding service, else with the stack's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from rich.console import Console

from revops.embedding.models import current_model
from revops.embedding.queries import QueryVectors, encode_queries, rerank
from revops.embedding.query_cache import vectors_of_queries
from revops.hooks.postgres import SESSION, connect
from revops.hooks.warehouse import Role, connect_warehouse, session_options
from revops.local.embedding_server import EmbeddingServer
from revops.local.show import show_hits
from revops.local.stack import Stack
from revops.search import Filters, SearchError, check_query, find_documents, similar_documents
from revops.settings import Settings


class Queries:
    """Encode queries; the stack's own service is started when the first one comes."""

    def __init__(self, stack: Stack, settings: Settings, console: Console) -> None:
        self._stack = stack
        self._settings = settings
        self._console = console
        self.has_started = False

    def encode(self, queries: list[str], model_key: str | None) -> list[QueryVectors]:
        """Return the vectors of queries in their order, by that model; None: by any. Raises ServiceError."""
        return encode_queries(self.ready_settings(), queries, model_key=model_key)

    def rerank(self, query: str, texts: list[str], model_key: str) -> list[float]:
        """Return each text's relevance to a query, in their order; raises ServiceError."""
        return rerank(self.ready_settings(), query, texts, model_key)

    def ready_settings(self) -> Settings:
        """Return settings that name a service; raises ServiceError."""
        if not self._settings.embedding_urls:
            with self._console.status("starting the embedding service"):
                serving = EmbeddingServer(self._stack.embedding_service).start(self._settings)
            self.has_started |= serving.is_new
            self._settings = self._settings.model_copy(update={"embedding_urls": (serving.url,)})
        return self._settings


@contextmanager
def queries_meanwhile(stack: Stack, settings: Settings, console: Console) -> Iterator[Queries]:
    """Yield what encodes queries; a service that was started for it is ended afterwards."""
    queries = Queries(stack, settings, console)
    try:
        yield queries
    finally:
        if queries.has_started:
            EmbeddingServer(stack.embedding_service).stop()


@dataclass(frozen=True)
class Asked:
    """What a search is wanted to give: so many hits within filters, the first 50 re-ranked or not."""

    limit: int = 5
    filters: Filters = field(default_factory=Filters)
    is_reranked: bool = False


def show_searches(
    stack: Stack, settings: Settings, texts: list[str], queries: Queries, console: Console, asked: Asked | None = None
) -> None:
    """Search for each text and print what is found, with the model that found it."""
    asked = asked or Asked()
    texts = [check_query(text) for text in texts]
    with _warehouse(stack, settings) as warehouse:
        model = current_model(warehouse)
        key = model.key if model else None
        vectors = vectors_of_queries(warehouse, texts, lambda missing: queries.encode(missing, key))
        for text, vector in zip(texts, vectors, strict=True):
            hits = find_documents(
                warehouse,
                text,
                vector,
                limit=asked.limit,
                filters=asked.filters,
                rerank=queries.rerank if asked.is_reranked else None,
            )
            show_hits(f"Search: {text}", hits, console)
        if model:
            console.print(f"[dim]by meaning with {model.name}[/]", highlight=False)


def show_similar(
    stack: Stack, settings: Settings, entity: str, entity_id: str, console: Console, asked: Asked | None = None
) -> None:
    """Print the documents that are most like one."""
    asked = asked or Asked()
    with _warehouse(stack, settings) as warehouse:
        hits = similar_documents(warehouse, entity, entity_id, limit=asked.limit, filters=asked.filters)
        show_hits(f"Like {entity} {entity_id}", hits, console)


@contextmanager
def _warehouse(stack: Stack, settings: Settings) -> Iterator[psycopg.Connection]:
    """Open a session that searches; raises SearchError where the warehouse is older than this version."""
    with _connect(stack, settings) as warehouse:
        try:
            yield warehouse
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction) as error:
            raise SearchError(
                f"the warehouse is older than this version of Revops: {error.diag.message_primary}. "
                "Remedy: `make setup`, then `make run DAG=odoo` and `make run DAG=ace`."
            ) from error


def _connect(stack: Stack, settings: Settings) -> psycopg.Connection:
    role: Role = "revops_api"
    is_running = stack.postgres.port() is not None
    if is_running and (own := stack.sample_connections()["AIRFLOW_CONN_REVOPS_CORE"]) == settings.revops_core:
        # Airflow reads connections of all kinds, and takes two seconds to be imported; this one is known.
        return connect("revops_core", make_conninfo(own, options=session_options(role), **SESSION))
    return connect_warehouse(role, task="search")
