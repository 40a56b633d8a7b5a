"""Mail about failures and warnings: what failed, where, why, and where to look."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import structlog

from revops.connection_stores import check_connection
from revops.errors import describe
from revops.quality.report_files import report_paths, write_reports
from revops.quality.report_html import findings_table, quarantine_table, table
from revops.report import RunReport, emptied, read_report, stopping
from revops.settings import SettingsError, report_folder

log = structlog.get_logger(__name__)

SMTP_CONNECTION = "smtp_default"
RECIPIENTS = "REVOPS_ALERT_EMAIL"
ERROR_CHARACTERS = 4000
EMPTIED_REMEDY = (
    "Find out why (another database, revoked rights, a source that was emptied), mend it and run again; or accept it "
    "with ops.review_anomaly (docs/quality.md)."
)
# `airflow tasks test` runs one task in a run of its own, which nobody ends and of which no digest is mailed.
TEST_RUN_PREFIX = "__airflow_temporary_run_"


def task_failed(context: Mapping[str, Any]) -> None:
    """Mail that a task has failed for good, with its error and a link to its log.

    No mail of its own where the failure is on record, as those of loads, transforms and checks are: the one digest of
    the run (run_failed) names it. Airflow does not call this for a task that was killed with -9; the digest covers
    that too.
    """
    ti = context["ti"]
    run_id = str(context.get("run_id"))
    if not run_id.startswith(TEST_RUN_PREFIX) and _is_recorded(ti.dag_id, ti.task_id, run_id):
        log.info("no mail of its own: the digest of the run names it", task_id=ti.task_id)
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
    report = None
    try:
        report = _read(source, run_id)
        body = _digest(report)
    except Exception as error:
        log.exception("the records of the run could not be read", run_id=run_id)
        body = f"<p>The records of the run could not be read from the warehouse: {escape(describe(error)[:500])}</p>"
    with tempfile.TemporaryDirectory(prefix="revops-mail-") as scratch:
        send(
            subject=f"[revops] {source}: run FAILED ({reason})",
            html=_page(
                f"The run of {source} failed",
                [
                    ("Run", run_id),
                    ("Reason", reason),
                    ("Last task", getattr(last, "task_id", "-")),
                    ("Web UI", _link(_run_url(source, run_id))),
                    ("Report", _kept(source, run_id)),
                ],
                body,
            ),
            files=_attachments(report, Path(scratch)),
        )


def warn(report: RunReport) -> bool:
    """Mail what a run found changed in its source, or in who has access; return whether there was anything to say.

    An absent table, a schema change, a login that can write or an access log that is lacking is mailed by the run that
    first saw it, not every night.
    """
    changes = [change for change in report.schema_changes if change["change"] != "table_created"]
    if not changes and not report.has_news_of_access:
        return False
    what = "the source has changed" if changes else "access"
    items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    send(
        subject=f"[revops] {report.source}: {len(report.warnings)} warning(s), {what}",
        html=_page(
            f"The source {report.source} has changed" if changes else f"Warnings of {report.source}: access",
            [("Run", report.run_id), ("Web UI", _link(_run_url(report.source, report.run_id)))],
            f"<ul>{items}</ul>"
            + ("<p>New columns were added to raw, dropped ones are kept there.</p>" if changes else ""),
        ),
    )
    return True


def send(*, subject: str, html: str, files: Sequence[Path] = ()) -> None:
    """Send a mail over the connection `smtp_default` to the addresses in REVOPS_ALERT_EMAIL, with files attached."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    recipients = os.environ.get(RECIPIENTS, "").strip()
    if not recipients:
        raise ValueError(f"{RECIPIENTS} is not set: nobody would get the mail {subject!r}")
    check_connection(SMTP_CONNECTION)
    with SmtpHook(smtp_conn_id=SMTP_CONNECTION) as hook:
        hook.send_email_smtp(
            to=recipients,
            subject=subject,
            html_content=html,
            from_email=hook.from_email or "airflow@localhost",
            files=[str(path) for path in files],
        )
    log.info("mail sent", subject=subject)


def _is_recorded(source: str, task_id: str, run_id: str) -> bool:
    """Tell whether the warehouse has on record that a task's work failed in a run; False when it can't be asked."""
    group, _, name = task_id.rpartition(".")
    try:
        report = _read(source, run_id)
    except Exception:
        log.exception("the records of the run could not be read")
        return False
    if group == "extract":
        return any(
            load["table_name"] == name and load["status"] == "failed" and load["is_final"] for load in report.loads
        )
    if group in ("check_raw", "check_core") and name == "profile":
        return any(one["dataset"].startswith(f"{group.removeprefix('check_')}.") for one in emptied(report))
    if group in ("check_raw", "check_core"):
        return any(run["layer"] == group.removeprefix("check_") and run["gate"] == "shut" for run in report.quality)
    targets = {"transform": f"core.{name}", "embed": "search.document" if name == "documents" else None}
    return any(run["target"] == targets.get(group) and run["status"] == "failed" for run in report.transforms)


def _attachments(report: RunReport | None, folder: Path) -> Sequence[Path]:
    """Return the report's files, made for the mail alone; none where the run has left no records."""
    if report is None or not (report.loads or report.transforms or report.quality):
        return ()
    try:
        return write_reports(report, folder)
    except Exception:
        log.exception("the report could not be written", run_id=report.run_id)
        return ()


def _kept(source: str, run_id: str) -> str:
    try:
        return str(report_paths(report_folder(), source=source, run_id=run_id)[0])
    except SettingsError:
        return "-"


def _read(source: str, run_id: str) -> RunReport:
    from revops.hooks.warehouse import connect_warehouse

    with connect_warehouse("revops_quality", task="alert") as warehouse:
        return read_report(warehouse, source=source, run_id=run_id)


def _digest(report: RunReport) -> str:
    parts = [
        table(
            "Tables that failed",
            ("table", "error"),
            [(load["table_name"], load["error"]) for load in report.loads if load["status"] != "succeeded"],
        ),
        table(
            "Transforms that failed",
            ("table", "error"),
            [(run["target"], run["error"]) for run in report.transforms if run["status"] != "succeeded"],
        ),
        findings_table("Checks that stopped the run", stopping(report)),
        table(
            "Tables that had rows and have none",
            ("anomaly", "what", "remedy"),
            [(one["anomaly_id"], one["reason"], EMPTIED_REMEDY) for one in emptied(report)],
        ),
        *(f"<p>{escape(line)}</p>" for line in _kept_as_it_was(report)),
        quarantine_table(report),
    ]
    if report.warnings:
        items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
        parts.append(f"<h3>Warnings</h3><ul>{items}</ul>")
    parts.append(
        f"<p>{len(report.loads)} tables loaded or tried, {report.rows_changed:,} rows changed. "
        "A table that failed is as it was; clear the failed tasks in the web UI once the cause is mended.</p>"
    )
    return "".join(parts)


def _kept_as_it_was(report: RunReport) -> list[str]:
    said = {"raw": "core stays as it was before this run", "core": "nothing of this run is embedded"}
    return [
        f"The gate behind {run['layer']} is shut: {said.get(run['layer'], 'the data goes no further')}."
        for run in report.quality
        if run["gate"] == "shut"
    ]


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
