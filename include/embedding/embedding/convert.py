"""Pickled weights to safetensors: loaded without executing anything, equal to the last bit."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from embedding.errors import ModelError, OutputError


def to_safetensors(source: Path, target: Path) -> int:
    """Write the tensors of `source` to `target`, read them back and return how many they are.

    Raises ModelError for a file that holds anything but tensors, or that does not come back equal.
    """
    try:
        state = torch.load(source, weights_only=True, mmap=True, map_location="cpu")
        tensors = _apart(state)
    except Exception as error:
        raise ModelError(f"{source} holds no plain tensors ({error}): fetch it again") from error
    try:
        save_file(tensors, target, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OutputError(f"cannot write {target} ({error}): check rights and free space") from error
    with target.open("rb+") as written:
        os.fsync(written.fileno())
    with safe_open(target, framework="pt") as back:
        if set(back.keys()) != set(state):
            raise ModelError(f"{target} does not hold the tensors of {source}: try again on another disk")
        for name, tensor in state.items():
            if not _is_equal(back.get_tensor(name), tensor):
                raise ModelError(f"{name} in {target} is not what {source} holds: try again on another disk")
    return len(tensors)


def _apart(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # Tensors that share memory are written as one each; the others stay in the mapped file, which is large.
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        apart[name] = apart[name].contiguous()
        seen.add(memory)
    return apart


def _is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    # As bytes: NaN equals no NaN.
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
