"""The events of a run: one JSON object each, first start, then one a shard, last end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedding.encoder import Embeddings
from embedding.shards import Shard

Emit = Callable[[dict[str, Any]], None]


class Progress:
    """Count what a run does and report it; `tokens` are those computed, after cutting, without padding."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._started = time.monotonic()
        self._documents = self._tokens = self._padded = self._truncated = self._shards = 0
        self._skipped: Sequence[Shard] = ()
        self._todo = 0

    def start(self, shards: Sequence[Shard], todo: Sequence[Shard], *, about: Mapping[str, Any]) -> None:
        """Report what lies ahead."""
        self._skipped = [shard for shard in shards if shard not in todo]
        self._todo = len(todo)
        documents = sum(shard.documents for shard in shards)
        self._emit(
            {
                "event": "start",
                **about,
                "documents": documents,
                "shards": len(shards),
                "shards_todo": len(todo),
            }
        )

    def shard(self, shard: Shard, embeddings: Embeddings, *, seconds: float) -> None:
        """Report a shard that is safely on disk; `done` and `total` count the shards of this run."""
        truncated = int(embeddings.truncated.sum())
        self._shards += 1
        self._documents += shard.documents
        self._tokens += embeddings.encoded_tokens
        self._padded += embeddings.padded_tokens
        self._truncated += truncated
        self._emit(
            {
                "event": "shard",
                "file": shard.path.name,
                "documents": shard.documents,
                "tokens": embeddings.encoded_tokens,
                "truncated": truncated,
                "padding_ratio": _ratio(embeddings.padded_tokens, embeddings.encoded_tokens),
                "seconds": round(seconds, 3),
                "done": self._shards,
                "total": self._todo,
            }
        )

    def end(self) -> None:
        """Report the totals of this run; what an earlier run finished counts as skipped only."""
        seconds = time.monotonic() - self._started
        self._emit(
            {
                "event": "end",
                "documents": self._documents,
                "documents_skipped": sum(shard.documents for shard in self._skipped),
                "shards": self._shards,
                "shards_skipped": len(self._skipped),
                "tokens": self._tokens,
                "truncated": self._truncated,
                "padding_ratio": _ratio(self._padded, self._tokens),
                "seconds": round(seconds, 3),
                "tokens_per_second": round(self._tokens / seconds, 1),
            }
        )


def _ratio(padded: int, tokens: int) -> float:
    return round(padded / max(1, tokens), 4)
