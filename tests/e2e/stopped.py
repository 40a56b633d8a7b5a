"""What a night that a gate has stopped leaves: rows, states of tasks, mails."""

from __future__ import annotations

import email
import email.policy
import time
from collections import Counter
from email.message import EmailMessage
from pathlib import Path

from revops.transform.targets import core_tables
from tests.stack import Commands

Rows = dict[str, Counter[object]]
MAIL_TIMEOUT_S = 60


def read_rows(commands: Commands, *relations: str) -> Rows:
    return {
        relation: Counter(commands.query("revops_core", f"select to_jsonb(t)::text from {relation} as t"))
        for relation in relations
    }


def read_core(commands: Commands, source: str) -> Rows:
    """All rows of one source in the tables of core that it writes."""
    return read_rows(
        commands,
        *(f"(select * from core.{name} where source_system = '{source}')" for name in core_tables(source)),
    )


def task_states(commands: Commands, dag_id: str) -> dict[str, str]:
    """The state of each task of the DAG's last run."""
    return {
        str(task): str(state)
        for task, state in commands.query(
            "airflow",
            f"select task_id, state from task_instance where dag_id = '{dag_id}' and run_id = "
            f"(select run_id from dag_run where dag_id = '{dag_id}' order by id desc limit 1)",
        )
    }


def group_states(states: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for task, state in states.items():
        found.setdefault(task.split(".")[0], set()).add(state)
    return found


class Mails:
    """The mails since this was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = set(folder.glob("*.eml"))

    def wait_for(self, source: str) -> list[EmailMessage]:
        """Those about failures of a source, as soon as there is one: a callback may outlive its run by seconds."""
        deadline = time.monotonic() + MAIL_TIMEOUT_S
        while not (found := self.about(source)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def about(self, source: str) -> list[EmailMessage]:
        """Those about failures of a source."""
        new = sorted(set(self._folder.glob("*.eml")) - self._before)
        mails = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in new]
        return [
            mail
            for mail in mails
            if f" {source}: " in str(mail["Subject"]) and "the source has changed" not in str(mail["Subject"])
        ]


def html_body(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())
