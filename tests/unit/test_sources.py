"""Source files: the real ones load, and every malformed kind is told by file, line and field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from revops.sources import SOURCES_FOLDER, Source, SourceFileError, load_source

HEAD = 'source: odoo\nconnection: odoo_source\nschedule: "0 2 * * *"\n'


@pytest.fixture
def loading(tmp_path: Path) -> Callable[[str | bytes], Source]:
    def load(content: str | bytes) -> Source:
        path = tmp_path / "odoo.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_source("odoo", tmp_path)

    return load


@pytest.mark.parametrize("path", sorted(SOURCES_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_this_repository_load(path: Path) -> None:
    source = load_source(path.stem)
    assert source.source == path.stem
    assert source.connection == f"{path.stem}_source"
    assert source.tables


def test_there_are_two_sources() -> None:
    assert {path.stem for path in SOURCES_FOLDER.glob("*.yaml")} == {"odoo", "ace"}


def test_what_is_not_given_has_a_default(loading: Callable[[str], Source]) -> None:
    source = loading(HEAD + "tables:\n  - {name: crm_lead}\n")
    table = source.table("crm_lead")
    assert (source.schema_name, table.mode, table.priority, table.optional) == ("public", "xid", 1, False)
    assert table.candidates == ("crm_lead",)
    assert source.raw_table(table) == "odoo_crm_lead"


def test_a_table_that_is_not_listed_is_told_with_those_that_are(loading: Callable[[str], Source]) -> None:
    source = loading(HEAD + "tables:\n  - {name: crm_lead, alternatives: [lead]}\n")
    with pytest.raises(KeyError, match=r"'odoo' has no table 'lead'; tables: \['crm_lead'\]"):
        source.table("lead")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEAD + "tables:\n  - {name: a}\n  - {name: b, mode: cursor}\n", "6: tables.1.mode: Input should be 'xid' or"),
        (HEAD + "tables:\n  - {name: a, prio: 3}\n", "5: tables.0.prio: Extra inputs are not permitted"),
        (HEAD + "timeout: 5\ntables:\n  - {name: a}\n", "4: timeout: Extra inputs are not permitted"),
        (
            HEAD + "tables:\n  - name: a\n    priority: 0\n",
            "6: tables.0.priority: Input should be greater than or equal",
        ),
        (HEAD + "tables:\n  - {mode: full}\n", "5: tables.0.name: Field required"),
        (HEAD + "tables:\n  - {name: ''}\n", "5: tables.0.name: String should have at least 1 character"),
        (HEAD + "tables:\n  - {name: 5}\n", "5: tables.0.name: Input should be a valid string"),
        (HEAD + "tables:\n  - crm_lead\n", "5: tables.0: Input should be a valid dictionary"),
        (HEAD + "tables: crm_lead\n", "4: tables: Input should be a valid tuple"),
        (HEAD + "tables: []\n", "4: tables: at least one table is needed"),
        (HEAD, "1: tables: Field required"),
        (HEAD + "tables:\n  - {name: a}\n  - {name: b}\n  - {name: a}\n", "4: tables: table 'a' is listed twice"),
        (HEAD + "tables:\n  - {name: a}\ntables:\n  - {name: b}\n", "6: tables: is given twice"),
        (HEAD + "tables:\n  - {name: a, mode: full, mode: xid}\n", "5: mode: is given twice"),
        (HEAD + "lock_timeout_s: soon\ntables:\n  - {name: a}\n", "4: lock_timeout_s: Input should be a valid integer"),
        (HEAD.replace("0 2 * * *", "every night") + "tables:\n  - {name: a}\n", "3: schedule: String should match"),
        (HEAD.replace("source: odoo", "source: Odoo!") + "tables:\n  - {name: a}\n", "1: source: String should match"),
        ("- a\n", "1: must be a mapping with source, connection, schedule and tables"),
        ("", "1: must be a mapping with source, connection, schedule and tables"),
        (HEAD + "tables:\n  - {name: a\n", "6: not YAML: expected ',' or '}'"),
        (HEAD + "schema: a: b\n", "4: not YAML: mapping values are not allowed here"),
    ],
)
def test_a_malformed_file_is_told_by_line_and_field(
    loading: Callable[[str], Source], tmp_path: Path, content: str, expected: str
) -> None:
    with pytest.raises(SourceFileError) as caught:
        loading(content)
    assert str(caught.value).startswith(f"{tmp_path / 'odoo.yaml'}:{expected}")
    assert len(str(caught.value).splitlines()) == 1


def test_all_faults_are_told_at_once(loading: Callable[[str], Source]) -> None:
    with pytest.raises(SourceFileError) as caught:
        loading(HEAD + "tables:\n  - {name: a, mode: fast}\n  - {name: b, priority: high}\nextra: 1\n")
    lines = [line.split("odoo.yaml:")[1].split(": ")[:2] for line in str(caught.value).splitlines()]
    assert lines == [["5", "tables.0.mode"], ["6", "tables.1.priority"], ["7", "extra"]]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceFileError, match=r"sap\.yaml: can't be read: No such file"):
        load_source("sap", tmp_path)


def test_a_file_that_is_no_text_is_told(loading: Callable[[bytes], Source]) -> None:
    with pytest.raises(SourceFileError, match=r"odoo\.yaml: is not UTF-8"):
        loading(b"source: \xff\xfe\n")


@pytest.mark.parametrize(
    ("column", "excluded"),
    [
        ("password", True),
        ("Password", True),
        ("PASSWORD", True),
        ("password_hash", True),
        ("new_password", False),
        ("passwords", False),
        ("db_data1", True),
        ("db_data12", False),
        ("KeyMaterial", True),
        ("name", False),
    ],
)
def test_exclusion_patterns(loading: Callable[[str], Source], column: str, excluded: bool) -> None:
    source = loading(
        HEAD + 'exclude_columns: ["*.password", "*.PASSWORD_*", "other.name"]\n'
        "tables:\n  - {name: res_users, exclude_columns: ['db_data?', keymaterial]}\n  - {name: crm_lead}\n"
    )
    assert source.is_excluded(source.table("res_users"), column) is excluded


def test_exclusions_of_one_table_leave_the_others_alone(loading: Callable[[str], Source]) -> None:
    source = loading(HEAD + "tables:\n  - {name: a, exclude_columns: [x]}\n  - {name: b}\n")
    assert source.is_excluded(source.table("a"), "x")
    assert not source.is_excluded(source.table("b"), "x")


def test_exclusions_hold_for_a_table_whose_name_looks_like_a_pattern(loading: Callable[[str], Source]) -> None:
    source = loading(HEAD + 'tables:\n  - {name: "Odd [table] *", exclude_columns: [secret]}\n')
    assert source.is_excluded(source.tables[0], "secret")
    assert not source.is_excluded(source.tables[0], "public")


@pytest.mark.parametrize("table", ["res_users", "res_partner", "ir_attachment", "whatever"])
def test_passwords_and_tokens_never_leave_odoo(loading: Callable[[str], Source], table: str) -> None:
    listed = load_source("odoo")
    probe = loading(HEAD + f"tables:\n  - {{name: {table}}}\n").table(table)
    for column in ("password", "password_crypt", "totp_secret", "access_token", "signup_token", "api_key"):
        assert listed.is_excluded(probe, column), column
    assert not listed.is_excluded(probe, "name")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("res_users", "password"),
        ("res_users", "oauth_access_token"),
        ("res_users", "google_calendar_rtoken"),
        ("res_users", "totp_secret"),
        ("res_partner", "signup_token"),
        ("account_move", "access_token"),
        ("c_aws_accounts", "aws_secret_access_key"),
        ("c_aws_accounts", "external_id"),
    ],
)
def test_secrets_of_odoo_are_excluded(table: str, column: str) -> None:
    source = load_source("odoo")
    assert source.is_excluded(source.table(table), column)


def test_ordinary_columns_of_odoo_are_not_excluded() -> None:
    source = load_source("odoo")
    assert not source.is_excluded(source.table("crm_lead"), "description")
    assert not source.is_excluded(source.table("res_partner"), "signup_type")
