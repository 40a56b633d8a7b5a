"""Where and in which precision the model computes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from embedding.errors import GpuError, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(wanted: str, *, require_gpu: bool) -> str:
    """Turn auto, cpu or cuda into cpu or cuda.

    Raises GpuError where a GPU is demanded and none is there, UsageError where it is demanded and ruled out.
    """
    if require_gpu and wanted == "cpu":
        raise UsageError("--require-gpu and --device cpu contradict each other: leave one of them out")
    available = torch.cuda.is_available()
    if (require_gpu or wanted == "cuda") and not available:
        reason = "this PyTorch is built for the CPU" if torch.version.cuda is None else "no CUDA device is visible"
        raise GpuError(
            f"a GPU is required and {reason}: give the container one (device_requests, --gpus all) and "
            "build its image with TORCH_VARIANT=cuda, or leave out --require-gpu and --device cuda"
        )
    if wanted == "auto":
        return "cuda" if available else "cpu"
    return wanted


def choose_dtype(wanted: str, *, device: str) -> str:
    """Turn auto into bfloat16 where the device computes it natively, else float32."""
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else _cpu_has_bfloat16()
    return "bfloat16" if native else "float32"


def name_device(device: str) -> str:
    """Return the name of the GPU, or of the processor with the number of threads that compute."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [line.partition(":")[2].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def use_threads(count: int | None) -> int:
    """Let PyTorch use that many threads, by default every processor this process may run on."""
    count = count or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def _cpu_has_bfloat16() -> bool:
    flags = _cpuinfo()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
