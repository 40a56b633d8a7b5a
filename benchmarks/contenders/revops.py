"""Revops itself: one table by `load_table`, in a process of its own as an Airflow task is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.contenders import Command, Contender, Job, program
from revops.extract.load import LoadResult, load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring
from revops.sources import Source

# The sessions of revops.hooks, without Airflow's connections.
SOURCE_OPTIONS = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=5min"
WAREHOUSE_OPTIONS = "-c role=revops_ingest -c default_toast_compression=lz4 -c timezone=UTC -c work_mem=64MB"
SINGLE_SHOT = {"ranged_above_mb": 1_000_000}
RANGED = {"ranged_above_mb": 0}


def load(job: Job) -> Command:
    """Load what there is to load: all rows the first time, then what changed."""
    return program("benchmarks.contenders.revops", job)


def main() -> None:
    """Load the job's table; print the result as JSON."""
    start_seconds = _age_of_process()
    job = Job.given()
    result = _load_encrypted(job) if job.options.get("encrypt") else _load(job)
    print(json.dumps(asdict(result) | {"start_seconds": start_seconds}, default=str))


def _load(job: Job, **keys: Any) -> LoadResult:
    config = _config(job)
    return load_table(_route(job), config=config, table=config.tables[0], run_id=f"benchmark-{time.time_ns()}", **keys)


def _load_encrypted(job: Job) -> LoadResult:
    """Load with the sensitive columns of `options["encrypt"]` encrypted in this process, under keys of this run."""
    return _load(job, keyring=Keyring.generate())


def _config(job: Job) -> Source:
    table = {"name": job.table, **job.options.get("table", {})}
    if encrypt := job.options.get("encrypt"):
        table["encrypt"] = encrypt
    return Source.model_validate(
        {
            "source": "odoo",
            "connection": "odoo_source",
            "schedule": "0 2 * * *",
            "tables": [table],
            **job.options.get("source", SINGLE_SHOT),
        }
    )


def _route(job: Job) -> Route:
    return Route(source=_sessions(job.source, SOURCE_OPTIONS), warehouse=_sessions(job.target, WAREHOUSE_OPTIONS))


def _sessions(url: str, options: str) -> Callable[[], psycopg.Connection]:
    return partial(psycopg.connect, make_conninfo(url, options=options, application_name="revops:benchmark"))


def _age_of_process() -> float:
    """Return how long ago this process began: what the interpreter and its imports took."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def variant(name: str, **options: Any) -> Contender:
    """Return Revops with settings; options: `source` and `table` as in the YAML file, `encrypt` a list of columns."""

    def with_options(job: Job) -> Command:
        return load(job.with_options(**options))

    return Contender(name, with_options, with_options, landing="raw.odoo_{}".format)


CONTENDER = variant("revops", source=SINGLE_SHOT)

if __name__ == "__main__":
    main()
