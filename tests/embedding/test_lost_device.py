"""Which failures are those of a GPU that is lost, on an encoder that fails like one: there is none here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from embedding.errors import DeviceLostError, ExitCode, GpuError, ModelError
from embedding.lost_device import check_device

# As PyTorch words it.
ILLEGAL_ACCESS = torch.AcceleratorError(
    "CUDA error: an illegal memory access was encountered\n"
    "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda for more information.\n"
    "CUDA kernel errors might be asynchronously reported at some other API call."
)


class Gpu:
    """What is asked of an encoder: it fails with an error, if it has one."""

    def __init__(self, error: Exception | None, *, device: str = "cuda") -> None:
        self.settings = SimpleNamespace(device=device)
        self._error = error

    def encode(self, texts: list[str]) -> None:
        assert texts
        if self._error:
            raise self._error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ILLEGAL_ACCESS, "an illegal memory access was encountered"),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "uncorrectable ECC error"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"), "EXECUTION_FAILED"),
    ],
)
def test_a_gpu_that_fails_at_a_text_of_our_own_is_lost(error, said):
    with pytest.raises(DeviceLostError, match=f"{said}.*start it anew.*reset the GPU") as lost:
        check_device(Gpu(error))
    assert "\n" not in str(lost.value)
    assert lost.value.exit_code == ExitCode.GPU


@pytest.mark.parametrize(
    "error",
    [
        None,
        GpuError("a batch does not fit into the GPU's memory"),
        ModelError("NaN"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_that_lacks_memory_or_works_is_not(error):
    check_device(Gpu(error))


def test_a_processor_is_never_lost():
    check_device(Gpu(ILLEGAL_ACCESS, device="cpu"))
