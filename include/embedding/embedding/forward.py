"""One batch through the model: to the device, through transformer and heads, and on the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedding.batching import Batch
from embedding.checkpoint import Pooling
from embedding.errors import GpuError
from embedding.weights import Weights

Heads = Callable[[torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Launched:
    """Hold a batch whose results may still be on their way from the device."""

    batch: Batch
    tensors: tuple[torch.Tensor, ...]
    copied: torch.cuda.Event | None

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """Wait for the results of this batch only, and return them."""
        if self.copied is not None:
            self.copied.synchronize()
        return tuple(tensor.numpy() for tensor in self.tensors)


class Forward:
    """Start batches without waiting for them: on a GPU a call returns as soon as its work is queued."""

    def __init__(self, weights: Weights, *, device: str, pooling: Pooling) -> None:
        self._weights = weights
        self._device = torch.device(device)
        self._pooling = pooling

    def documents(self, batch: Batch) -> Launched:
        """Start dense (rows, dim) and token weights (rows, positions); raises GpuError where memory is short."""
        return self._launch(batch, self._dense_and_sparse)

    def colbert(self, batch: Batch) -> Launched:
        """Start unit vectors (rows, positions - 1, colbert dim); raises GpuError where memory is short."""
        return self._launch(batch, self._colbert)

    @torch.inference_mode()
    def _launch(self, batch: Batch, heads: Heads) -> Launched:
        try:
            ids = self._to_device(batch.ids)
            # Without padding there is no mask, and PyTorch takes its fastest attention. A mask that already has
            # attention's four dimensions is used as it is; of any other transformers asks, and waits to hear, whether
            # it is all true, which would keep a GPU from running ahead.
            mask = None if batch.mask.all() else self._to_device(batch.mask)
            attention = None if mask is None else mask[:, None, None, :]
            hidden = self._weights.transformer(input_ids=ids, attention_mask=attention).last_hidden_state
            return self._to_host(batch, heads(hidden, mask))
        except torch.OutOfMemoryError as error:
            raise GpuError(
                f"a batch of {batch.ids.shape[0]} x {batch.ids.shape[1]} tokens does not fit into the GPU's memory: "
                "lower --token-budget (and --max-length, if the batch has one row), or stop what else uses the GPU"
            ) from error

    def _dense_and_sparse(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        dense = functional.normalize(self._pool(hidden, mask), dim=-1)
        return dense, functional.relu(self._weights.sparse(hidden.float())).squeeze(-1)

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self._pooling == "cls":
            return hidden[:, 0].float()
        if mask is None:
            return hidden.float().mean(1)
        summed = (hidden.float() * mask.unsqueeze(-1)).sum(1)
        return summed / mask.sum(1, keepdim=True)

    def _colbert(self, hidden: torch.Tensor, _: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        return (functional.normalize(self._weights.colbert(hidden[:, 1:].float()), dim=-1),)

    def _to_device(self, array: NDArray[np.int32] | NDArray[np.bool_]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        # Only from pinned memory does a copy run beside the computation. PyTorch keeps such buffers for the next batch.
        return tensor if self._device.type == "cpu" else tensor.pin_memory().to(self._device, non_blocking=True)

    def _to_host(self, batch: Batch, results: tuple[torch.Tensor, ...]) -> Launched:
        if self._device.type == "cpu":
            return Launched(batch, results, copied=None)
        pinned = tuple(torch.empty(r.shape, dtype=r.dtype, pin_memory=True) for r in results)
        for buffer, result in zip(pinned, results, strict=True):
            buffer.copy_(result, non_blocking=True)
        # The thread that waits sleeps instead of spinning: tokenizing needs the processors.
        copied = torch.cuda.Event(blocking=True)
        copied.record()
        return Launched(batch, pinned, copied)
