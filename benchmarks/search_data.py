"""Made-up documents with vectors for the search benchmark: topics, words and tokens as frequent as in real texts.

Dense vectors lie around 1,500 topics in a space of 96 dimensions, turned into 1,024; tokens follow Zipf's law over
BGE-M3's vocabulary, and rare ones weigh more, as the model has learnt it. A query is a document seen through noise,
with a few of its words, one in ten of them misspelt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

DIMENSIONS = 1024
VOCABULARY = 250_002
LATENT = 96
TOPICS = 1_500
WORDS = 30_000
CHUNK = 10_000
TERMS = 86
QUERY_TERMS = 9
# By column: the value that this share of all documents has.
SHARES = {"stage": ("Qualified", 0.12), "team": ("Team 7", 0.016), "country_code": ("IS", 0.001)}
MODEL_KEY = "benchmark"
METADATA = {"model_key": MODEL_KEY, "dim": str(DIMENSIONS), "sparse_dim": str(VOCABULARY)}
_SYLLABLES = "ba be bi bo bu da de di do du ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo za ze".split()  # noqa: SIM905, E501

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """Some documents. dense: half precision, unit length; tokens and weights: one row a document, ascending tokens."""

    first: int
    titles: list[str]
    texts: list[str]
    dense: npt.NDArray[np.float16]
    tokens: npt.NDArray[np.int32]
    weights: Floats
    columns: dict[str, list[str]]

    @property
    def hashes(self) -> list[bytes]:
        return [hashlib.sha256(text.encode()).digest() for text in self.texts]


@dataclass(frozen=True)
class Query:
    """A query and the number of the document that it was made from."""

    text: str
    dense: list[float]
    sparse: dict[int, float]
    made_from: int


class World:
    """What all documents share: topics, words, and how frequent they are."""

    def __init__(self, seed: int = 303) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.topics = rng.standard_normal((TOPICS, LATENT), dtype=np.float32)
        self.turn = rng.standard_normal((LATENT, DIMENSIONS), dtype=np.float32) / np.sqrt(LATENT)
        words: dict[str, None] = {}
        while len(words) < WORDS:
            parts = rng.integers(0, len(_SYLLABLES), (WORDS, 5))
            sizes = rng.integers(2, 6, WORDS)
            for row, size in zip(parts, sizes, strict=True):
                words["".join(_SYLLABLES[part] for part in row[:size])] = None
        self.words = np.array(list(words)[:WORDS], dtype=object)
        self.word_order = rng.permutation(VOCABULARY - 4).astype(np.int32) + 4
        self.topic_words = rng.integers(200, WORDS, (TOPICS, 40))
        self.topic_tokens = rng.integers(200, VOCABULARY - 4, (TOPICS, 60))

    def chunk(self, first: int, size: int = CHUNK) -> Chunk:
        """Make the documents from number `first` on; the same ones whenever they are asked for."""
        rng = np.random.default_rng((self.seed, first))
        topic = rng.integers(0, TOPICS, size)
        latent = self.topics[topic] + 0.55 * rng.standard_normal((size, LATENT), dtype=np.float32)
        dense = latent @ self.turn
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)
        words = np.concatenate(
            [_zipf(rng, WORDS, (size, 45)), self.topic_words[topic[:, None], rng.integers(0, 40, (size, 25))]], axis=1
        )
        words = rng.permuted(words, axis=1)
        lines = self.words[words]
        titles = [" ".join(line[:6]) for line in lines]
        texts = [
            f"{title}\ndeal {first + number} {' '.join(line[6:])}"
            for number, (title, line) in enumerate(zip(titles, lines, strict=True))
        ]
        ranks = self._ranks(rng, topic)
        tokens = self.word_order[ranks]
        ascending = np.argsort(tokens, axis=1)
        tokens, ranks = np.take_along_axis(tokens, ascending, axis=1), np.take_along_axis(ranks, ascending, axis=1)
        rarity = 0.02 + 0.25 * np.log1p(ranks) / np.log(VOCABULARY)
        weights = (rarity * rng.lognormal(0.0, 0.35, ranks.shape)).astype(np.float32)
        columns = {}
        for name, (value, share) in SHARES.items():
            chosen = rng.random(size) < share
            others = rng.integers(0, 40, size)
            columns[name] = [
                value if is_chosen else f"other {other}" for is_chosen, other in zip(chosen, others, strict=True)
            ]
        return Chunk(first, titles, texts, dense.astype(np.float16), tokens, weights, columns)

    def queries(self, count: int, documents: int) -> list[Query]:
        """Make queries, each from a document that is one of the first `documents`."""
        rng = np.random.default_rng((self.seed, 1))
        made: list[Query] = []
        chunk = self.chunk(0, min(CHUNK, documents))
        for number in rng.choice(len(chunk.titles), count, replace=count > len(chunk.titles)):
            dense = chunk.dense[number].astype(np.float32)
            dense = dense + 0.5 * rng.standard_normal(DIMENSIONS, dtype=np.float32) / np.sqrt(DIMENSIONS)
            dense /= np.linalg.norm(dense)
            chosen = rng.choice(TERMS, QUERY_TERMS, replace=False)
            sparse = {int(chunk.tokens[number, at]): float(chunk.weights[number, at]) for at in chosen}
            words = chunk.texts[number].split()
            said = [str(word) for word in rng.choice(words, int(rng.integers(3, 7)), replace=False)]
            text = " ".join(_misspelt(word) if rng.random() < 0.1 else word for word in said)
            made.append(Query(text, dense.tolist(), sparse, int(number)))
        return made

    def _ranks(self, rng: np.random.Generator, topic: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return TERMS different tokens a document, most by Zipf's law, the others of its topic; 0 is the commonest."""
        size = len(topic)
        ranks = np.concatenate(
            [
                _zipf(rng, VOCABULARY - 4, (size, 2 * TERMS)),
                self.topic_tokens[topic[:, None], rng.integers(0, 60, (size, 40))],
            ],
            axis=1,
        )
        ranks = rng.permuted(ranks, axis=1)
        tokens = np.empty((size, TERMS), np.int32)
        for row, values in enumerate(ranks):
            different = np.unique(values)
            tokens[row] = rng.permuted(different)[:TERMS]
        return tokens


def write_shard(chunk: Chunk, folder: Path, *, rows: slice | None = None) -> None:
    """Write a chunk as the encoder writes its shards."""
    chosen = rows or slice(None)
    dense, tokens, weights = chunk.dense[chosen], chunk.tokens[chosen], chunk.weights[chosen]
    offsets = pa.array(np.arange(0, tokens.size + 1, TERMS, dtype=np.int32))
    columns = {
        "text_hash": pa.array(chunk.hashes[chosen], pa.binary(32)),
        "dense": pa.FixedSizeListArray.from_arrays(pa.array(dense.ravel()), DIMENSIONS),
        "sparse_ids": pa.ListArray.from_arrays(offsets, pa.array(tokens.ravel())),
        "sparse_weights": pa.ListArray.from_arrays(offsets, pa.array(weights.ravel())),
        "tokens": pa.array(np.full(len(dense), 134, np.int32)),
        "truncated": pa.array(np.zeros(len(dense), bool)),
    }
    table = pa.table(columns).replace_schema_metadata(METADATA)
    pq.write_table(table, folder / f"part-{chunk.first:09d}-benchmark.parquet", compression="lz4")


def document_rows(chunk: Chunk) -> Iterator[tuple[object, ...]]:
    """Yield rows for COPY into search.document: DOCUMENT_COLUMNS."""
    values = zip(chunk.titles, chunk.texts, chunk.hashes, *chunk.columns.values(), strict=True)
    for number, (title, text, text_hash, stage, team, country) in enumerate(values, start=chunk.first):
        entity = ("odoo_opportunity", "ace_opportunity", "account")[number % 3]
        yield "odoo", entity, str(number), title, text, text_hash, [f"opp-{number:07d}"], stage, team, country


DOCUMENT_COLUMNS = (
    *("source_system", "entity", "entity_id", "title", "text", "text_hash", "identifiers", "stage", "team"),
    "country_code",
)


def _zipf(rng: np.random.Generator, most: int, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return ranks from 0 on, the first ones the most frequent: by inverting a power law of exponent 1."""
    ranks = np.exp(rng.random(shape) * np.log(most + 1)) - 1
    limited: npt.NDArray[np.int64] = np.minimum(ranks.astype(np.int64), most - 1)
    return limited


def _misspelt(word: str) -> str:
    return word if len(word) < 5 else f"{word[:2]}{word[3]}{word[2]}{word[4:]}"
