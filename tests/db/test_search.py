"""Hybrid search on a small warehouse: what is found, by which rankings, within which filters; hostile queries."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from rich.console import Console
from structlog.testing import capture_logs
from vectors import SMALL, add_documents, dense_of, load_texts, query_of, register_model, sparse_of

from revops import search
from revops.embedding.models import switch_model
from revops.embedding.queries import QueryVectors
from revops.embedding.query_cache import vectors_of_queries
from revops.local.show import show_hits
from revops.search import Filters, Hit, SearchError, find_documents, similar_documents

pytestmark = pytest.mark.db

TEXTS = [
    "Kubernetes for a bank\nContainers of the retail bank on EKS",
    "Fraud detection in payments\nMachine learning finds stolen cards",
    "Data centre exit\nServers move to the cloud before the lease ends",
    "Migración de la base de datos\nOracle se va a PostgreSQL",
    "サーバーの移行\nクラウドへの移行を計画する",
    "Backup of mailboxes\nArchive for ten years",
]


@pytest.fixture
def embed(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_embed")


@pytest.fixture
def api(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    connection = as_role("revops_api")
    connection.execute("set default_transaction_read_only = on")
    connection.commit()
    return connection


def fill(embed: psycopg.Connection, folder: Path, rows: list[Any]) -> None:
    """Documents with vectors of the current model."""
    add_documents(embed, rows)
    texts = sorted({row if isinstance(row, str) else row["text"] for row in rows})
    load_texts(embed, folder, texts)
    assert switch_model(embed, register_model(embed, SMALL))


def ids(hits: list[Hit]) -> list[str]:
    return [hit.entity_id for hit in hits]


def test_a_hit_says_how_each_ranking_found_it(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    query = "Fraud detection in payments"
    first, *others = find_documents(api, query, query_of(TEXTS[1]), limit=10)
    assert (first.entity, first.entity_id, first.title) == ("odoo_opportunity", "2", query)
    assert first.ranks == {"dense": 1, "sparse": 1, "text": 1, "title": 1}
    assert first.matched == ("fraud", "detection", "in", "payments")
    product = sum(weight * weight for weight in sparse_of(TEXTS[1]).values())
    assert first.scores["dense"] == pytest.approx(1, abs=1e-3)
    assert first.scores["sparse"] == pytest.approx(product, rel=1e-4)
    assert first.scores["title"] == 1
    assert first.score == pytest.approx((1 + 0.3 + 0.5 + 0.1) / 61)
    assert first.reasons == "meaning #1, weighted words #1, words #1, title #1"
    assert sorted(ids(others)) == ["1", "3", "4", "5", "6"]
    for hit in others:
        expected = dense_of(TEXTS[1]) @ dense_of(TEXTS[int(hit.entity_id) - 1])
        assert hit.scores["dense"] == pytest.approx(expected, abs=2e-3)


def test_without_vectors_words_and_titles_are_left(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    (hit,) = find_documents(api, "stolen cards", None)
    assert (hit.entity_id, set(hit.ranks), hit.matched) == ("2", {"text", "title"}, ("stolen", "cards"))


def test_a_key_decides_by_itself_and_an_amount_does_not(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    embed.execute(
        "update search.document set identifiers = array['120', 'o1000123', '123456789012'] where entity_id = '6'"
    )
    embed.commit()
    for query in ("O1000123", "fraud detection o1000123", "1234-5678-9012", "120"):
        hits = find_documents(api, query, query_of(TEXTS[1]))
        assert ids(hits)[0] == "6", query
        assert hits[0].score > 1 > hits[1].score, query
    # 120 servers are not the record 120.
    assert ids(find_documents(api, "fraud detection on 120 servers", query_of(TEXTS[1])))[0] == "2"


def test_without_a_query_vectors_are_left(embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path) -> None:
    fill(embed, tmp_path, list(TEXTS))
    rows = api.execute(
        "select entity_id, dense_rank, sparse_rank, text_rank, title_rank, matched_words from search.hybrid("
        "null, (select dense from search.embedding where text_hash = sha256(convert_to(%s, 'UTF8'))), null, "
        "(select model_id from search.embedding_model), 1)",
        (TEXTS[3],),
    ).fetchall()
    assert rows == [("4", 1, None, None, None, [])]


@pytest.mark.parametrize(
    ("query", "found", "matched"),
    [
        ("kuberntes", "1", ("kubernetes",)),
        ("fruad detektion", "2", ("fraud", "detection")),
        ("migracion", "4", ("migración",)),
        ("OPP-000123", "3", ("opp-000123",)),
        ("please find 1234-5678-9012", "6", ("123456789012",)),
        ("account 123456789012?", "6", ("123456789012",)),
        ("o1234567", "5", ("o1234567",)),
        ("o1234576", "5", ("o1234567",)),
        ("移行", "5", ()),
    ],
)
def test_misspelt_words_and_keys_are_found_without_a_model(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path, query: str, found: str, matched: tuple[str, ...]
) -> None:
    keys = {3: ["opp-000123"], 5: ["o1234567"], 6: ["123456789012"]}
    texts = [*TEXTS[:4], TEXTS[4] + " 移行", *TEXTS[5:]]
    fill(embed, tmp_path, [{"text": text, "identifiers": keys.get(at, [])} for at, text in enumerate(texts, start=1)])
    first = find_documents(api, query, None)[0]
    assert first.entity_id == found
    if matched:
        assert first.matched == matched


def test_a_word_that_came_since_words_were_counted_is_found(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    add_documents(embed, [{"text": "Zeppelin hangar", "entity": "account"}])
    assert [hit.title for hit in find_documents(api, "zeppelin", None)] == ["Zeppelin hangar"]


def test_words_of_every_document_rank_nothing_but_titles_do(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, [*(f"cloud deal {number}" for number in range(30)), "cloud"])
    hits = find_documents(api, "cloud", None, limit=3)
    assert hits[0].title == "cloud"
    assert [hit.ranks.get("title") for hit in hits] == [1, 1, 1]
    # A rare word beside it: the common one brings nothing.
    (hit,) = find_documents(api, "cloud 17", None, limit=50)
    assert (hit.title, hit.matched) == ("cloud deal 17", ("17",))


HOSTILE = {
    "only stop words": "the of and a in",
    "operators": "fraud & !payments | (cards <-> 'stolen') :* \\",
    "quotes": "O'Brien \"quoted\" ''' $$ -- ; drop table search.document",
    "emoji": "🔥💳 fraud 🇩🇪",
    "right to left": "‏نقل البيانات إلى السحابة fraud",
    "punctuation": "!!! ??? ...",
    "10,000 words": " ".join(f"word{number}" for number in range(9_999)) + " fraud",
    "one long word": "x" * 100_000,
    "wildcards": "%_% fraud* [a-z]+",
    "line breaks": "fraud\r\n\tdetection\x0b\x01",
}


@pytest.mark.parametrize("query", list(HOSTILE.values()), ids=list(HOSTILE))
def test_whatever_is_asked_there_is_an_answer(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path, query: str
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    # Of six documents, every one that has a word of the query may come before the nearest.
    assert "2" in ids(find_documents(api, query, query_of(TEXTS[1])))[:2]
    alone = find_documents(api, query, None)
    if "fraud" in query and len(query) < 1000:
        assert ids(alone)[0] == "2"
    assert len(alone) <= len(TEXTS)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query is empty"),
        (" \n\t ", "the query is empty"),
        ("fraud\0 now", "the query has a NUL character"),
        ("fraud \ud83d now", "not valid Unicode: half of a surrogate pair at position 6"),
    ],
)
def test_what_is_no_query_is_refused_without_repeating_it(api: psycopg.Connection, query: str, message: str) -> None:
    with pytest.raises(SearchError, match=message) as raised:
        find_documents(api, query, query_of("fraud"))
    assert "Remedy: " in str(raised.value)
    assert "now" not in str(raised.value)


def test_an_empty_warehouse_has_no_hits(embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path) -> None:
    assert find_documents(api, "anything", None) == []
    load_texts(embed, tmp_path, [])
    assert switch_model(embed, register_model(embed, SMALL))
    assert find_documents(api, "anything", query_of("anything")) == []
    assert find_documents(api, "anything", query_of("anything"), filters=Filters(stages=["Won"])) == []


def test_documents_that_share_a_text_share_its_rank_and_hide_no_other(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    shared = "Renewal of the contract\nSame as last year"
    rows = [*TEXTS, *({"text": shared, "entity": "account"} for _ in range(1_000))]
    add_documents(embed, rows)
    load_texts(embed, tmp_path, [*TEXTS, shared])
    switch_model(embed, register_model(embed, SMALL))
    hits = find_documents(api, "stolen cards", query_of(shared), limit=200)
    of_shared = [hit for hit in hits if hit.entity == "account"]
    assert {hit.ranks["dense"] for hit in of_shared} == {1}
    assert len(of_shared) == 100
    # The oldest of them, each time.
    assert sorted(int(hit.entity_id) for hit in of_shared) == list(range(7, 107))
    assert {hit.entity_id for hit in hits if hit.entity != "account"} == {"1", "2", "3", "4", "5", "6"}


COLUMNS = {
    "entity": ["account", "ace_opportunity", "odoo_opportunity"],
    "source_system": ["ace", "odoo"],
    "stage": ["New", "Won", None],
    "team": ["North", "O'Hara's", None],
    "country_code": ["DE", "JP", None],
    "close_date": [date(2026, 1, 31), date(2026, 6, 30), None],
    "amount": [Decimal("0.00"), Decimal("1000.50"), None],
}
FILTERS: list[tuple[Filters, Callable[[dict[str, Any]], bool]]] = [
    (Filters(entities=["account"]), lambda row: row["entity"] == "account"),
    (Filters(sources=["ace"]), lambda row: row["source_system"] == "ace"),
    (Filters(stages=["New", "Won"]), lambda row: row["stage"] is not None),
    (Filters(teams=["O'Hara's"]), lambda row: row["team"] == "O'Hara's"),
    (Filters(countries=["JP"]), lambda row: row["country_code"] == "JP"),
    (Filters(date_from=date(2026, 6, 30)), lambda row: row["close_date"] == date(2026, 6, 30)),
    (Filters(date_to=date(2026, 1, 31)), lambda row: row["close_date"] == date(2026, 1, 31)),
    (Filters(amount_from=Decimal("1000.5")), lambda row: row["amount"] == Decimal("1000.50")),
    (Filters(amount_to=Decimal(0)), lambda row: row["amount"] == 0),
    (
        Filters(entities=["account"], sources=["odoo"], stages=["Won"], amount_from=Decimal(1)),
        lambda row: row["entity"] == "account" and row["source_system"] == "odoo" and row["stage"] == "Won"
        and row["amount"] == Decimal("1000.50"),
    ),
    (Filters(stages=[]), lambda row: False),
    (Filters(stages=["new"]), lambda row: False),
]  # fmt: skip


def test_filters_keep_every_document_within_them(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    """Against all vectors compared; whichever way the documents within a filter are looked for."""
    rng = np.random.default_rng(5)
    rows = [
        {"text": f"deal {number}", "entity_id": str(number)}
        | {name: values[rng.integers(len(values))] for name, values in COLUMNS.items()}
        for number in range(300)
    ]
    fill(embed, tmp_path, rows)
    for filters, is_wanted in FILTERS:
        wanted = [row for row in rows if is_wanted(row)]
        for asked in ("deal 7", "deal 8"):
            query = dense_of(asked)
            best = sorted(wanted, key=lambda row: -float(query @ dense_of(str(row["text"]))))[:10]
            vectors = QueryVectors([float(value) for value in query], {}, SMALL.key)
            hits = find_documents(api, "qqqq", vectors, filters=filters)
            assert ids(hits) == [row["entity_id"] for row in best], filters
            words = find_documents(api, "deal 7", None, filters=filters, limit=1000)
            assert set(ids(words)) <= {row["entity_id"] for row in wanted}
            assert ("7" in ids(words)) == is_wanted(rows[7])


def test_the_walk_along_the_index_finds_what_a_comparison_of_all_finds(
    embed: psycopg.Connection, api: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    """More documents within the filter than are compared one by one, some of them far from the query."""
    rows = [
        {"text": f"deal {number}", "entity_id": str(number), "stage": "Won" if number % 3 else "New"}
        for number in range(3_600)
    ]
    add_documents(embed, rows)
    load_texts(embed, tmp_path, [row["text"] for row in rows])
    switch_model(embed, register_model(embed, SMALL))
    query = dense_of("deal 5")
    matrix = np.array([dense_of(str(row["text"])) for row in rows])
    order = [number for number in np.argsort(-(matrix @ query)) if rows[number]["stage"] == "Won"]
    vectors = QueryVectors([float(value) for value in query], {}, SMALL.key)
    wanted = [str(number) for number in order[:10]]
    assert ids(find_documents(api, "qqqq", vectors, filters=Filters(stages=["Won"]))) == wanted
    # An index that gives up before it has enough: what it did not see is compared.
    owner = as_role("revops_owner")
    owner.execute("select '[1]'::halfvec")
    for setting in ('"hnsw.max_scan_tuples" = 1', '"hnsw.ef_search" = 10'):
        owner.execute(
            "do $$ begin execute 'alter function ' || (select oid::regprocedure from pg_proc where proname = 'hybrid') "
            f"|| ' set {setting}'; end $$".encode()
        )
    won = Filters(stages=["Won"])
    assert ids(find_documents(owner, "qqqq", vectors, filters=won)) == wanted
    assert len(find_documents(owner, "qqqq", vectors, limit=200, filters=won)) == 200
    # Of more than a second's worth it stays with those that the index saw.
    owner.execute(
        "create or replace function search.estimated_documents(filter text) returns double precision "
        "language sql set search_path = search return 100001"
    )
    seen = ids(find_documents(owner, "qqqq", vectors, limit=200, filters=won))
    assert 0 < len(seen) < 200
    assert {rows[int(number)]["stage"] for number in seen} == {"Won"}
    owner.rollback()


def test_neighbours_of_a_document(embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path) -> None:
    fill(embed, tmp_path, [*TEXTS, {"text": TEXTS[2], "entity": "account", "source_system": "ace"}])
    hits = similar_documents(api, "odoo_opportunity", "3")
    assert (hits[0].entity, hits[0].source_system, hits[0].scores["dense"]) == ("account", "ace", pytest.approx(1))
    by_dense = sorted(hits, key=lambda hit: -hit.scores["dense"])
    order = np.argsort([-float(dense_of(TEXTS[2]) @ dense_of(text)) for text in TEXTS])
    assert [hit.title for hit in by_dense] == [TEXTS[number].splitlines()[0] for number in order]
    assert "3" not in [hit.entity_id for hit in hits if hit.entity == "odoo_opportunity"]
    assert ids(similar_documents(api, "odoo_opportunity", "3", filters=Filters(sources=["ace"]))) == ["7"]
    assert len(similar_documents(api, "odoo_opportunity", "3", limit=2)) == 2


def test_a_document_without_neighbours_says_why(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, TEXTS[:2])
    with pytest.raises(SearchError, match=r"has no odoo_opportunity with this id: odoo_opportunity 99. Remedy: "):
        similar_documents(api, "odoo_opportunity", "99")
    add_documents(embed, [{"text": "new", "entity_id": "50"}])
    with pytest.raises(SearchError, match=r"the document has no vector of the current model: odoo_opportunity 50"):
        similar_documents(api, "odoo_opportunity", "50")


def test_a_re_ranking_orders_the_first_fifty(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    fill(embed, tmp_path, [f"deal {number}" for number in range(60)])
    asked: list[tuple[str, int, str]] = []

    def rerank(query: str, texts: list[str], model_key: str) -> list[float]:
        asked.append((query, len(texts), model_key))
        return [float(text.split()[1]) for text in texts]

    before = find_documents(api, "qqqq", query_of("deal 7"), limit=60)
    after = find_documents(api, "qqqq", query_of("deal 7"), limit=60, rerank=rerank)
    assert asked == [("qqqq", 50, SMALL.key)]
    assert [hit.title for hit in after[:50]] == sorted(
        (hit.title for hit in before[:50]), key=lambda title: -int(title.split()[1])
    )
    assert after[50:] == before[50:]
    assert [hit.score for hit in after[:50]] == [hit.scores["rerank"] for hit in after[:50]]
    assert ids(find_documents(api, "qqqq", query_of("deal 7"), limit=3, rerank=rerank)) == ids(after[:3])


def test_a_document_that_goes_while_it_is_found_is_left_out(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    read_texts = search._read_texts

    def read_later(warehouse: psycopg.Connection, hits: list[Hit]) -> dict[int, str]:
        embed.execute("delete from search.document where entity_id in ('2', '6')")
        embed.commit()
        return read_texts(warehouse, hits)

    def rerank(query: str, texts: list[str], model_key: str) -> list[float]:
        return [float(TEXTS.index(text)) for text in texts]

    monkeypatch.setattr(search, "_read_texts", read_later)
    assert ids(find_documents(api, "qqqq", query_of(TEXTS[1]), rerank=rerank)) == ["5", "4", "3", "1"]


def test_queries_are_encoded_once(embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path) -> None:
    fill(embed, tmp_path, list(TEXTS))
    asked: list[list[str]] = []

    def encode(queries: list[str]) -> list[QueryVectors]:
        asked.append(queries)
        return [query_of(query) for query in queries]

    first = vectors_of_queries(api, ["bank", "fraud", "bank"], encode)
    again = vectors_of_queries(api, ["fraud", "bank", "cards"], encode)
    assert asked == [["bank", "fraud"], ["cards"]]
    assert first[0] == first[2] == query_of("bank")
    for kept, fresh in zip(again, [query_of("fraud"), query_of("bank"), query_of("cards")], strict=True):
        assert kept.dense == pytest.approx(fresh.dense, abs=1e-3)
        assert (kept.sparse, kept.model_key) == (pytest.approx(fresh.sparse), SMALL.key)
    # The query itself is nowhere.
    kept_rows = api.execute("select query_hash from search.query_vector order by 1").fetchall()
    assert (
        kept_rows
        == api.execute(
            "select sha256(convert_to(q, 'UTF8')) from unnest(array['bank', 'fraud', 'cards']) as q order by 1"
        ).fetchall()
    )


def test_the_queries_used_longest_ago_are_forgotten(
    embed: psycopg.Connection, api: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    owner = as_role("revops_owner")

    def ask(*queries: str) -> list[str]:
        asked: list[str] = []
        for query in queries:
            vectors_of_queries(
                api, [query], lambda texts: [*map(query_of, texts)] if not asked.extend(texts) else [], most=3
            )
            owner.execute("update search.query_vector set used_at = used_at - interval '2 hours'")
            owner.commit()
        return asked

    assert ask("a", "b", "c", "a") == ["a", "b", "c"]
    # "a" was used after "b" was.
    assert ask("d") == ["d"]
    assert ask("a", "c") == []
    assert ask("b") == ["b"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("lock_timeout", "canceling statement due to lock timeout"),
        ("statement_timeout", "canceling statement due to statement timeout"),
    ],
)
def test_a_query_that_others_keep_from_being_kept_is_answered(
    embed: psycopg.Connection,
    api: psycopg.Connection,
    as_role: Callable[[str], psycopg.Connection],
    tmp_path: Path,
    setting: str,
    why: str,
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    owner = as_role("revops_owner")
    owner.execute("lock table search.query_vector in share mode")
    api.execute(sql.SQL("set {} = '100ms'").format(sql.Identifier(setting)))
    api.commit()
    with capture_logs() as logs:
        assert vectors_of_queries(api, ["bank"], lambda texts: [*map(query_of, texts)]) == [query_of("bank")]
    assert [(entry["event"], entry["why"]) for entry in logs] == [("query vectors are not kept", why)]
    owner.rollback()
    assert ids(find_documents(api, "bank", query_of(TEXTS[0]), limit=1)) == ["1"]


def test_a_query_that_is_kept_into_a_deadlock_is_answered(
    embed: psycopg.Connection, api: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    fill(embed, tmp_path, list(TEXTS))
    vectors_of_queries(api, ["a", "b"], lambda texts: [*map(query_of, texts)])
    owner, watcher = as_role("revops_owner"), as_role("revops_owner")
    watcher.autocommit = True
    owner.execute("update search.query_vector set used_at = used_at - interval '2 hours'")
    owner.commit()
    lock = "select from search.query_vector where query_hash = sha256(%s) for update"
    owner.execute(lock, (b"a",))
    with ThreadPoolExecutor(1) as pool, capture_logs() as logs:
        # "b" is noted as used; then "a" is forgotten, as only one is to be kept.
        asked = pool.submit(vectors_of_queries, api, ["b"], lambda texts: [*map(query_of, texts)], most=1)
        is_waiting = sql.SQL("select from pg_locks where pid = {} and not granted").format(api.info.backend_pid)
        while not asked.done() and watcher.execute(is_waiting).fetchone() is None:
            time.sleep(0.01)
        owner.execute(lock, (b"b",))
        assert asked.result()[0].sparse == pytest.approx(query_of("b").sparse)
    assert [(entry["event"], entry["why"]) for entry in logs] == [("query vectors are not kept", "deadlock detected")]


def test_another_model_has_queries_of_its_own(
    embed: psycopg.Connection, api: psycopg.Connection, tmp_path: Path
) -> None:
    from vectors import OTHER

    fill(embed, tmp_path / "1", list(TEXTS))
    vectors_of_queries(api, ["bank"], lambda texts: [*map(query_of, texts)])
    load_texts(embed, tmp_path / "2", TEXTS, OTHER)
    assert switch_model(embed, register_model(embed, OTHER))
    (vectors,) = vectors_of_queries(api, ["bank"], lambda texts: [query_of(text, OTHER) for text in texts])
    assert vectors.model_key == OTHER.key


def test_only_its_own_function_writes_query_vectors(api: psycopg.Connection) -> None:
    api.execute("set transaction read write")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        api.execute("delete from search.query_vector")


@pytest.mark.parametrize("limit", [0, 1001, None])
def test_a_limit_out_of_range_is_refused(api: psycopg.Connection, limit: int | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="it must be 1 to 1000"):
        api.execute(sql.SQL("select * from search.hybrid('x', null, null, 1, {})").format(sql.Literal(limit)))


def test_hits_are_printed_within_100_columns() -> None:
    ranks = {"dense": 1, "sparse": 12, "text": 3, "title": 1}
    hits = [
        Hit(1, "ace", "ace_opportunity", "O1234567", "[b]" + "A long\ntitle " * 9, 0.04918, ranks, {}, ("bank", "[/]")),
        Hit(2, "odoo", "account", "odoo:7", "Bolt", 0.016, {"dense": 100}),
    ]
    console = Console(file=io.StringIO(), width=100)
    show_hits("Search: kubernetes [/] bank", hits, console)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "",
        "Search: kubernetes [/] bank",
        "0.0492  ace opportunity   O1234567  [b]A long title A long title A long title A long title A long t…",
        "        meaning #1, weighted words #12, words #3, title #1; has bank, [/]",
        "0.0160  account           odoo:7    Bolt",
        "        meaning #100",
    ]
