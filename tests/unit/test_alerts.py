"""Alert mails as a mail server receives them."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revops import alerts
from revops.access_log import AuditMode, record_audit_mode
from revops.extract.source_login import record_source_login
from revops.local.ports import free_port
from revops.report import RunReport, read_report

RUN = "scheduled__2026-11-22T02:00:00+00:00"
LOG = "http://airflow.example.test/dags/odoo/runs/r/tasks/extract.crm_lead?try_number=4&map_index=-1"


class Mailbox:
    """The mails that a mail server took, oldest first."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.recipients.append(envelope.rcpt_tos)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 Message accepted for delivery"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server that the connection `smtp_default` points at, with the recipients set."""
    box = Mailbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT",
        f"smtp://@127.0.0.1:{port}/?disable_ssl=true&disable_tls=true&from_email=airflow%40example.test&retry_limit=1",
    )
    monkeypatch.setenv("REVOPS_ALERT_EMAIL", "data-team@example.test,on-call@example.test")
    yield box
    controller.stop()


def task_context(**changes: Any) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="odoo", task_id="extract.crm_lead", try_number=4, max_tries=3, log_url=LOG)
    return {"ti": ti, "run_id": RUN, "exception": ValueError("<b>column</b> & more"), **changes}


def run_context(dag_id: str = "odoo", **changes: Any) -> dict[str, Any]:
    ti = SimpleNamespace(task_id="check_raw.soda")
    return {"dag_run": SimpleNamespace(dag_id=dag_id, run_id=RUN), "reason": "task_failure", "ti": ti, **changes}


def body(mailbox: Mailbox, number: int = -1) -> str:
    mail = mailbox.mails[number]
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


@pytest.fixture
def warehouse(warehouse_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """A migrated warehouse that `revops_core` names, as a session of its owner in autocommit."""
    parts = conninfo_to_dict(warehouse_dsn)
    connection = {"conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"]))}
    connection |= {"schema": parts["dbname"], "login": parts["user"], "password": parts["password"]}
    extra = {"sslmode": parts["sslmode"], "sslrootcert": parts["sslrootcert"]}
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", json.dumps({**connection, "extra": extra}))
    with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_owner"), autocommit=True) as owner:
        # What the set-up saw: the tests' server logs no statements.
        owner.execute("delete from ops.access_audit_mode")
        yield owner


def test_a_failed_task_is_mailed_with_everything_to_act_on(mailbox: Mailbox) -> None:
    alerts.task_failed(task_context())
    assert len(mailbox.mails) == 1
    mail = mailbox.mails[0]
    assert mail["Subject"] == "[revops] odoo: extract.crm_lead failed (try 4 of 4)"
    assert mail["From"] == "airflow@example.test"
    assert mailbox.recipients == [["data-team@example.test", "on-call@example.test"]]
    text = body(mailbox)
    assert "odoo.extract.crm_lead failed" in text
    assert RUN in text
    assert "&lt;b&gt;column&lt;/b&gt; &amp; more" in text
    assert "<b>column" not in text
    assert f'<a href="{LOG.replace("&", "&amp;")}">' in text
    assert "make task DAG=odoo TASK=extract.crm_lead" in text


def test_a_task_without_an_exception_says_that_it_may_have_been_killed(mailbox: Mailbox) -> None:
    alerts.task_failed(task_context(exception=None))
    assert "the process may have been killed" in body(mailbox)


def test_a_very_long_error_is_cut(mailbox: Mailbox) -> None:
    alerts.task_failed(task_context(exception=ValueError("<" * 100_000)))
    assert body(mailbox).count("&lt;") == alerts.ERROR_CHARACTERS


def test_a_failed_run_is_mailed_although_the_warehouse_does_not_answer(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", f"postgresql://revops:hunter2@127.0.0.1:{port}/revops_core")
        alerts.run_failed(run_context())
    assert mailbox.mails[0]["Subject"] == "[revops] odoo: run FAILED (task_failure)"
    text = body(mailbox)
    assert "The records of the run could not be read from the warehouse" in text
    assert "Connection refused" in text
    assert "check_raw.soda" in text
    assert "hunter2" not in text


def test_a_failed_run_is_mailed_although_no_warehouse_is_named(mailbox: Mailbox) -> None:
    alerts.run_failed(run_context(ti=None, reason=None))
    text = body(mailbox)
    assert "Remedy: set AIRFLOW_CONN_REVOPS_CORE" in text
    assert RUN in text


def test_the_link_to_a_run_leads_to_the_web_ui(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.test/")
    alerts.run_failed(run_context())
    assert 'href="https://airflow.example.test/dags/odoo/runs/scheduled__2026-11-22T02%3A00%3A00%2B00%3A00"' in body(
        mailbox
    )


@pytest.mark.db
def test_the_digest_of_a_failed_run_lists_what_failed(
    mailbox: Mailbox, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVOPS_REPORT_FOLDER", "/srv/reports")
    record_failed_run(warehouse)
    alerts.run_failed(run_context())
    assert len(mailbox.mails) == 1
    text = body(mailbox)
    failed, rest = text.split("Transforms that failed")
    transforms, rest = rest.split("Checks that stopped the run")
    checks, rest = rest.split("In quarantine")
    checks, emptied = checks.split("Tables that had rows and have none")
    quarantine, warnings = rest.split("Warnings")
    assert cells(failed) == [["crm_lead", "the &lt;column&gt; is gone"]]
    assert cells(transforms) == [["core.account", "rows do not add up"]]
    # Table, check, numbers, first keys and remedy.
    assert cells(checks) == [
        [
            "raw.odoo_crm_lead",
            "names are given<br>missing_count(name) = 0",
            "17 of 1,200 failed",
            "4, 8, 15 and 14 more",
            "Fill the names in &lt;Odoo&gt;.",
        ],
        ["raw.odoo_crm_lead", "keys are unique<br>x", "not evaluated", "", ""],
    ]
    ((_, what, remedy),) = cells(emptied)
    assert what == "core.contact &lt;had&gt; rows"
    assert "ops.review_anomaly" in remedy
    assert "The gate behind raw is shut: core stays as it was before this run." in emptied
    assert cells(quarantine) == [["core.account", "no name", "the name is blank", "2", "1", "2026-11-01", "7, 9"]]
    assert "a warning only" not in text
    assert "odoo: optional table project_project is absent in the source" in warnings
    assert "odoo_res_partner: column added x_score integer" in warnings
    assert "odoo_res_partner: type widened phone integer -&gt; text" in warnings
    assert "2 tables loaded or tried, 7 rows changed" in warnings
    assert "table created" not in text
    page, document = attachments(mailbox)
    assert page[0].startswith("odoo_scheduled__2026-11-22T02_00_00_00_00_")
    assert [name.rsplit(".", 1)[1] for name, _ in (page, document)] == ["html", "json"]
    assert "a warning only" in page[1].decode()
    assert json.loads(document[1])["findings"][0]["keys"] == ["4", "8", "15"]
    # Where the run itself keeps them.
    assert f"<td>/srv/reports/{page[0]}</td>" in text


@pytest.mark.db
def test_a_run_without_records_is_mailed_without_a_report(mailbox: Mailbox, warehouse: psycopg.Connection) -> None:
    alerts.run_failed(run_context("warehouse_setup"))
    assert attachments(mailbox) == []
    assert "0 tables loaded or tried" in body(mailbox)


@pytest.mark.db
def test_a_report_that_can_not_be_written_keeps_no_mail_back(
    mailbox: Mailbox, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(alerts, "write_reports", full)
    record_failed_run(warehouse)
    alerts.run_failed(run_context())
    assert attachments(mailbox) == []
    assert "the &lt;column&gt; is gone" in body(mailbox)


# (task, whether the digest of record_failed_run's run names its failure)
TASKS = [
    ("extract.crm_lead", True),
    ("extract.res_partner", False),
    ("extract.sale_order", False),
    ("transform.account", True),
    ("transform.contact", False),
    ("check_raw.soda", True),
    ("check_raw.profile", False),
    ("check_core.profile", True),
    ("check_core.soda", False),
    ("embed.documents", False),
    ("embed.encode", False),
    ("snapshot", False),
    ("report", False),
]


@pytest.mark.db
@pytest.mark.parametrize(("task_id", "is_named"), TASKS)
def test_a_failure_that_the_digest_names_has_no_mail_of_its_own(
    mailbox: Mailbox, warehouse: psycopg.Connection, task_id: str, is_named: bool
) -> None:
    record_failed_run(warehouse)
    ti = SimpleNamespace(dag_id="odoo", task_id=task_id, try_number=1, max_tries=0, log_url=LOG)
    alerts.task_failed(task_context(ti=ti))
    assert len(mailbox.mails) == (0 if is_named else 1)


@pytest.mark.db
def test_a_load_that_is_not_on_record_as_given_up_is_mailed(mailbox: Mailbox, warehouse: psycopg.Connection) -> None:
    record_failed_run(warehouse)
    warehouse.execute("update ops.load set is_final = false")
    alerts.task_failed(task_context())
    assert len(mailbox.mails) == 1


@pytest.mark.db
def test_a_task_that_is_tested_alone_is_mailed(mailbox: Mailbox, warehouse: psycopg.Connection) -> None:
    """`airflow tasks test` has no run that could fail: no digest follows."""
    record_failed_run(warehouse)
    warehouse.execute("update ops.load set run_id = '__airflow_temporary_run_2026-11-22__'")
    alerts.task_failed(task_context(run_id="__airflow_temporary_run_2026-11-22__"))
    assert mailbox.mails[0]["Subject"] == "[revops] odoo: extract.crm_lead failed (try 4 of 4)"


def test_a_task_is_mailed_when_the_records_can_not_be_read(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOPS_CORE", "postgresql://revops:x@127.0.0.1:1/revops_core")
    alerts.task_failed(task_context())
    assert len(mailbox.mails) == 1


def cells(html: str) -> list[list[str]]:
    """The cells of the tables in a piece of a page, row by row; without those that say what the mail is about."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [row for row in rows if row and not row[0].startswith("<b>")]


def attachments(mailbox: Mailbox) -> list[tuple[str, bytes]]:
    """Name and content of what is attached to the last mail."""
    return [
        (str(part.get_filename()), part.get_payload(decode=True))  # type: ignore[misc]
        for part in mailbox.mails[-1].iter_attachments()
    ]


def record_failed_run(warehouse: psycopg.Connection) -> None:
    warehouse.execute(
        "insert into ops.load (source, table_name, run_id, mode, status, rows_read, inserted, updated, unchanged, "
        "quarantined, deleted, error, is_final) values "
        "('odoo', 'crm_lead', %(run)s, 'xid', 'failed', null, null, null, null, null, null, 'the <column> is gone', "
        "true), "
        "('odoo', 'res_partner', %(run)s, 'xid', 'succeeded', 9, 4, 2, 3, 0, 1, null, false), "
        "('odoo', 'project_project', %(run)s, 'xid', 'absent', null, null, null, null, null, null, null, false), "
        "('odoo', 'sale_order', 'another run', 'xid', 'failed', null, null, null, null, null, null, 'other', true)",
        {"run": RUN},
    )
    warehouse.execute(
        "insert into ops.schema_change (source, table_name, column_name, change, type_before, type_after, run_id) "
        "values ('odoo', 'odoo_res_partner', null, 'table_created', null, null, %(run)s), "
        "('odoo', 'odoo_res_partner', 'x_score', 'column_added', null, 'integer', %(run)s), "
        "('odoo', 'odoo_res_partner', 'phone', 'type_widened', 'integer', 'text', %(run)s)",
        {"run": RUN},
    )
    warehouse.execute(
        "insert into ops.transform_run (run_id, source, target, status, error) "
        "values (%s, 'odoo', 'core.account', 'failed', 'rows do not add up')",
        (RUN,),
    )
    row = warehouse.execute(
        "insert into ops.quality_run (run_id, source, layer, status, gate, expected, evaluated, seconds, engine) "
        "values (%s, 'odoo', 'raw', 'failed', 'shut', 3, 2, 1.5, 'soda') returning quality_run_id",
        (RUN,),
    ).fetchone()
    assert row is not None
    for name, definition, severity, outcome, total, failed, remedy in (
        ("names are given", "missing_count(name) = 0", "critical", "fail", 1200, 17, "Fill the names in <Odoo>."),
        ("keys are unique", "x", "critical", "not_evaluated", None, None, ""),
        ("a warning only", "x", "warning", "warn", 9, 3, ""),
        ("what the source lacks", "x", "critical", "not_applicable", None, None, ""),
    ):
        warehouse.execute(
            "insert into ops.quality_result (quality_run_id, table_name, check_name, dimension, severity, weight, "
            "outcome, value, rows_total, rows_failed, definition, remedy) "
            "values (%s, 'odoo_crm_lead', %s, 'validity', %s, 1, %s, %s, %s, %s, %s, %s)",
            (row[0], name, severity, outcome, failed, total, failed, definition, remedy),
        )
    warehouse.execute(
        "insert into ops.quality_failed_key (quality_run_id, table_name, check_name, key) "
        "select %s, 'odoo_crm_lead', 'names are given', unnest(array['15', '4', '8'])",
        (row[0],),
    )
    warehouse.execute(
        "insert into ops.anomaly (run_id, source, dataset, metric, value, expected_low, expected_high, score, "
        "severity, reason, first_seen_run) values "
        "(%(run)s, 'odoo', 'core.contact', 'rows', 0, 1, 1200, null, 'critical', 'core.contact <had> rows', 'before'), "
        "('before', 'odoo', 'raw.odoo_crm_team', 'rows', 0, 1, 5, null, 'critical', 'of another run', 'before'), "
        "(%(run)s, 'odoo', 'raw.odoo_crm_lead', 'rows', 10, 900, 1100, 40, 'critical', 'no reason to stop', 'before')",
        {"run": RUN},
    )
    for source, key, first_seen, first_run, released in (
        ("odoo", "7", "2026-11-02", RUN, None),
        ("odoo", "9", "2026-11-01", "before", None),
        ("odoo", "5", "2026-11-01", "before", "2026-11-02"),
        ("ace", "6", "2026-11-01", "before", None),
    ):
        warehouse.execute(
            "insert into ops.quarantine (target, source, source_key, rule, reason, first_seen_at, first_run_id, "
            "last_run_id, released_at) values "
            "('core.account', %s, %s, 'no name', 'the name is blank', %s, %s, 'last', %s)",
            (source, key, first_seen, first_run, released),
        )


@pytest.mark.db
def test_a_schema_change_is_mailed_by_the_run_that_saw_it_only(mailbox: Mailbox, warehouse: psycopg.Connection) -> None:
    warehouse.execute(
        "insert into ops.schema_change (source, table_name, column_name, change, run_id) values "
        "('odoo', 'odoo_crm_lead', null, 'table_created', 'first'), "
        "('odoo', 'odoo_crm_lead', 'x<y', 'column_dropped', 'second')"
    )
    mailed = [
        alerts.warn(read_report(warehouse, source="odoo", run_id=run_id)) for run_id in ("first", "second", "third")
    ]
    assert mailed == [False, True, False]
    assert [mail["Subject"] for mail in mailbox.mails] == ["[revops] odoo: 1 warning(s), the source has changed"]
    assert "odoo_crm_lead: column dropped x&lt;y" in body(mailbox)


def test_access_that_should_be_otherwise_is_mailed_by_the_run_that_saw_it_first(
    mailbox: Mailbox, warehouse: psycopg.Connection
) -> None:
    found = AuditMode("none", {}, ("log_statement = none",), "17.1")
    mailed = []
    for run_id, rights in (("first", []), ("second", ["owns <crm_lead"]), ("third", ["owns <crm_lead"])):
        record_source_login(warehouse, source="odoo", login="reader", rights=rights, run_id=run_id)
        report = read_report(warehouse, source="odoo", run_id=run_id)
        mailed.append(alerts.warn(report))
        if run_id == "second":
            # Seen by a set-up, then by a run.
            record_audit_mode(warehouse, found)
        record_audit_mode(warehouse, found, run_id=run_id)
    assert mailed == [False, True, False]
    mailed = [alerts.warn(read_report(warehouse, source="ace", run_id=run_id)) for run_id in ("first", "second")]
    assert mailed == [True, False]
    assert [mail["Subject"] for mail in mailbox.mails] == [
        "[revops] odoo: 2 warning(s), access",
        "[revops] ace: 1 warning(s), access",
    ]
    assert "the login reader is not read-only: it owns &lt;crm_lead. Remedy: give the connection" in body(mailbox, 0)
    assert "does not log what sessions do: log_statement = none. Remedy: docs/security.md" in body(mailbox, 1)


def test_a_table_that_went_absent_is_mailed(mailbox: Mailbox) -> None:
    change = {"table_name": "odoo_c_billing_bill", "column_name": None, "change": "table_absent"}
    change |= {"type_before": None, "type_after": None}
    report = RunReport("odoo", RUN, absent=["c_billing_bill"], schema_changes=[change])
    assert alerts.warn(report) is True
    assert body(mailbox).count("<li>") == 1
    assert "odoo: optional table c_billing_bill is absent in the source" in body(mailbox)


def test_a_table_that_is_still_absent_is_not_mailed_again(mailbox: Mailbox) -> None:
    assert alerts.warn(RunReport("odoo", RUN, absent=["c_billing_bill"])) is False
    assert mailbox.mails == []


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_without_recipients_the_error_names_the_variable(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, blank: str | None
) -> None:
    if blank is None:
        monkeypatch.delenv("REVOPS_ALERT_EMAIL")
    else:
        monkeypatch.setenv("REVOPS_ALERT_EMAIL", blank)
    with pytest.raises(ValueError, match="REVOPS_ALERT_EMAIL is not set: nobody would get the mail 'failed'"):
        alerts.send(subject="failed", html="<p>x</p>")
    assert mailbox.mails == []


def test_a_sender_is_made_up_where_the_connection_names_none(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = os.environ["AIRFLOW_CONN_SMTP_DEFAULT"].replace("&from_email=airflow%40example.test", "")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", uri)
    alerts.send(subject="Übersicht: 漢字", html="<p>ü</p>")
    assert mailbox.mails[0]["From"] == "airflow@localhost"
    assert mailbox.mails[0]["Subject"] == "Übersicht: 漢字"
    assert "<p>ü</p>" in body(mailbox)
