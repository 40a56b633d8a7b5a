"""The environment as validated settings: every fault named at once, with an example."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from revops.keyring import DATA_KEYS, DATA_KEYS_FILE, INDEX_KEY, INDEX_KEY_FILE
from revops.setting_faults import (
    SECRETS_BACKEND,
    connection_faults,
    connection_file_faults,
    encoder_faults,
    key_faults,
    reason,
)
from revops.setting_names import (
    CONNECTION_VARIABLES,
    EMBEDDING_IMAGE,
    EMBEDDING_PYTHON,
    EMBEDDING_URL,
    EMBEDDING_VOLUMES,
    OPTIONAL_VARIABLES,
    REPORT_FOLDER,
    REQUIRE_READ_ONLY_SOURCE,
    misspelt,
)
from revops.setting_transport import transport_faults
from revops.setting_types import (
    PLACEHOLDER,
    AbsolutePath,
    Addresses,
    Database,
    DataKeys,
    ExistingPath,
    IndexKey,
    MailServer,
    Memory,
    MemoryBytes,
    Urls,
)

__all__ = [
    "CONNECTION_VARIABLES",
    "EMBEDDING_IMAGE",
    "EMBEDDING_PYTHON",
    "EMBEDDING_URL",
    "EMBEDDING_VOLUMES",
    "OPTIONAL_VARIABLES",
    "PLACEHOLDER",
    "REPORT_FOLDER",
    "REQUIRE_READ_ONLY_SOURCE",
    "SECRETS_BACKEND",
    "Database",
    "MailServer",
    "Settings",
    "SettingsError",
    "example",
    "report_folder",
    "requires_read_only_source",
    "variable_names",
]


class SettingsError(ValueError):
    """One or more variables are missing or malformed; the message lists each with an example."""


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
        Addresses, Field(alias="REVOPS_ALERT_EMAIL", examples=["data-team@example.com,on-call@example.com"])
    ]
    embedding_python: Annotated[
        ExistingPath | None, Field(alias=EMBEDDING_PYTHON, examples=["/opt/embedding/bin/python"])
    ] = None
    embedding_image: Annotated[str | None, Field(alias=EMBEDDING_IMAGE, examples=["revops-embedding"])] = None
    embedding_model: Annotated[AbsolutePath, Field(alias="REVOPS_EMBEDDING_MODEL", examples=["/models/bge-m3"])]
    embedding_model_volume: Annotated[
        str | None, Field(alias="REVOPS_EMBEDDING_MODEL_VOLUME", examples=["revops-models"])
    ] = None
    embedding_handoff: Annotated[
        AbsolutePath, Field(alias="REVOPS_EMBEDDING_HANDOFF", examples=["/var/lib/revops/embedding"])
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
    embedding_memory: Annotated[Memory, Field(alias="REVOPS_EMBEDDING_MEMORY", examples=["8g"])] = "8g"
    embedding_pids: Annotated[PositiveInt, Field(alias="REVOPS_EMBEDDING_PIDS", examples=["1024"])] = 1024
    embedding_index_memory: Annotated[
        MemoryBytes, Field(alias="REVOPS_EMBEDDING_INDEX_MEMORY", ge=1 << 20, examples=["2g"])
    ] = 2 << 30
    embedding_urls: Annotated[Urls, Field(alias=EMBEDDING_URL, examples=["http://embedding.example.com:8300"])] = ()
    report_folder: Annotated[AbsolutePath | None, Field(alias=REPORT_FOLDER, examples=["/var/lib/revops/reports"])] = (
        None
    )
    # The examples are no keys, and refused as such: what is published here must encrypt nothing.
    data_keys: Annotated[DataKeys | None, Field(alias=DATA_KEYS, examples=[f"2:{PLACEHOLDER},1:{PLACEHOLDER}"])] = None
    index_key: Annotated[IndexKey | None, Field(alias=INDEX_KEY, examples=[PLACEHOLDER])] = None
    # Where the keys are in files instead; their content is read at each use, and checked here.
    data_keys_file: Annotated[
        AbsolutePath | None, Field(alias=DATA_KEYS_FILE, examples=["/run/secrets/airflow/data_keys"])
    ] = None
    index_key_file: Annotated[
        AbsolutePath | None, Field(alias=INDEX_KEY_FILE, examples=["/run/secrets/airflow/index_key"])
    ] = None
    require_read_only_source: Annotated[bool, Field(alias=REQUIRE_READ_ONLY_SOURCE, examples=["true"])] = False
    pool_size: Annotated[PositiveInt, Field(alias="REVOPS_POOL_SIZE", le=100, examples=["4"])] = 4
    pool_timeout_s: Annotated[PositiveFloat, Field(alias="REVOPS_POOL_TIMEOUT_S", le=60, examples=["3"])] = 3.0
    pool_lifetime_s: Annotated[PositiveFloat, Field(alias="REVOPS_POOL_LIFETIME_S", examples=["1800"])] = 1800.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Validate the process's environment, or the mapping given.

        With a secrets backend in Airflow's configuration, connections may live there instead of in
        AIRFLOW_CONN_*; those absent are not asked for. A connections file is read. Raises SettingsError naming all
        faults.
        """
        variables = os.environ if environment is None else environment
        given = {name: value for name in variable_names() if (value := variables.get(name, "").strip())}
        faults = [*connection_faults(given, variables), *encoder_faults(given), *key_faults(given)]
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            settings = None
            faults += [
                (str(fault["loc"][0]), "is missing" if fault["type"] == "missing" else reason(fault["msg"]))
                for fault in error.errors()
            ]
        lines = [
            *(f"{name} {why}. Example: {name}={example(name)}" for name, why in faults),
            *(f"{name} {why}" for name, why in misspelt(variables, variable_names())),
            *connection_file_faults(variables),
            *transport_faults(variables),
        ]
        if settings is not None and not lines:
            return settings
        raise SettingsError(
            f"{len(lines)} setting(s) are missing or malformed:\n" + "\n".join(f"  {line}" for line in lines) + "\n"
            "Remedy: set them in .env (cp .env.example .env) or in the environment."
        )


def report_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the reports of runs are kept: REVOPS_REPORT_FOLDER, else `reports` in Airflow's own folder.

    That one can be written by whoever runs the tasks, as root or not. Raises SettingsError.
    """
    variables = os.environ if environment is None else environment
    if given := variables.get(REPORT_FOLDER, "").strip():
        try:
            return TypeAdapter(AbsolutePath).validate_python(given)
        except ValidationError as error:
            why = reason(error.errors()[0]["msg"])
            raise SettingsError(f"{REPORT_FOLDER}: {why}. Example: {example(REPORT_FOLDER)}") from error
    return Path(variables.get("AIRFLOW_HOME", "").strip() or "~/airflow").expanduser() / "reports"


def requires_read_only_source(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether a login that can write in its source is refused (see .env.example). Raises SettingsError."""
    variables = os.environ if environment is None else environment
    given = variables.get(REQUIRE_READ_ONLY_SOURCE, "").strip()
    try:
        return bool(given) and TypeAdapter(bool).validate_python(given)
    except ValidationError:
        raise SettingsError(
            f"{REQUIRE_READ_ONLY_SOURCE} is neither true nor false. Example: {REQUIRE_READ_ONLY_SOURCE}=true"
        ) from None


def variable_names() -> list[str]:
    """Return the names of all variables that Settings reads, in the order of .env.example."""
    return [str(field.alias) for field in Settings.model_fields.values()]


def example(variable: str) -> str:
    """Return an example value of a variable."""
    field = Settings.model_fields[_field(variable)]
    return str((field.examples or [""])[0])


def _field(variable: str) -> str:
    return next(name for name, field in Settings.model_fields.items() if field.alias == variable)
