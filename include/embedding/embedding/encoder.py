"""The forward pass: token ids to dense, sparse and ColBERT vectors, for documents and queries alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedding.batching import padded_tokens, plan_batches
from embedding.checkpoint import Checkpoint, read_checkpoint
from embedding.device import choose_device, choose_dtype
from embedding.errors import GpuError, ModelError, UsageError
from embedding.model_key import model_key
from embedding.sparse import SparseVectors, join_rows, pool_tokens
from embedding.tokenizer import Tokenizer, Tokens
from embedding.weights import Weights, load_weights

MAX_LENGTH = 512
# A GPU wants large products; on a CPU a batch should stay near its caches.
TOKEN_BUDGET = {"cuda": 16_384, "cpu": 2_048}


@dataclass(frozen=True)
class Embeddings:
    """Hold n results in the order of the texts: unit vectors (n, dim), sparse vectors, token counts (n)."""

    dense: NDArray[np.float32]
    sparse: SparseVectors
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    encoded_tokens: int
    padded_tokens: int


@dataclass(frozen=True)
class _Batch:
    rows: NDArray[np.intp]
    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Pending:
    batch: _Batch
    dense: torch.Tensor
    weights: torch.Tensor
    copied: torch.cuda.Event | None


@dataclass(frozen=True)
class Settings:
    """Name how a model is used: device and dtype are resolved, max_length counts special tokens."""

    device: str
    dtype: str
    max_length: int
    token_budget: int

    @classmethod
    def choose(
        cls,
        *,
        device: str = "auto",
        dtype: str = "auto",
        require_gpu: bool = False,
        max_length: int = MAX_LENGTH,
        token_budget: int | None = None,
    ) -> Settings:
        """Resolve what is left open to suit this machine; raises GpuError."""
        device = choose_device(device, require_gpu=require_gpu)
        return cls(
            device=device,
            dtype=choose_dtype(dtype, device=device),
            max_length=max_length,
            token_budget=token_budget or TOKEN_BUDGET[device],
        )


class Encoder:
    """Encode texts; one instance serves one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        """Load tokenizer and weights; raises ModelError, UsageError."""
        if settings.max_length > checkpoint.max_tokens:
            raise UsageError(
                f"{checkpoint.name} takes {checkpoint.max_tokens} tokens, not {settings.max_length}: lower --max-length"
            )
        self.checkpoint = checkpoint
        self.settings = settings
        self.tokenizer = Tokenizer(checkpoint, max_length=settings.max_length)
        self._weights: Weights = load_weights(checkpoint, device=settings.device, dtype=settings.dtype)

    @classmethod
    def load(cls, model: Path, settings: Settings | None = None) -> Encoder:
        """Load a model directory with settings that suit this machine."""
        return cls(read_checkpoint(model), settings or Settings.choose())

    def model_key(self) -> str:
        """Return the identity of this encoder's vectors; reads the whole model."""
        return model_key(self.checkpoint, max_length=self.settings.max_length, dtype=self.settings.dtype)

    def encode(self, texts: Sequence[str], *, prompt: str = "passage") -> Embeddings:
        """Tokenize and encode; no texts give empty arrays. Raises ValueError naming the row of a bad text."""
        return self.encode_tokens(self.tokenizer.tokenize(texts, prompt=prompt))

    def encode_tokens(self, tokens: Tokens) -> Embeddings:
        """Encode tokenized texts. Batches depend on these texts only, so equal input gives equal bits."""
        batches = plan_batches(tokens.lengths, token_budget=self.settings.token_budget)
        dense = np.empty((len(tokens.ids), self.checkpoint.dim), np.float32)
        sparse: list[Any] = [None] * len(tokens.ids)
        for pending in self._one_behind(tokens, batches):
            vectors, weights = self._collect(pending)
            batch = pending.batch
            dense[batch.rows] = vectors
            pooled = pool_tokens(weights, batch.ids, self._counted(batch, prompt_tokens=tokens.prompt_tokens))
            for position, row in enumerate(batch.rows):
                sparse[row] = pooled.row(position)
        return Embeddings(
            dense=dense,
            sparse=join_rows(sparse),
            tokens=tokens.counts,
            truncated=tokens.truncated,
            encoded_tokens=int(tokens.lengths.sum()),
            padded_tokens=padded_tokens(tokens.lengths, batches),
        )

    def encode_colbert(self, texts: Sequence[str], *, prompt: str = "passage") -> list[NDArray[np.float32]]:
        """Return one (tokens - 1, colbert dim) array of unit rows a text: every token but the first."""
        tokens = self.tokenizer.tokenize(texts, prompt=prompt)
        vectors: list[Any] = [None] * len(texts)
        for rows in plan_batches(tokens.lengths, token_budget=self.settings.token_budget):
            hidden = self._forward(_pad(tokens, rows, pad_id=self.checkpoint.pad_id))
            with torch.inference_mode():
                units = functional.normalize(self._weights.colbert(hidden[:, 1:]), dim=-1).cpu().numpy()
            for position, row in enumerate(rows):
                # Copied, so that one short text does not keep the whole padded batch alive.
                vectors[row] = units[position, : tokens.lengths[row] - 1].copy()
        return vectors

    def _one_behind(self, tokens: Tokens, batches: Sequence[NDArray[np.intp]]) -> Iterator[_Pending]:
        # A GPU computes the next batch while the host pools the one before.
        before: _Pending | None = None
        for rows in batches:
            now = self._launch(_pad(tokens, rows, pad_id=self.checkpoint.pad_id))
            if before is not None:
                yield before
            before = now
        if before is not None:
            yield before

    @torch.inference_mode()
    def _launch(self, batch: _Batch) -> _Pending:
        hidden = self._forward(batch)
        mask = torch.from_numpy(batch.mask).to(hidden.device, non_blocking=True)
        dense = functional.normalize(self._pool(hidden, mask), dim=-1)
        weights = functional.relu(self._weights.sparse(hidden)).squeeze(-1)
        if hidden.device.type == "cpu":
            return _Pending(batch, dense, weights, copied=None)
        dense, weights = dense.to("cpu", non_blocking=True), weights.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return _Pending(batch, dense, weights, copied)

    @torch.inference_mode()
    def _forward(self, batch: _Batch) -> torch.Tensor:
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(self.settings.device, non_blocking=True)
        # Without padding there is no mask: PyTorch then takes its fastest attention.
        mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to(ids.device, non_blocking=True).long()
        try:
            return self._weights.transformer(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        except torch.OutOfMemoryError as error:
            raise GpuError(
                f"a batch of {ids.shape[0]} x {ids.shape[1]} tokens does not fit into the GPU's memory: "
                f"lower --token-budget (now {self.settings.token_budget})"
            ) from error

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.checkpoint.pooling == "cls":
            return hidden[:, 0]
        summed = (hidden * mask.unsqueeze(-1)).sum(1)
        return summed / mask.sum(1, keepdim=True)

    def _collect(self, pending: _Pending) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if pending.copied is not None:
            pending.copied.synchronize()
        dense, weights = pending.dense.numpy(), pending.weights.numpy()
        if not (np.isfinite(dense).all() and np.isfinite(weights).all()):
            raise ModelError(
                f"{self.checkpoint.name} gave NaN or infinity in {self.settings.dtype}: try --dtype float32"
            )
        return dense, weights

    def _counted(self, batch: _Batch, *, prompt_tokens: int) -> NDArray[np.bool_]:
        counted = batch.mask & ~np.isin(batch.ids, self.tokenizer.special_ids)
        counted[:, 1 : 1 + prompt_tokens] = False
        return counted


def _pad(tokens: Tokens, rows: NDArray[np.intp], *, pad_id: int) -> _Batch:
    lengths = tokens.lengths[rows]
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int32)
    ids[mask] = np.concatenate([tokens.ids[row] for row in rows])
    return _Batch(rows=rows, ids=ids, mask=mask)
