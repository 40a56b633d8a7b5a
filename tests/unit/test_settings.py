"""Settings: all faults at once, each with its variable and an example, and values as they were written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from revops.connection_stores import BACKEND
from revops.keyring import new_key
from revops.setting_names import COMPOSE_VARIABLES, TOOL_VARIABLES
from revops.settings import (
    CONNECTION_VARIABLES,
    EMBEDDING_URL,
    EMBEDDING_VOLUMES,
    OPTIONAL_VARIABLES,
    Settings,
    SettingsError,
    example,
    report_folder,
    requires_read_only_source,
    variable_names,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "AIRFLOW_CONN_ODOO_SOURCE": "postgresql://reader:p%40ss%2Fword@odoo.example.com:5432/odoo?sslmode=verify-full",
    "AIRFLOW_CONN_ACE_SOURCE": "postgres://reader:secret@ace.example.com/c303_prod_apn_01",
    "AIRFLOW_CONN_REVOPS_CORE": "postgresql://revops:%C3%BC%25@core.example.com:5432/revops_core",
    "AIRFLOW_CONN_SMTP_DEFAULT": "smtp://user:secret@smtp.example.com:587/?disable_ssl=true",
    "REVOPS_ALERT_EMAIL": "data-team@example.com, on-call@example.com",
    "REVOPS_EMBEDDING_PYTHON": sys.executable,
    "REVOPS_EMBEDDING_MODEL": "/models/bge-m3",
    "REVOPS_EMBEDDING_HANDOFF": "/var/lib/revops/embedding",
}
IN_CONTAINERS = {
    **{name: value for name, value in GOOD.items() if name != "REVOPS_EMBEDDING_PYTHON"},
    "REVOPS_EMBEDDING_IMAGE": "revops-embedding",
}


def faults(**changes: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({**GOOD, **changes})
    return str(caught.value)


def test_good_settings_are_kept_as_written() -> None:
    settings = Settings.from_environment(GOOD)
    # Airflow reads the URIs again: a decoded password would end at its first slash or at-sign.
    assert settings.odoo_source == GOOD["AIRFLOW_CONN_ODOO_SOURCE"]
    assert settings.ace_source == GOOD["AIRFLOW_CONN_ACE_SOURCE"]
    assert settings.revops_core == GOOD["AIRFLOW_CONN_REVOPS_CORE"]
    assert settings.smtp_default == GOOD["AIRFLOW_CONN_SMTP_DEFAULT"]
    assert settings.embedding_model == Path("/models/bge-m3")
    assert (settings.embedding_image, settings.embedding_gpu, settings.embedding_max_length) == (None, "auto", 512)
    assert (settings.embedding_memory, settings.embedding_pids) == ("8g", 1024)
    assert settings.embedding_index_memory == 2 << 30


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment() == Settings.from_environment(GOOD)


def test_all_missing_variables_are_named_at_once_with_examples() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({})
    lines = str(caught.value).splitlines()
    assert lines[0] == "8 setting(s) are missing or malformed:"
    assert (
        "  REVOPS_EMBEDDING_IMAGE is missing, and so is REVOPS_EMBEDDING_PYTHON: one says where the encoder runs. "
        "Example: REVOPS_EMBEDDING_IMAGE=revops-embedding"
    ) in lines
    assert "Remedy" in lines[-1]
    required = [
        *CONNECTION_VARIABLES,
        *("REVOPS_ALERT_EMAIL", "REVOPS_EMBEDDING_MODEL", "REVOPS_EMBEDDING_HANDOFF"),
    ]
    for name in required:
        assert f"  {name} is missing. Example: {name}={example(name)}" in lines
    assert len(lines) == len(required) + 3


@pytest.mark.parametrize("blank", ["", "   "])
def test_an_empty_variable_is_a_missing_one(blank: str) -> None:
    assert "REVOPS_ALERT_EMAIL is missing" in faults(REVOPS_ALERT_EMAIL=blank)


def test_missing_and_malformed_are_told_together() -> None:
    text = faults(AIRFLOW_CONN_ODOO_SOURCE="", AIRFLOW_CONN_ACE_SOURCE="mysql://h/d", REVOPS_ALERT_EMAIL="nobody")
    assert text.startswith("3 setting(s)")
    assert "AIRFLOW_CONN_ODOO_SOURCE is missing" in text
    assert "AIRFLOW_CONN_ACE_SOURCE must start with postgresql://" in text
    assert "REVOPS_ALERT_EMAIL 'nobody' is not an e-mail address" in text


@pytest.mark.parametrize(
    "variable", ["AIRFLOW_CONN_ODOO_SOURCE", "AIRFLOW_CONN_ACE_SOURCE", "AIRFLOW_CONN_REVOPS_CORE"]
)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("mysql://reader:hunter2@host/odoo", "must start with postgresql://"),
        ("host=localhost dbname=odoo password=hunter2", "must start with postgresql://"),
        ("postgresql://reader:hunter2@host:5432", "needs a host and a database"),
        ("postgresql://reader:hunter2@host:5432/", "needs a host and a database"),
        ("postgresql:///odoo", "needs a host and a database"),
        ("postgresql://reader:hunter2@host:abc/odoo", "has a port that is no number"),
        ("postgresql://reader:CHANGE_ME@host:5432/odoo", "still holds CHANGE_ME"),
        ("postgresql://reader:CHANGE%5FME@host:5432/odoo", "still holds CHANGE_ME"),
        ('{"conn_type": "postgres", "host": "h", "password": "hunter2"', "is neither a URI nor JSON"),
        ('{"conn_type": "mysql", "host": "h", "schema": "d", "password": "hunter2"}', "as JSON needs conn_type"),
        ('{"conn_type": "postgres", "schema": "d", "password": "hunter2"}', "as JSON needs conn_type"),
        ('{"conn_type": "postgres", "host": "h", "password": "hunter2"}', "as JSON needs conn_type"),
        ('{"conn_type": "postgres", "host": "h", "schema": "d", "port": "hunter2"}', "has a port that is no number"),
        ('{"conn_type": "postgres", "host": "h", "schema": "d", "password": "CHANGE_ME"}', "still holds CHANGE_ME"),
    ],
)
def test_a_malformed_database_is_refused_without_its_password(variable: str, value: str, reason: str) -> None:
    text = faults(**{variable: value})
    assert f"  {variable} {reason}" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://user:hunter2@smtp.example.com", "must start with smtp://"),
        ("smtp.example.com", "must start with smtp://"),
        ("smtp://user:CHANGE_ME@smtp.example.com:587", "still holds CHANGE_ME"),
        ('{"conn_type": "smtp", "host"', "is neither a URI nor JSON"),
        ('{"conn_type": "http", "host": "smtp.example.com", "password": "hunter2"}', "as JSON needs conn_type smtp"),
    ],
)
def test_a_malformed_mail_server_is_refused(value: str, reason: str) -> None:
    text = faults(AIRFLOW_CONN_SMTP_DEFAULT=value)
    assert f"AIRFLOW_CONN_SMTP_DEFAULT {reason}" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("value", ["nobody", "@example.com", "a@", "a@b.com,", "a b@example.com"])
def test_malformed_addresses_are_refused(value: str) -> None:
    assert "is not an e-mail address" in faults(REVOPS_ALERT_EMAIL=value)


def test_a_python_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "python"
    assert f"REVOPS_EMBEDDING_PYTHON {missing} does not exist" in faults(REVOPS_EMBEDDING_PYTHON=str(missing))


def test_the_encoder_runs_in_one_place() -> None:
    settings = Settings.from_environment(IN_CONTAINERS)
    assert (settings.embedding_image, settings.embedding_python) == ("revops-embedding", None)
    both = faults(REVOPS_EMBEDDING_IMAGE="revops-embedding")
    assert "REVOPS_EMBEDDING_IMAGE and REVOPS_EMBEDDING_PYTHON are both set: leave one out" in both
    assert "REVOPS_EMBEDDING_IMAGE is missing, and so is" in faults(REVOPS_EMBEDDING_PYTHON="")


@pytest.mark.parametrize("variable", EMBEDDING_VOLUMES)
def test_a_volume_without_docker_is_refused(variable: str) -> None:
    assert f"{variable} needs REVOPS_EMBEDDING_IMAGE" in faults(**{variable: "revops"})


def test_a_volume_can_not_be_mounted_at_the_root() -> None:
    given = {"REVOPS_EMBEDDING_MODEL": "/bge-m3", "REVOPS_EMBEDDING_MODEL_VOLUME": "revops-models"}
    with pytest.raises(SettingsError, match="REVOPS_EMBEDDING_MODEL lies at the root"):
        Settings.from_environment({**IN_CONTAINERS, **given})
    Settings.from_environment({**IN_CONTAINERS, "REVOPS_EMBEDDING_MODEL": "/bge-m3"})


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("REVOPS_EMBEDDING_MODEL", "model", "model is not an absolute path"),
        ("REVOPS_EMBEDDING_HANDOFF", "embedding", "embedding is not an absolute path"),
        ("REVOPS_EMBEDDING_GPU", "yes", "Input should be 'auto', 'require' or 'off'"),
        ("REVOPS_EMBEDDING_MAX_LENGTH", "0", "Input should be greater than 0"),
        ("REVOPS_EMBEDDING_MAX_LENGTH", "9000", "Input should be less than or equal to 8192"),
        ("REVOPS_EMBEDDING_MEMORY", "8 GB", "'8 GB' is not an amount of memory"),
        ("REVOPS_EMBEDDING_PIDS", "many", "Input should be a valid integer"),
        ("REVOPS_EMBEDDING_INDEX_MEMORY", "4", "'4' is not an amount of memory"),
        ("REVOPS_EMBEDDING_INDEX_MEMORY", "512k", "Input should be greater than or equal to 1048576"),
    ],
)
def test_a_malformed_setting_of_the_encoder_is_refused(variable: str, value: str, reason: str) -> None:
    assert f"  {variable} {reason}" in faults(**{variable: value})


@pytest.mark.parametrize(("value", "size"), [("1024k", 1 << 20), ("300m", 300 << 20), ("3g", 3 << 30)])
def test_memory_of_an_index_is_read_as_bytes(value: str, size: int) -> None:
    settings = Settings.from_environment({**GOOD, "REVOPS_EMBEDDING_INDEX_MEMORY": value})
    assert settings.embedding_index_memory == size


@pytest.mark.parametrize("port", ["5432", '"5432"', "null"])
def test_connections_may_be_json(port: str) -> None:
    database = f'{{"conn_type": "postgres", "host": "h", "schema": "d", "port": {port}, "password": "p:w@/"}}'
    mail = '{"conn_type": "smtp", "host": "smtp.example.com", "password": "p@/"}'
    changes = {"AIRFLOW_CONN_REVOPS_CORE": database, "AIRFLOW_CONN_SMTP_DEFAULT": mail}
    settings = Settings.from_environment({**GOOD, **changes})
    assert settings.revops_core == database
    assert settings.smtp_default == mail


def test_with_a_secrets_backend_connections_may_be_elsewhere() -> None:
    others = {name: value for name, value in GOOD.items() if name not in CONNECTION_VARIABLES}
    backend = {"AIRFLOW__SECRETS__BACKEND": "airflow.providers.hashicorp.secrets.vault.VaultBackend"}
    settings = Settings.from_environment({**others, **backend})
    assert settings.odoo_source is None
    with pytest.raises(SettingsError, match="4 setting"):
        Settings.from_environment({**others, "AIRFLOW__SECRETS__BACKEND": ""})
    with pytest.raises(SettingsError, match="AIRFLOW_CONN_REVOPS_CORE must start"):
        Settings.from_environment({**others, **backend, "AIRFLOW_CONN_REVOPS_CORE": "sqlite:///x"})


def test_keys_may_be_left_out() -> None:
    settings = Settings.from_environment(GOOD)
    assert settings.data_keys is None
    assert settings.index_key is None


def test_keys_are_kept_and_not_shown() -> None:
    keys = {"REVOPS_DATA_KEYS": f"2:{new_key()},1:{new_key()}", "REVOPS_INDEX_KEY": new_key()}
    settings = Settings.from_environment({**GOOD, **keys})
    assert settings.data_keys is not None
    assert settings.data_keys.get_secret_value() == keys["REVOPS_DATA_KEYS"]
    assert settings.index_key is not None
    assert settings.index_key.get_secret_value() == keys["REVOPS_INDEX_KEY"]
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert not any(key[2:20] in shown for value in keys.values() for key in value.split(","))


@pytest.mark.parametrize("variable", OPTIONAL_VARIABLES)
def test_a_malformed_key_is_refused_without_being_quoted(variable: str) -> None:
    malformed = new_key()[:-4]
    prefix = "1:" if variable == "REVOPS_DATA_KEYS" else ""
    text = faults(**{variable: prefix + malformed})
    assert f"  {variable} " in text
    assert "is not 32 bytes as base64; make a key with `python -c" in text
    assert malformed[:16] not in text
    with pytest.raises(ValueError) as caught:
        Settings.model_validate({**GOOD, variable: prefix + malformed})
    assert malformed[:16] not in str(caught.value)


@pytest.mark.parametrize("variable", OPTIONAL_VARIABLES)
def test_a_file_of_keys_is_read_and_checked(variable: str, tmp_path: Path) -> None:
    file, key = tmp_path / "key", "1:" * (variable == "REVOPS_DATA_KEYS") + new_key()
    assert f"{variable} can't be read from {file} ({variable}_FILE)" in faults(**{f"{variable}_FILE": str(file)})
    file.write_text(key[:-6])
    assert f"  {variable}_FILE names {file}: " in (text := faults(**{f"{variable}_FILE": str(file)}))
    assert "is not 32 bytes as base64" in text
    assert key[2:20] not in text
    file.write_text(f"{key}\n")
    Settings.from_environment({**GOOD, f"{variable}_FILE": str(file)})
    both = faults(**{variable: key, f"{variable}_FILE": str(file)})
    assert f"{variable} and {variable}_FILE are both set" in both
    assert f"{variable}_FILE keys is not an absolute path" in faults(**{f"{variable}_FILE": "keys"})


@pytest.mark.parametrize("variable", OPTIONAL_VARIABLES)
def test_the_example_of_a_key_is_no_key(variable: str) -> None:
    # What everybody can read here must encrypt nothing.
    assert "is not 32 bytes as base64" in faults(**{variable: example(variable)})


@pytest.mark.parametrize("variable", [name for name in variable_names() if not name.startswith(OPTIONAL_VARIABLES)])
def test_every_other_example_is_valid_itself(variable: str) -> None:
    value = sys.executable if variable == "REVOPS_EMBEDDING_PYTHON" else example(variable)
    assert value
    good = IN_CONTAINERS if variable in ("REVOPS_EMBEDDING_IMAGE", *EMBEDDING_VOLUMES) else GOOD
    Settings.from_environment({**good, variable: value})


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("REVOPS_ALERT_EMIAL", "is read by nobody: did you mean REVOPS_ALERT_EMAIL?"),
        ("REVOPS_EMBEDDING_MODELS", "is read by nobody: did you mean REVOPS_EMBEDDING_MODEL?"),
        ("REVOPS_WAREHOUS_PORT", "is read by nobody: did you mean REVOPS_WAREHOUSE_PORT?"),
        ("REVOPS_WHATEVER_ELSE_THERE_IS", "is read by nobody: remove it"),
    ],
)
def test_a_variable_that_nobody_reads_is_named(variable: str, said: str) -> None:
    text = faults(**{variable: "hunter2"})
    assert f"  {variable} {said}" in text
    assert "hunter2" not in text
    # Left empty it says nothing.
    Settings.from_environment({**GOOD, variable: ""})


@pytest.mark.parametrize("name", [*COMPOSE_VARIABLES, *TOOL_VARIABLES])
def test_a_variable_of_another_part_is_none(name: str) -> None:
    Settings.from_environment({**GOOD, name: "1"})


def test_what_kubernetes_tells_a_pod_of_its_services_is_none() -> None:
    Settings.from_environment(
        {
            **GOOD,
            "REVOPS_WEB_SERVICE_HOST": "10.0.0.1",
            "REVOPS_WEB_SERVICE_PORT": "8080",
            "REVOPS_WEB_SERVICE_PORT_HTTP": "8080",
            "REVOPS_WEB_PORT": "tcp://10.0.0.1:8080",
            "REVOPS_WEB_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "REVOPS_WEB_PORT_8080_TCP_ADDR": "10.0.0.1",
        }
    )
    assert "REVOPS_WEB_PORT is read by nobody" in faults(REVOPS_WEB_PORT="8080")


def test_sources_that_must_be_read_only() -> None:
    assert Settings.from_environment(GOOD).require_read_only_source is False
    assert Settings.from_environment({**GOOD, "REVOPS_REQUIRE_READ_ONLY_SOURCE": "true"}).require_read_only_source
    assert requires_read_only_source({"REVOPS_REQUIRE_READ_ONLY_SOURCE": "yes"})
    assert not requires_read_only_source({"REVOPS_REQUIRE_READ_ONLY_SOURCE": ""})
    with pytest.raises(SettingsError, match="neither true nor false"):
        requires_read_only_source({"REVOPS_REQUIRE_READ_ONLY_SOURCE": "perhaps"})
    assert "REVOPS_REQUIRE_READ_ONLY_SOURCE Input should be a valid boolean" in faults(
        REVOPS_REQUIRE_READ_ONLY_SOURCE="perhaps"
    )


def with_file(tmp_path: Path, **connections: object) -> dict[str, str]:
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(connections))
    others = {name: value for name, value in GOOD.items() if name not in CONNECTION_VARIABLES}
    options = json.dumps({"connections_file_path": str(path)})
    return {**others, "AIRFLOW__SECRETS__BACKEND": BACKEND, "AIRFLOW__SECRETS__BACKEND_KWARGS": options}


def test_connections_in_a_file_are_validated_too(tmp_path: Path) -> None:
    good = {name.removeprefix("AIRFLOW_CONN_").lower(): GOOD[name] for name in CONNECTION_VARIABLES}
    Settings.from_environment(with_file(tmp_path, **good))
    malformed = {
        "odoo_source": {"conn_type": "postgres", "host": "odoo.example.com", "password": "hunter2"},
        "ace_source": "mysql://reader:hunter2@ace.example.com/ace",
        "revops_core": "postgresql://revops:CHANGE_ME@core.example.com/revops_core",
        "smtp_default": "http://user:hunter2@smtp.example.com",
        "of_somebody_else": "mysql://hunter2@h/d",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(with_file(tmp_path, **malformed))
    text = str(caught.value)
    assert text.startswith("4 setting(s)")
    assert "connection odoo_source of the connections file as JSON needs conn_type postgres, host and schema" in text
    assert "connection ace_source of the connections file must start with postgresql://" in text
    assert "connection revops_core of the connections file still holds CHANGE_ME" in text
    assert "connection smtp_default of the connections file must start with smtp://" in text
    assert "hunter2" not in text


def test_a_malformed_connections_file_is_told_with_the_other_faults(tmp_path: Path) -> None:
    environment = with_file(tmp_path, odoo_source=GOOD["AIRFLOW_CONN_ODOO_SOURCE"])
    (tmp_path / "connections.json").write_text("{")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({**environment, "REVOPS_ALERT_EMAIL": ""})
    assert "REVOPS_ALERT_EMAIL is missing" in str(caught.value)
    assert "connections.json:1: not JSON" in str(caught.value)
    doubled = with_file(tmp_path, odoo_source=GOOD["AIRFLOW_CONN_ODOO_SOURCE"])
    with pytest.raises(SettingsError, match="AIRFLOW_CONN_ODOO_SOURCE name the same connection"):
        Settings.from_environment({**doubled, "AIRFLOW_CONN_ODOO_SOURCE": GOOD["AIRFLOW_CONN_ODOO_SOURCE"]})


def test_the_pool_is_bounded() -> None:
    settings = Settings.from_environment({**GOOD, "REVOPS_POOL_SIZE": "7", "REVOPS_POOL_TIMEOUT_S": "0.5"})
    assert (settings.pool_size, settings.pool_timeout_s, settings.pool_lifetime_s) == (7, 0.5, 1800.0)
    assert "REVOPS_POOL_SIZE Input should be greater than 0" in faults(REVOPS_POOL_SIZE="0")
    assert "REVOPS_POOL_SIZE Input should be less than or equal to 100" in faults(REVOPS_POOL_SIZE="1000")
    assert "REVOPS_POOL_TIMEOUT_S Input should be a valid number" in faults(REVOPS_POOL_TIMEOUT_S="soon")


def test_reports_are_kept_where_the_tasks_can_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"REVOPS_REPORT_FOLDER": " /srv/reports ", "AIRFLOW_HOME": "/opt/airflow"}
    assert report_folder(given) == Path("/srv/reports")
    assert report_folder({"REVOPS_REPORT_FOLDER": "", "AIRFLOW_HOME": "/opt/airflow"}) == Path("/opt/airflow/reports")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert report_folder({}) == tmp_path / "airflow" / "reports"
    assert Settings.from_environment(GOOD).report_folder is None


def test_a_folder_that_depends_on_where_a_process_runs_is_refused() -> None:
    assert "REVOPS_REPORT_FOLDER reports is not an absolute path" in faults(REVOPS_REPORT_FOLDER="reports")
    with pytest.raises(SettingsError, match="REVOPS_REPORT_FOLDER: reports is not an absolute path"):
        report_folder({"REVOPS_REPORT_FOLDER": "reports"})


def test_embedding_services_are_a_list_of_addresses() -> None:
    assert Settings.from_environment(GOOD).embedding_urls == ()
    settings = Settings.from_environment({**GOOD, EMBEDDING_URL: "http://one:8300/, https://two.example.com/embed"})
    assert settings.embedding_urls == ("http://one:8300", "https://two.example.com/embed")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("localhost:8300", "is not one or more http(s) addresses"),
        ("http://one,", "is not one or more http(s) addresses"),
        ("ftp://one", "is not one or more http(s) addresses"),
        ("http://one:port", "has a port that is no number"),
        ("http://user:hunter2@one", "must hold no password"),
        ("http://one?key=hunter2", "must hold no password"),
    ],
)
def test_a_malformed_address_of_a_service_is_refused(value: str, reason: str) -> None:
    text = faults(**{EMBEDDING_URL: value})
    assert f"  {EMBEDDING_URL} {reason}" in text
    assert "hunter2" not in text


TRANSPORT, CONFIG_PATH = "AIRFLOW__OPENLINEAGE__TRANSPORT", "AIRFLOW__OPENLINEAGE__CONFIG_PATH"
SERVER = {"type": "http", "url": "https://lineage.example.com"}
BY_CONNECTION = {"type": "airflow_connection_api_key", "conn_id": "lineage"}


@pytest.mark.parametrize(
    "transport",
    [
        {**SERVER, "auth": {"type": "api_key", "apiKey": "hunter2"}},
        {**SERVER, "auth": {**BY_CONNECTION, "apiKey": "hunter2"}},
        {**SERVER, "custom_headers": {"Authorization": "Bearer hunter2"}},
        {**SERVER, "custom_headers": {"X-Api-Key": "hunter2"}},
        {**SERVER, "url": "https://user:hunter2@lineage.example.com"},
        {"type": "kafka", "config": {"sasl.password": "hunter2"}},
        {"type": "composite", "transports": [{**SERVER, "auth": {"apiKey": "hunter2"}}, {"type": "console"}]},
        {"type": "composite", "transports": {"one": {**SERVER, "auth": {"apiKey": "hunter2"}}}},
    ],
)
def test_a_key_of_the_lineage_server_in_the_environment_is_refused(transport: dict[str, object]) -> None:
    """`docker inspect` would show it."""
    text = faults(**{TRANSPORT: json.dumps(transport)})
    assert f"  {TRANSPORT} holds a key or a password" in text
    assert f"a file of mode 600 (secrets/airflow/openlineage.yml), and name that with {CONFIG_PATH}" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "transport",
    [
        SERVER,
        {**SERVER, "auth": BY_CONNECTION},
        {"type": "file", "log_file_path": "/opt/airflow/logs/openlineage.jsonl", "append": True},
    ],
)
def test_a_transport_without_a_key_may_stand_in_the_environment(transport: dict[str, object]) -> None:
    Settings.from_environment({**GOOD, TRANSPORT: json.dumps(transport), CONFIG_PATH: ""})


@pytest.mark.parametrize("value", ["http://hunter2", '["hunter2"]', '{"type": "http"'])
def test_a_transport_that_is_none_is_refused(value: str) -> None:
    text = faults(**{TRANSPORT: value})
    assert f"  {TRANSPORT} is no JSON object" in text
    assert "hunter2" not in text


def test_the_file_of_a_transport_is_read_and_checked(tmp_path: Path) -> None:
    """Without a transport in it OpenLineage's client would print events, without the file it would fail at each."""
    path = tmp_path / "openlineage.yml"
    assert f"  {CONFIG_PATH} names {path}, which can't be read: No such file" in faults(**{CONFIG_PATH: str(path)})
    for content, why in (
        ("", "has no transport with a type"),
        ("- hunter2", "has no transport with a type"),
        ("transport: {url: hunter2}", "has no transport with a type"),
        ("type: http\napiKey: hunter2: hunter2", "is no YAML at line 2"),
    ):
        path.write_text(content)
        text = faults(**{CONFIG_PATH: str(path)})
        assert f"  {CONFIG_PATH} names {path}, which {why}. Example: transport: " in text
        assert "hunter2" not in text
    path.write_text("transport: {type: http, url: 'https://h', auth: {type: api_key, apiKey: hunter2}}")
    Settings.from_environment({**GOOD, CONFIG_PATH: str(path)})
    text = faults(**{CONFIG_PATH: str(path), TRANSPORT: json.dumps(SERVER)})
    assert f"{TRANSPORT} and {CONFIG_PATH} are both set" in text
