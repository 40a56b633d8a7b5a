"""What lineage refuses."""

from __future__ import annotations


class LineageError(RuntimeError):
    """A statement's columns can't be followed to their inputs, or records contradict each other; no retry mends it."""
