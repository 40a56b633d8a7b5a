"""What is not let through."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that is not let through; the message goes to the client, as the engine's own errors do."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.status = status
