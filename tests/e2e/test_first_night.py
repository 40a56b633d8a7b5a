"""The first night: both DAGs under Airflow's executor, from empty databases; then single tasks and a search."""

from __future__ import annotations

import email
import email.policy
import hashlib
import itertools

import pytest

from revops.local.sample.truth import read as read_truth
from revops.sources import load_source
from tests.e2e.raw_and_source import DATABASES, assert_raw_equals_source
from tests.stack import Commands

pytestmark = pytest.mark.e2e


def test_first_night_loads_everything(commands: Commands, first_night: str) -> None:
    for source in DATABASES:
        assert_raw_equals_source(commands, load_source(source))
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
    # Title and company: many customers have a project of the same name.
    ((heading, entity_id),) = commands.query(
        "revops_core",
        "select heading, entity_id from search.document where entity = 'ace_opportunity' order by entity_id limit 1",
    )
    finished = commands.run("search", str(heading), "--entity", "ace_opportunity")
    assert finished.returncode == 0, finished.stderr
    assert str(entity_id) in finished.stdout
    assert "meaning #" in finished.stdout


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
