"""What a device can compute at most, and what a model asks of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

SECONDS = {"cpu": 1.0, "cuda": 0.5}
# (rows, inner, columns): a square for the peak itself, and a layer's own products over a batch.
SHAPES = {
    "cpu": ((2_048, 1_024, 4_096), (2_048, 2_048, 2_048)),
    "cuda": ((8_192, 8_192, 8_192), (16_384, 1_024, 4_096), (16_384, 4_096, 4_096)),
}


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Return the most floating-point operations a second that a large matrix product reaches, of several shapes."""
    return max(_product(device, dtype, shape) for shape in SHAPES[device])


def _product(device: str, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    rows, inner, columns = shape
    left = torch.randn(rows, inner, device=device).to(dtype)
    # As a linear layer holds its weights.
    right = torch.randn(columns, inner, device=device).to(dtype)
    flops = 2.0 * rows * inner * columns
    best = 0.0
    with torch.inference_mode():
        torch.nn.functional.linear(left, right)
        ended = time.perf_counter() + SECONDS[device]
        while time.perf_counter() < ended:
            _wait(device)
            started = time.perf_counter()
            for _ in range(repeats := 20 if device == "cuda" else 1):
                torch.nn.functional.linear(left, right)
            _wait(device)
            best = max(best, repeats * flops / (time.perf_counter() - started))
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def flops_a_token(model: Path, length: float) -> float:
    """Return what one token of a text of that length asks for: two a weight, and its share of attention."""
    config = json.loads((model / "config.json").read_text())
    hidden, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    return float(2 * weights + 4 * length * hidden * layers)
