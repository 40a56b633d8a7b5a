"""Exit codes of the command line, and the exceptions behind them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Say why the process ended; 1 is left to Python, for a defect of ours."""

    OK = 0
    USAGE = 2
    MODEL = 3
    GPU = 4
    INPUT = 5
    OUTPUT = 6
    ABANDONED = 7
    FETCH = 8


EXIT_CODES = """\
  0    done
  1    a defect of the encoder
  2    options that do not fit each other or the model
  3    the model is missing, incomplete or damaged
  4    a GPU is required and absent, its memory is too small, or it failed for good (serve)
  5    an input file is damaged or not as agreed
  6    the output cannot be written: rights, a full disk, another run
  7    whoever started it went away (--end-with-stdin); finished shards stay
  8    a file of the model cannot be fetched, or is another one
  130  stopped by SIGINT; finished shards stay, the next run goes on after them
  143  stopped by SIGTERM; likewise"""


class EmbeddingError(Exception):
    """Carry a message for people (what, where, remedy) and the exit code that belongs to it."""

    exit_code = ExitCode.USAGE


class UsageError(EmbeddingError):
    """Report options that contradict each other or the model."""


class ModelError(EmbeddingError):
    """Report a model directory that is missing, incomplete or damaged."""

    exit_code = ExitCode.MODEL


class GpuError(EmbeddingError):
    """Report a required GPU that is absent, or one whose memory is too small."""

    exit_code = ExitCode.GPU


class DeviceLostError(EmbeddingError):
    """Report a GPU at which every call fails until the process ends."""

    exit_code = ExitCode.GPU


class InputError(EmbeddingError):
    """Report an input file that does not keep the contract."""

    exit_code = ExitCode.INPUT


class OutputError(EmbeddingError):
    """Report an output directory that cannot be written, or that another run is writing."""

    exit_code = ExitCode.OUTPUT


class FetchError(EmbeddingError):
    """Report a file of the model that cannot be had, or that is not the one that was published."""

    exit_code = ExitCode.FETCH
