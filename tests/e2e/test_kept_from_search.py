"""A night that a check on core stops: nothing is embedded, one mail says why, and OpenLineage has all of its events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables
from tests.e2e.stopped import Mails, group_states, html_body, read_rows, task_states
from tests.stack import Commands

pytestmark = pytest.mark.e2e


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
    searched = read_rows(commands, "search.document", "search.embedding")
    mails = Mails(commands.stack.mail_folder)
    finished = commands.run("run", "ace", AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps(transport))
    assert finished.returncode == 1
    states = task_states(commands, "ace")
    assert (states["check_core.soda"], states["check_core.profile"]) == ("failed", "failed")
    groups = group_states(states)
    assert groups["check_raw"] == groups["transform"] == groups["report"] == {"success"}
    assert groups["embed"] == {"upstream_failed"}
    assert read_rows(commands, "search.document", "search.embedding") == searched
    (mail,) = mails.about("ace")
    assert mail["Subject"] == "[revops] ace: run FAILED (task_failure)"
    body = html_body(mail)
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
