"""A whole night in containers: both DAGs end well, every session is encrypted, and no value is where none belongs."""

from __future__ import annotations

import json
import time
from pathlib import Path

from revops.sources import load_source
from tests import canary
from tests.docker.compose.conftest import Night
from tests.docker.compose_stack import DATABASES, PATIENCE, ComposeStack
from tests.e2e.raw_and_source import assert_raw_equals_source

ALL = canary.EVERYTHING
# What may stand in a text that is searched.
UNSEARCHED = (canary.SECRETS, canary.SEALED, canary.TYPED)
# What the warehouse has as tokens, or not at all.
SEALED = (canary.SECRETS, canary.SEALED)


def test_both_dags_succeed(stack: ComposeStack, first_night: Night) -> None:
    for source in ("odoo", "ace"):
        assert_raw_equals_source(stack, load_source(source))
    with stack.api() as api:
        for dag_id, run_id in first_night.runs.items():
            assert {instance["state"] for instance in api.task_instances(dag_id, run_id)} <= {"success", "skipped"}


def test_the_texts_are_encoded_in_containers_by_way_of_the_proxy(stack: ComposeStack, first_night: Night) -> None:
    said = stack.engine.logs(stack.container("docker-proxy")["Id"]).decode()
    requests = [json.loads(line).get("request") or "" for line in said.splitlines()]
    created = [request for request in requests if request.endswith("/containers/create")]
    removed = [request for request in requests if request.startswith("DELETE")]
    # In each run the model is asked for and the texts are encoded; the initialisation asks, too.
    assert len(created) >= 5
    assert len(removed) >= len(created)
    ((texts, vectors),) = stack.query(
        "revops_core",
        "select (select count(distinct text_hash) from search.document), (select count(*) from search.embedding)",
        role="revops_embed",
    )
    assert texts == vectors
    assert int(str(texts)) > 100
    assert not stack.engine.containers(all=True, filters={"label": [f"revops.handoff={stack.project}_handoff"]})


# --- Encryption of every session --------------------------------------------------------------------------------------


def test_no_session_of_a_night_is_in_the_clear(stack: ComposeStack, first_night: Night) -> None:
    sessions = first_night.watched.sessions
    assert {(session.server, session.login) for session in sessions} >= {
        ("metadata", "airflow"), ("warehouse", "revops"), ("samples", "odoo_reader"), ("samples", "ace_reader"),
    }  # fmt: skip
    assert [session for session in sessions if not session.encrypted] == []
    assert {session.protocol for session in sessions} == {"TLSv1.3"}
    # And those that were too short to be seen. [local] is the entry point, before the server listens.
    for server in DATABASES:
        lines = stack.engine.logs(stack.container(server)["Id"]).decode(errors="replace").splitlines()
        authorized = [line for line in lines if "connection authorized:" in line and " [local] LOG:" not in line]
        assert len(authorized) > 50, server
        assert [line for line in authorized if "SSL enabled (protocol=TLSv1.3" not in line] == []


# --- Canaries ---------------------------------------------------------------------------------------------------------


def _in_files(files: list[Path], folder: Path, *kinds: dict[str, str]) -> set[tuple[str, str]]:
    """Return (file, canary) of each canary in a volume's files, whatever the file's format."""
    return {
        (str(path.relative_to(folder)), name)
        for path in files
        for name in canary.found_in(path.read_bytes().decode("latin-1"), *kinds)
    }


def test_no_canary_is_in_a_databases_files(stack: ComposeStack, first_night: Night, tmp_path: Path) -> None:
    """Tables, indexes and the write-ahead log. The sources' server shows that they would be found."""
    found = {}
    for server, kinds in (("samples", SEALED), ("warehouse", SEALED), ("metadata", ALL)):
        stack.psql(server, "checkpoint")
        files = stack.copy_volume(server, tmp_path / server)
        found[server] = _in_files(files, tmp_path / server, *kinds)
    for part in ("base", "pg_wal"):
        assert "e-mail" in {name for file, name in found["samples"] if file.startswith(f"pgdata/{part}/")}
    assert found["warehouse"] == set()
    assert found["metadata"] == set()


def test_no_canary_is_in_airflows_rows(stack: ComposeStack, first_night: Night) -> None:
    """XCom, rendered templates and everything else, decompressed."""
    tables = stack.psql("metadata", "select tablename from pg_tables where schemaname = 'public'").split()
    assert {"xcom", "rendered_task_instance_fields"} <= set(tables)
    rows = "".join(stack.psql("metadata", f'select t::text from "{table}" as t') for table in tables)
    assert rows.count("\n") > 200
    assert canary.found_in(rows, *ALL) == set()


def test_no_canary_is_in_a_log_or_a_statement(stack: ComposeStack, first_night: Night, tmp_path: Path) -> None:
    """Of the servers, of Airflow's services, of the tasks, and of those who watch the servers."""
    assert canary.found_in("\n".join(first_night.watched.statements), *ALL) == set()
    for container in stack.containers():
        said = stack.engine.logs(container["Id"]).decode(errors="replace")
        assert canary.found_in(said, *ALL) == set(), container["Name"]
    tasks = stack.copy_volume("logs", tmp_path / "logs")
    assert len(tasks) > 50
    assert _in_files(tasks, tmp_path / "logs", *ALL) == set()
    kept = stack.psql("warehouse", "select query from pg_stat_statements")
    assert "search.embedding" in kept
    assert canary.found_in(kept, *ALL) == set()


def test_no_canary_is_in_what_leaves_a_task(stack: ComposeStack, first_night: Night, tmp_path: Path) -> None:
    """Texts handed to the encoder, and reports."""
    handed = [text for path in first_night.watched.files for text in canary.handed_over(path)]
    assert any("want a review" in text for text in handed), "the lead of the canaries was not handed over"
    assert canary.found_in("\n".join(handed), *UNSEARCHED) == set()
    assert stack.copy_volume("handoff", tmp_path / "handoff") == []
    reports = stack.copy_volume("reports", tmp_path / "reports")
    assert reports
    assert _in_files(reports, tmp_path / "reports", *ALL) == set()


def test_no_canary_is_in_what_the_engine_keeps(stack: ComposeStack, first_night: Night) -> None:
    """The containers' descriptions, and what they have written beside their volumes. Layers: test_images.py."""
    assert canary.found_in(json.dumps(stack.containers()), *ALL) == set()
    for container in stack.containers():
        changed = [change["Path"] for change in stack.engine.diff(container["Id"]) or ()]
        assert [path for path in changed if not path.startswith(("/run", "/opt/airflow", "/var/lib", "/models"))] == []


# --- Logs and mails ---------------------------------------------------------------------------------------------------


def test_logs_are_lines_of_json(stack: ComposeStack, first_night: Night) -> None:
    for name, container in stack.services().items():
        if name.startswith("airflow-"):
            lines = stack.engine.logs(container["Id"], tail=200).decode().splitlines()
            assert lines, name
            for line in lines:
                assert {"event", "level"} <= json.loads(line).keys(), (name, line)


def test_the_mail_of_a_failed_run_arrives_and_holds_no_canary(
    stack: ComposeStack, first_night: Night, tmp_path: Path
) -> None:
    rename = "alter table {} rename to {}"
    with stack.connect("odoo") as odoo:
        odoo.execute(rename.format("crm_stage", "crm_stage_gone"))
    try:
        assert stack.wait_for_runs(stack.start_runs("odoo")) == {"odoo": "failed"}
    finally:
        with stack.connect("odoo") as odoo:
            odoo.execute(rename.format("crm_stage_gone", "crm_stage"))
    # The processor of DAGs sends it, after the run's end.
    deadline = time.monotonic() + 60 * PATIENCE
    while "odoo" not in stack.make("mail").stdout:
        assert time.monotonic() < deadline, "no mail has come"
        time.sleep(2)
    (mail,) = (path for path in stack.copy_volume("mail", tmp_path / "mail") if path.suffix == ".eml")
    said = canary.mail_text(mail)
    assert "crm_stage" in said
    assert canary.found_in(said, *ALL) == set()


def test_mails_are_shown(stack: ComposeStack) -> None:
    container = stack.container("airflow-scheduler")["Id"]
    send = (
        "import smtplib; s = smtplib.SMTP('mail', 1025); s.sendmail('a@example.com', ['b@example.com'], "
        "'From: a@example.com\\nTo: b@example.com\\nSubject: It works\\n\\ntext\\n')"
    )
    code, output = stack.execute(container, "python", "-c", send)
    assert code == 0, output
    assert "b@example.com  It works" in stack.make("mail").stdout
