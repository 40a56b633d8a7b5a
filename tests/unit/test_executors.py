"""The executors for many hosts that the Compose files and the chart name can be loaded in their locked versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The LocalExecutor of docker-compose.yaml is in use wherever Airflow is.
FILES = ("docker-compose.scale.yaml", "deploy/helm/values.yaml")
NAMED = {
    name: file
    for file in FILES
    for name in re.findall(r"^(?:executor|\s+AIRFLOW__CORE__EXECUTOR): (\w+)$", (ROOT / file).read_text(), re.MULTILINE)
}


def test_the_files_name_one_executor_each() -> None:
    assert set(NAMED.values()) == set(FILES)


@pytest.mark.parametrize("name", NAMED)
def test_an_executor_is_loaded(name: str) -> None:
    load = (
        "from airflow.executors.executor_loader import ExecutorLoader; "
        "print(ExecutorLoader.import_default_executor_cls()[0].__name__)"
    )
    environment = {**os.environ, "AIRFLOW__CORE__EXECUTOR": name}
    done = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == [name], done.stderr
