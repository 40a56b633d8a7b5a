"""Models: searches change over only when the new one has every document, and the old one's vectors go later."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from vectors import OTHER, SMALL, add_documents, load_texts, query_of, stored, wanted

from revops.embedding.encoder import EncoderError, Model
from revops.embedding.models import drop_replaced_models, locked_for_load, register_model, switch_model
from revops.search import SearchError, find_documents

pytestmark = pytest.mark.db

TEXTS = ["a lake of data", "servers moved to the cloud"]


@pytest.fixture
def embed(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    connection = as_role("revops_embed")
    add_documents(connection, TEXTS)
    return connection


def _current(connection: psycopg.Connection) -> list[tuple[str]]:
    rows = connection.execute("select model_key from search.embedding_model where is_current").fetchall()
    connection.commit()
    return rows


def _tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'search.embedding'::regclass"
    ).fetchall()
    connection.commit()
    return {name for (name,) in rows}


def test_the_first_model_is_current_at_once(embed: psycopg.Connection) -> None:
    first = register_model(embed, SMALL)
    assert register_model(embed, SMALL) == first
    assert _current(embed) == []
    assert switch_model(embed, first)
    assert _current(embed) == [(SMALL.key,)]


def test_another_model_takes_over_when_it_has_every_document(embed: psycopg.Connection, tmp_path: Path) -> None:
    load_texts(embed, tmp_path / "1", TEXTS)
    switch_model(embed, register_model(embed, SMALL))
    second = register_model(embed, OTHER)
    load_texts(embed, tmp_path / "2", TEXTS[:1], OTHER)
    assert not switch_model(embed, second)
    assert _current(embed) == [(SMALL.key,)]
    load_texts(embed, tmp_path / "3", TEXTS[1:], OTHER)
    assert switch_model(embed, second)
    assert _current(embed) == [(OTHER.key,)]
    assert stored(embed) == [*wanted(TEXTS, OTHER), *wanted(TEXTS, SMALL)]


def test_a_replaced_model_goes_after_its_grace(embed: psycopg.Connection, tmp_path: Path) -> None:
    ids = []
    for model in (SMALL, OTHER):
        load_texts(embed, tmp_path / model.name, TEXTS, model)
        ids.append(register_model(embed, model))
        switch_model(embed, ids[-1])
    assert drop_replaced_models(embed) == []
    assert drop_replaced_models(embed, grace="0 seconds") == [SMALL.key]
    assert stored(embed) == wanted(TEXTS, OTHER)
    assert f"search.embedding_{ids[0]}" not in _tables(embed)
    assert drop_replaced_models(embed, grace="0 seconds") == []
    # It may come back.
    load_texts(embed, tmp_path / "again", TEXTS, SMALL)
    assert stored(embed) == [*wanted(TEXTS, OTHER), *wanted(TEXTS, SMALL)]


def test_a_model_that_is_getting_its_vectors_is_not_dropped(embed: psycopg.Connection, tmp_path: Path) -> None:
    """One that searches never used is kept while nights may still fill it."""
    load_texts(embed, tmp_path / "1", TEXTS)
    switch_model(embed, register_model(embed, SMALL))
    load_texts(embed, tmp_path / "2", TEXTS[:1], OTHER)
    aged = "update search.embedding_model set last_used_at = now() - %s::interval where not is_current"
    embed.execute(aged, ("29 days",))
    assert drop_replaced_models(embed) == []
    assert stored(embed) == [*wanted(TEXTS[:1], OTHER), *wanted(TEXTS, SMALL)]
    embed.execute(aged, ("31 days",))
    assert drop_replaced_models(embed) == [OTHER.key]
    assert stored(embed) == wanted(TEXTS, SMALL)


def test_a_model_that_is_being_loaded_is_not_dropped(
    embed: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    ids = []
    for model in (SMALL, OTHER):
        load_texts(embed, tmp_path / model.name, TEXTS, model)
        ids.append(register_model(embed, model))
        switch_model(embed, ids[-1])
    with locked_for_load(as_role("revops_embed"), ids[0]):
        assert drop_replaced_models(embed, grace="0 seconds") == []
    assert drop_replaced_models(embed, grace="0 seconds") == [SMALL.key]
    assert stored(embed) == wanted(TEXTS, OTHER)


def test_the_model_that_searches_use_can_not_be_dropped(embed: psycopg.Connection, tmp_path: Path) -> None:
    load_texts(embed, tmp_path, TEXTS)
    model_id = register_model(embed, SMALL)
    switch_model(embed, model_id)
    with pytest.raises(psycopg.errors.ObjectInUse, match="searches use model"):
        embed.execute("select search.drop_vectors(%s)", (model_id,))
    embed.rollback()
    assert stored(embed) == wanted(TEXTS)


@pytest.mark.parametrize("model", [Model("wide", "w", 1025, 100), Model("long", "l", 8, 250_003)])
def test_a_model_whose_vectors_do_not_fit_is_refused(embed: psycopg.Connection, model: Model) -> None:
    with pytest.raises(EncoderError, match=r"search.embedding takes up to 1024 and 250002. Remedy: "):
        register_model(embed, model)
    assert embed.execute("select * from search.embedding_model").fetchall() == []


@pytest.mark.parametrize("role", ["revops_api", "revops_quality", "revops_transform"])
def test_only_the_embedding_step_changes_vectors(as_role: Callable[[str], psycopg.Connection], role: str) -> None:
    connection = as_role(role)
    for statement in (
        *(f"select search.{name}(1)" for name in ("begin_load", "analyze_load", "index_load", "drop_vectors")),
        "select search.finish_load(1, '1s')",
        "delete from search.embedding",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
        connection.rollback()


def test_two_runs_that_register_one_model_agree(embed: psycopg.Connection, warehouse_dsn: str) -> None:
    ids: list[int] = []

    def register() -> None:
        with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_embed")) as connection:
            ids.append(register_model(connection, SMALL))

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_searches_go_on_while_the_model_changes(embed: psycopg.Connection, warehouse_dsn: str, tmp_path: Path) -> None:
    """Every answer comes from one model, and none fails: neither while vectors are swapped nor at the change."""
    load_texts(embed, tmp_path / "1", TEXTS)
    switch_model(embed, register_model(embed, SMALL))
    # By model: the cosine of a text with itself is 1, of a vector of the other model it could not be.
    expected = {model.key: (TEXTS[0], 1.0) for model in (SMALL, OTHER)}
    answers: Counter[str] = Counter()
    failures: list[BaseException] = []
    ended = threading.Event()

    def search() -> None:
        try:
            with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_api")) as warehouse:
                while not ended.is_set():
                    (key,) = _current(warehouse)[0]
                    vectors = query_of(TEXTS[0], SMALL if key == SMALL.key else OTHER)
                    hits = find_documents(warehouse, TEXTS[0], vectors)
                    assert (hits[0].title, round(hits[0].scores["dense"], 2)) == expected[key]
                    assert [hit.title for hit in hits] == TEXTS
                    answers[key] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(3):
        load_texts(embed, tmp_path / f"again {turn}", TEXTS)
        embed.execute("delete from search.embedding where model_id = %s", (register_model(embed, OTHER),))
        embed.commit()
        load_texts(embed, tmp_path / f"other {turn}", TEXTS, OTHER)
    before = dict(answers)
    assert switch_model(embed, register_model(embed, OTHER))
    while answers[OTHER.key] < 20 and not failures:
        ended.wait(0.01)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(before) == {SMALL.key}
    assert set(answers) == {SMALL.key, OTHER.key}


def test_a_query_of_a_model_that_is_gone_is_refused(embed: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="nothing has been embedded yet"):
        find_documents(embed, "lake", query_of("lake"))
    for model in (SMALL, OTHER):
        load_texts(embed, tmp_path / model.name, TEXTS, model)
        switch_model(embed, register_model(embed, model))
    assert find_documents(embed, "lake", query_of("lake", SMALL))
    drop_replaced_models(embed, grace="0 seconds")
    with pytest.raises(SearchError, match=f"encoded with model {SMALL.key}, the documents with {OTHER.key}"):
        find_documents(embed, "lake", query_of("lake", SMALL))
