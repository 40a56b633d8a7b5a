"""What each service of the Compose stack finds in its folder below secrets."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from cryptography.fernet import Fernet

from revops.certificates import certificate_to_pem
from revops.compose.connections import MAIL_SINK, MOUNTED, postgresql_uri, read_connections, write_connections
from revops.compose.files import SecretFiles, SecretsError
from revops.compose.trust import ensure_authority, ensure_server
from revops.keyring import DATA_KEYS, INDEX_KEY, new_key, read_data_keys, read_key
from revops.setting_transport import CONFIG_PATH, TRANSPORT, transport_faults

# Service -> the logins whose passwords it sets.
DATABASES = {
    "warehouse": ("superuser", "revops"),
    "metadata": ("superuser", "airflow"),
    "samples": ("superuser", "odoo", "ace", "odoo_reader", "ace_reader"),
}
SERVERS = (*DATABASES, "redis")
# Written by hand, where OpenLineage's events go to a server that wants a key.
LINEAGE = "airflow/openlineage.yml"

REDIS = """# Made by `make secrets`; TLS only.
port 0
tls-port 6379
tls-cert-file /run/secrets/redis/server.crt
tls-key-file /run/secrets/redis/server.key
tls-ca-cert-file /run/secrets/redis/ca.crt
tls-auth-clients no
requirepass {password}
"""


def make_secrets(
    files: SecretFiles,
    given: Mapping[str, str],
    *,
    names: Mapping[str, Sequence[str]],
    demo: bool,
    mail_sink: bool,
    host_root: Path,
) -> list[str]:
    """Make what is missing and return what to tell the user besides; raises SecretsError.

    given: the variables of .env. names: further names of a server's certificate. demo: the sample sources and the mail
    sink stand in for what .env lacks; mail_sink: the latter alone.
    """
    _check_names(names)
    notes = _lineage(files, given)
    authority = ensure_authority(files)
    for service in SERVERS:
        ensure_server(files, authority, service, names.get(service, ()))
    passwords = {
        f"{service}/{login}": files.keep(f"{service}/{login}_password", _password)
        for service, logins in DATABASES.items()
        for login in logins
    }
    passwords["redis"] = files.keep("redis/password", _password)
    files.put("redis/redis.conf", REDIS.format(password=passwords["redis"]).encode())
    files.put("airflow/ca.crt", certificate_to_pem(authority.certificate))
    _airflow(files, passwords)
    _encryption(files, given)
    connections = read_connections(
        given, defaults=_default_connections(passwords, demo=demo, mail_sink=demo or mail_sink)
    )
    write_connections(files, connections, host_root=host_root)
    return [*connections.notes, *notes]


def _airflow(files: SecretFiles, passwords: Mapping[str, str]) -> None:
    """Write the values that Airflow's processes share."""
    files.keep_key("airflow/fernet_key", lambda: Fernet.generate_key().decode())
    files.keep("airflow/jwt_secret", lambda: secrets.token_urlsafe(64))
    files.keep("airflow/api_secret_key", _password)
    files.keep("airflow/web_admin_password", lambda: secrets.token_urlsafe(18))

    def metadata(scheme: str) -> bytes:
        password = passwords["metadata/airflow"]
        return postgresql_uri(scheme, "metadata", "airflow", login="airflow", password=password).encode()

    files.put("airflow/sql_alchemy_conn", metadata("postgresql+psycopg2"))
    # Airflow would derive one for asyncpg, which does not know these parameters.
    files.put("airflow/sql_alchemy_conn_async", metadata("postgresql+psycopg"))
    files.put("airflow/celery_result_backend", metadata("db+postgresql+psycopg2"))
    query = urlencode({"ssl_cert_reqs": "required", "ssl_ca_certs": f"{MOUNTED}/ca.crt"}, quote_via=quote)
    broker = f"rediss://:{quote(passwords['redis'], safe='')}@redis:6379/0?{query}"
    files.put("airflow/celery_broker_url", broker.encode())


def _encryption(files: SecretFiles, given: Mapping[str, str]) -> None:
    """Keep the keys of encrypted columns; .env may give them the first time."""
    written, index = given.get(DATA_KEYS, "").strip(), given.get(INDEX_KEY, "").strip()
    faults = []
    for variable, value, check in ((DATA_KEYS, written, read_data_keys), (INDEX_KEY, index, read_key)):
        try:
            if value:
                check(value)
        except ValueError as error:
            faults.append(f"{variable} {error}")
    if faults:
        raise SecretsError("in .env:\n" + "\n".join(faults))
    kept = files.keep_key("airflow/data_keys", lambda: written or f"1:{new_key()}")
    # After a rotation the file has newer keys than .env; those that .env has must be among them.
    if written and not read_data_keys(written).items() <= read_data_keys(kept).items():
        raise SecretsError(_other_key(files, DATA_KEYS, "airflow/data_keys"))
    if index and index != files.keep_key("airflow/index_key", lambda: index):
        raise SecretsError(_other_key(files, INDEX_KEY, "airflow/index_key"))
    files.keep_key("airflow/index_key", new_key)


def _lineage(files: SecretFiles, given: Mapping[str, str]) -> list[str]:
    """Return what to tell of where lineage goes; raises SecretsError for a key in .env, which containers would show."""
    if faults := list(transport_faults({TRANSPORT: given.get(TRANSPORT, "")})):
        raise SecretsError("in .env:\n" + "\n".join(f"  {fault}" for fault in faults))
    is_there, is_named = files.read(LINEAGE) is not None, bool(given.get(CONFIG_PATH, "").strip())
    if is_named and not is_there:
        raise SecretsError(
            f"{CONFIG_PATH} is set in .env, and {files.root / LINEAGE}, which the containers read, is not there. "
            "Remedy: write it (docs/lineage.md), or leave the variable out"
        )
    if is_there and not is_named:
        return [f"lineage: nobody reads secrets/{LINEAGE}. Set {CONFIG_PATH} in .env to its path, and events are sent"]
    return []


def _other_key(files: SecretFiles, variable: str, name: str) -> str:
    return (
        f"{variable} in .env is not what {files.root / name} holds, and a key is never replaced. Remedy: remove "
        f"{variable} from .env; or, if nothing has been encrypted yet, remove {files.root / name} with its line in "
        f"{files.root / 'keys-made'}"
    )


def _default_connections(passwords: Mapping[str, str], *, demo: bool, mail_sink: bool) -> dict[str, str]:
    def uri(service: str, database: str, login: str) -> str:
        return postgresql_uri("postgresql", service, database, login=login, password=passwords[f"{service}/{login}"])

    found = {"revops_core": uri("warehouse", "revops_core", "revops")}
    if demo:
        found["odoo_source"] = uri("samples", "odoo", "odoo_reader")
        found["ace_source"] = uri("samples", "c303_prod_apn_01", "ace_reader")
    if mail_sink:
        found["smtp_default"] = MAIL_SINK
    return found


def _check_names(names: Mapping[str, Sequence[str]]) -> None:
    if unknown := sorted(set(names) - set(SERVERS)):
        raise SecretsError(f"there is no server {unknown[0]!r} to name. Remedy: one of {', '.join(SERVERS)}")
    if wrong := [name for given in names.values() for name in given if not re.fullmatch(r"[A-Za-z0-9.:*_-]+", name)]:
        raise SecretsError(f"{wrong[0]!r} is no name or address of a server. Remedy: such as db.example.com")


def _password() -> str:
    return secrets.token_urlsafe(32)
