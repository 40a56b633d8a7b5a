"""Texts to encode: words as frequent as in real texts, from a model's own vocabulary, of lognormal length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

# Words of all languages mixed, half of them whole pieces and half of two; a number among forty.
WORDS = 20_000
NUMBER_EVERY = 40
# A document of 134 tokens on average.
MEAN_WORDS = 87
SPREAD = 0.75
QUERY_WORDS = 10


def make_texts(tokenizer: Path, count: int, *, seed: int = 0, mean_words: float = MEAN_WORDS) -> list[str]:
    """Return invented documents; the same seed gives the same."""
    random = np.random.default_rng(seed)
    words = _lexicon(tokenizer, random)
    # Zipf's law, as Mandelbrot bent it for the most frequent words.
    weights = 1 / (np.arange(len(words)) + 2.7)
    weights /= weights.sum()
    lengths = np.clip(random.lognormal(np.log(mean_words) - SPREAD**2 / 2, SPREAD, count), 2, 380).astype(int)
    texts = []
    for length in lengths:
        chosen = [words[place] for place in random.choice(len(words), length, p=weights)]
        for place in range(NUMBER_EVERY // 2, length, NUMBER_EVERY):
            chosen[place] = str(random.integers(1_000_000))
        texts.append(" ".join(chosen))
    return texts


def make_queries(tokenizer: Path, count: int) -> list[str]:
    """Return invented questions of about 16 tokens."""
    texts = make_texts(tokenizer, count, seed=1, mean_words=4 * QUERY_WORDS)
    return [" ".join(text.split()[:QUERY_WORDS]) for text in texts]


def _lexicon(tokenizer: Path, random: np.random.Generator) -> list[str]:
    pieces = [(piece, score) for piece, score in json.loads(tokenizer.read_text())["model"]["vocab"] if score < 0]
    whole = sorted((p for p in pieces if p[0].startswith("▁") and p[0][2:].isalpha()), key=lambda piece: -piece[1])
    endings = [p for p in pieces if p[0].isascii() and p[0].isalpha()]
    shares = np.exp([score for _, score in endings])
    half = WORDS // 2
    words = [piece[1:] for piece, _ in whole[:half]]
    chosen = random.choice(len(endings), half, p=shares / shares.sum())
    compound = [words[random.integers(len(words))] + endings[place][0] for place in chosen]
    return [word for pair in zip(words, compound, strict=False) for word in pair]
