"""One task as a process of its own: `python -m tests.docker.one_task TASK RUN_ID TRY COMMAND TEXTS`.

Stands in for Airflow's task process, so that it can be killed like one. Prints the task's log and, last, its XCom.
"""

from __future__ import annotations

import json
import signal
import sys
from types import SimpleNamespace
from typing import Any

from revops.operators.embed import EmbedOperator


def main() -> None:
    task_id, run_id, try_number, command, texts = sys.argv[1:]
    operator = EmbedOperator(task_id=task_id, source_name="odoo", command=command, texts=texts)
    # As Airflow's task process does.
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    ti = SimpleNamespace(dag_id="odoo", task_id=task_id, map_index=-1, run_id=run_id, try_number=int(try_number))
    context: Any = {"ti": ti, "run_id": run_id}
    print("XCOM " + json.dumps(operator.execute(context)), flush=True)


if __name__ == "__main__":
    main()
