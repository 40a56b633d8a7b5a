"""What can be wrong with a rotation of keys."""

from __future__ import annotations


class RotationError(RuntimeError):
    """Tokens could not be brought to the writing key, for a reason that a retry does not mend."""


class RotationBusyError(RuntimeError):
    """Another rotation is at work, or loads have held a table for too long; the same may succeed later."""
