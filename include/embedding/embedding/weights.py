"""The model and its heads in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from embedding.checkpoint import COLBERT_HEAD, REMEDY, SPARSE_HEAD, Checkpoint
from embedding.device import DTYPES
from embedding.errors import GpuError, ModelError


@dataclass(frozen=True)
class Weights:
    """Hold the transformer in the chosen precision and the two heads, which stay in float32."""

    transformer: nn.Module
    sparse: nn.Linear
    colbert: nn.Linear


def load_weights(checkpoint: Checkpoint, *, device: str, dtype: str) -> Weights:
    """Load local files, never executing pickled code; raises ModelError for damaged or partial weights."""
    # Two seconds to import: spared where nothing is left to encode.
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        transformer, loading = AutoModel.from_pretrained(
            checkpoint.path,
            dtype=DTYPES[dtype],
            add_pooling_layer=False,
            local_files_only=True,
            use_safetensors=checkpoint.safetensors,
            weights_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(f"the weights in {checkpoint.path} do not load ({error}); {REMEDY}") from error
    # transformers fills what is missing with random numbers and only warns.
    wrong = sorted(loading["missing_keys"]) + [str(key) for key in loading["mismatched_keys"]]
    if wrong:
        raise ModelError(f"the weights in {checkpoint.path} lack {', '.join(wrong[:3])}; {REMEDY}")
    weights = Weights(
        transformer=transformer.eval(),
        sparse=_load_head(checkpoint.path / SPARSE_HEAD, dim=checkpoint.dim),
        colbert=_load_head(checkpoint.path / COLBERT_HEAD, dim=checkpoint.dim),
    )
    return move(weights, device)


def move(weights: Weights, device: str) -> Weights:
    """Put the weights on a device; raises GpuError where they do not fit."""
    if device == "cuda":
        # cuDNN's attention prepares itself anew for each shape, and batches have hundreds of shapes.
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        return Weights(*(module.to(device) for module in (weights.transformer, weights.sparse, weights.colbert)))
    except torch.OutOfMemoryError as error:
        raise GpuError("the GPU's memory does not hold the weights: stop what else uses the GPU") from error


def _load_head(path: Path, *, dim: int) -> nn.Linear:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        head = nn.Linear(dim, state["weight"].shape[0])
        head.load_state_dict(state)
    except Exception as error:
        raise ModelError(f"{path} is not a linear layer over {dim} values ({error}); {REMEDY}") from error
    return head.float().eval()
