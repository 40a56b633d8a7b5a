"""The embedded stack for development, tests and the demo: PostgreSQL, sample sources, Airflow on one machine."""

import os

from revops.local.paths import state_home

# Before anything imports Airflow: it would make a folder in HOME, and read the settings of another installation there.
os.environ.setdefault("AIRFLOW_HOME", str(state_home() / "airflow"))
