"""What stops a transform for a reason that a retry does not mend."""


class TransformError(RuntimeError):
    """A table can't be transformed; the message names table, file and remedy."""
