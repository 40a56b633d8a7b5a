"""What a whole night shows to whom: encrypted sessions only, a log of all of them, and no value where none belongs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests import canary
from tests.second_night import SecondNight
from tests.stack import Commands

pytestmark = pytest.mark.e2e

ALL = canary.EVERYTHING
# What may stand in a text that is searched.
UNSEARCHED = (canary.SECRETS, canary.SEALED, canary.TYPED)


def access_log(commands: Commands) -> Iterator[dict[str, Any]]:
    for path in commands.stack.postgres.access_logs:
        with path.open() as file:
            for line in file:
                if line.endswith("}\n"):
                    yield json.loads(line)


def test_no_session_of_a_night_is_in_the_clear(commands: Commands, second_night: SecondNight) -> None:
    watcher = second_night.watcher
    assert watcher.failure is None
    assert watcher.samples > 100
    assert {(login, encrypted) for login, _, _, encrypted, _ in watcher.sessions} >= {
        ("airflow", True), ("revops", True), ("odoo_reader", True), ("ace_reader", True),
    }  # fmt: skip
    assert [session for session in watcher.sessions if not session[3]] == []
    assert {protocol for *_, protocol in watcher.sessions} <= {"TLSv1.3", "TLSv1.2"}
    # And those that were too short to be seen, in both nights.
    messages = [entry["message"] for entry in access_log(commands)]
    authorized = [message for message in messages if message.startswith("connection authorized")]
    assert len(authorized) > 200
    assert [message for message in authorized if "SSL enabled (protocol=TLSv1." not in message] == []
    assert not [message for message in messages if "no encryption" in message]


def test_the_log_tells_which_task_read_and_wrote_what(commands: Commands, second_night: SecondNight) -> None:
    entries = list(access_log(commands))
    for login, database, task, words in (
        ("odoo_reader", "odoo", "revops:extract:odoo.crm_lead", ("copy (select", '"public"."crm_lead"')),
        ("ace_reader", "c303_prod_apn_01", "revops:extract:ace.apn_opportunity", ("copy (", '"public"."apn_opport')),
        ("revops", "revops_core", "revops:extract:odoo.crm_lead", ("copy ", "crm_lead")),
        ("revops", "revops_core", "revops:transform:odoo_opportunities", ("insert into", "core.odoo_opportunities")),
        ("revops", "revops_core", "revops:embed:odoo", ("search.embedding",)),
    ):
        found = [
            entry
            for entry in entries
            if (entry.get("user"), entry.get("dbname"), entry.get("application_name")) == (login, database, task)
        ]
        assert any(all(word in entry["message"].lower() for word in words) for entry in found), (login, task)
    # Airflow polls: of its own database there are sessions, but no selects.
    airflow = [entry["message"] for entry in entries if entry.get("user") == "airflow"]
    assert any(message.startswith("connection authorized") for message in airflow)
    assert not [
        message for message in airflow if message.lower().startswith(("statement: select", "statement: update"))
    ]


def test_values_that_choose_rows_are_in_no_statement(commands: Commands, second_night: SecondNight) -> None:
    """Restated months of a payer are read by COPY, which takes no parameters."""
    restated = commands.query("revops_core", "select distinct period ->> 'period_date' from ops.period_restatement")
    months = [str(month) for (month,) in restated]
    assert months
    assert "None" not in months
    task = "revops:extract:odoo.c_billing_internal_cur"
    statements = [entry["message"] for entry in access_log(commands) if entry.get("application_name") == task]
    assert any("revops.period_0" in statement for statement in statements)
    assert not [month for month in months if any(month in statement for statement in statements)]


def test_access_is_on_record(commands: Commands, second_night: SecondNight) -> None:
    modes = commands.query("revops_core", "select mode, faults from ops.access_audit_mode")
    assert modes == [("log_statement", [])]
    logins = commands.query("revops_core", "select source, login, is_read_only from ops.source_login order by 1")
    assert logins == [("ace", "ace_reader", True), ("odoo", "odoo_reader", True)]


def test_canaries_are_in_the_sources_and_sealed_in_the_warehouse(commands: Commands, second_night: SecondNight) -> None:
    """Else the tests below would prove nothing."""
    odoo = commands.query(
        "odoo", "select email_from, contact_name, description from crm_lead where email_from like 'canary%'"
    )
    assert len(odoo) == 1
    assert canary.found_in(str(odoo), *ALL) == {"e-mail", "contact's name", "typed e-mail"}
    ((description, token),) = commands.query(
        "revops_core",
        "select description, contact_name from raw.odoo_crm_lead where description like '%canary.typed3%'",
    )
    assert canary.found_in(str(description), canary.TYPED) == {"typed e-mail"}
    assert isinstance(token, bytes)
    documents = commands.query("revops_core", "select text from search.document where text like '%want a review%'")
    assert len(documents) == 1
    assert canary.found_in(str(documents), *UNSEARCHED) == set()


def test_no_canary_is_in_a_log_a_mail_a_report_or_a_file_handed_over(
    commands: Commands, second_night: SecondNight
) -> None:
    stack = commands.stack
    assert second_night.watcher.leaks == set()
    folders = (stack.airflow_home / "logs", stack.report_folder, stack.postgres.home / "log", stack.home / "embedding")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += list(stack.airflow_home.glob("*.log"))
    assert len(files) > 100
    leaks = {
        (str(path.relative_to(stack.home)), name)
        for path in files
        for name in canary.found_in(path.read_text(errors="replace"), *ALL)
    }
    assert leaks == set()
    mails = sorted(stack.mail_folder.glob("*.eml"))
    assert mails
    for path in mails:
        assert canary.found_in(canary.mail_text(path), *ALL) == set(), path.name
    handed = [text for path in second_night.watcher.files for text in canary.handed_over(path)]
    assert any("want a review" in text for text in handed), "the lead of the canaries was not handed over"
    assert canary.found_in("\n".join(handed), *UNSEARCHED) == set()


def test_no_canary_is_in_airflows_database(commands: Commands, second_night: SecondNight) -> None:
    """XCom, rendered templates, and everything else that Airflow keeps."""
    with psycopg.connect(commands.stack.postgres.conninfo("airflow")) as airflow:
        tables = [name for (name,) in airflow.execute("select tablename from pg_tables where schemaname = 'public'")]
        assert {"xcom", "rendered_task_instance_fields"} <= set(tables)
        rows = 0
        for table in tables:
            for (row,) in airflow.execute(sql.SQL("select t::text from {} as t").format(sql.Identifier(table))):
                rows += 1
                assert canary.found_in(row, *ALL) == set(), table
    assert rows > 200


def test_no_sealed_value_is_in_the_warehouses_files(commands: Commands, second_night: SecondNight) -> None:
    """Of one database: the sample sources, which hold the canaries in clear, are on the same server."""
    postgres = commands.stack.postgres
    with psycopg.connect(postgres.conninfo("revops_core"), autocommit=True) as connection:
        connection.execute("checkpoint")
        (oid,) = connection.execute("select oid from pg_database where datname = 'revops_core'").fetchone() or (0,)
        (sources,) = connection.execute("select oid from pg_database where datname = 'odoo'").fetchone() or (0,)

    def found(database: int) -> set[str]:
        return {
            name
            for path in (postgres.data / "base" / str(database)).iterdir()
            for name in canary.found_in(path.read_bytes().decode("latin-1"), canary.SECRETS, canary.SEALED)
        }

    assert "e-mail" in found(sources)
    assert found(oid) == set()
