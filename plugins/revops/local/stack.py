"""The parts of the embedded stack: server, passwords, environment of Airflow."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from dotenv import dotenv_values

from revops.connection_stores import BACKEND_VARIABLES, connections_of_files, variable_of
from revops.keyring import DATA_KEYS, DATA_KEYS_FILE, INDEX_KEY, INDEX_KEY_FILE
from revops.local import credentials
from revops.local.databases import drop_databases, ensure_databases
from revops.local.paths import CHECKOUT, state_home
from revops.local.postgres import EmbeddedPostgres
from revops.settings import EMBEDDING_IMAGE, EMBEDDING_PYTHON

# Where the stack lives and how large its sample is: no settings of Airflow.
LOCAL_ONLY = ("REVOPS_HOME", "REVOPS_SAMPLE_SCALE")
DOTENV = CHECKOUT / ".env"
WEB_PORT = 8080
NO_PROXY = ",".join(filter(None, (os.environ.get("NO_PROXY"), "localhost", "127.0.0.1")))
ALERT_EMAIL = "revops-alerts@example.com"


@dataclass(frozen=True)
class Stack:
    """The embedded stack of one checkout; `home` holds all of its state."""

    home: Path

    @classmethod
    def of_checkout(cls) -> Stack:
        return cls(state_home())

    @cached_property
    def passwords(self) -> dict[str, str]:
        return credentials.load_or_create(self.home / "credentials.json")

    @cached_property
    def postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.home / "postgres", self.home / "postgres-install", self.passwords["postgres"])

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def mail_folder(self) -> Path:
        return self.home / "mail"

    @property
    def report_folder(self) -> Path:
        return self.home / "reports"

    @property
    def model(self) -> Path:
        return self.home / "model"

    @property
    def embedding_service(self) -> Path:
        return self.home / "embedding-service"

    @property
    def truth(self) -> Path:
        return self.home / "sample" / "truth.csv"

    def start_postgres(self) -> int:
        """Start the server with its logins and databases; return its port."""
        port = self.postgres.start()
        ensure_databases(self.postgres.conninfo("postgres"), self.passwords)
        return port

    def has_samples(self) -> bool:
        """Tell whether both sample sources are there, whole; a kill while they were made may leave one of them."""
        return all(
            self._has_schema(self.postgres.conninfo(database), "sample") for database in ("odoo", "c303_prod_apn_01")
        )

    def reset_sample_databases(self) -> None:
        """Make the sample databases anew, empty."""
        drop_databases(self.postgres.conninfo("postgres"), ("odoo", "c303_prod_apn_01"))
        ensure_databases(self.postgres.conninfo("postgres"), self.passwords)

    @staticmethod
    def _has_schema(conninfo: str, name: str) -> bool:
        with psycopg.connect(conninfo) as connection:
            return connection.execute("select to_regnamespace(%s) is not null", (name,)).fetchone() == (True,)

    def uri(self, database: str, login: str) -> str:
        """Return the URI of a database of the embedded server, TLS verified."""
        return self._uri("postgresql", database, login)

    def sample_connections(self) -> dict[str, str]:
        """Return the connections to the embedded warehouse and the sample sources."""
        return {
            "AIRFLOW_CONN_ODOO_SOURCE": self.uri("odoo", "odoo_reader"),
            "AIRFLOW_CONN_ACE_SOURCE": self.uri("c303_prod_apn_01", "ace_reader"),
            "AIRFLOW_CONN_REVOPS_CORE": self.uri("revops_core", "revops"),
        }

    def encryption_keys(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the keys of encrypted columns for the embedded warehouse, none for a warehouse of the user's own.

        What this checkout makes, `make clean` removes: values of a lasting warehouse would be lost with it.
        """
        if "AIRFLOW_CONN_REVOPS_CORE" in set_connections(own):
            return {}
        made = {DATA_KEYS: self.passwords["data_keys"], INDEX_KEY: self.passwords["index_key"]}
        files = {DATA_KEYS: DATA_KEYS_FILE, INDEX_KEY: INDEX_KEY_FILE}
        return {name: key for name, key in made.items() if files[name] not in own}

    def environment(self, *, mail_port: int, web_port: int, own: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of Airflow's processes.

        own: what the user has set (.env and environment); it wins over the sample sources and the defaults of
        this stack.
        """
        address = f"http://localhost:{web_port}"
        cores = os.cpu_count() or 2
        defaults = {
            **self.sample_connections(),
            **self.encryption_keys(own),
            "AIRFLOW_CONN_SMTP_DEFAULT": f"smtp://@127.0.0.1:{mail_port}/?disable_ssl=true&disable_tls=true"
            "&from_email=airflow%40revops.localhost&timeout=10&retry_limit=1",
            "REVOPS_ALERT_EMAIL": ALERT_EMAIL,
            EMBEDDING_PYTHON: str(CHECKOUT / ".venv-embedding" / "bin" / "python"),
            "REVOPS_EMBEDDING_MODEL": str(self.model),
            "REVOPS_EMBEDDING_HANDOFF": str(self.home / "embedding"),
            "REVOPS_REPORT_FOLDER": str(self.report_folder),
            "AIRFLOW__CORE__PARALLELISM": str(max(4, 2 * cores)),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            # At its start a scheduler still takes the one that was killed before it for alive.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        }
        fixed = {
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": self.passwords["fernet_key"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{web_port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.airflow_home / "web-users.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._uri("postgresql+psycopg2", "airflow", "airflow"),
            # Airflow would make it asyncpg's, which knows none of libpq's words for TLS and verifies nothing.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": self._uri("postgresql+psycopg", "airflow", "airflow"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(web_port),
            "AIRFLOW__API__BASE_URL": address,
            "AIRFLOW__API__SECRET_KEY": self.passwords["api_secret"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self.passwords["jwt_secret"],
            "PYTHONPATH": str(CHECKOUT / "plugins"),
            "PYTHONWARNINGS": "ignore",
            # The tasks talk to the API server on this machine: never through a proxy.
            "NO_PROXY": NO_PROXY,
            "no_proxy": NO_PROXY,
            # `airflow standalone` starts its parts by name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        if EMBEDDING_IMAGE in own:
            del defaults[EMBEDDING_PYTHON]
        for variable in set_connections(own):
            defaults.pop(variable, None)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return {**inherited, **defaults, **own, **fixed}

    def write_web_users(self) -> None:
        """Write the web UI's password file, mode 0600."""
        self.airflow_home.mkdir(parents=True, exist_ok=True)
        path = self.airflow_home / "web-users.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"admin": self.passwords["web_admin"]}))

    def _uri(self, scheme: str, database: str, login: str) -> str:
        query = urlencode(
            {
                "sslmode": "verify-full",
                "sslrootcert": str(self.postgres.ca_certificate),
                "channel_binding": "require",
                "ssl_min_protocol_version": "TLSv1.2",
            },
            quote_via=quote,
        )
        port = self.postgres.port()
        return f"{scheme}://{login}:{quote(self.passwords[login])}@127.0.0.1:{port}/{database}?{query}"


def set_connections(own: Mapping[str, str]) -> set[str]:
    """Return the variables of the connections that the user has set, or has in a connections file.

    Raises ConnectionFileError.
    """
    return {name for name in own if name.startswith("AIRFLOW_CONN_")} | set(map(variable_of, connections_of_files(own)))


def adopt_warehouse(environment: Mapping[str, str]) -> None:
    """Have this process look for the connection revops_core where Airflow's processes do."""
    names = {"AIRFLOW_CONN_REVOPS_CORE", *(name for name in environment if name.startswith(BACKEND_VARIABLES))}
    os.environ.update({name: environment[name] for name in names if name in environment})


def own_settings(*, dotenv: Path = DOTENV) -> dict[str, str]:
    """Return what the user has set for Airflow and Revops: the environment first, then .env."""
    # No interpolation: a password may hold ${...}. An empty variable says nothing, so it hides nothing.
    written = dotenv_values(dotenv, interpolate=False) if dotenv.exists() else {}
    merged = {**{name: value or "" for name, value in written.items()}, **{n: v for n, v in os.environ.items() if v}}
    return {
        name: value
        for name, value in merged.items()
        if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__", "REVOPS_")) and value and name not in LOCAL_ONLY
    }
