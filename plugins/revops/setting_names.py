"""Names of the environment's variables: those that Revops knows, and what a misspelt one was meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from revops.keyring import DATA_KEYS, INDEX_KEY

PREFIX = "REVOPS_"

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
# Read by sessions in a source, too: see requires_read_only_source.
REQUIRE_READ_ONLY_SOURCE = "REVOPS_REQUIRE_READ_ONLY_SOURCE"
# Has a default: see report_folder.
REPORT_FOLDER = "REVOPS_REPORT_FOLDER"

# Read before there are settings: where include/ is, where the embedded stack lives, how large its samples are.
TOOL_VARIABLES = ("REVOPS_INCLUDE", "REVOPS_HOME", "REVOPS_SAMPLE_SCALE")
# Docker Compose's own, for docker-compose.yaml; where .env is shared they reach the settings too.
COMPOSE_VARIABLES = (
    *("REVOPS_TAG", "REVOPS_UID", "REVOPS_BIND", "REVOPS_WAREHOUSE_PORT", "REVOPS_MAIL_PORT"),
    *("REVOPS_PARALLELISM", "REVOPS_TASK_GRACE", "REVOPS_LOG_FILES", "REVOPS_LOG_SIZE", "REVOPS_POSTGRES_SHM"),
    *("REVOPS_ACCESS_LOG_FILES", "REVOPS_ACCESS_LOG_SIZE", "REVOPS_COMPOSE_FILES", "REVOPS_COMPOSE_MODEL"),
    "REVOPS_TRUSTED_PROXIES",
    *("REVOPS_API_CPUS", "REVOPS_API_MEMORY", "REVOPS_DAG_PROCESSOR_CPUS", "REVOPS_DAG_PROCESSOR_MEMORY"),
    *("REVOPS_TASK_CPUS", "REVOPS_TASK_MEMORY", "REVOPS_TRIGGERER_CPUS", "REVOPS_TRIGGERER_MEMORY"),
    *("REVOPS_EMBEDDING_SERVICE_CPUS", "REVOPS_EMBEDDING_SERVICE_MEMORY", "REVOPS_MODEL_MEMORY"),
    *("REVOPS_METADATA_CPUS", "REVOPS_METADATA_MEMORY", "REVOPS_WAREHOUSE_CPUS", "REVOPS_WAREHOUSE_MEMORY"),
    *("REVOPS_INIT_MEMORY", "REVOPS_SAMPLES_MEMORY", "REVOPS_WORKERS", "REVOPS_WORKER_TASKS"),
)
# Kubernetes tells each pod of the services around it; one may be called revops-something.
_OF_A_SERVICE = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?$")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp)://[^/]+$")
_ALIKE = 0.7


def misspelt(environment: Mapping[str, str], settings: Iterable[str]) -> list[tuple[str, str]]:
    """Return the variables that nobody reads, each with what to do; settings: the names that Settings reads."""
    known = [*(name for name in settings if name.startswith(PREFIX)), *TOOL_VARIABLES, *COMPOSE_VARIABLES]
    found = []
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in known or not value.strip() or _is_of_a_service(name, value):
            continue
        alike = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
        found.append(
            (name, f"is read by nobody: did you mean {alike[0]}?" if alike else "is read by nobody: remove it")
        )
    return found


def _is_of_a_service(name: str, value: str) -> bool:
    return bool(_OF_A_SERVICE.search(name)) or (name.endswith("_PORT") and bool(_SERVICE_ADDRESS.match(value)))
