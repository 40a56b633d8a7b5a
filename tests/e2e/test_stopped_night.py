"""Nights that a gate stops: what was is kept, the other source goes on, and one mail says why."""

from __future__ import annotations

import email
import email.policy
import json
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables
from tests.stack import Commands

pytestmark = pytest.mark.e2e

Rows = dict[str, Counter[object]]


def _rows(commands: Commands, *relations: str) -> Rows:
    return {
        relation: Counter(commands.query("revops_core", f"select to_jsonb(t)::text from {relation} as t"))
        for relation in relations
    }


def _core(commands: Commands, source: str) -> Rows:
    """All rows of one source in the tables of core that it writes."""
    return _rows(
        commands,
        *(f"(select * from core.{name} where source_system = '{source}')" for name in core_tables(source)),
    )


def _states(commands: Commands, dag_id: str) -> dict[str, str]:
    """The state of each task of the DAG's last run."""
    return {
        str(task): str(state)
        for task, state in commands.query(
            "airflow",
            f"select task_id, state from task_instance where dag_id = '{dag_id}' and run_id = "
            f"(select run_id from dag_run where dag_id = '{dag_id}' order by id desc limit 1)",
        )
    }


def _groups(states: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for task, state in states.items():
        found.setdefault(task.split(".")[0], set()).add(state)
    return found


class Mails:
    """The mails since this was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = set(folder.glob("*.eml"))

    def about(self, source: str) -> list[EmailMessage]:
        """Those about failures of a source."""
        new = sorted(set(self._folder.glob("*.eml")) - self._before)
        mails = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in new]
        return [
            mail
            for mail in mails
            if f" {source}: " in str(mail["Subject"]) and "the source has changed" not in str(mail["Subject"])
        ]


def _body(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


@pytest.fixture
def wrong_type(commands: Commands, first_night: str) -> Iterator[str]:
    """A lead of a type that Odoo does not know, as a script past its ORM leaves it; its id."""
    ((key, before),) = commands.query("odoo", "select id, type from crm_lead order by id desc limit 1")
    with psycopg.connect(commands.stack.postgres.conninfo("odoo")) as odoo:
        odoo.execute("update crm_lead set type = 'oportunity' where id = %s", (key,))
    yield str(key)
    with psycopg.connect(commands.stack.postgres.conninfo("odoo")) as odoo:
        odoo.execute("update crm_lead set type = %s where id = %s", (before, key))


def test_a_critical_check_on_raw_leaves_core_as_it_was(commands: Commands, wrong_type: str) -> None:
    core, mails = _core(commands, "odoo"), Mails(commands.stack.mail_folder)
    finished = commands.run("demo")
    assert finished.returncode == 1
    groups = _groups(_states(commands, "odoo"))
    assert groups["extract"] == {"success"}
    assert groups["check_raw"] == {"failed", "success"}
    assert groups["transform"] == groups["check_core"] == groups["embed"] == {"upstream_failed"}
    assert groups["report"] == {"success"}
    assert set(_states(commands, "ace").values()) == {"success"}
    assert _core(commands, "odoo") == core
    (mail,) = mails.about("odoo")
    assert mail["Subject"] == "[revops] odoo: run FAILED (task_failure)"
    body = _body(mail)
    row = body.split("type is lead or opportunity")[1].split("</tr>")[0]
    assert "raw.odoo_crm_lead" in body
    assert "1 of " in row
    assert wrong_type in row
    assert "core stays as it was before this run" in body
    assert len(list(mail.iter_attachments())) == 2
    assert mails.about("ace") == []
    ((gate,),) = commands.query(
        "revops_core",
        "select gate from ops.quality_run where source = 'odoo' and layer = 'raw' order by quality_run_id desc limit 1",
    )
    assert gate == "shut"


@pytest.fixture
def emptied_contacts(commands: Commands, first_night: str) -> Iterator[int]:
    """All of ACE's contacts deleted from core by hand; how many live ones there were."""
    with psycopg.connect(commands.stack.postgres.conninfo("revops_core")) as warehouse:
        # Rows that are gone from the source are in core as well, and count for nothing.
        live = warehouse.execute(
            "with gone as (delete from core.contact where source_system = 'ace' returning deleted_at) "
            "select count(*) from gone where deleted_at is null"
        ).fetchone()
    assert live is not None
    yield int(live[0])
    dsn = make_conninfo(commands.stack.uri("revops_core", "revops"), options="-c role=revops_transform")
    with psycopg.connect(dsn) as warehouse:
        transform_table(
            warehouse, target=TARGETS["contact"], source="ace", run_id="mended", include=INCLUDE, full_refresh=True
        )


def test_a_critical_check_on_core_keeps_everything_from_being_embedded(
    commands: Commands, emptied_contacts: int, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    searched = _rows(commands, "search.document", "search.embedding")
    mails = Mails(commands.stack.mail_folder)
    finished = commands.run("run", "ace", AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport))
    assert finished.returncode == 1
    states = _states(commands, "ace")
    assert (states["check_core.soda"], states["check_core.profile"]) == ("failed", "failed")
    groups = _groups(states)
    assert groups["check_raw"] == groups["transform"] == groups["report"] == {"success"}
    assert groups["embed"] == {"upstream_failed"}
    assert _rows(commands, "search.document", "search.embedding") == searched
    (mail,) = mails.about("ace")
    assert mail["Subject"] == "[revops] ace: run FAILED (task_failure)"
    body = _body(mail)
    assert "core.contact" in body.split("Checks that stopped the run")[1].split("</table>")[0]
    assert f"core.contact had {emptied_contacts:,} rows and has none" in body
    assert "nothing of this run is embedded" in body
    _check_events(commands, events)


def _check_events(commands: Commands, path: Path) -> None:
    """OpenLineage's events of the run: what each task read and wrote, and no password."""
    text = path.read_text()
    assert not [name for name, secret in commands.stack.passwords.items() if secret in text]
    done = {
        event["job"]["name"]: event for event in map(json.loads, text.splitlines()) if event["eventType"] == "COMPLETE"
    }
    warehouse = f"postgres://127.0.0.1:{commands.stack.postgres.port()}"
    for table in load_source("ace").tables:
        event = done[f"ace.extract.{table.name}"]
        assert [item["name"] for item in event["inputs"]] == [f"c303_prod_apn_01.public.{table.name}"]
        (written,) = event["outputs"]
        assert (written["namespace"], written["name"]) == (warehouse, f"revops_core.raw.ace_{table.name}")
        assert "id" in written["facets"]["columnLineage"]["fields"]
    for name in core_tables("ace"):
        (written,) = done[f"ace.transform.{name}"]["outputs"]
        assert (written["namespace"], written["name"]) == (warehouse, f"revops_core.core.{name}")
    (opportunities,) = done["ace.transform.ace_opportunities"]["outputs"]
    title = opportunities["facets"]["columnLineage"]["fields"]["title"]["inputFields"]
    assert ("revops_core.raw.ace_apn_opportunity", "name") in [(item["name"], item["field"]) for item in title]
