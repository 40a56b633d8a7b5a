"""Names of tables in the warehouse."""

from __future__ import annotations

import hashlib

MAX_IDENTIFIER_BYTES = 63
DIGEST_CHARACTERS = 8


def raw_table_name(source: str, table: str) -> str:
    """Return the name in schema raw of a source's table."""
    return fitting_name(f"{source}_{table}")


def fitting_name(name: str) -> str:
    """Return a name that PostgreSQL keeps as it is.

    It cuts names silently at 63 bytes, which could make two of them one: longer ones end in a digest of the whole.
    """
    encoded = name.encode()
    if len(encoded) <= MAX_IDENTIFIER_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:DIGEST_CHARACTERS]
    kept = encoded[: MAX_IDENTIFIER_BYTES - DIGEST_CHARACTERS - 1].decode(errors="ignore")
    return f"{kept}_{digest}"
