"""Words that were met before need no second tokenizing: their ids are kept, and equal the tokenizer's own.

The tokenizers of XLM-R's family cut a text at white space before they look at a word, so that a word's ids depend on
the word only. Normalising comes first, however, and looks at neighbours: what may join with a space beside it, and all
that is not known to be like this, is left to the tokenizer.
"""

from __future__ import annotations

import json
import string
import unicodedata
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

# Some 150 bytes each.
KEPT_WORDS = 500_000
# Longer words rarely come again: addresses, or clauses of languages that put no space between words.
KEPT_LENGTH = 32
# Above that a text has too few spaces for its words to come again.
CHARACTERS_A_WORD = 16
PRINTABLE = string.ascii_letters + string.digits + string.punctuation

_NORMALIZERS = {"Nmt", "NFKC", "Precompiled", "Strip"}
_COLLAPSE = {"pattern": {"Regex": " {2,}"}}
# Thai and Lao AM extend the character before them, as marks do; the scripts from U+11000 on and U+0D4E have letters
# that attach to what follows.
_EXTENDING = "\u0e33\u0eb3"
_PRECEDING = "\u0d4e"
_FIRST_SUPPLEMENTARY = 0x11000


class UnknownNeighbours(Exception):  # noqa: N818 - tells where to look instead
    """Tell that a word's ids may depend on what stands beside it."""


class Words(dict[str, bytes]):
    """Map words to their token ids as int32 bytes, in bounded memory; safe to use from several threads."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Asked for once: each time, the tokenizer would make a new object.
        self._model, self._normalizer = backend.model, backend.normalizer
        self._added = [token.content for token in backend.get_added_tokens_decoder().values()]
        pre_tokenizers = _parts(backend.pre_tokenizer, "pretokenizers")
        self._drops_spaces = any(part["type"] == "WhitespaceSplit" for part in pre_tokenizers)
        self._is_applicable = (
            all(map(_splits_words, pre_tokenizers))
            and pre_tokenizers[-1:] != []
            and pre_tokenizers[-1]["type"] == "Metaspace"
            and all(map(_keeps_words_apart, _parts(self._normalizer, "normalizers")))
            and not any(" " in content for content in self._added)
        )
        self._keeps_ascii = self._is_applicable and all(map(self._is_kept, PRINTABLE))

    def ids(self, text: str) -> bytes | None:
        """Return the ids of a text without special tokens, or None where the tokenizer has to see it whole."""
        words = text.replace("\n", " ").split(" ")
        if not self._is_applicable or len(text) > CHARACTERS_A_WORD * len(words):
            return None
        if not self._drops_spaces and "" in words:
            return None
        try:
            return b"".join(map(self.__getitem__, words))
        except UnknownNeighbours:
            return None

    def __missing__(self, word: str) -> bytes:
        if not self._stands_alone(word):
            raise UnknownNeighbours
        ids = np.array(self._encode(word), np.int32).tobytes() if word else b""
        if len(word) <= KEPT_LENGTH:
            if len(self) >= KEPT_WORDS:
                self.clear()
            self[word] = ids
        return ids

    def _encode(self, word: str) -> list[int]:
        # A word without white space and special tokens that normalizing leaves as it is goes to the model of the
        # tokenizer as it is: half of the time.
        if word.isprintable() and ((self._keeps_ascii and word.isascii()) or self._is_kept(word)):
            return [token.id for token in self._model.tokenize("▁" + word)]
        return self._backend.encode(word, add_special_tokens=False).ids

    def _is_kept(self, text: str) -> bool:
        return self._normalizer is None or bool(self._normalizer.normalize_str(text) == text)

    def _stands_alone(self, word: str) -> bool:
        if not word:
            return True
        first, last = unicodedata.category(word[0]), unicodedata.category(word[-1])
        return not (
            first[0] in "MCZ"
            or (first in ("Sk", "Lm") and not word[0].isascii())
            or word[0] in _EXTENDING
            or last[0] in "CZ"
            or word[-1] in _PRECEDING
            or (last == "Lo" and ord(word[-1]) >= _FIRST_SUPPLEMENTARY)
            or "▁" in word
            or any(content in word for content in self._added)
        )


def _parts(component: Any, name: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    parts: list[dict[str, Any]] = state.get(name, [state])
    return parts


def _splits_words(pre_tokenizer: dict[str, Any]) -> bool:
    if pre_tokenizer["type"] == "Metaspace":
        return bool(pre_tokenizer["prepend_scheme"] == "always" and pre_tokenizer["split"])
    return bool(pre_tokenizer["type"] == "WhitespaceSplit")


def _keeps_words_apart(normalizer: dict[str, Any]) -> bool:
    is_collapse = normalizer["type"] == "Replace" and normalizer["pattern"] == _COLLAPSE["pattern"]
    return is_collapse or normalizer["type"] in _NORMALIZERS
