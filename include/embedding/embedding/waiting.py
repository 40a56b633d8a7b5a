"""What waits for the model, and what bounds it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any


class Overloaded(Exception):  # noqa: N818 - a state, not a defect
    """There is no room in the queue; `retry_after` is whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full: try again in {retry_after} s")
        self.retry_after = retry_after


class EncodeFailed(Exception):  # noqa: N818
    """The model failed at a text; the cause has been logged."""


@dataclass(frozen=True)
class Limits:
    """Bound what waits, texts and tokens that are being encoded included; window: seconds to gather a batch for."""

    token_budget: int
    queue_texts: int
    queue_tokens: int
    window: float


@dataclass(eq=False)
class Item:
    """Hold one text's work. Items of one `group` may share a batch; `payload` is what the model is given.

    One item may serve several requests: `waiters` counts those that still listen.
    """

    key: bytes
    group: tuple[str, str]
    payload: Any
    tokens: int
    future: asyncio.Future[Any]
    arrived: float = field(default_factory=time.monotonic)
    waiters: int = 1
    request: int = 0
