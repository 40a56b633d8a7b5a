"""`embed` with a model that fails as on a GPU whose CUDA context is lost, at a text that is cut and ever after."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from embedding.__main__ import main
from embedding.encoder import Encoder


class Poisoned:
    """The real encoder, which calls its processor a GPU; it fails once a line comes in on stdin."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._is_lost = False
        self.settings = replace(encoder.settings, device="cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, texts: Sequence[str], **options: Any) -> Any:
        self._fail_if_lost()
        return self._encoder.encode(texts, **options)

    def encode_tokens(self, tokens: Any) -> Any:
        if not self._is_lost and tokens.truncated.any():
            sys.stdin.readline()
            self._is_lost = True
        self._fail_if_lost()
        return self._encoder.encode_tokens(tokens)

    def _fail_if_lost(self) -> None:
        if self._is_lost:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it.")


if __name__ == "__main__":
    load = Encoder.load
    Encoder.load = lambda *given: Poisoned(load(*given))
    sys.exit(main())
