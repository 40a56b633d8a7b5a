"""Real Soda on real tables: what passes, what stops the data, and that nothing passes unseen."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import soda
from builders import query
from psycopg.conninfo import make_conninfo

from revops.naming import raw_table_name
from revops.quality import scan
from revops.quality.checks import Check, CheckFileError, read_checks
from revops.quality.record import QualityGateError, record_report, require_gate_open
from revops.quality.scan import CheckResult, ScanReport, scan_tables
from revops.sources import load_source

pytestmark = pytest.mark.db

HEAD = "checks for t:\n  - row_count > 0:\n"
SODA = Path(__file__).resolve().parents[2] / "include" / "soda"


def check_file(folder: Path, table: str, *checks: tuple[str, str, str]) -> None:
    """Write a file of checks: (definition, severity, settings)."""
    lines = [f"checks for {table}:"]
    for number, (definition, severity, settings) in enumerate(checks, start=1):
        lines += [f"  - {definition}:", f"      name: check {number}", *(["      " + settings] if settings else [])]
        lines.append(f"      attributes: {{dimension: validity, severity: {severity}, weight: {number}}}")
    (folder / f"{table}.yml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def dsn(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> str:
    """A warehouse with three small raw tables, seen by the role of the checks."""
    with as_role("revops_ingest") as connection:
        connection.execute(
            "create table raw.good (id integer, amount numeric, name text, _deleted_at timestamptz);"
            "insert into raw.good values (1, 10.5, 'a'), (2, 'NaN', 'b');"
            "create table raw.bad (id integer, name text, _deleted_at timestamptz);"
            "insert into raw.bad values (1, 'a'), (1, null), (3, null);"
            "create table raw.bystander (id integer, _deleted_at timestamptz); insert into raw.bystander values (1)"
        )
    return make_conninfo(warehouse_dsn, options="-c role=revops_quality")


def test_pass_warn_and_fail(dsn: str, tmp_path: Path, as_role: Callable[[str], psycopg.Connection]) -> None:
    check_file(
        tmp_path,
        "good",
        ("row_count > 0", "critical", ""),
        ("missing_count(name) = 0", "critical", ""),
        ("avg(id) between 1 and 2", "critical", ""),
        ("sum(id) = 3", "critical", ""),
    )
    check_file(
        tmp_path,
        "bad",
        ("duplicate_count(id) = 0", "critical", ""),
        ("missing_count(name) = 0", "warning", ""),
        ("missing_count(name)", "critical", "warn: when > 1"),
        ("values in (id) must exist in good (id)", "warning", ""),
        ("failed rows", "critical", "fail query: select id from raw.bad where id > 2"),
    )
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bad", "without_file"], folder=tmp_path)
    found = [(result.check.table, result.check.name, result.outcome, result.value) for result in report.results]
    assert found == [
        ("good", "check 1", "pass", 2),
        ("good", "check 2", "pass", 0),
        ("good", "check 3", "pass", 1.5),
        ("good", "check 4", "pass", 3),
        ("bad", "check 1", "fail", 1),
        ("bad", "check 2", "warn", 2),
        ("bad", "check 3", "warn", 2),
        ("bad", "check 4", "warn", 1),
        ("bad", "check 5", "fail", 1),
    ]
    assert (report.status, report.errors, report.evaluated) == ("failed", "", 9)
    assert report.score == pytest.approx(10 / 25)
    with pytest.raises(QualityGateError) as stopped:
        require_gate_open(report)
    message = str(stopped.value)
    assert message.startswith("2 of 9 checks on raw stop the run; core stays as it was:")
    assert "raw.bad: check 1 (duplicate_count(id) = 0): measured 1" in message
    assert "include/soda/raw/<table>.yml" in message
    # The results are stored, one row a check.
    with as_role("revops_quality") as connection:
        run = record_report(connection, report, source="odoo", run_id="r1")
        assert query(connection, "select status, expected, evaluated, round(score, 2)::text from ops.quality_run") == [
            ("failed", 9, 9, "0.40")
        ]
        stored = query(
            connection,
            "select table_name, check_name, outcome, value::float from ops.quality_result where quality_run_id = %s",
            run,
        )
        assert sorted(stored) == sorted(found)


def test_a_check_on_a_missing_column_shuts_the_gate(
    dsn: str, tmp_path: Path, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """Soda reports some checks of such a table as passed: none of them counts."""
    check_file(
        tmp_path,
        "good",
        ("row_count > 0", "critical", ""),
        ("missing_count(nowhere) = 0", "warning", ""),
        ("duplicate_count(id) = 0", "warning", ""),
    )
    check_file(tmp_path, "bystander", ("row_count > 0", "critical", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bystander"], folder=tmp_path)
    assert [(result.outcome, result.value) for result in report.results] == [
        ("not_evaluated", None),
        ("not_evaluated", None),
        ("not_evaluated", None),
        ("pass", 1),
    ]
    assert (report.status, report.score, report.evaluated) == ("error", None, 1)
    with pytest.raises(QualityGateError, match=r"raw\.good: check 2 \(missing_count\(nowhere\) = 0\): not evaluated"):
        require_gate_open(report)
    with as_role("revops_quality") as connection:
        record_report(connection, report, source="odoo", run_id="r1")
        assert query(connection, "select status, score, error is not null from ops.quality_run") == [
            ("error", None, True)
        ]


def test_a_missing_table_shuts_the_gate(dsn: str, tmp_path: Path) -> None:
    check_file(tmp_path, "nowhere", ("row_count > 0", "warning", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["nowhere"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["not_evaluated"]
    with pytest.raises(QualityGateError):
        require_gate_open(report)


def test_settings_of_a_dotenv_file_do_not_reach_soda(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soda looks for a .env upwards from its own files, which are those of a repository's virtual environment."""
    library = tmp_path / "repository" / "lib"
    library.mkdir(parents=True)
    (library.parent / ".env").write_text("LEAKED_LIMIT=0\nPGHOST=nowhere.invalid\n")
    (library / "revops").symlink_to(Path(scan.__file__).resolve().parents[1])
    (library / "soda").symlink_to(Path(next(iter(soda.__path__))))
    monkeypatch.setattr(scan, "PACKAGE_ROOT", library)
    monkeypatch.setenv("LEAKED_LIMIT", "0")
    check_file(tmp_path, "good", ("row_count > ${LEAKED_LIMIT}", "critical", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["not_evaluated"]


def test_no_checks_at_all_have_no_score(dsn: str, tmp_path: Path) -> None:
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
    assert (report.results, report.score, report.evaluated) == ((), None, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checks for t:\n  - row_count > 0\n", "needs a name"),
        ("checks for t:\n  - row_count > 0:\n      name: x\n", "needs `name` and `attributes"),
        (
            "checks for t:\n  - row_count > 0:\n      attributes: {dimension: validity, severity: critical}\n",
            "needs `name`",
        ),
        (
            HEAD + "      name: x\n      attributes: {dimension: taste, severity: critical}\n",
            "one of",
        ),
        (
            HEAD + "      name: x\n      attributes: {dimension: validity, severity: mild}\n",
            "one of",
        ),
        ("checks for u:\n  - row_count > 0:\n      name: x\n", "exactly one block `checks for t:`"),
        ("checks for t: []\n", "at least one check"),
        ("", "exactly one block"),
        ("- a\n", "exactly one block"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.yml"
    path.write_text(text)
    with pytest.raises(CheckFileError) as failure:
        read_checks(path)
    assert message in str(failure.value)
    assert str(path) in str(failure.value)


def test_names_of_checks_are_unique(tmp_path: Path) -> None:
    check = "  - {}:\n      name: same\n      attributes: {{dimension: validity, severity: critical}}\n"
    path = tmp_path / "t.yml"
    path.write_text("checks for t:\n" + check.format("row_count > 0") + check.format("row_count < 9"))
    with pytest.raises(CheckFileError, match=r"unique; doubled: \['same'\]"):
        read_checks(path)


def test_the_message_of_a_shut_gate_is_not_endless() -> None:
    check = Check("t", "c", "row_count > 0", "validity", "critical", 1.0)
    report = ScanReport("core", tuple(CheckResult(check, "fail", 0.0) for _ in range(25)), "", 0.1)
    with pytest.raises(QualityGateError) as stopped:
        require_gate_open(report)
    assert "nothing is embedded" in str(stopped.value)
    assert "... and 5 more" in str(stopped.value)


def test_every_table_has_a_file_that_can_be_read() -> None:
    tables = {
        raw_table_name(config.source, table.name)
        for config in (load_source("odoo"), load_source("ace"))
        for table in config.tables
    }
    files = {path.stem: read_checks(path) for path in (SODA / "raw").glob("*.yml")}
    assert set(files) == tables
    core = {path.stem: read_checks(path) for path in (SODA / "core").glob("*.yml")}
    assert set(core) == {"account", "odoo_opportunities", "ace_opportunities"}
    assert all(files.values())
    assert all(core.values())


def test_core_checks_run_on_core_itself(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> None:
    """Every check of core names columns that core has: on one good row each all are evaluated and pass."""
    with psycopg.connect(warehouse_dsn) as owner:
        owner.execute(
            textwrap.dedent(
                """
                insert into ops.load (source, table_name, run_id, mode, status)
                    values ('odoo', 't', 'r', 'xid', 'failed');
                insert into core.account (source_system, source_id, name, normalised_name, domain, country_code,
                    is_company, is_archived, raw_load_id)
                values ('odoo', '1', 'Acme', 'acme', 'acme.example', 'DE', true, false, 1);
                insert into core.odoo_opportunities (source_id, title, lead_type, account_id, stage, status,
                    annual_revenue, tags, updated_at, raw_load_id)
                select '1', 'a', 'lead', account_id, 'New', 'open', 1, '{}', now(), 1 from core.account;
                insert into core.ace_opportunities (source_id, title, company_name, stage, aws_account_id,
                    is_aws_account_id_valid, updated_at, raw_load_id)
                values ('O1', 'a', 'Acme', 'New', '123456789012', true, now(), 1);
                """
            )
        )
    dsn = make_conninfo(warehouse_dsn, options="-c role=revops_quality")
    for source, tables in (("odoo", ["account", "odoo_opportunities"]), ("ace", ["ace_opportunities"])):
        report = scan_tables(dsn, layer="core", source=source, tables=tables, folder=SODA / "core")
        assert {result.check.name for result in report.results if result.outcome != "pass"} == set()
        assert (report.status, report.score) == ("passed", 1.0)
        require_gate_open(report)
    # A row that can't be: the gate shuts with the number measured.
    with psycopg.connect(warehouse_dsn) as owner:
        owner.execute("update core.account set name = ' '")
    report = scan_tables(dsn, layer="core", source="odoo", tables=["account"], folder=SODA / "core")
    with pytest.raises(QualityGateError, match=r"core\.account: name is not blank .*: measured 100"):
        require_gate_open(report)


def test_only_live_rows_are_checked(dsn: str, tmp_path: Path, as_role: Callable[[str], psycopg.Connection]) -> None:
    """A row that is gone from the source neither shuts a gate for ever nor makes an emptied table look full."""
    check_file(
        tmp_path,
        "bad",
        ("missing_count(name) = 0", "critical", ""),
        ("values in (id) must exist in bystander (id)", "warning", ""),
    )
    check_file(tmp_path, "bystander", ("row_count > 0", "critical", ""))
    with as_role("revops_ingest") as connection:
        connection.execute("update raw.bad set _deleted_at = now() where name is null")
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["bad", "bystander"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["pass", "pass", "pass"]
    with as_role("revops_ingest") as connection:
        connection.execute("update raw.bystander set _deleted_at = now()")
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["bad", "bystander"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["pass", "warn", "fail"]
