"""Texts to token ids, counted before they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from embedding.checkpoint import REMEDY, Checkpoint
from embedding.errors import ModelError, UsageError

# About a million tokens: an encoding takes some 150 bytes a token until its ids are copied out.
CHUNK_CHARACTERS = 4_000_000
CHUNK_TEXTS = 1_024


@dataclass(frozen=True)
class Tokens:
    """Hold the ids of n texts, special tokens and prompt included, cut to the maximum length.

    `counts` are the tokens before cutting; `prompt_tokens` follow the first special token of every row.
    """

    ids: list[NDArray[np.int32]]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    prompt_tokens: int

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Tell which rows lost tokens."""
        return self.counts > self.lengths


class Tokenizer:
    """Tokenize with the model's own tokenizer.json; safe to call from several threads."""

    def __init__(self, checkpoint: Checkpoint, *, max_length: int) -> None:
        self._prompts = checkpoint.prompts
        self.max_length = max_length
        self._backend = load_backend(checkpoint)
        ids = (self._backend.token_to_id(token) for token in checkpoint.special_tokens)
        self.special_ids: NDArray[np.int32] = np.array(sorted(i for i in ids if i is not None), np.int32)

    def tokenize(self, texts: Sequence[str], *, prompt: str) -> Tokens:
        """Tokenize texts behind the model's prompt of that name ("passage" or "query"), if it has one.

        Raises ValueError naming the row for a text that is no Unicode (a lone surrogate) or no string.
        """
        prefix = self._prefix(prompt)
        prompt_tokens = len(self._backend.encode(prefix.rstrip(), add_special_tokens=False).ids)
        if self.max_length < prompt_tokens + 3:
            raise UsageError(f"max length {self.max_length} leaves no room for text: use {prompt_tokens + 3} or more")
        ids: list[NDArray[np.int32]] = []
        counts = np.zeros(len(texts), np.int32)
        for start, chunk in _chunks(texts):
            for encoding in self._encode(chunk, prefix=prefix, start=start):
                row = np.array(encoding.ids, np.int32)
                counts[len(ids)] = len(row)
                ids.append(self._cut(row))
        lengths = np.minimum(counts, self.max_length).astype(np.int32)
        return Tokens(ids=ids, counts=counts, lengths=lengths, prompt_tokens=prompt_tokens)

    def _prefix(self, prompt: str) -> str:
        if prompt == "passage" and "passage" not in self._prompts:
            # Newer sentence-transformers models call the same prompt "document".
            prompt = "document"
        return self._prompts.get(prompt, "")

    def _cut(self, row: NDArray[np.int32]) -> NDArray[np.int32]:
        if len(row) <= self.max_length:
            return row
        return np.append(row[: self.max_length - 1], row[-1])

    def _encode(self, texts: Sequence[str], *, prefix: str, start: int) -> list[Encoding]:
        try:
            return self._backend.encode_batch_fast([prefix + text for text in texts])
        except (TypeError, UnicodeError) as error:
            for row, text in enumerate(texts, start):
                _check(text, row=row)
            raise ValueError(f"texts {start} to {start + len(texts) - 1} cannot be tokenized: {error}") from error


def load_backend(checkpoint: Checkpoint) -> Backend:
    """Load tokenizer.json without cutting and padding, whatever it says itself; raises ModelError."""
    path = checkpoint.path / "tokenizer.json"
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path} is damaged ({error}); {REMEDY}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _check(text: object, *, row: int) -> None:
    if not isinstance(text, str):
        raise ValueError(f"text {row} is {type(text).__name__}, not str: give an empty string for no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text {row} holds a lone surrogate at character {error.start}: clean it first") from error


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    start = characters = 0
    for row, text in enumerate(texts):
        size = len(text) if isinstance(text, str) else 0
        if row > start and (characters + size > CHUNK_CHARACTERS or row - start == CHUNK_TEXTS):
            yield start, texts[start:row]
            start, characters = row, 0
        characters += size
    if start < len(texts):
        yield start, texts[start:]
