"""How an extraction reaches both of its ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg


@dataclass(frozen=True)
class Route:
    """Openers of sessions in the source and in the warehouse; each call opens a new one, which the caller closes.

    Sessions are idle and not in autocommit. Those of the source can only read; those of the warehouse hold the rights
    of revops_ingest.
    """

    source: Callable[[], psycopg.Connection]
    warehouse: Callable[[], psycopg.Connection]
