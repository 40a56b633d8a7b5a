"""Texts to token ids, counted before they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from embedding.checkpoint import REMEDY, Checkpoint
from embedding.errors import ModelError, UsageError
from embedding.ragged import to_offsets
from embedding.words import Words

# About a million tokens: an encoding takes some 150 bytes a token until its ids are copied out.
CHUNK_CHARACTERS = 4_000_000
CHUNK_TEXTS = 1_024
ID_BYTES = 4


@dataclass(frozen=True)
class Tokens:
    """Hold the ids of n texts, special tokens and prompt included, cut to the maximum length.

    Row i is ids[offsets[i]:offsets[i + 1]]. `counts` are the tokens before cutting; `prompt_tokens` follow the first
    special token of every row.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int32]
    prompt_tokens: int

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.int32]], *, counts: Sequence[int], prompt_tokens: int) -> Tokens:
        """Put rows together that have the same prompt."""
        return cls(
            ids=np.concatenate([np.empty(0, np.int32), *rows]),
            offsets=to_offsets(np.array([len(row) for row in rows], np.int64)),
            counts=np.array(counts, np.int32),
            prompt_tokens=prompt_tokens,
        )

    def rows(self) -> list[NDArray[np.int32]]:
        """Return the ids of each text: read-only views, which keep the ids of all texts in memory."""
        places = self.offsets.tolist()
        return [self.ids[start:end] for start, end in pairwise(places)]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Count the tokens of each row after cutting."""
        return np.diff(self.offsets)

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
        self._words = Words(self._backend)
        self._head, self._tail = _frame(self._backend)
        ids = (self._backend.token_to_id(token) for token in checkpoint.special_tokens)
        self.special_ids: NDArray[np.int32] = np.array(sorted(i for i in ids if i is not None), np.int32)

    def tokenize(self, texts: Sequence[str], *, prompt: str) -> Tokens:
        """Tokenize texts behind the model's prompt of that name ("passage" or "query"), if it has one.

        Raises ValueError naming the row for a text that is no Unicode (a lone surrogate) or no string.
        """
        prefix = self._prefix(prompt)
        prompt_tokens = len(self._backend.encode(prefix.rstrip(), add_special_tokens=False).ids)
        frame = len(self._head + self._tail)
        if self.max_length < prompt_tokens + frame // ID_BYTES + 1:
            least = prompt_tokens + frame // ID_BYTES + 1
            raise UsageError(f"max length {self.max_length} leaves no room for text: use {least} or more")
        room = self.max_length * ID_BYTES - frame
        sizes = np.zeros(len(texts), np.int64)
        rows: list[bytes] = []
        for start, chunk in _chunks(texts):
            for row in self._ids(chunk, prefix=prefix, start=start):
                sizes[len(rows)] = len(row)
                rows.append(row if len(row) <= room else row[:room])
        # One join frames all rows: tail and head stand between any two.
        joined = self._head + (self._tail + self._head).join(rows) + self._tail if rows else b""
        return Tokens(
            ids=np.frombuffer(joined, np.int32),
            offsets=to_offsets((np.minimum(sizes, room) + frame) // ID_BYTES),
            counts=((sizes + frame) // ID_BYTES).astype(np.int32),
            prompt_tokens=prompt_tokens,
        )

    def _prefix(self, prompt: str) -> str:
        if prompt == "passage" and "passage" not in self._prompts:
            # Newer sentence-transformers models call the same prompt "document".
            prompt = "document"
        return self._prompts.get(prompt, "")

    def _ids(self, texts: Sequence[str], *, prefix: str, start: int) -> list[bytes]:
        """Return the ids of each text as int32 bytes, special tokens left out."""
        try:
            rows = [self._words.ids(prefix + text) for text in texts]
            whole = [place for place, row in enumerate(rows) if row is None]
            encodings = self._encode([prefix + texts[place] for place in whole])
        except (TypeError, UnicodeError) as error:
            for row, text in enumerate(texts, start):
                _check(text, row=row)
            raise ValueError(f"texts {start} to {start + len(texts) - 1} cannot be tokenized: {error}") from error
        for place, encoding in zip(whole, encodings, strict=True):
            rows[place] = np.array(encoding.ids, np.int32).tobytes()
        return [row for row in rows if row is not None]

    def _encode(self, texts: list[str]) -> list[Encoding]:
        return self._backend.encode_batch_fast(texts, add_special_tokens=False) if texts else []


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


def _frame(backend: Backend) -> tuple[bytes, bytes]:
    """Return the ids of the special tokens before and after a text, as int32 bytes."""
    inner = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a").ids
    before = next(n for n in range(len(framed)) if framed[n : n + len(inner)] == inner)
    after = framed[before + len(inner) :]
    return np.array(framed[:before], np.int32).tobytes(), np.array(after, np.int32).tobytes()


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
