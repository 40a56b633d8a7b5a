"""Load all tables of a source whose names fit a pattern, one after the other."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

import psycopg
import structlog

from revops.errors import describe, is_transient
from revops.extract.errors import ExtractError, TryAgainError
from revops.extract.load import LoadResult, load_table
from revops.extract.sessions import Route
from revops.extract.snapshot import SharedSnapshot
from revops.keyring import Keyring
from revops.sources import Pattern, Source

log = structlog.get_logger(__name__)

NAMED_FAILURES = 10


@dataclass
class PatternResult:
    """What became of each table: results, and errors by table, those that a retry may mend apart."""

    loaded: list[LoadResult] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    postponed: dict[str, str] = field(default_factory=dict)

    def explain(self) -> str:
        """Return what failed, a line a table."""
        failures = {**self.refused, **self.postponed}
        lines = [f"{name}: {why}" for name, why in list(failures.items())[:NAMED_FAILURES]]
        if len(failures) > NAMED_FAILURES:
            lines.append(f"and {len(failures) - NAMED_FAILURES} more; see ops.load")
        return f"{len(failures)} of {len(failures) + len(self.loaded)} tables failed\n" + "\n".join(lines)


def find_tables(source: psycopg.Connection, config: Source, pattern: Pattern) -> list[str]:
    """Return the tables of the source that fit a pattern, by name: no views, and of partitions only the whole.

    Tables that the login may not read are left out, and named in the log.
    """
    rows = source.execute(
        "select c.relname, has_table_privilege(c.oid, 'select') or has_any_column_privilege(c.oid, 'select') "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relkind in ('r', 'p') and not c.relispartition order by c.relname",
        (config.schema_name,),
    ).fetchall()
    source.rollback()
    fitting = set(config.fitting(pattern, (name for name, _ in rows)))
    if hidden := [name for name, may_read in rows if name in fitting and not may_read]:
        log.warning("the login may not read these tables", pattern=pattern.name, tables=hidden)
    return [name for name, may_read in rows if name in fitting and may_read]


def load_pattern(
    route: Route,
    *,
    config: Source,
    pattern: Pattern,
    run_id: str,
    snapshot: SharedSnapshot | None = None,
    full_refresh: bool = False,
    accept_deletions: bool = False,
    keyring: Keyring | None = None,
) -> PatternResult:
    """Load every table that fits; one that fails does not keep the others from being loaded.

    Raises what says that a whole server is out of reach: then the rest would fail alike.
    """
    with closing(route.source()) as source:
        names = find_tables(source, config, pattern)
    result = PatternResult()
    for number, name in enumerate(names, 1):
        log.info("loading", table=name, number=number, of=len(names))
        try:
            result.loaded.append(
                load_table(
                    route,
                    config=config,
                    table=pattern.table(name),
                    run_id=run_id,
                    snapshot=snapshot,
                    full_refresh=full_refresh,
                    accept_deletions=accept_deletions,
                    keyring=keyring,
                )
            )
        except TryAgainError as error:
            result.postponed[name] = describe(error)
        except ExtractError as error:
            result.refused[name] = describe(error)
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            (result.postponed if is_transient(error) else result.refused)[name] = describe(error)
    return result
