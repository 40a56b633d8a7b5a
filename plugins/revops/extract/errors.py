"""What can be wrong with an extraction, and which of it passes by itself."""

from __future__ import annotations


class ExtractError(RuntimeError):
    """A table can't be extracted for a reason that a retry does not mend."""


class TableMissingError(ExtractError):
    """The source lacks a table that is not marked optional."""


class SchemaFrozenError(ExtractError):
    """The source's table differs from raw, and its `drift` is `freeze`."""


class IncompleteLoadError(ExtractError):
    """Raw differs from the source after a load; the load was rolled back."""


class TooManyDeletionsError(ExtractError):
    """More rows would be marked deleted than a run may do unasked."""


class TryAgainError(RuntimeError):
    """A load that gave way; the same load may succeed later."""


class LoadBusyError(TryAgainError):
    """Another load of the same table is running, or has been quicker."""


class TableChangedError(TryAgainError):
    """A table was altered, rewritten or emptied after the snapshot that it is to be read in; a new one sees it."""


class GaveWayError(TryAgainError):
    """Somebody waited for a lock that this load's reading held up."""


class SnapshotGoneError(TryAgainError):
    """A snapshot can't be read in any more, because the session that exported it has ended."""
