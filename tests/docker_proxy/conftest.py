"""What EmbedOperator asks of the engine, word for word, and the policy that goes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from docker import APIClient

from docker_proxy.policy import Policy
from revops.embedding.container_config import container_config
from revops.settings import Settings

ENVIRONMENT = {
    "AIRFLOW__SECRETS__BACKEND": "elsewhere",
    "REVOPS_ALERT_EMAIL": "data-team@example.com",
    "REVOPS_EMBEDDING_IMAGE": "revops-embedding:latest",
    "REVOPS_EMBEDDING_MODEL": "/models/bge-m3",
    "REVOPS_EMBEDDING_MODEL_VOLUME": "revops_models",
    "REVOPS_EMBEDDING_HANDOFF": "/var/lib/revops/embedding",
    "REVOPS_EMBEDDING_HANDOFF_VOLUME": "revops_handoff",
    "REVOPS_EMBEDDING_GPU": "auto",
    "REVOPS_EMBEDDING_MEMORY": "8g",
    "REVOPS_EMBEDDING_PIDS": "1024",
}
LABELS = {
    "revops.handoff": "revops_handoff",
    "revops.dag": "odoo",
    "revops.task": "embed.encode",
    "revops.map_index": "-1",
    "revops.run": 'manual__2026-11-23T18:42:55.492912+00:00 "Größe" 日本',
    "revops.try": "1",
}
GPUS = {
    "none": {},
    "nvidia": {"Runtimes": {"nvidia": {}}},
    "cdi": {"DiscoveredDevices": [{"ID": "nvidia.com/gpu=0"}, {"ID": "nvidia.com/gpu=1"}]},
}


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy.from_environment(ENVIRONMENT)


def body_of_the_operator(command: str = "batch", gpu: str = "none") -> bytes:
    """What docker-py sends for a container that the operator describes."""
    settings = Settings.from_environment(ENVIRONMENT)
    client = APIClient(base_url="tcp://127.0.0.1:1", version="1.41")
    folders = (Path("/in"), Path("/out")) if command == "batch" else None
    with mock.patch.object(client, "info", return_value=GPUS[gpu]):
        config = container_config(
            client, settings, command=["--end-with-stdin", command, "--model", "/m"], folders=folders, labels=LABELS
        )
    sent: list[bytes] = []

    def keep(_: str, *, data: str, **__: Any) -> Any:
        sent.append(data.encode())
        raise StopIteration

    with mock.patch.object(client, "_post", side_effect=keep), pytest.raises(StopIteration):
        client.create_container(**config)
    return sent[0]


@pytest.fixture
def description() -> dict[str, Any]:
    """The same as an object, to be changed."""
    found: dict[str, Any] = json.loads(body_of_the_operator())
    return found
