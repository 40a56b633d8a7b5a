"""What the processor does for a document, with the model taken out: it answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.encoders import MAX_LENGTH
from benchmarks.encoders.contenders import Spent, flag_embedding, run_job
from embedding.checkpoint import Checkpoint
from embedding.encoder import TOKEN_BUDGET, Encoder, Settings
from embedding.weights import Weights

DIM = 1_024
# Two tokens in three have a weight above zero, as with BGE-M3's head.
_WEIGHTS = torch.randn(512, 8_192, generator=torch.Generator().manual_seed(0)) + 0.4
_DENSE = torch.nn.functional.normalize(torch.randn(512, DIM, generator=torch.Generator().manual_seed(1)), dim=-1)


class _Transformer:
    def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
        rows, positions = input_ids.shape
        # Views of one tensor: nothing is computed and nothing copied.
        return SimpleNamespace(last_hidden_state=_DENSE[:rows, None, :].expand(rows, positions, DIM))


class _Sparse:
    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return _WEIGHTS[: hidden.shape[0], : hidden.shape[1], None]


@dataclass
class _FlagModel:
    """Stands where FlagEmbedding has its model; counts what it was given to compute."""

    padded: int = 0

    def __call__(self, inputs: Any, **_: Any) -> dict[str, torch.Tensor]:
        rows, positions = inputs["input_ids"].shape
        self.padded += rows * positions
        return {"dense_vecs": _DENSE[:rows], "sparse_vecs": _WEIGHTS[:rows, :positions, None].relu()}

    def float(self) -> _FlagModel:
        return self

    def to(self, *_: Any) -> _FlagModel:
        return self

    def eval(self) -> _FlagModel:
        return self


def measure_revops(checkpoint: Checkpoint, texts: Sequence[str], *, home: Path) -> Spent:
    """Measure our whole job: read, tokenize, pad, pool, write; with a GPU's token budget and 1,024 dimensions."""
    settings = Settings(device="cpu", dtype="bfloat16", max_length=MAX_LENGTH, token_budget=TOKEN_BUDGET["cuda"])
    # A new encoder, whose tokenizer has seen no word yet.
    weights = Weights(_Transformer(), _Sparse(), torch.nn.Linear(1, 1))
    encoder = Encoder(replace(checkpoint, dim=DIM, pooling="cls"), settings, weights=weights)
    return run_job(encoder, texts, home=home)


def measure_flag_embedding(model: Any, texts: Sequence[str], *, batch_size: int, prompts: Any) -> Spent:
    """Measure its encode, which ends in memory: nothing is read or written."""
    stub, model.model = _FlagModel(), model.model
    whole, model.model = model.model, stub
    try:
        spent = flag_embedding(model, name="", batch_size=batch_size, prompts=prompts).batch(texts)
    finally:
        model.model = whole
    return replace(spent, padded=stub.padded)
