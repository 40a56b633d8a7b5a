"""Tests of single modules: an environment without anybody's settings."""

from __future__ import annotations

import os

import pytest

from revops.local.paths import state_home

# Airflow writes its configuration where it is imported for the first time in a process.
os.environ.setdefault("AIRFLOW_HOME", str(state_home() / "test-airflow"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__")) or (name.startswith("REVOPS_") and name != "REVOPS_HOME"):
            monkeypatch.delenv(name)
