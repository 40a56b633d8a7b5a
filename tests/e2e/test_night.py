"""One night after the other: both DAGs under Airflow's executor, first everything, then what a day has changed."""

from __future__ import annotations

import email
import email.policy
import hashlib
import itertools
from collections import Counter

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.keyring import Keyring
from revops.local.sample.truth import read as read_truth
from revops.sources import INCLUDE, Source, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables
from tests.stack import Commands

pytestmark = pytest.mark.e2e

DATABASES = {"odoo": "odoo", "ace": "c303_prod_apn_01"}


def _columns(commands: Commands, database: str, schema: str, table: str) -> list[str]:
    rows = commands.query(
        database,
        "select column_name from information_schema.columns "
        f"where table_schema = '{schema}' and table_name = '{table}' order by ordinal_position",
    )
    return [str(name) for (name,) in rows]


def _rows(commands: Commands, database: str, relation: str, columns: list[str], where: str = "true") -> Counter[object]:
    listed = ", ".join(f'"{column}"::text' for column in columns)
    return Counter(commands.query(database, f"select {listed} from {relation} where {where}"))


def _assert_raw_equals_source(commands: Commands, config: Source) -> None:
    for table in config.tables:
        raw = config.raw_table(table)
        columns = [
            column
            for column in _columns(commands, DATABASES[config.source], "public", table.name)
            if not config.is_excluded(table, column)
        ]
        raw_columns = _columns(commands, "revops_core", "raw", raw)
        assert set(raw_columns) >= set(columns), f"{raw} lacks columns"
        assert not [column for column in raw_columns if config.is_excluded(table, column)], f"{raw} has secrets"
        plain = [column for column in columns if config.sensitive_kind(table, column) is None]
        source_rows = _rows(commands, DATABASES[config.source], f'public."{table.name}"', plain)
        raw_rows = _rows(commands, "revops_core", f'raw."{raw}"', plain, "_deleted_at is null")
        assert raw_rows == source_rows, f"{raw} differs from its source"
        for column in set(columns) - set(plain):
            _assert_decrypts_to_source(commands, DATABASES[config.source], table.name, raw, column)


def _assert_decrypts_to_source(commands: Commands, database: str, table: str, raw: str, column: str) -> None:
    """All tables with sensitive columns have the key id."""
    keyring = Keyring.parse(commands.stack.passwords["data_keys"], commands.stack.passwords["index_key"])
    tokens = commands.query("revops_core", f'select id::text, "{column}" from raw."{raw}" where _deleted_at is null')
    values = commands.query(database, f'select id::text, "{column}"::text from public."{table}"')
    found = {
        key: None if token is None else keyring.decrypt(token, table=raw, column=column, key_text=str(key))
        for key, token in tokens
    }
    assert found == dict(values), f"{raw}.{column} does not decrypt to its source"


def _keys(commands: Commands, table: str) -> set[object]:
    return {key for (key,) in commands.query("revops_core", f"select id from raw.{table} where _deleted_at is null")}


def test_first_night_loads_everything(commands: Commands, first_night: str) -> None:
    for source in DATABASES:
        _assert_raw_equals_source(commands, load_source(source))
    statuses = commands.query("revops_core", "select distinct status, is_shared_snapshot from ops.load")
    assert statuses == [("succeeded", True)]
    assert "Search: " in first_night
    assert "Quality of core" in first_night
    assert "In quarantine" in first_night
    lineage = first_night.split("Lineage of core.odoo_opportunities ")[1].split("Search: ")[0]
    assert all(word in lineage for word in ("transform run", "raw.odoo_crm_lead", "load", "snapshot of the run"))
    assert "make start" in first_night


def test_core_or_quarantine_has_every_opportunity(commands: Commands, first_night: str) -> None:
    for database, table, core in (
        ("odoo", "crm_lead", "odoo_opportunities"),
        ("c303_prod_apn_01", "apn_opportunity", "ace_opportunities"),
    ):
        wanted = {key for (key,) in commands.query(database, f"select id::text from {table}")}
        found = {key for (key,) in commands.query("revops_core", f"select source_id from core.{core}")}
        held = {
            key
            for (key,) in commands.query(
                "revops_core",
                f"select source_key from ops.quarantine where target = 'core.{core}' and released_at is null",
            )
        }
        assert found | held == wanted
        assert not found & held
        assert bool(held) == (core == "odoo_opportunities"), "imports without a title are a part of the sample"


def test_accounts_join_the_records_that_are_one_company(commands: Commands, first_night: str) -> None:
    """Against the truth that the sample keeps apart: most true pairs of records are joined, and no false one is."""
    link = {
        (system, key): account
        for system, key, account in commands.query(
            "revops_core", "select source_system, source_id, account_id from core.account_link"
        )
    }
    record = {
        system: dict(commands.query("revops_core", f"select source_id, account_source_id from core.{table}"))
        for system, table in (("odoo", "odoo_opportunities"), ("ace", "ace_opportunities"))
    }
    true = {
        (record["odoo"][str(match.odoo_lead_id)], record["ace"][match.ace_opportunity_id])
        for match in read_truth(commands.stack.home / "sample" / "truth.csv")
        if str(match.odoo_lead_id) in record["odoo"] and match.ace_opportunity_id in record["ace"]
    }
    true = {pair for pair in true if None not in pair}
    joined = {
        (left, right)
        for left, right in itertools.product({left for left, _ in true}, {right for _, right in true})
        if link.get(("odoo", left)) == link.get(("ace", right))
    }
    assert joined - true == set()
    assert len(joined & true) > 0.9 * len(true) > 30


def test_every_document_has_a_vector_of_the_current_model(commands: Commands, first_night: str) -> None:
    missing = commands.query(
        "revops_core",
        "select d.entity, d.entity_id from search.document d where not exists (select from search.embedding e "
        "join search.embedding_model m using (model_id) where m.is_current and e.text_hash = d.text_hash)",
    )
    assert missing == []
    texts = commands.query("revops_core", "select text, text_hash from search.document")
    assert len(texts) > 100
    assert all(hashlib.sha256(str(text).encode()).digest() == text_hash for text, text_hash in texts)


def test_quality_was_checked_completely(commands: Commands, first_night: str) -> None:
    runs = commands.query("revops_core", "select source, layer, expected = evaluated, score > 0.9 from ops.quality_run")
    assert sorted(runs) == [
        ("ace", "core", True, True),
        ("ace", "raw", True, True),
        ("odoo", "core", True, True),
        ("odoo", "raw", True, True),
    ]


def test_search_finds_a_deal_by_its_meaning(commands: Commands, first_night: str) -> None:
    ((title, entity_id),) = commands.query(
        "revops_core", "select title, entity_id from search.document where entity = 'ace_opportunity' limit 1"
    )
    finished = commands.run("search", str(title))
    assert finished.returncode == 0, finished.stderr
    assert str(entity_id) in finished.stdout
    assert "meaning #" in finished.stdout


def test_second_night_moves_only_what_changed(commands: Commands, first_night: str) -> None:
    leads_before = _keys(commands, "odoo_crm_lead")
    texts_before = {key for (key,) in commands.query("revops_core", "select text_hash from search.embedding")}
    finished = commands.run("demo")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for source in DATABASES:
        _assert_raw_equals_source(commands, load_source(source))
    gone = {
        key
        for (key,) in commands.query("revops_core", "select id from raw.odoo_crm_lead where _deleted_at is not null")
    }
    in_source = {key for (key,) in commands.query("odoo", "select id from crm_lead")}
    assert gone == leads_before - in_source
    assert gone
    changed, read, total = commands.query(
        "revops_core",
        "select sum(inserted + updated + deleted), sum(rows_read), sum(source_rows) from ops.load "
        "where run_id = (select run_id from ops.load order by load_id desc limit 1)",
    )[0]
    assert 0 < int(str(changed)) <= int(str(read)) + len(gone) * 100
    assert int(str(read)) < int(str(total))
    encoded = commands.query(
        "revops_core",
        "select sum(encoded) from ops.embedding_run where run_id in "
        "(select run_id from ops.embedding_run group by run_id order by max(embedding_run_id) desc limit 2)",
    )[0][0]
    texts_after = {key for (key,) in commands.query("revops_core", "select text_hash from search.embedding")}
    assert int(str(encoded)) == len(texts_after - texts_before)
    columns = commands.query("revops_core", "select column_name from ops.schema_change where change = 'column_added'")
    assert columns, "the day adds a custom field"


def test_the_second_night_agrees_with_a_full_refresh(commands: Commands, first_night: str) -> None:
    commands.stack.postgres.start()
    dsn = make_conninfo(commands.stack.uri("revops_core", "revops"), options="-c role=revops_transform")

    def core() -> dict[str, Counter[object]]:
        return {
            name: Counter(
                commands.query("revops_core", f"select (to_jsonb(t) - 'transform_run_id')::text from core.{name} as t")
            )
            for name in {*core_tables("odoo"), *core_tables("ace")}
        }

    runs = commands.query("revops_core", "select full_reason from ops.transform_run where target = 'core.bill_line'")
    assert (None,) in runs, "no run of the second night was incremental"
    before = core()
    with psycopg.connect(dsn) as warehouse:
        for source in DATABASES:
            for name in core_tables(source):
                result = transform_table(
                    warehouse,
                    target=TARGETS[name],
                    source=source,
                    run_id="by hand",
                    include=INCLUDE,
                    full_refresh=True,
                )
                assert (result.inserted, result.updated, result.deleted) == (0, 0, 0), result
    assert core() == before
    assert all(before.values())


def test_a_changed_source_is_mailed(commands: Commands, first_night: str) -> None:
    mails = [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted(commands.stack.mail_folder.glob("*.eml"))
    ]
    subjects = [str(mail["Subject"]) for mail in mails]
    assert any("the source has changed" in subject for subject in subjects), subjects


def test_a_failing_task_sends_a_mail(commands: Commands, first_night: str) -> None:
    commands.stack.postgres.start()
    wrong = commands.stack.uri("odoo", "odoo_reader").replace(commands.stack.passwords["odoo_reader"], "wrong")
    before = set(commands.stack.mail_folder.glob("*.eml"))
    finished = commands.run("task", "odoo", "extract.crm_lead", AIRFLOW_CONN_ODOO_SOURCE=wrong)
    assert "password authentication failed" in finished.stdout + finished.stderr
    (path,) = set(commands.stack.mail_folder.glob("*.eml")) - before
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert "odoo: extract.crm_lead failed" in str(mail["Subject"])
    body = mail.get_body(("html",))
    assert body is not None
    assert "password authentication failed" in body.get_content()


def test_one_task_runs_alone(commands: Commands, first_night: str) -> None:
    finished = commands.run("task", "odoo", "extract.crm_stage")
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert "table loaded" in finished.stdout + finished.stderr
