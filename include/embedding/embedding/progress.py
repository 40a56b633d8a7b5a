"""The events of a run: one JSON object each, first start, then one a shard, last end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedding.collect import Embeddings
from embedding.shards import Shard

Emit = Callable[[dict[str, Any]], None]


class Progress:
    """Count what a run does and report it; `tokens` are those computed, after cutting, without padding."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._started = self._previous = time.monotonic()
        self._documents = self._tokens = self._padded = self._truncated = self._shards = 0
        self._documents_todo = self._shards_todo = 0
        self._documents_skipped = self._shards_skipped = 0

    def start(self, shards: Sequence[Shard], todo: Sequence[Shard], *, about: Mapping[str, Any]) -> None:
        """Report what lies ahead."""
        documents = sum(shard.documents for shard in shards)
        indexes = {shard.index for shard in todo}
        self._shards_todo = len(todo)
        self._documents_todo = sum(shard.documents for shard in todo)
        skipped = [shard.documents for shard in shards if shard.index not in indexes]
        self._shards_skipped = len(skipped)
        self._documents_skipped = sum(skipped)
        self._emit(
            {
                "event": "start",
                **about,
                "documents": documents,
                "documents_todo": self._documents_todo,
                "shards": len(shards),
                "shards_todo": self._shards_todo,
            }
        )

    def loaded(self) -> None:
        """Start the clock of the pace: the model is in memory."""
        self._started = self._previous = time.monotonic()

    def shard(self, shard: Shard, embeddings: Embeddings) -> None:
        """Report a shard that is safely on disk; `done` and `total` count this run's shards, the pace is its mean."""
        truncated = int(embeddings.truncated.sum())
        self._shards += 1
        self._documents += shard.documents
        self._tokens += embeddings.encoded_tokens
        self._padded += embeddings.padded_tokens
        self._truncated += truncated
        now = time.monotonic()
        self._emit(
            {
                "event": "shard",
                "file": shard.path.name,
                "documents": shard.documents,
                "tokens": embeddings.encoded_tokens,
                "truncated": truncated,
                "padding_ratio": _ratio(embeddings.padded_tokens, embeddings.encoded_tokens),
                "seconds": round(now - self._previous, 3),
                "done": self._shards,
                "total": self._shards_todo,
                "documents_done": self._documents,
                "documents_total": self._documents_todo,
                **self._pace(now),
            }
        )
        self._previous = now

    def end(self) -> None:
        """Report the totals of this run; what an earlier run finished counts as skipped only."""
        now = time.monotonic()
        self._emit(
            {
                "event": "end",
                "documents": self._documents,
                "documents_skipped": self._documents_skipped,
                "shards": self._shards,
                "shards_skipped": self._shards_skipped,
                "tokens": self._tokens,
                "truncated": self._truncated,
                "padding_ratio": _ratio(self._padded, self._tokens),
                "seconds": round(now - self._started, 3),
                **self._pace(now),
            }
        )

    def _pace(self, now: float) -> dict[str, float]:
        seconds = max(now - self._started, 1e-6)
        return {
            "documents_per_second": round(self._documents / seconds, 1),
            "tokens_per_second": round(self._tokens / seconds, 1),
        }


def _ratio(padded: int, tokens: int) -> float:
    return round(padded / max(1, tokens), 4)
