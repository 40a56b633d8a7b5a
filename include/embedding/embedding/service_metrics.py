"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# Each counter would have a second line that says when it began.
disable_created_metrics()
CONTENT_TYPE = CONTENT_TYPE_LATEST
_RATIOS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0)
_FILLS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Hold every metric of one service in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("embedding_requests", "Requests answered", ["route", "status"], registry=registry)
        self.texts = Counter("embedding_texts", "Texts that the model encoded", ["head"], registry=registry)
        self.tokens = Counter("embedding_tokens", "Tokens that the model encoded, without padding", registry=registry)
        self.cached = Counter("embedding_cache_hits", "Texts answered from the cache", registry=registry)
        self.missed = Counter("embedding_cache_misses", "Texts that were not in the cache", registry=registry)
        self.dropped = Counter("embedding_dropped", "Texts whose client left before their turn", registry=registry)
        self.failures = Counter("embedding_failures", "Batches that the model failed at", registry=registry)
        self.fill = Histogram(
            "embedding_batch_fill", "Padded tokens of a batch / token budget", registry=registry, buckets=_FILLS
        )
        self.padding = Histogram(
            "embedding_padding_ratio", "Padded / real tokens of a batch", registry=registry, buckets=_RATIOS
        )
        self.wait = Histogram(
            "embedding_queue_wait_seconds", "Time a text waits for the model", registry=registry, buckets=_SECONDS
        )
        self.encode = Histogram(
            "embedding_encode_seconds", "Time the model takes for a batch", registry=registry, buckets=_SECONDS
        )
        self.queued_texts = Gauge("embedding_queue_texts", "Texts that wait or are encoded", registry=registry)
        self.queued_tokens = Gauge("embedding_queue_tokens", "Tokens that wait or are encoded", registry=registry)
        self.model = Gauge("embedding_model_info", "The model", ["name", "key", "device", "dtype"], registry=registry)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
