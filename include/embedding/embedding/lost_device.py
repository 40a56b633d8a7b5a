"""A GPU that is lost: after some faults CUDA refuses every call of a process, which only its end mends."""

from __future__ import annotations

from embedding.encoder import Encoder
from embedding.errors import DeviceLostError, EmbeddingError

# PyTorch does not tell every lack of memory by a class of its own: neither pinned memory's nor cuBLAS's.
_LACKS_MEMORY = ("out of memory", "ALLOC_FAILED")


def check_device(encoder: Encoder) -> None:
    """After a failure on a GPU encode a text of our own; raises DeviceLostError where that fails as well.

    A lack of memory is not for good: whoever has it may give it back.
    """
    if encoder.settings.device == "cpu":
        return
    try:
        encoder.encode(["is it well"])
    except EmbeddingError:
        return
    except RuntimeError as error:
        # What follows CUDA's first line is advice for developers.
        said = str(error).partition("\n")[0]
        if not any(words in said for words in _LACKS_MEMORY):
            raise DeviceLostError(
                f"the GPU fails at whatever it is given ({said}), and will until this process ends: start it anew, as "
                "Compose does by itself; if that does not help, see the driver's log (dmesg, Xid) and reset the GPU"
            ) from error
