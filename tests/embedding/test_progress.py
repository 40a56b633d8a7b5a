"""What a run reports, and that reporting costs the same however many shards there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embedding.collect import Embeddings
from embedding.progress import Progress
from embedding.shards import Shard

TIMES = {"seconds", "documents_per_second", "tokens_per_second"}


class Passes(list):
    """A list that counts how often it is gone through."""

    def __init__(self, items) -> None:
        super().__init__(items)
        self.count = 0

    def __iter__(self):
        self.count += 1
        return super().__iter__()

    def __contains__(self, item) -> bool:
        self.count += 1
        return super().__contains__(item)


def make_shards(count: int) -> list[Shard]:
    return [Shard(index, Path(f"part-{index}.parquet"), documents=index % 7 + 2) for index in range(count)]


def encoded(shard: Shard) -> Embeddings:
    truncated = np.arange(shard.documents) == 0
    tokens = np.full(shard.documents, 10, np.int32)
    return Embeddings(np.empty((shard.documents, 1)), None, tokens, truncated, 10 * shard.documents, 120)


def test_events_count_this_run_and_what_it_skips():
    events: list[dict] = []
    progress = Progress(events.append)
    shards = make_shards(5)
    progress.start(shards, [shards[1], shards[4]], about={"device": "cpu"})
    progress.loaded()
    for shard in (shards[1], shards[4]):
        progress.shard(shard, encoded(shard))
    progress.end()
    assert all(event.keys() >= TIMES for event in events[1:])
    # The order of the fields is part of the output.
    said = [{name: value for name, value in event.items() if name not in TIMES} for event in events]
    assert [list(event.items()) for event in said] == [
        [
            ("event", "start"),
            ("device", "cpu"),
            ("documents", 20),
            ("documents_todo", 9),
            ("shards", 5),
            ("shards_todo", 2),
        ],
        [
            *[("event", "shard"), ("file", "part-1.parquet"), ("documents", 3), ("tokens", 30), ("truncated", 1)],
            *[("padding_ratio", 4.0), ("done", 1), ("total", 2), ("documents_done", 3), ("documents_total", 9)],
        ],
        [
            *[("event", "shard"), ("file", "part-4.parquet"), ("documents", 6), ("tokens", 60), ("truncated", 1)],
            *[("padding_ratio", 2.0), ("done", 2), ("total", 2), ("documents_done", 9), ("documents_total", 9)],
        ],
        [
            *[("event", "end"), ("documents", 9), ("documents_skipped", 11), ("shards", 2), ("shards_skipped", 3)],
            *[("tokens", 90), ("truncated", 2), ("padding_ratio", round(240 / 90, 4))],
        ],
    ]


def test_no_event_but_the_first_goes_through_the_shards():
    progress = Progress(lambda _: None)
    shards = Passes(make_shards(1_000))
    todo = Passes(shards[500:])
    progress.start(shards, todo, about={})
    assert shards.count <= 2
    assert todo.count <= 2
    before = (shards.count, todo.count)
    for shard in todo[:10]:
        progress.shard(shard, encoded(shard))
    progress.end()
    assert (shards.count, todo.count) == before
