"""From real checks over the records in ops to the report that people read, and that it holds no personal data."""

from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import query
from core_rows import CORE_TABLES, Core
from rich.console import Console

from revops.local.show import show_report
from revops.quality import report_files
from revops.quality.checks import DIMENSIONS
from revops.quality.record import QualityGateError, record_report, require_gate_open
from revops.quality.report_files import render_json, report_paths, write_reports
from revops.quality.report_html import render_html
from revops.report import RunReport, read_report, show_score

pytestmark = pytest.mark.db

RUN = "scheduled__2026-11-23T02:00:00+00:00"
# What stands in the rows below and nowhere else.
CANARIES = ("jane.doe@private.example", "Jane Q. Doe", "+1 555 0100 777", "98765.4321", "<script>alert")


@pytest.fixture
def core(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> Core:
    return Core(warehouse_dsn, as_role)


def run_checks(core: Core, *sources: str) -> RunReport:
    """Check core as a task does, of Odoo or the sources named, and read Odoo's run."""
    for source in sources or ("odoo",):
        report = core.scan(source).joined(core.own(source))
        record_report(core.quality, report, source=source, run_id=RUN)
    return read_report(core.quality, source="odoo", run_id=RUN)


def plant(core: Core) -> None:
    """Break rows in many ways, each with something personal in the value that is wrong."""
    core.change(
        """
        update core.account_record set name = ' ', domain = 'jane.doe@private.example', country_code = 'Jane Q. Doe',
            duns = '+1 555 0100 777', website = 'Jane Q. Doe', aws_account_ids = '{+1 555 0100 777}'
            where source_id = '1';
        update core.contact set name = 'Jane Q. Doe', account_source_id = 'jane.doe@private.example',
            country_code = 'Jane Q. Doe' where source_system = 'odoo';
        update core.odoo_opportunities set title = ' ', description = '<script>alert', annual_revenue = -98765.4321,
            owner_source_id = 'jane.doe@private.example', currency_code = 'Jane Q. Doe' where source_id = '2';
        update core.billing_usage set cost = 98765.4321 where source_id = '2';
        delete from core.bill_line where source_id = '2';
        insert into ops.quarantine (target, source, source_key, rule, reason, first_run_id, last_run_id)
            values ('core.bill_line', 'odoo', '2', 'no <period>', 'the line has no period', 'before', 'now')
        """
    )


def everything_in_ops(core: Core) -> str:
    tables = query(core.owner, "select tablename from pg_tables where schemaname = 'ops'")
    return "\n".join(
        str(row) for (table,) in tables for row in query(core.owner, f'select t::text from ops."{table}" as t')
    )


def test_no_personal_data_is_in_any_record_log_or_report(core: Core, capfd: pytest.CaptureFixture[str]) -> None:
    plant(core)
    report = run_checks(core)
    rendered = render_html(report) + render_json(report)
    console = Console(file=io.StringIO(), width=300)
    show_report(report, console)
    shut = core.scan("odoo").joined(core.own("odoo"))
    with pytest.raises(QualityGateError) as stopped:
        require_gate_open(shut)
    written = capfd.readouterr()
    texts = {
        "ops": everything_in_ops(core),
        "report": rendered,
        "shell": console.file.getvalue(),  # type: ignore[attr-defined]
        "message": str(stopped.value),
        "log": written.out + written.err,
    }
    found = {(where, canary) for where, text in texts.items() for canary in CANARIES if canary in text}
    assert found == set()
    # It was looked for in what does tell which rows they are.
    failed = {
        (str(one["table_name"]), str(key)) for one in report.findings for key in one["keys"] if one["rows_failed"] == 1
    }
    assert {("account_record", "1"), ("contact", "2"), ("odoo_opportunities", "2")} <= failed


def test_the_report_of_a_run_has_everything_of_it(core: Core) -> None:
    plant(core)
    report = run_checks(core, "odoo", "ace")
    (run,) = report.quality
    assert (run["layer"], run["gate"], run["status"], run["expected"]) == ("core", "shut", "failed", run["evaluated"])
    # Scores: of every table, of every dimension, and of the whole.
    tables = {row["table_name"] for row in report.scores}
    assert tables == {None, *CORE_TABLES["odoo"]}
    assert {row["dimension"] for row in report.scores if row["table_name"] is None} == {None, *DIMENSIONS}
    scores = {(row["table_name"], row["dimension"]): row["score"] for row in report.scores}
    assert scores["aws_account", None] == 1
    assert 0 < scores[None, None] == run["score"] < 1
    assert scores["odoo_opportunities", "validity"] < 1
    # Checks that failed, with definition, numbers, keys and remedy; what passed is left out.
    (lost,) = [one for one in report.findings if one["check_name"] == "title is not blank"]
    assert (lost["outcome"], lost["rows_failed"], lost["rows_total"], lost["keys"]) == ("fail", 1, 2, ["2"])
    assert lost["definition"] == "invalid_count(title) = 0"
    assert "include/sql/core/odoo_opportunities.rules.yaml" in lost["remedy"]
    assert {one["outcome"] for one in report.findings} == {"fail", "warn"}
    # Money, with what is in quarantine apart.
    assert [
        (row["table_name"], row["period"], row["difference"], row["quarantined_amount"]) for row in report.totals
    ] == [
        ("bill_line", "2026-10", 0, 0),
        ("bill_line", "2026-11", 0, 5),
        ("bill_line", "none", 0, 0),
        ("billing_usage", "2026-10", Decimal("-98768.93"), 0),
        ("billing_usage", "2026-11", 0, 0),
    ]
    assert [(row["target"], row["rule"], row["rows"], row["new_rows"], row["keys"]) for row in report.quarantine] == [
        ("core.bill_line", "no <period>", 1, 0, ["2"])
    ]
    # The other source's run is a report of its own.
    other = read_report(core.quality, source="ace", run_id=RUN)
    assert (other.findings, other.quarantine, other.totals) == ([], [], [])
    assert [row["gate"] for row in other.quality] == ["open"]


def test_rules_and_anomalies_of_a_run(core: Core) -> None:
    core.change(
        """
        insert into ops.transform_run (run_id, source, target, status) values
            ('{run}', 'odoo', 'core.contact', 'failed'), ('{run}', 'odoo', 'core.contact', 'failed'),
            ('other', 'odoo', 'core.contact', 'failed'), ('{run}', 'ace', 'core.contact', 'failed');
        insert into ops.rule_result (transform_run_id, rule, action, rows)
            select transform_run_id, 'blank name', 'fix', transform_run_id from ops.transform_run where run_id = '{run}'
            union all select transform_run_id, 'never', 'warn', 0 from ops.transform_run where run_id = '{run}'
        """.replace("{run}", RUN)
    )
    report = run_checks(core)
    # Of the last try only.
    assert [(row["rule"], row["action"], row["rows"]) for row in report.rules] == [("blank name", "fix", 17)]
    assert report.anomalies == []


def test_anomalies_that_nobody_has_judged_are_told(core: Core) -> None:
    core.change(
        "insert into ops.anomaly (source, dataset, metric, column_name, value, expected_low, expected_high, severity, "
        "state, reason, run_id, first_seen_run, reviewed_by, reviewed_at) values "
        "('odoo', 'core.contact', 'null_share', 'name', 0.5, 0.01, 0.1, 'warning', 'open', '-', 'a', 'a', null, null), "
        "('odoo', 'core.contact', 'rows', null, 1, 900, 1100, 'critical', 'accepted', '-', 'a', 'a', 'me', now()), "
        "('ace', 'core.ace_opportunities', 'rows', null, 1, 900, 1100, 'critical', 'open', '-', 'a', 'a', null, null)"
    )
    report = run_checks(core)
    assert [(row["dataset"], row["metric"], row["column_name"]) for row in report.anomalies] == [
        ("core.contact", "null_share", "name")
    ]
    page = Page(render_html(report))
    assert "core.contact.name" in page.text
    assert "0.01 to 0.1" in page.text


class Page(HTMLParser):
    """What a page is made of, and whether every tag that opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_the_page_stands_alone_and_is_escaped(core: Core) -> None:
    plant(core)
    core.change("update ops.quarantine set reason = '<img src=x onerror=alert(1)>', source_key = '\"><script>'")
    page = Page(render_html(run_checks(core)))
    assert page.open == []
    # Nothing that a mail client would block or fetch.
    assert page.seen <= {
        *("html", "head", "meta", "title", "body", "h2", "h3", "table", "tr", "th", "td", "span", "br", "p")
    }
    assert page.attributes <= {"lang", "charset", "style"}
    assert "<img src=x onerror=alert(1)>" in page.text
    for wanted in (
        "Quality of odoo, " + RUN,
        "shut",
        "Scores of core",
        "Checks that stopped the run",
        "title is not blank",
        "1 of 2 failed",
        "In quarantine",
        "no <period>",
        "Sums by month, raw against core: 3 of 5 are the same",
        "-98,768.93",
    ):
        assert wanted in page.text, wanted


def test_a_good_run_says_so(core: Core) -> None:
    page = Page(render_html(run_checks(core)))
    assert "Checks that stopped the run" not in page.text
    assert "open" in page.text
    assert "100 %" in page.text
    assert "Sums by month, raw against core: 5 of 5 are the same" in page.text


def test_a_run_that_left_no_records_has_a_page_too() -> None:
    assert Page(render_html(RunReport("odoo", RUN))).open == []


def test_checks_that_were_not_evaluated_have_no_score_and_say_why(core: Core) -> None:
    core.change("alter table core.contact rename column country_code to country")
    try:
        report = run_checks(core)
    finally:
        core.change("alter table core.contact rename column country to country_code")
    (run,) = report.quality
    assert (run["status"], run["gate"], run["score"]) == ("error", "shut", None)
    page = Page(render_html(report))
    assert "unknown" in page.text
    assert "contact: " in page.text
    assert 'column "country_code" does not exist' in page.text
    scores = {(row["table_name"], row["dimension"]): row["score"] for row in report.scores}
    assert scores["contact", None] is None
    assert scores["contact", "validity"] is None
    assert scores["contact", "uniqueness"] == 1
    assert scores["aws_account", None] == 1


def test_the_document_is_json_that_agrees_with_the_records(core: Core) -> None:
    plant(core)
    report = run_checks(core)
    content: dict[str, Any] = json.loads(render_json(report))
    assert content["run_id"] == RUN
    assert content["quality"][0]["score"] == pytest.approx(float(report.quality[0]["score"]))
    assert {(row["table_name"], row["dimension"]): row["score"] for row in content["scores"]} == {
        (row["table_name"], row["dimension"]): pytest.approx(float(row["score"])) for row in report.scores
    }
    assert content["totals"][3]["core_amount"] == "98775.6821"
    assert content["quarantine"][0]["keys"] == ["2"]
    assert re.match(r"\d{4}-\d\d-\d\dT", content["quarantine"][0]["first_seen_at"])


def test_files_are_written_as_a_whole_and_one_pair_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "reports"
    first = write_reports(RunReport("odoo", RUN), folder)
    assert [path.parent for path in first] == [folder, folder]
    again = write_reports(RunReport("odoo", RUN, absent=["x"]), folder)
    assert again == first
    assert json.loads(first[1].read_text())["absent"] == ["x"]
    write_reports(RunReport("ace", RUN), folder)
    # Run ids that are the same but for what a file's name can't hold.
    for run_id in ("a:b", "a+b", "a_b", "../../etc/passwd", "x" * 250, "x" * 249 + "y"):
        write_reports(RunReport("odoo", run_id), folder)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2 * (2 + 6)
    assert all(len(name) < 200 for name in names)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != folder]
    assert "odoo_a_b.html" in names
    # A write that fails half way leaves the file before, and nothing beside it.
    before = first[0].read_text()
    monkeypatch.setattr(report_files, "render_html", lambda report: "half of it")

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(report_files.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_reports(RunReport("odoo", RUN), folder)
    assert first[0].read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == names


def test_files_can_be_read_by_whom_the_folder_lets_in(tmp_path: Path) -> None:
    os.umask(0o027)
    try:
        page, _ = write_reports(RunReport("odoo", RUN), tmp_path)
    finally:
        os.umask(0o022)
    assert stat.S_IMODE(page.stat().st_mode) == 0o640


def test_where_a_run_s_files_are(tmp_path: Path) -> None:
    page, document = report_paths(tmp_path, source="odoo", run_id="manual__1")
    assert (page.name, document.name) == ("odoo_manual__1.html", "odoo_manual__1.json")


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (None, "unknown"),
        (Decimal(1), "100 %"),
        (Decimal("0.999999999999"), "99.9 %"),
        (Decimal("0.9949"), "99.4 %"),
        (Decimal("0.5"), "50 %"),
        (Decimal("0E-12"), "0 %"),
        (Decimal("0.000999"), "0 %"),
    ],
)
def test_a_score_is_shown_rounded_down(score: Decimal | None, shown: str) -> None:
    assert show_score(score) == shown


def test_the_shell_shows_scores_findings_and_quarantine(core: Core) -> None:
    plant(core)
    console = Console(file=io.StringIO(), width=200)
    show_report(run_checks(core), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(re.match(r"Quality of core \d+(\.\d)? %, gate shut, (\d+) of \1?", line) for line in lines)
    assert "completeness uniqueness validity consistency timeliness all" in lines
    assert "aws_account 100 % 100 % 100 % 100 % 100 % 100 %" in lines
    assert "fail odoo_opportunities: title is not blank: 1 of 2 failed (2)" in lines
    assert "core.bill_line no <period> the line has no period 1 0 2" in lines
