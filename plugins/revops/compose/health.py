"""`python -m revops.compose.health PART`: whether a part of Airflow does its work; exit code 0 or 1, and a line.

Asked every few seconds in each container, hence without a library where that goes: `airflow jobs check` would take four
seconds of a processor. Docker restarts what ends, not what hangs: a part that has been ill for long is ended here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

SECRETS = Path("/run/secrets/airflow")
TIMEOUT_S = 5
# Three times Airflow's own thresholds would hide a hang; a machine under load is late by a few beats.
OLDEST_BEAT_S = 60
# Longer than a start on a busy machine or a restart of the database. Not longer, since a scheduler that has lost its
# database schedules no more and waits for its tasks, of which one may wait for others that it should start.
HUNG_S = 180
ILL_SINCE = Path("/tmp/ill-since")  # noqa: S108 - the container's own, new with each start

API_SERVER = "http://127.0.0.1:8080/api/v2/monitor/health"
BEAT = """
    select extract(epoch from now() - latest_heartbeat) from job
    where job_type = %s and hostname = %s and state = 'running' order by latest_heartbeat desc limit 1
"""


class UnhealthyError(Exception):
    """The part does not do its work; the message says how that shows."""


class DependencyError(Exception):
    """What the part needs is away, so that nothing is known of the part; a new start of it would help nobody."""


def check_api_server() -> str:
    """The server answers and reaches the metadata database; of the other parts it only repeats what that holds.

    Without its database it answers that it has none, late or not at all. So the database itself is asked then: the
    fault is the server's only where that answers.
    """
    try:
        state = json.loads(_get(API_SERVER))["metadatabase"]["status"]
        if state != "healthy":
            raise UnhealthyError(f"the metadata database answers, and the API server says that it is {state}")
    except Exception:
        _ask_database("select 1 from job limit 1")
        raise
    return "answers"


def check_job(job_type: str) -> str:
    """The job of this very container has given a sign of life since the container's last start."""
    row = _ask_database(BEAT, (job_type, _hostname()))
    # A restarted container keeps its name, and the job that was killed in it is entered as running.
    if row is None or row[0] > _age_s():
        raise UnhealthyError(f"no {job_type} runs here yet")
    if row[0] > OLDEST_BEAT_S:
        raise UnhealthyError(f"the {job_type} gave its last sign of life {row[0]:.0f} s ago")
    return f"last sign of life {row[0]:.0f} s ago"


def _ask_database(query: str, parameters: tuple[str, ...] = ()) -> tuple[Any, ...] | None:
    """Return the first row of a query in the metadata database; raises DependencyError, also while that is restored."""
    import psycopg2

    conninfo = (SECRETS / "sql_alchemy_conn").read_text().strip().replace("postgresql+psycopg2://", "postgresql://")
    try:
        connection = psycopg2.connect(conninfo, connect_timeout=TIMEOUT_S, application_name="revops:health")
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, parameters)
                return cursor.fetchone()
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise DependencyError(f"the metadata database does not answer: {error}") from error


def check_worker() -> str:
    """The worker answers over the broker, as the executor reaches it."""
    from celery import Celery
    from kombu.exceptions import OperationalError

    app = Celery(broker=(SECRETS / "celery_broker_url").read_text().strip())
    name = f"celery@{socket.gethostname()}"
    try:
        answers = app.control.ping(destination=[name], timeout=TIMEOUT_S, limit=1)
    except OperationalError as error:
        raise DependencyError(f"the broker does not answer: {error}") from error
    if not answers:
        raise UnhealthyError(f"{name} does not answer over the broker")
    return "answers"


def end_if_hung(*, parent: int = 1) -> None:
    """End the part after HUNG_S of illness, so that Docker starts it anew; parent: the container's first process.

    That one can't be killed from inside. It ends with its child.
    """
    if not ILL_SINCE.exists():
        ILL_SINCE.touch()
    elif time.time() - ILL_SINCE.stat().st_mtime > HUNG_S:
        for child in _children(parent):
            sys.stdout.write(f"ill for over {HUNG_S} s: ending process {child}\n")
            os.kill(child, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # no process, or one that has just ended
        if int(fields[1]) == parent:
            found.append(int(entry.name))
    return found


def _age_s(*, process: int = 1) -> float:
    """Return for how long a process, by default the container's first one, has run; no change of the clock matters."""
    ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def _get(address: str) -> bytes:
    try:
        with urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - this container's own
            found: bytes = answer.read()
    except HTTPError as error:
        raise UnhealthyError(f"{address} answers {error.code}") from error
    return found


def _hostname() -> str:
    """Return the name under which Airflow enters its jobs: airflow.utils.net.getfqdn."""
    found = socket.getaddrinfo(socket.gethostname(), None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)
    return next((entry[3] for entry in found if entry[3]), socket.gethostname())


PARTS: dict[str, Callable[[], str]] = {
    "api-server": check_api_server,
    "scheduler": lambda: check_job("SchedulerJob"),
    "dag-processor": lambda: check_job("DagProcessorJob"),
    "triggerer": lambda: check_job("TriggererJob"),
    "worker": check_worker,
}


def main() -> int:
    """Check the part that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.stderr.write(f"usage: python -m revops.compose.health {'|'.join(PARTS)}\n")
        return 2
    try:
        said = PARTS[sys.argv[1]]()
    except DependencyError as error:
        ILL_SINCE.unlink(missing_ok=True)
        sys.stdout.write(f"{error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the part is not healthy, and this says why
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        end_if_hung()
        return 1
    ILL_SINCE.unlink(missing_ok=True)
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
