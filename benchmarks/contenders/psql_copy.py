"""The reference: two psql and a pipe, binary COPY into an equal logged table with its primary key."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from benchmarks.contenders import Command, Contender, Job, environment
from revops.local.paths import state_home

INSTALL = state_home() / "postgres-install"
PIPE = (
    'PGPASSWORD="$SOURCE_PASSWORD" "$PSQL" -Xq -v ON_ERROR_STOP=1 -c "$READ" "$SOURCE" | '
    'PGPASSWORD="$TARGET_PASSWORD" "$PSQL" -Xq -v ON_ERROR_STOP=1 -c "$WRITE" "$TARGET"'
)
SCAN = 'PGPASSWORD="$SOURCE_PASSWORD" "$PSQL" -Xq -v ON_ERROR_STOP=1 -c "$READ" "$SOURCE"'


def load(job: Job) -> Command:
    """Copy the whole table."""
    return _pipe(job, f"select {_names(job)} from {job.table}")


def increment(job: Job) -> Command:
    """Copy just the rows that were written since, into an empty table: what any increment has to move at least."""
    return _pipe(job, f"select {_names(job)} from {job.table} where {job.cursor} >= '{job.since}'")


def scan(job: Job) -> Command:
    """Read every row of the source once and move none."""
    read = f"set enable_indexscan = off; set enable_indexonlyscan = off; select count(*) from {job.table}"
    return _psql(job, SCAN, READ=read)


def _pipe(job: Job, query: str) -> Command:
    return _psql(
        job,
        PIPE,
        READ=f"copy ({query}) to stdout (format binary)",
        WRITE=f"copy {job.table} ({_names(job)}) from stdin (format binary)",
    )


def _psql(job: Job, script: str, **statements: str) -> Command:
    parts: dict[str, str] = {}
    for side, url in (("SOURCE", job.source), ("TARGET", job.target)):
        password = urlsplit(url).password or ""
        parts |= {side: url.replace(f":{password}@", "@"), f"{side}_PASSWORD": unquote(password)}
    return Command(
        ["/bin/bash", "-o", "pipefail", "-c", script],
        environment(
            job,
            **parts,
            **statements,
            PSQL=os.fspath(INSTALL / "bin" / "psql"),
            LD_LIBRARY_PATH=os.fspath(INSTALL / "lib"),
        ),
    )


def _names(job: Job) -> str:
    return ", ".join(f'"{name}"' for name in job.columns)


CONTENDER = Contender("psql COPY", load, increment, is_given_table=True)
