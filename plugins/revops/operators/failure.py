"""Tell Airflow which failures are worth a retry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from airflow.sdk.exceptions import AirflowFailException

from revops.connections_file import ConnectionFileError
from revops.embedding.encoder import EncoderError
from revops.errors import describe, is_transient
from revops.extract.errors import ExtractError
from revops.hooks.postgres import ConnectionSettingError
from revops.keyring import KeyringError
from revops.lineage.errors import LineageError
from revops.quality.anomaly_config import AnomalyFileError
from revops.quality.checks import CheckFileError
from revops.quality.record import QualityGateError
from revops.retention import RetentionError
from revops.rotation.errors import RotationError
from revops.seeds import SeedError
from revops.settings import SettingsError
from revops.sources import SourceFileError
from revops.transform.errors import TransformError
from revops.warehouse_setup import SetupError

# A retry of these finds the same configuration, data or checks: they fail at once, with their own words.
PERMANENT = (
    AnomalyFileError,
    CheckFileError,
    ConnectionFileError,
    ConnectionSettingError,
    EncoderError,
    ExtractError,
    KeyringError,
    LineageError,
    QualityGateError,
    RetentionError,
    RotationError,
    SeedError,
    SettingsError,
    SetupError,
    SourceFileError,
    TransformError,
)


@contextmanager
def failing_fast() -> Iterator[None]:
    """Turn errors that a retry can't mend into AirflowFailException; let the others be retried.

    Messages never quote row values: of a database error only the first line is kept.
    """
    try:
        yield
    except PERMANENT as error:
        raise AirflowFailException(str(error)) from error
    except psycopg.Error as error:
        message = str(error) if error.sqlstate is None else describe(error)
        if is_transient(error):
            raise ConnectionError(f"{message} (such a fault may pass, so it is retried)") from None
        raise AirflowFailException(message) from None
