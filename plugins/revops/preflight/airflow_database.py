"""Checks of Airflow's metadata database: the pools that the DAGs name, and no connection that is elsewhere too."""

from __future__ import annotations

import os
from collections.abc import Mapping

from revops.connection_stores import files_of_airflow, variable_of
from revops.connections_file import read_connections
from revops.pools import read_pools
from revops.preflight.outcome import CheckError, Passed

METADATA = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD")


def is_configured(environment: Mapping[str, str]) -> bool:
    """Tell whether this process knows Airflow's metadata database."""
    return any(environment.get(name, "").strip() for name in METADATA)


def check_airflow() -> Passed:
    """Check pools and stored connections; raises CheckError, ConnectionFileError and PoolFileError."""
    from sqlalchemy.exc import SQLAlchemyError

    wanted = read_pools()
    try:
        pools, stored = _read()
    except SQLAlchemyError as error:
        # The whole text would quote the statement.
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        raise CheckError(
            f"Airflow's metadata database: {said}. "
            f"Remedy: check {METADATA[0]}; a new database needs `airflow db migrate`.",
            may_pass=True,
        ) from error
    if missing := [name for name in wanted if name not in pools]:
        raise CheckError(
            f"Airflow lacks the pool(s) {', '.join(missing)}, without which their tasks are never started. "
            "Remedy: airflow pools import include/airflow/pools.json"
        )
    elsewhere = {name for path in files_of_airflow() for name in read_connections(path)}
    if doubled := sorted(name for name in stored if name in elsewhere or os.environ.get(variable_of(name), "").strip()):
        raise CheckError(
            f"Airflow's metadata database has connection(s) that stand elsewhere too: {', '.join(doubled)}. "
            f"Remedy: keep each in one place, here for example by: airflow connections delete {doubled[0]}"
        )
    told = ", ".join(f"{name} ({pools[name]})" for name in wanted)
    return Passed(f"pools {told}; no connection is stored twice")


def _read() -> tuple[dict[str, int], list[str]]:
    """Return the slots of each pool, and the ids of stored connections."""
    from airflow import settings
    from airflow.utils.session import create_session
    from sqlalchemy import text

    settings.initialize()  # type: ignore[no-untyped-call]
    with create_session() as session:
        pools = {str(name): int(slots) for name, slots in session.execute(text("select pool, slots from slot_pool"))}
        return pools, [str(name) for name in session.scalars(text("select conn_id from connection"))]
