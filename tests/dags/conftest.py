"""Airflow for tests that read DAG files: no metadata database, no connections, a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has Airflow and this repository, but no database and no settings."""
    home = tmp_path_factory.mktemp("airflow")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "REVOPS_"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/there-is-no-such-folder/airflow.db",
        "PYTHONPATH": str(ROOT / "plugins"),
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="session")
def probe(bare_environment: dict[str, str]) -> Callable[[str], Any]:
    """A function that runs a Python program in a process of its own and returns the JSON of its last line."""

    def run(program: str) -> Any:
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=bare_environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr[-4000:]
        return json.loads(result.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def bag() -> Iterator[Any]:
    """All DAGs of dags/, read as the DAG processor reads them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__", "REVOPS_"))]:
            patch.delenv(name)
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(ROOT / "dags"))
        patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(ROOT / "plugins"))
        from airflow.dag_processing.dagbag import BundleDagBag

        yield BundleDagBag(dag_folder=str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="dags-folder")
