"""A rotation with the connections of Airflow: raw first, then what core has copied of it."""

from __future__ import annotations

from typing import Any

import structlog

from revops.hooks.warehouse import connect_warehouse
from revops.keyring import Keyring
from revops.rotation.core import refresh_core
from revops.rotation.record import Tell
from revops.rotation.run import Rotated, rotate_keys
from revops.sources import INCLUDE, SOURCES_FOLDER, Source, load_source

log = structlog.get_logger(__name__)


def all_sources() -> list[Source]:
    """Return every source that has a file."""
    return [load_source(path.stem) for path in sorted(SOURCES_FOLDER.glob("*.yaml"))]


def rotate(
    keyring: Keyring,
    *,
    run_id: str,
    tell: Tell | None = None,
    forgotten: int | None = None,
    only_due: bool = False,
) -> tuple[Rotated | None, list[str]]:
    """Rotate the keys of raw, then of core; return what was done and which sources' core waits for their next run.

    Raises what `rotate_keys` raises; what was committed stays.
    """
    sources = all_sources()
    done = rotate_keys(
        lambda: connect_warehouse("revops_ingest", task="rotate-keys"),
        keyring,
        run_id=run_id,
        sources=sources,
        tell=tell,
        forgotten=forgotten,
        only_due=only_due,
    )
    if done is None or not done.indexed:
        return done, []
    waiting = []
    with connect_warehouse("revops_transform", task="rotate-keys") as warehouse:
        for source in sources:
            if not refresh_core(warehouse, source, run_id=run_id, include=INCLUDE):
                waiting.append(source.source)
    return done, waiting


def rotate_when_due(*, run_id: str) -> dict[str, Any]:
    """Rotate where the register knows of another key; return the counts."""
    if not any(source.encrypt or any(entry.encrypt for entry in source.entries) for source in all_sources()):
        return {"rows": 0, "tokens": 0}
    done, waiting = rotate(Keyring.from_environment(), run_id=run_id, only_due=True)
    if done is None:
        log.info("nothing to rotate: the register knows of no key but the one that writes")
        return {"rows": 0, "tokens": 0}
    log.info(done.remedy, tables=done.rows)
    return {"rows": sum(done.rows.values()), "tokens": done.tokens, "retired": done.retired, "core_waits": waiting}
