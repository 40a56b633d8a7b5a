"""Mail about failures and warnings: what failed, where, why, and where to look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from typing import Any

import structlog

from revops.errors import describe
from revops.report import RunReport, read_report

log = structlog.get_logger(__name__)

SMTP_CONNECTION = "smtp_default"
RECIPIENTS = "REVOPS_ALERT_EMAIL"
ERROR_CHARACTERS = 4000
EXTRACT_GROUP = "extract."
MAX_TABLE_MAILS = 3


def task_failed(context: Mapping[str, Any]) -> None:
    """Mail that a task has failed for good, with its error and a link to its log.

    Airflow does not call this for a task that was killed with -9; the run's own mail (run_failed) covers that. When a
    source is down all its tables fail: the first few are mailed, the rest stand in the run's mail.
    """
    ti = context["ti"]
    if ti.task_id.startswith(EXTRACT_GROUP) and _tables_given_up(ti.dag_id, context) > MAX_TABLE_MAILS:
        log.info("no mail of its own: the mail of the run lists this table", task_id=ti.task_id)
        return
    tries = f"try {ti.try_number} of {ti.max_tries + 1}"
    error = str(context.get("exception") or "no exception was recorded: the process may have been killed")
    send(
        subject=f"[revops] {ti.dag_id}: {ti.task_id} failed ({tries})",
        html=_page(
            f"{ti.dag_id}.{ti.task_id} failed",
            [
                ("Run", str(context.get("run_id"))),
                ("Task", f"{ti.task_id}, {tries}"),
                ("Log", _link(getattr(ti, "log_url", ""))),
            ],
            f"<pre>{escape(error[:ERROR_CHARACTERS])}</pre>"
            f"<p>To try it alone: <code>make task DAG={escape(ti.dag_id)} TASK={escape(ti.task_id)}</code></p>",
        ),
    )


def run_failed(context: Mapping[str, Any]) -> None:
    """Mail one digest of a failed run: tables and checks that failed, warnings, and what was left as it was."""
    run = context["dag_run"]
    source, run_id = run.dag_id, run.run_id
    reason = str(context.get("reason") or "task_failure")
    last = context.get("ti")
    try:
        report = _read(source, run_id)
        body = _digest(report)
    except Exception as error:
        log.exception("the records of the run could not be read", run_id=run_id)
        body = f"<p>The records of the run could not be read from the warehouse: {escape(describe(error)[:500])}</p>"
    send(
        subject=f"[revops] {source}: run FAILED ({reason})",
        html=_page(
            f"The run of {source} failed",
            [
                ("Run", run_id),
                ("Reason", reason),
                ("Last task", getattr(last, "task_id", "-")),
                ("Web UI", _link(_run_url(source, run_id))),
            ],
            body,
        ),
    )


def warn(report: RunReport) -> bool:
    """Mail what a run found changed in its source; return whether there was anything to say.

    An absent table or a schema change is mailed by the run that first saw it, not every night.
    """
    news = [change for change in report.schema_changes if change["change"] != "table_created"]
    if not news:
        return False
    items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    send(
        subject=f"[revops] {report.source}: {len(report.warnings)} warning(s), the source has changed",
        html=_page(
            f"The source {report.source} has changed",
            [("Run", report.run_id), ("Web UI", _link(_run_url(report.source, report.run_id)))],
            f"<ul>{items}</ul><p>New columns were added to raw, dropped ones are kept there.</p>",
        ),
    )
    return True


def send(*, subject: str, html: str) -> None:
    """Send a mail over the connection `smtp_default` to the addresses in REVOPS_ALERT_EMAIL."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    recipients = os.environ.get(RECIPIENTS, "").strip()
    if not recipients:
        raise ValueError(f"{RECIPIENTS} is not set: nobody would get the mail {subject!r}")
    with SmtpHook(smtp_conn_id=SMTP_CONNECTION) as hook:
        hook.send_email_smtp(
            to=recipients,
            subject=subject,
            html_content=html,
            from_email=hook.from_email or "airflow@localhost",
        )
    log.info("mail sent", subject=subject)


def _tables_given_up(source: str, context: Mapping[str, Any]) -> int:
    """Return how many tables of the run have failed for good; 0 when the warehouse does not say."""
    try:
        report = _read(source, str(context.get("run_id")))
    except Exception:
        log.exception("the records of the run could not be read")
        return 0
    return sum(load["status"] == "failed" and load["is_final"] for load in report.loads)


def _read(source: str, run_id: str) -> RunReport:
    from revops.hooks.warehouse import connect_warehouse

    with connect_warehouse("revops_quality", task="alert") as warehouse:
        return read_report(warehouse, source=source, run_id=run_id)


def _digest(report: RunReport) -> str:
    parts = [
        _table(
            "Tables that failed",
            ("table", "error"),
            [(load["table_name"], load["error"]) for load in report.loads if load["status"] != "succeeded"],
        ),
        _table(
            "Transforms that failed",
            ("table", "error"),
            [(run["target"], run["error"]) for run in report.transforms if run["status"] != "succeeded"],
        ),
        _table(
            "Checks that stopped the run",
            ("table", "check", "outcome", "measured"),
            [
                (finding["table_name"], finding["check_name"], finding["outcome"], finding["value"])
                for finding in report.findings
                if finding["outcome"] in ("fail", "not_evaluated")
            ],
        ),
    ]
    if report.warnings:
        items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
        parts.append(f"<h3>Warnings</h3><ul>{items}</ul>")
    parts.append(
        f"<p>{len(report.loads)} tables loaded or tried, {report.rows_changed:,} rows changed. "
        "A table that failed is as it was; clear the failed tasks in the web UI once the cause is mended.</p>"
    )
    return "".join(parts)


def _table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th align='left'>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell if cell is not None else '-'))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<h3>{escape(title)}</h3><table border='1' cellpadding='4' cellspacing='0'><tr>{head}</tr>{body}</table>"


def _page(title: str, facts: list[tuple[str, str]], body: str) -> str:
    rows = "".join(
        f"<tr><td><b>{escape(name)}</b></td><td>{value if value.startswith('<a ') else escape(value)}</td></tr>"
        for name, value in facts
    )
    return f"<h2>{escape(title)}</h2><table cellpadding='4'>{rows}</table>{body}"


def _link(url: str) -> str:
    return f'<a href="{escape(url, quote=True)}">{escape(url)}</a>' if url else "-"


def _run_url(dag_id: str, run_id: str) -> str:
    from urllib.parse import quote

    base = os.environ.get("AIRFLOW__API__BASE_URL", "http://localhost:8080").rstrip("/")
    return f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}"
