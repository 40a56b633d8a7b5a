"""What `make up` says, with the remedy, when something is missing; and a GPU where there is one."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from tests.docker.compose_stack import ComposeStack


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no .env, so that nobody knows your sources. Remedy: cp .env.example .env"),
        (("PROFILE=prod",), "there is no profile prod. Remedy: PROFILE=demo, dev, scale"),
        (("PROFILE=demo", "WEB_PORT=x"), "WEB_PORT=x is no port"),
        (("PROFILE=demo", "DOCKER_HOST=unix:///nonexistent"), "the Docker engine does not answer"),
    ],
)
def test_up_says_what_is_missing(engine: APIClient, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    empty = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")
    done = empty.make("up", *arguments)
    assert done.returncode != 0
    assert said in done.stdout


def test_up_says_whose_port_it_is(engine: APIClient, tmp_path: Path) -> None:
    empty = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = empty.make("up", "PROFILE=demo", f"REVOPS_WAREHOUSE_PORT={port}")
    assert done.returncode != 0
    assert f"port {port} is taken by another program. Remedy: end it, or choose another" in done.stdout


def test_a_gpu_is_given_where_there_is_one(tmp_path: Path, engine: APIClient) -> None:
    stack = ComposeStack.of_this_checkout(tmp_path, engine, "revops-test-none")

    def embedding(gpu: str) -> dict[str, Any]:
        told = subprocess.run(
            ["include/compose/run", "config", "--format", "json"],
            cwd=stack.folder,
            env={**stack.environment, "GPU": gpu, "PROFILE": "demo"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found: dict[str, Any] = json.loads(told)["services"]
        return found

    with_gpu = embedding("1")
    (device,) = with_gpu["embedding"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert with_gpu["model"]["build"]["args"]["TORCH_VARIANT"] == "cuda"
    without = embedding("0")
    assert "deploy" not in without["embedding"]
    assert without["model"]["build"]["args"]["TORCH_VARIANT"] == "cpu"
