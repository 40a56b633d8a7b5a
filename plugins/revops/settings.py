"""The environment as validated settings: every fault named at once, with an example."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
)

from revops.keyring import (
    DATA_KEYS,
    DATA_KEYS_FILE,
    INDEX_KEY,
    INDEX_KEY_FILE,
    read_data_keys,
    read_key,
    read_variable,
)

PLACEHOLDER = "CHANGE_ME"
SECRETS_BACKEND = "AIRFLOW__SECRETS__BACKEND"


CONNECTION_VARIABLES = (
    "AIRFLOW_CONN_ODOO_SOURCE",
    "AIRFLOW_CONN_ACE_SOURCE",
    "AIRFLOW_CONN_REVOPS_CORE",
    "AIRFLOW_CONN_SMTP_DEFAULT",
)
# Asked for only where a source file names columns to encrypt, by Keyring.from_environment.
OPTIONAL_VARIABLES = (DATA_KEYS, INDEX_KEY)
# Where `embed serve` answers; only searches by meaning ask for it.
EMBEDDING_URL = "REVOPS_EMBEDDING_URL"
# Where the encoder runs: one of both.
EMBEDDING_IMAGE = "REVOPS_EMBEDDING_IMAGE"
EMBEDDING_PYTHON = "REVOPS_EMBEDDING_PYTHON"
# Volumes are Docker's.
EMBEDDING_VOLUMES = ("REVOPS_EMBEDDING_MODEL_VOLUME", "REVOPS_EMBEDDING_HANDOFF_VOLUME")
# Has a default: see report_folder.
REPORT_FOLDER = "REVOPS_REPORT_FOLDER"


class SettingsError(ValueError):
    """One or more variables are missing or malformed; the message lists each with an example."""


def _database(value: str) -> str:
    if value.lstrip().startswith("{"):
        return _database_as_json(value)
    parts = urlsplit(value)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("must start with postgresql://")
    if not parts.hostname or not parts.path.strip("/"):
        raise ValueError("needs a host and a database")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError("has a port that is no number") from error
    _without_placeholder(unquote(value))
    return value


def _database_as_json(value: str) -> str:
    try:
        fields: dict[str, Any] = json.loads(value)
    except ValueError as error:
        raise ValueError("is neither a URI nor JSON") from error
    if fields.get("conn_type") not in ("postgres", "postgresql") or not fields.get("host") or not fields.get("schema"):
        raise ValueError("as JSON needs conn_type postgres, host and schema (the database)")
    if not str(fields.get("port", "")).isdecimal() and fields.get("port") is not None:
        raise ValueError("has a port that is no number")
    return _without_placeholder(value)


def _mail_server(value: str) -> str:
    if value.lstrip().startswith("{"):
        try:
            fields: dict[str, Any] = json.loads(value)
        except ValueError as error:
            raise ValueError("is neither a URI nor JSON") from error
        if fields.get("conn_type") != "smtp" or not fields.get("host"):
            raise ValueError("as JSON needs conn_type smtp and host")
    elif urlsplit(value).scheme != "smtp":
        raise ValueError("must start with smtp://")
    return _without_placeholder(value)


def _without_placeholder(value: str) -> str:
    if PLACEHOLDER in value:
        raise ValueError(f"still holds {PLACEHOLDER}")
    return value


def _addresses(value: str) -> str:
    for address in value.split(","):
        local, at, domain = address.strip().partition("@")
        if not (local and at and domain) or any(character.isspace() for character in address.strip()):
            raise ValueError(f"{address.strip()!r} is not an e-mail address")
    return _without_placeholder(value)


def _existing(value: Path) -> Path:
    if not value.exists():
        raise ValueError(f"{value} does not exist")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{value} is not an absolute path: each process would take it for another folder")
    return value


def _urls(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    urls = tuple(url.strip().rstrip("/") for url in value.split(","))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not one or more http(s) addresses, separated by commas")
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError("has a port that is no number") from error
        if parts.username or parts.query or parts.fragment:
            # It is named in messages.
            raise ValueError("must hold no password and no query")
    return urls


def _memory(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[kmg]", value):
        raise ValueError(f"{value!r} is not an amount of memory")
    return value


def _data_keys(value: SecretStr) -> SecretStr:
    read_data_keys(value.get_secret_value())
    return value


def _index_key(value: SecretStr) -> SecretStr:
    read_key(value.get_secret_value())
    return value


Database = Annotated[str, AfterValidator(_database)]
MailServer = Annotated[str, AfterValidator(_mail_server)]


class Settings(BaseModel):
    """What the environment says. Connections are kept as written, for Airflow reads them; None: not set there."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, hide_input_in_errors=True)

    odoo_source: Annotated[
        Database | None,
        Field(
            alias="AIRFLOW_CONN_ODOO_SOURCE",
            examples=[
                (
                    "postgresql://reader:password@c303-prod-aurora.cluster-cqhl8dhxcebr.us-east-1.rds.amazonaws.com"
                    ":5432/odoo?sslmode=verify-full&sslrootcert=/path/to/aws-ca.pem"
                )
            ],
        ),
    ] = None
    ace_source: Annotated[
        Database | None,
        Field(
            alias="AIRFLOW_CONN_ACE_SOURCE",
            examples=["postgresql://reader:password@host:5432/c303_prod_apn_01?sslmode=verify-full"],
        ),
    ] = None
    revops_core: Annotated[
        Database | None,
        Field(
            alias="AIRFLOW_CONN_REVOPS_CORE",
            examples=["postgresql://revops:password@host:5432/revops_core?sslmode=verify-full"],
        ),
    ] = None
    smtp_default: Annotated[
        MailServer | None,
        Field(
            alias="AIRFLOW_CONN_SMTP_DEFAULT",
            examples=["smtp://user:password@smtp.example.com:587/?disable_ssl=true&from_email=airflow%40example.com"],
        ),
    ] = None
    alert_email: Annotated[
        str,
        AfterValidator(_addresses),
        Field(alias="REVOPS_ALERT_EMAIL", examples=["data-team@example.com,on-call@example.com"]),
    ]
    embedding_python: Annotated[
        Path | None,
        AfterValidator(lambda value: value and _existing(value)),
        Field(alias=EMBEDDING_PYTHON, examples=["/opt/embedding/bin/python"]),
    ] = None
    embedding_image: Annotated[str | None, Field(alias=EMBEDDING_IMAGE, examples=["revops-embedding"])] = None
    embedding_model: Annotated[
        Path, AfterValidator(_absolute), Field(alias="REVOPS_EMBEDDING_MODEL", examples=["/models/bge-m3"])
    ]
    embedding_model_volume: Annotated[
        str | None, Field(alias="REVOPS_EMBEDDING_MODEL_VOLUME", examples=["revops-models"])
    ] = None
    embedding_handoff: Annotated[
        Path,
        AfterValidator(_absolute),
        Field(alias="REVOPS_EMBEDDING_HANDOFF", examples=["/var/lib/revops/embedding"]),
    ]
    embedding_handoff_volume: Annotated[
        str | None, Field(alias="REVOPS_EMBEDDING_HANDOFF_VOLUME", examples=["revops-handoff"])
    ] = None
    embedding_gpu: Annotated[
        Literal["auto", "require", "off"], Field(alias="REVOPS_EMBEDDING_GPU", examples=["require"])
    ] = "auto"
    embedding_max_length: Annotated[
        PositiveInt, Field(alias="REVOPS_EMBEDDING_MAX_LENGTH", le=8192, examples=["512"])
    ] = 512
    embedding_memory: Annotated[
        str, AfterValidator(_memory), Field(alias="REVOPS_EMBEDDING_MEMORY", examples=["8g"])
    ] = "8g"
    embedding_pids: Annotated[PositiveInt, Field(alias="REVOPS_EMBEDDING_PIDS", examples=["1024"])] = 1024
    embedding_urls: Annotated[
        tuple[str, ...],
        BeforeValidator(_urls),
        Field(alias=EMBEDDING_URL, examples=["http://embedding.example.com:8300"]),
    ] = ()
    report_folder: Annotated[
        Path | None,
        AfterValidator(lambda value: value and _absolute(value)),
        Field(alias=REPORT_FOLDER, examples=["/var/lib/revops/reports"]),
    ] = None
    # The examples are no keys, and refused as such: what is published here must encrypt nothing.
    data_keys: Annotated[
        SecretStr | None,
        AfterValidator(_data_keys),
        Field(alias=DATA_KEYS, examples=[f"2:{PLACEHOLDER},1:{PLACEHOLDER}"]),
    ] = None
    index_key: Annotated[
        SecretStr | None, AfterValidator(_index_key), Field(alias=INDEX_KEY, examples=[PLACEHOLDER])
    ] = None
    # Where the keys are in files instead; their content is read at each use, and checked here.
    data_keys_file: Annotated[
        Path | None,
        AfterValidator(lambda value: value and _absolute(value)),
        Field(alias=DATA_KEYS_FILE, examples=["/run/secrets/airflow/data_keys"]),
    ] = None
    index_key_file: Annotated[
        Path | None,
        AfterValidator(lambda value: value and _absolute(value)),
        Field(alias=INDEX_KEY_FILE, examples=["/run/secrets/airflow/index_key"]),
    ] = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Validate the process's environment, or the mapping given.

        With a secrets backend in Airflow's configuration, connections may live there instead of in
        AIRFLOW_CONN_*; those absent are not asked for. Raises SettingsError naming all faults.
        """
        variables = os.environ if environment is None else environment
        given = {name: value for name in variable_names() if (value := variables.get(name, "").strip())}
        faults = []
        if not variables.get(SECRETS_BACKEND, "").strip():
            faults = [(name, "is missing") for name in CONNECTION_VARIABLES if name not in given]
        faults += _encoder_faults(given) + _key_file_faults(given)
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            faults += [
                (str(fault["loc"][0]), "is missing" if fault["type"] == "missing" else _reason(fault["msg"]))
                for fault in error.errors()
            ]
        else:
            if not faults:
                return settings
        lines = [f"  {name} {why}. Example: {name}={example(name)}" for name, why in faults]
        raise SettingsError(
            f"{len(lines)} setting(s) are missing or malformed:\n" + "\n".join(lines) + "\n"
            "Remedy: set them in .env (cp .env.example .env) or in the environment."
        )


def _encoder_faults(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Tell what is wrong with where the encoder is said to run."""
    if EMBEDDING_IMAGE not in given and EMBEDDING_PYTHON not in given:
        return [(EMBEDDING_IMAGE, f"is missing, and so is {EMBEDDING_PYTHON}: one says where the encoder runs")]
    if EMBEDDING_IMAGE not in given:
        return [
            (name, f"needs {EMBEDDING_IMAGE}: without Docker there is no volume")
            for name in EMBEDDING_VOLUMES
            if name in given
        ]
    if EMBEDDING_PYTHON in given:
        return [(EMBEDDING_IMAGE, f"and {EMBEDDING_PYTHON} are both set: leave one out")]
    if "REVOPS_EMBEDDING_MODEL_VOLUME" in given and len(Path(given.get("REVOPS_EMBEDDING_MODEL", "")).parts) == 2:
        return [("REVOPS_EMBEDDING_MODEL", "lies at the root: a volume is mounted at the folder above the model")]
    return []


def _key_file_faults(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Tell what is wrong with keys that are in files; keys in variables are checked with their fields."""
    faults = []
    for variable, file, read in (
        (DATA_KEYS, DATA_KEYS_FILE, read_data_keys),
        (INDEX_KEY, INDEX_KEY_FILE, read_key),
    ):
        if file not in given:
            continue
        try:
            read(read_variable(given, variable) or "")
        except ValueError as error:
            faults.append((variable, str(error)))
    return faults


def report_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the reports of runs are kept: REVOPS_REPORT_FOLDER, else `reports` in Airflow's own folder.

    That one can be written by whoever runs the tasks, as root or not. Raises SettingsError.
    """
    variables = os.environ if environment is None else environment
    if given := variables.get(REPORT_FOLDER, "").strip():
        try:
            return _absolute(Path(given))
        except ValueError as error:
            raise SettingsError(f"{REPORT_FOLDER}: {error}. Example: {example(REPORT_FOLDER)}") from error
    return Path(variables.get("AIRFLOW_HOME", "").strip() or "~/airflow").expanduser() / "reports"


def variable_names() -> list[str]:
    """Return the names of all variables that Settings reads, in the order of .env.example."""
    return [str(field.alias) for field in Settings.model_fields.values()]


def example(variable: str) -> str:
    """Return an example value of a variable."""
    field = Settings.model_fields[_field(variable)]
    return str((field.examples or [""])[0])


def _field(variable: str) -> str:
    return next(name for name, field in Settings.model_fields.items() if field.alias == variable)


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
