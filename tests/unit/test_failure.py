"""What Airflow is told about a failure: tried again, or failed at once; and never a row's values."""

from __future__ import annotations

import io
import traceback

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from structlog.tracebacks import extract

from revops.embedding.encoder import EncoderError, EncoderInterruptedError
from revops.extract.errors import (
    ExtractError,
    GaveWayError,
    IncompleteLoadError,
    LoadBusyError,
    SchemaFrozenError,
    SnapshotGoneError,
    TableChangedError,
    TableMissingError,
    TooManyDeletionsError,
    TryAgainError,
)
from revops.hooks.postgres import ConnectionSettingError, conninfo
from revops.keyring import KeyringError
from revops.lineage.errors import LineageError
from revops.local.postgres import EmbeddedPostgres
from revops.operators.failure import failing_fast
from revops.quality.anomaly import TableEmptiedError
from revops.quality.anomaly_config import AnomalyFileError
from revops.quality.checks import CheckFileError
from revops.quality.record import QualityGateError
from revops.seeds import SeedError
from revops.settings import Settings, SettingsError
from revops.sources import SourceFileError, load_source
from revops.transform.errors import TransformError
from revops.warehouse_setup import SetupError


@pytest.mark.parametrize(
    "kind",
    [
        AnomalyFileError,
        CheckFileError,
        ConnectionSettingError,
        EncoderError,
        ExtractError,
        IncompleteLoadError,
        KeyringError,
        LineageError,
        QualityGateError,
        SchemaFrozenError,
        SeedError,
        SettingsError,
        SetupError,
        SourceFileError,
        TableEmptiedError,
        TableMissingError,
        TooManyDeletionsError,
        TransformError,
    ],
)
def test_what_a_retry_can_not_mend_fails_at_once_in_its_own_words(kind: type[Exception]) -> None:
    with pytest.raises(AirflowFailException, match=r"^say this$"), failing_fast():
        raise kind("say this")


@pytest.mark.parametrize(
    "kind",
    [
        *(EncoderInterruptedError, TryAgainError, LoadBusyError, TableChangedError, GaveWayError, SnapshotGoneError),
        *(OSError, MemoryError, ValueError, KeyError),
    ],
)
def test_everything_else_is_left_as_it_is_and_tried_again(kind: type[BaseException]) -> None:
    error = kind("as it was")
    with pytest.raises(kind) as caught, failing_fast():
        raise error
    assert caught.value is error


def test_success_passes_through() -> None:
    with failing_fast():
        done = True
    assert done


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57P01"])
def test_passing_faults_of_the_database_are_tried_again(state: str) -> None:
    with pytest.raises(ConnectionError, match="a fault may pass"), failing_fast():
        raise psycopg.errors.lookup(state)("x")


def test_a_lost_connection_is_tried_again_and_says_what_happened() -> None:
    with pytest.raises(ConnectionError, match="server closed the connection unexpectedly"), failing_fast():
        raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


def test_a_wrong_password_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match="password authentication failed"), failing_fast():
        raise psycopg.OperationalError('FATAL:  password authentication failed for user "revops"')


def test_a_connection_that_is_not_defined_fails_at_once_with_the_variable_to_set() -> None:
    with pytest.raises(AirflowFailException, match="AIRFLOW_CONN_ODOO_SOURCE=postgresql://"), failing_fast():
        conninfo("odoo_source", application_name="test")


def test_missing_settings_fail_at_once() -> None:
    with pytest.raises(AirflowFailException, match="REVOPS_ALERT_EMAIL is missing"), failing_fast():
        Settings.from_environment({})


def test_a_missing_source_file_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match=r"sap\.yaml: can't be read"), failing_fast():
        load_source("sap")


@pytest.mark.db
@pytest.mark.parametrize(
    "statement",
    [
        "insert into deal values (1, 'secret'), (1, 'secret')",
        "insert into deal (id, name, note) values (2, null, 'secret')",
        "select 'secret'::integer",
    ],
)
def test_values_of_rows_reach_neither_message_nor_traceback(warehouse_dsn: str, statement: str) -> None:
    with psycopg.connect(warehouse_dsn) as connection:
        connection.execute("create temp table deal (id integer primary key, name text not null, note text)")
        with pytest.raises(AirflowFailException) as caught, failing_fast():
            connection.execute(statement.encode())
    printed = io.StringIO()
    traceback.print_exception(caught.value, file=printed)
    # Airflow writes a task's log with structlog: every exception of the chain with its words.
    logged = [stack.exc_value for stack in extract(type(caught.value), caught.value, caught.tb).stacks]
    assert len(logged) == 1
    for text in (str(caught.value), *logged, "\n".join(_messages(printed.getvalue()))):
        assert "secret" not in text
        assert "DETAIL" not in text


def _messages(text: str) -> list[str]:
    """The lines of a printed traceback that are not source code."""
    return [line for line in text.splitlines() if not line.startswith(" ")]


@pytest.mark.db
def test_a_session_that_the_server_ends_is_tried_again(warehouse_dsn: str, postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(warehouse_dsn) as connection:
        with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(ConnectionError, match="a fault may pass"), failing_fast():
            connection.execute("select 1")
