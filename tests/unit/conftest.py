"""Tests of single modules: an environment without anybody's settings."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__")) or (name.startswith("REVOPS_") and name != "REVOPS_HOME"):
            monkeypatch.delenv(name)
