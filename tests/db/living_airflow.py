"""One process of Airflow that lives on while connections and sources are edited.

As a program: runs the DAG of a folder by Airflow's own task runner, once for each line that it is sent, and prints what
came of it. Its metadata database holds connections too, as that of an installation may.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DAG = """
from airflow.sdk import DAG
from revops.operators.extract import ExtractOperator
from revops.sources import load_source

with DAG("tiny") as dag:
    for entry in load_source("tiny").entries:
        ExtractOperator(task_id=entry.name, source_name="tiny", entry=entry.name)
"""
RESULT = "RESULT "


@dataclass(frozen=True)
class Outcome:
    """Of one run: the state of each task, and all that was logged."""

    states: dict[str, str]
    log: str


class LivingAirflow:
    """The process as the tests see it."""

    def __init__(self, folder: Path, *, stored: dict[str, str]) -> None:
        """Start it; stored: URIs of connections in its metadata database, by id."""
        self.connections = folder / "connections.json"
        self.include = folder / "include"
        (folder / "dags").mkdir()
        (folder / "dags" / "tiny.py").write_text(DAG)
        (self.include / "sources").mkdir(parents=True)
        bundle = {
            "name": "tiny",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder / "dags")},
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "REVOPS_"))},
                "AIRFLOW_HOME": str(folder),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "no-plugins"),
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
                "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
                "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(self.connections)}),
                "REVOPS_INCLUDE": str(self.include),
                "STORED": json.dumps(stored),
                "PYTHONPATH": str(ROOT / "plugins"),
                "PYTHONWARNINGS": "ignore",
            },
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> Outcome:
        """Run the DAG as its file says now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        log: list[str] = []
        for line in self._process.stdout:
            if line.startswith(RESULT):
                return Outcome(json.loads(line.removeprefix(RESULT)), "".join(log))
            log.append(line)
        raise AssertionError("".join(log)[-4000:])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.connection import Connection
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    import revops.operators.extract

    # Nobody exports a snapshot here.
    revops.operators.extract.SNAPSHOT_WAIT_S = 0.0
    initdb()
    with create_session() as session:
        for name, uri in json.loads(os.environ["STORED"]).items():
            session.add(Connection(conn_id=name, uri=uri))
    DagBundlesManager().sync_bundles_to_db()
    for _ in sys.stdin:
        bag = DagBag(dag_folder=str(Path.cwd() / "dags"))
        states = {}
        if bag.import_errors:
            print(*bag.import_errors.values(), sep="\n")
        else:
            sync_bag_to_db(bag, "tiny", None)
            run: Any = bag.dags["tiny"].test()
            states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
        print(f"\n{RESULT}{json.dumps(states)}", flush=True)


if __name__ == "__main__":
    _serve()
