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
        (
            HEAD + "tables:\n  - {name: a}\n  - {name: b, mode: fast}\n",
            "6: tables.1.mode: Input should be 'xid', 'cursor', 'replace_period' or 'full'",
        ),
        (
            HEAD + "tables:\n  - {name: a}\n  - {name: b, mode: cursor}\n",
            "6: tables.1: `cursor` names the timestamp column of mode cursor, and belongs to that mode only",
        ),
        (
            HEAD + "tables:\n  - name: b\n    cursor: write_date\n",
            "5: tables.0: `cursor` names the timestamp column of mode cursor",
        ),
        (
            HEAD + "tables:\n  - {name: a, mode: replace_period}\n",
            "5: tables.0: `period` names the columns of mode replace_period, and belongs to that mode only",
        ),
        (HEAD + "tables:\n  - {name: a, period: [month]}\n", "5: tables.0: `period` names the columns of mode"),
        (
            HEAD + "tables:\n  - name: a\n    mode: replace_period\n    period: month\n",
            "7: tables.0.period: Input should be a valid tuple",
        ),
        (
            HEAD + "tables:\n  - {name: a, mode: cursor, cursor: ''}\n",
            "5: tables.0.cursor: String should have at least 1 character",
        ),
        (
            HEAD + "tables:\n  - name: a\n    max_deleted_share: 30\n",
            "6: tables.0.max_deleted_share: Input should be less than or equal to 1",
        ),
        (
            HEAD + "tables:\n  - name: a\n    compare_every_h: -1\n",
            "6: tables.0.compare_every_h: Input should be greater than or equal to 0",
        ),
        (HEAD + "tables:\n  - {name: a, drift: follow}\n", "5: tables.0.drift: Input should be 'evolve', 'freeze' or"),
        (HEAD + "tables:\n  - {name: a, workers: 0}\n", "5: tables.0.workers: Input should be greater than or equal"),
        (HEAD + "range_mb: 0\ntables:\n  - {name: a}\n", "4: range_mb: Input should be greater than or equal to 1"),
        (HEAD + "patterns:\n  - {name: rest}\n", "5: patterns.0.like: Field required"),
        (HEAD + "patterns:\n  - {name: rest, like: []}\n", "5: patterns.0.like: Tuple should have at least 1 item"),
        (HEAD + "patterns:\n  - {name: The Rest, like: ['*']}\n", "5: patterns.0.name: String should match pattern"),
        (
            HEAD + "patterns:\n  - name: rest\n    like: ['*']\n    mode: cursor\n",
            "5: patterns.0: `cursor` names the timestamp column",
        ),
        (
            HEAD + "patterns:\n  - {name: rest, like: ['*'], optional: true}\n",
            "5: patterns.0.optional: Extra inputs are not permitted",
        ),
        (
            HEAD + "patterns:\n  - {name: rest, like: [a]}\n  - {name: rest, like: [b]}\n",
            "1: (whole file): the name 'rest' is used twice",
        ),
        (
            HEAD + "tables:\n  - {name: rest}\npatterns:\n  - {name: rest, like: ['*']}\n",
            "1: (whole file): the name 'rest' is used twice",
        ),
        (
            HEAD + "encrypt: ['*.email']\ntables:\n  - {name: a}\n",
            "4: encrypt.0: Input should be a valid dictionary",
        ),
        (
            HEAD + "encrypt:\n  - {kind: E-Mail, columns: ['*.email']}\ntables:\n  - {name: a}\n",
            "5: encrypt.0.kind: String should match pattern",
        ),
        (
            HEAD + "encrypt:\n  - {kind: email, columns: []}\ntables:\n  - {name: a}\n",
            "5: encrypt.0.columns: Tuple should have at least 1 item",
        ),
        (HEAD + "? [a, b]\n: c\ntables:\n  - {name: a}\n", "4: not YAML: found unhashable key"),
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
        (HEAD + "tables: []\n", "1: (whole file): at least one table or pattern is needed"),
        (HEAD, "1: (whole file): at least one table or pattern is needed"),
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


def test_modes_with_their_columns(loading: Callable[[str], Source]) -> None:
    source = loading(
        HEAD
        + "tables:\n  - {name: a, mode: cursor, cursor: write_date, compare_every_h: 24}\n"
        + "  - {name: b, mode: replace_period, period: [payer, month]}\n  - {name: c, mode: full}\n"
    )
    a, b, c = source.tables
    assert (a.mode, a.cursor, a.compare_every_h) == ("cursor", "write_date", 24)
    assert (b.mode, b.period) == ("replace_period", ("payer", "month"))
    assert (c.mode, c.cursor, c.period, c.compare_every_h, c.drift) == ("full", None, (), 168, "evolve")


NAMES = ["Crm_Stage", "crm_lead", "crm_tag", "ir_cron", "lead", "res_partner"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("like: ['*']", ["Crm_Stage", "crm_tag", "ir_cron", "res_partner"]),
        ("like: ['crm_*']", ["Crm_Stage", "crm_tag"]),
        ("like: ['CRM_*'], unlike: ['*tag']", ["Crm_Stage"]),
        ("like: ['???_*'], unlike: ['crm*', 'RES*']", []),
        ("like: ['ir_*', 'res_*']", ["ir_cron", "res_partner"]),
        # Listed by name, it is not the pattern's, by whichever of its names.
        ("like: [crm_lead, lead]", []),
    ],
)
def test_tables_that_fit_a_pattern(loading: Callable[[str], Source], pattern: str, expected: list[str]) -> None:
    source = loading(
        HEAD + f"tables:\n  - {{name: crm_lead, alternatives: [lead]}}\npatterns:\n  - {{name: rest, {pattern}}}\n"
    )
    assert source.fitting(source.pattern("rest"), NAMES) == expected


def test_each_table_belongs_to_the_first_pattern_that_it_fits(loading: Callable[[str], Source]) -> None:
    source = loading(
        HEAD
        + "patterns:\n  - {name: crm, like: ['crm_*'], unlike: [crm_tag]}\n  - {name: ir, like: ['ir_*', 'crm_lead']}\n"
        + "  - {name: rest, like: ['*']}\n"
    )
    assert source.tables == ()
    found = {pattern.name: source.fitting(pattern, NAMES) for pattern in source.patterns}
    assert found == {"crm": ["Crm_Stage", "crm_lead"], "ir": ["ir_cron"], "rest": ["crm_tag", "lead", "res_partner"]}


def test_a_table_of_a_pattern_is_read_as_the_pattern_says(loading: Callable[[str], Source]) -> None:
    source = loading(
        HEAD + "patterns:\n  - {name: rest, like: ['*'], mode: cursor, cursor: at, drift: freeze, workers: 3, "
        "max_deleted_share: 0.5, exclude_columns: [x], encrypt: [y]}\n"
    )
    table = source.pattern("rest").table("Some Table")
    assert (table.name, table.candidates, table.optional) == ("Some Table", ("Some Table",), True)
    assert (table.mode, table.cursor, table.drift, table.workers) == ("cursor", "at", "freeze", 3)
    assert table.max_deleted_share == 0.5
    assert source.is_excluded(table, "X")
    assert source.sensitive_kind(table, "Y") == "Y"


def test_a_pattern_that_is_not_there_is_told_with_those_that_are(loading: Callable[[str], Source]) -> None:
    source = loading(HEAD + "patterns:\n  - {name: rest, like: ['*']}\n")
    with pytest.raises(KeyError, match=r"'odoo' has no pattern 'all'; patterns: \['rest'\]"):
        source.pattern("all")


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("res_partner", "email", "email"),
        ("res_partner", "Email_Normalized", "email"),
        ("res_partner", "work_phone", "phone"),
        ("res_partner", "name", None),
        ("crm_lead", "contact_name", "person"),
        # By one of its other names.
        ("crm_lead", "partner_name", "person"),
        ("res_partner", "contact_name", None),
        # What a table lists for itself is a kind of its own, and comes first.
        ("crm_lead", "email", "email"),
        ("crm_lead", "phone", "phone"),
        ("crm_lead", "phone_2", "phone_2"),
    ],
)
def test_kinds_of_sensitive_columns(
    loading: Callable[[str], Source], table: str, column: str, kind: str | None
) -> None:
    source = loading(
        HEAD + "encrypt:\n  - {kind: email, columns: ['*.email', '*.EMAIL_*']}\n"
        "  - {kind: phone, columns: ['*.*phone']}\n"
        "  - {kind: person, columns: [crm_lead.contact_name, lead.partner_*]}\n"
        "tables:\n  - {name: res_partner}\n  - {name: crm_lead, alternatives: [lead], encrypt: ['phone_?']}\n"
    )
    assert source.sensitive_kind(source.table(table), column) == kind


@pytest.mark.parametrize(
    ("source_name", "table", "column", "kind"),
    [
        ("odoo", "res_partner", "email", "email"),
        ("odoo", "res_partner", "phone", "phone"),
        ("ace", "apn_users", "email", "email"),
        ("ace", "apn_opportunity", "customer_last_name", "person"),
    ],
)
def test_addresses_of_people_are_encrypted(source_name: str, table: str, column: str, kind: str) -> None:
    source = load_source(source_name)
    assert source.sensitive_kind(source.table(table), column) == kind
    assert source.sensitive_kind(source.table(table), "id") is None


def test_one_kind_is_compared_across_both_sources() -> None:
    """A person's address must be found under the same name of a kind, or deals could not be joined by it."""
    kinds = [{entry.kind for entry in load_source(name).encrypt} for name in ("odoo", "ace")]
    assert {"email", "phone"} <= kinds[0] & kinds[1]
