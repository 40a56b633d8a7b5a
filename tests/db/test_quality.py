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

from revops.quality import scan
from revops.quality.checks import Check, CheckFileError, read_checks
from revops.quality.record import QualityGateError, record_report, require_gate_open
from revops.quality.results import CheckResult, ScanReport
from revops.quality.scan import scan_tables

pytestmark = pytest.mark.db

HEAD = "checks for t:\n  - row_count > 0:\n"


def attributes(added: str) -> str:
    """A file with one check that has one more attribute."""
    return HEAD + f"      name: x\n      attributes: {{dimension: validity, severity: warning, {added}}}\n"


def check_file(folder: Path, table: str, *checks: tuple[str, str, str]) -> None:
    """Write a file of checks: (definition, severity, settings)."""
    lines = [f"checks for {table}:"]
    for number, (definition, severity, settings) in enumerate(checks, start=1):
        lines += [f"  - {definition}:", f"      name: check {number}", *(["      " + settings] if settings else [])]
        lines.append(f"      attributes: {{dimension: validity, severity: {severity}, weight: {number}}}")
    (folder / f"{table}.yml").write_text("\n".join(lines) + "\n")


def facts(report: ScanReport) -> list[tuple[object, ...]]:
    """(table, name, outcome, value, rows, failed rows, keys in order) of each check."""
    return [
        (
            result.check.table,
            result.check.name,
            result.outcome,
            result.value,
            result.rows_total,
            result.rows_failed,
            tuple(sorted(result.keys)),
        )
        for result in report.results
    ]


@pytest.fixture
def dsn(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> str:
    """A warehouse with three small raw tables, seen by the role of the checks."""
    with as_role("revops_ingest") as connection:
        connection.execute(
            "create table raw.good (id integer primary key, amount numeric, name text, _deleted_at timestamptz);"
            "insert into raw.good values (1, 10.5, 'a'), (2, 'NaN', 'b');"
            "create table raw.bad (key text primary key, id integer, name text, _deleted_at timestamptz);"
            "insert into raw.bad values ('k1', 1, 'a'), ('k2', 1, null), ('k3', 3, null);"
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
        ("failed rows", "critical", "fail query: select key, name from raw.bad where id > 2 -- all of them"),
    )
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bad", "without_file"], folder=tmp_path)
    assert facts(report) == [
        ("good", "check 1", "pass", 2, None, None, ()),
        ("good", "check 2", "pass", 0, 2, 0, ()),
        ("good", "check 3", "pass", 1.5, None, None, ()),
        ("good", "check 4", "pass", 3, None, None, ()),
        # Of a value that occurs twice both rows are named.
        ("bad", "check 1", "fail", 1, 3, 1, ("k1", "k2")),
        ("bad", "check 2", "warn", 2, 3, 2, ("k2", "k3")),
        ("bad", "check 3", "warn", 2, 3, 2, ("k2", "k3")),
        ("bad", "check 4", "warn", 1, 3, 1, ("k3",)),
        ("bad", "check 5", "fail", 1, 3, 1, ("k3",)),
    ]
    assert (report.status, report.gate, report.errors, report.evaluated) == ("failed", "shut", "", 9)
    assert str(report.score) == "0.733333333333"
    with pytest.raises(QualityGateError) as stopped:
        require_gate_open(report)
    message = str(stopped.value)
    assert message.startswith("2 of 9 checks on raw stop the run; core stays as it was:")
    assert "raw.bad: check 1 (duplicate_count(id) = 0): 1 of 3 failed; first keys: k1, k2. Remedy: Correct" in message
    # The results are stored, one row a check.
    with as_role("revops_quality") as connection:
        run = record_report(connection, report, source="odoo", run_id="r1")
        assert query(
            connection, "select status, gate, expected, evaluated, round(score, 2)::text from ops.quality_run"
        ) == [("failed", "shut", 9, 9, "0.73")]
        stored = query(
            connection,
            "select table_name, check_name, outcome, value::float, rows_total, rows_failed, coalesce((select "
            "array_agg(key order by key) from ops.quality_failed_key k where k.quality_run_id = r.quality_run_id "
            "and k.table_name = r.table_name and k.check_name = r.check_name), '{}') from ops.quality_result r "
            "where quality_run_id = %s",
            run,
        )
        assert sorted((*row[:-1], tuple(row[-1])) for row in stored) == sorted(facts(report))


def test_a_check_on_a_missing_column_shuts_the_gate(
    dsn: str, tmp_path: Path, as_role: Callable[[str], psycopg.Connection]
) -> None:
    """Soda reports some checks of such a table as passed without having looked: the others are made one by one."""
    check_file(
        tmp_path,
        "good",
        ("row_count > 0", "critical", ""),
        ("missing_count(nowhere) = 0", "warning", ""),
        ("missing_count(name) = 0", "warning", ""),
        ("row_count > 99", "warning", ""),
    )
    check_file(tmp_path, "bystander", ("row_count > 0", "critical", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bystander"], folder=tmp_path)
    assert [(result.outcome, result.value) for result in report.results] == [
        ("pass", 2),
        ("not_evaluated", None),
        ("pass", 0),
        ("warn", 2),
        ("pass", 1),
    ]
    assert (report.status, report.gate, report.score, report.evaluated) == ("error", "shut", None, 4)
    assert report.errors.startswith("good: ")
    assert 'UndefinedColumn 42703: column "nowhere" does not exist' in report.errors
    with pytest.raises(QualityGateError, match=r"raw\.good: check 2 \(missing_count\(nowhere\) = 0\): not evaluated"):
        require_gate_open(report)
    with as_role("revops_quality") as connection:
        record_report(connection, report, source="odoo", run_id="r1")
        assert query(connection, "select status, gate, score, error is not null from ops.quality_run") == [
            ("error", "shut", None, True)
        ]
        scores = (
            "select score::text, checks, evaluated from ops.quality_score where dimension is null order by table_name"
        )
        assert query(connection, scores) == [("1.000000000000", 1, 1), (None, 4, 3), (None, 5, 4)]


@pytest.mark.parametrize(
    "broken",
    [
        ("reference_to_nowhere", "values in (id) must exist in nowhere (id)"),
        ("reference_by_nowhere", "values in (nowhere) must exist in bystander (id)"),
        ("duplicates_of_nowhere", "duplicate_count(nowhere) = 0"),
        ("average_of_text", "avg(name) > 0"),
        ("no_check_at_all", "this is no check"),
        ("needs_the_cloud", "change for row_count between -1 and 1"),
        ("needs_history", "anomaly score for row_count < default"),
    ],
    ids=lambda broken: broken[0],
)
def test_what_can_not_be_evaluated_never_passes_and_hides_nothing(
    dsn: str, tmp_path: Path, broken: tuple[str, str]
) -> None:
    check_file(
        tmp_path,
        "good",
        ("missing_count(name) = 0", "critical", ""),
        (broken[1], "warning", ""),
        ("values in (id) must exist in bystander (id)", "warning", ""),
    )
    check_file(tmp_path, "bystander", ("row_count > 0", "critical", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bystander"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["pass", "not_evaluated", "warn", "pass"]
    assert (report.gate, report.score) == ("shut", None)
    assert report.errors != ""


def test_an_average_over_nothing_is_not_evaluated(dsn: str, tmp_path: Path) -> None:
    """Soda ends such a scan without any error."""
    with psycopg.connect(dsn.replace("revops_quality", "revops_ingest")) as connection:
        connection.execute("delete from raw.good")
    check_file(tmp_path, "good", ("avg(amount) > 0", "warning", ""), ("row_count < 1", "warning", ""))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["not_evaluated", "pass"]
    assert (report.status, report.gate) == ("error", "shut")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("checks for bad:\n  - row_count > 0: {name: 'x\n", "bad.yml:"),
        ("checks for bad:\n  - row_count > 0\n", "needs a name and attributes"),
        ("checks for good:\n  - row_count > 0: {}\n", "must hold exactly one block"),
        (b"checks for bad:\n  - row_count > 0: {name: '\xff'}\n", "can't be read"),
    ],
)
def test_a_file_that_can_not_be_read_shuts_the_gate_and_hides_no_other(
    dsn: str, tmp_path: Path, text: str | bytes, told: str
) -> None:
    check_file(tmp_path, "good", ("row_count > 0", "critical", ""))
    (tmp_path / "bad.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["bad", "good"], folder=tmp_path)
    assert [(result.check.table, result.outcome) for result in report.results] == [
        ("bad", "not_evaluated"),
        ("good", "pass"),
    ]
    assert (report.gate, report.score) == ("shut", None)
    assert told in report.errors
    with pytest.raises(QualityGateError, match=r"raw\.bad: the file of checks can be read .*: not evaluated"):
        require_gate_open(report)


def test_a_check_may_name_what_a_source_can_lack(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "good.yml").write_text(
        textwrap.dedent(
            """
            checks for good:
              - missing_count(x_custom) = 0:
                  name: own column
                  attributes: {dimension: completeness, severity: critical, needs: [x_custom]}
              - values in (id) must exist in bystander (id):
                  name: other table, there
                  attributes: {dimension: consistency, severity: warning, needs: [id, bystander.id]}
              - values in (id) must exist in absent (id):
                  name: other table, absent
                  attributes: {dimension: consistency, severity: warning, needs: [absent.id]}
              - row_count > 0:
                  name: has rows
                  attributes: {dimension: completeness, severity: critical}
            """
        )
    )
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good", "bystander", "absent"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["not_applicable", "warn", "not_applicable", "pass"]
    # They are neither passed nor lacking: half of a warning's rows failed, of two checks.
    assert (report.status, len(report.applicable), report.evaluated, str(report.score)) == (
        "warned",
        2,
        2,
        "0.750000000000",
    )
    # A table that is not there at all hides none of its checks behind what they need.
    gone = scan_tables(dsn, layer="raw", source="odoo", tables=["absent"], folder=_renamed(tmp_path, "good", "absent"))
    assert {result.outcome for result in gone.results} == {"not_evaluated", "not_applicable"}
    assert gone.results[0].outcome == "not_evaluated"
    assert gone.gate == "shut"


def _renamed(folder: Path, before: str, after: str) -> Path:
    text = (folder / f"{before}.yml").read_text().replace(f"checks for {before}:", f"checks for {after}:")
    (folder / f"{after}.yml").write_text(text)
    return folder


def test_a_warning_becomes_critical_when_too_many_rows_fail(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn.replace("revops_quality", "revops_ingest")) as connection:
        connection.execute(
            "insert into raw.good select n, n, case when n > 101 then 'x' end from generate_series(3, 1002) n"
        )
    for share, outcome, gate in ((0.0988, "fail", "shut"), (0.0989, "warn", "open")):
        check_file(tmp_path, "good", ("missing_count(name) = 0", "warning", ""))
        text = (tmp_path / "good.yml").read_text().replace("weight: 1", f"weight: 1, critical_above: {share}")
        (tmp_path / "good.yml").write_text(text)
        report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
        (result,) = report.results
        assert (result.outcome, report.gate, result.rows_failed, result.rows_total) == (outcome, gate, 99, 1002)
        assert result.check.severity == ("critical" if outcome == "fail" else "warning")


def test_all_failing_rows_are_counted_and_the_first_are_named(dsn: str, tmp_path: Path) -> None:
    """Also where Soda's own queries for failed rows would bring all of them."""
    with psycopg.connect(dsn.replace("revops_quality", "revops_ingest")) as connection:
        connection.execute("insert into raw.good select n, null, null from generate_series(3, 20002) n")
        connection.execute(
            "create table raw.pair (b text, a integer, v text, _deleted_at timestamptz, primary key (a, b))"
        )
        connection.execute("insert into raw.pair values ('x', 1, null), ('y:z', 2, null), ('z', 3, 'v')")
        connection.execute("create table raw.keyless (id integer, v text, _deleted_at timestamptz)")
        connection.execute("insert into raw.keyless values (1, null)")
    check_file(
        tmp_path,
        "good",
        ("missing_count(name) = 0", "critical", ""),
        ("failed rows", "critical", "fail condition: name is null and amount is null"),
        ("failed rows", "critical", "fail query: select * from good where name is null"),
        ("values in (id) must exist in bystander (id)", "critical", ""),
        ("failed rows", "critical", "fail query: select name from good where name is null"),
    )
    check_file(tmp_path, "pair", ("missing_count(v) = 0", "critical", ""))
    check_file(
        tmp_path,
        "keyless",
        ("missing_count(v) = 0", "critical", ""),
        ("failed rows", "warning", "fail condition: v is null"),
    )
    report = scan_tables(
        dsn, layer="raw", source="odoo", tables=["good", "pair", "keyless", "bystander"], folder=tmp_path
    )
    assert [(result.value, result.rows_failed, len(result.keys)) for result in report.results] == [
        (20000, 20000, 100),
        (20000, 20000, 100),
        (20000, 20000, 100),
        (20001, 20001, 100),
        # A query that does not give the key leaves none, rather than something else.
        (20000, 20000, 0),
        (2, 2, 2),
        (1, 1, 0),
        (1, 1, 0),
    ]
    assert all(int(key) > 1 for result in report.results[:4] for key in result.keys)
    assert sorted(report.results[5].keys) == ["1:x", "2:y:z"]


def test_what_a_unique_index_rules_out_is_not_searched_for(dsn: str, tmp_path: Path) -> None:
    """No query runs for it: a million rows would be sorted each night to find what can't be."""
    check_file(
        tmp_path,
        "good",
        ("duplicate_count(id) = 0", "critical", ""),
        ("duplicate_count(id, name) = 0", "critical", ""),
        ("duplicate_count(name) = 0", "critical", ""),
    )
    with psycopg.connect(dsn.replace("revops_quality", "revops_ingest")) as connection:
        # A unique index on columns that may be null, or on some rows only, rules nothing out.
        connection.execute("insert into raw.good values (3, 1, 'a')")
        connection.execute("create unique index on raw.good (name) where id < 3")
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
    assert [(result.outcome, result.rows_total, result.rows_failed) for result in report.results] == [
        ("pass", 3, 0),
        ("pass", 3, 0),
        ("fail", 3, 1),
    ]


def test_no_value_of_a_row_is_in_an_error_of_the_server(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn.replace("revops_quality", "revops_ingest")) as connection:
        connection.execute("update raw.good set name = 'jane.doe@private.example'")
    check_file(tmp_path, "good", ("failed rows", "warning", "fail query: select id from good where name::integer = 1"))
    report = scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)
    assert [result.outcome for result in report.results] == ["not_evaluated"]
    assert 'InvalidTextRepresentation 22P02: invalid input syntax for type integer: "..."' in report.errors
    assert "jane" not in report.errors


def test_a_warehouse_that_can_not_be_reached_is_no_result(dsn: str, tmp_path: Path) -> None:
    check_file(tmp_path, "good", ("row_count > 0", "critical", ""))
    with pytest.raises(scan.ScanError, match=r"Soda ended with code 1 and no results: OperationalError"):
        scan._run_soda(
            make_conninfo(dsn, password="wrong-and-secret"), layer="raw", source="odoo", found={}, asked={"good": []}
        )


def test_soda_that_does_not_end_is_stopped(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_file(tmp_path, "good", ("failed rows", "critical", "fail query: select pg_sleep(60)"))
    monkeypatch.setattr(scan, "TIMEOUT_S", 2)
    with pytest.raises(scan.ScanError, match="did not end within 2 s"):
        scan_tables(dsn, layer="raw", source="odoo", tables=["good"], folder=tmp_path)


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
        ("checks for t:\n  a: b\n", "exactly one block"),
        (attributes("weigth: 2"), "['weigth']"),
        (attributes("weight: 0"), "above 0"),
        (attributes("weight: .nan"), "above 0"),
        (attributes("critical_above: 5"), "below 1"),
        (attributes("needs: a"), "list of columns"),
        (attributes("weight: 2").replace("row_count > 0", "missing_percent(a) < 1"), "use the count"),
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
    check = Check("t", "c", "row_count > 0", "validity", "critical", 1.0, "Mend it.")
    report = ScanReport("core", tuple(CheckResult(check, "fail", 0.0) for _ in range(25)), "", 0.1)
    with pytest.raises(QualityGateError) as stopped:
        require_gate_open(report)
    assert "nothing is embedded" in str(stopped.value)
    assert str(stopped.value).count("core.t: c (row_count > 0): measured 0. Remedy: Mend it.") == 20
    assert "... and 5 more" in str(stopped.value)


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
