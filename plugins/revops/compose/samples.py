"""`python -m revops.compose.samples`: the sample sources of profile demo, made once."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from pathlib import Path

import psycopg
import structlog
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from revops.local import sample
from revops.local.sample import SEED

SECRETS = Path("/run/secrets/samples")
TRUTH = Path("/var/lib/revops/sample/truth.csv")
SOURCES = {"odoo": "odoo", "c303_prod_apn_01": "ace"}

_DROP_ALL = """
do $$ declare item record; begin
    drop schema if exists sample cascade;
    for item in select oid::regclass as name from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    loop execute format('drop table if exists %s cascade', item.name); end loop;
    for item in select oid::regtype as name from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
    loop execute format('drop type %s cascade', item.name); end loop;
end $$
"""

log = structlog.get_logger("revops.samples")


def main() -> int:
    """Fill both databases where that has not been done; a kill in between leaves one of them, which is emptied."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ]
    )
    started = time.monotonic()
    with _connect("odoo") as odoo, _connect("c303_prod_apn_01") as ace:
        done = [_is_filled(odoo), _is_filled(ace)]
        if all(done):
            log.info("sample sources are there")
            return 0
        if any(done):
            for connection in (odoo, ace):
                _empty(connection)
        scale = float(os.environ.get("REVOPS_SAMPLE_SCALE") or 1)
        today = dt.datetime.now(dt.UTC).date()
        rows = sample.create(odoo, ace, seed=SEED, today=today, scale=scale, truth_path=TRUTH)
    log.info(
        "sample sources made",
        tables=len(rows),
        rows=sum(rows.values()),
        scale=scale,
        seconds=round(time.monotonic() - started, 1),
    )
    return 0


def _connect(database: str) -> Connection[tuple[object, ...]]:
    login = SOURCES[database]
    return psycopg.connect(
        make_conninfo(
            host="samples",
            port=5432,
            dbname=database,
            user=login,
            password=(SECRETS / f"{login}_password").read_text().strip(),
            sslmode="verify-full",
            sslrootcert=str(SECRETS / "ca.crt"),
            channel_binding="require",
            connect_timeout=10,
        )
    )


def _is_filled(connection: Connection[tuple[object, ...]]) -> bool:
    return connection.execute("select to_regnamespace('sample') is not null").fetchone() == (True,)


def _empty(connection: Connection[tuple[object, ...]]) -> None:
    """Drop what a killed run has committed. Not the schema: the reader's rights hang on it."""
    connection.execute(_DROP_ALL)
    connection.commit()


if __name__ == "__main__":
    sys.exit(main())
