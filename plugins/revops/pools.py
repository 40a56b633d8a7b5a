"""Airflow's pools that the DAGs name, as `airflow pools import include/airflow/pools.json` reads them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, TypeAdapter, ValidationError

from revops.sources import INCLUDE

POOLS_FILE = INCLUDE / "airflow" / "pools.json"


class PoolFileError(ValueError):
    """The pools' file can't be read or is malformed; the message names it and each fault."""


class Pool(BaseModel):
    """How many tasks may run in a pool at a time, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: PositiveInt
    description: str
    include_deferred: bool = False


def read_pools(path: Path = POOLS_FILE) -> dict[str, Pool]:
    """Return the pools by name; raises PoolFileError."""
    try:
        return TypeAdapter(dict[str, Pool]).validate_json(path.read_bytes())
    except OSError as error:
        raise PoolFileError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors()]
        raise PoolFileError(f"{path}: {'; '.join(faults)}") from error
