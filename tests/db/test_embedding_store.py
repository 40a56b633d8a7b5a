"""Loads of vectors: what is stored, what is refused, and what is left when a load is killed or meets another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import structlog
from psycopg.conninfo import make_conninfo
from vectors import (
    INDEX_MEMORY,
    OTHER,
    SMALL,
    add_documents,
    dense_of,
    hash_of,
    load_texts,
    stored,
    wanted,
    write_vectors,
)

from revops.embedding import models, rebuild, store
from revops.embedding.encoder import EncoderError, EncoderInterruptedError
from revops.embedding.handoff import export_texts
from revops.embedding.models import register_model, swap_in, switch_model
from revops.embedding.shards import open_shards
from revops.embedding.store import load_vectors

pytestmark = pytest.mark.db

TEXTS = [f"text number {number} of many" for number in range(40)]


@pytest.fixture
def embed(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    connection = as_role("revops_embed")
    add_documents(connection, TEXTS)
    return connection


def _leftovers(warehouse: psycopg.Connection) -> list[str]:
    rows = warehouse.execute(
        r"select relname from pg_class where relname like 'embedding\_%\_next' and relkind = 'r'"
    ).fetchall()
    warehouse.commit()
    return [name for (name,) in rows]


def test_vectors_are_stored_as_the_encoder_wrote_them(embed: psycopg.Connection, tmp_path: Path) -> None:
    loaded = load_texts(embed, tmp_path, TEXTS)
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (40, 0, True)
    assert stored(embed) == wanted(TEXTS)


def test_a_text_without_any_weight_is_stored(embed: psycopg.Connection, tmp_path: Path) -> None:
    write_vectors(tmp_path, TEXTS[:1], sparse_ids=[[]], sparse_weights=[[]], truncated=[True])
    load_vectors(embed, model_id=register_model(embed, SMALL), folder=tmp_path, index_memory=INDEX_MEMORY)
    assert [row[3:] for row in stored(embed)] == [("{}/250002", [], 5, True)]


def test_a_second_load_of_the_same_files_changes_nothing(embed: psycopg.Connection, tmp_path: Path) -> None:
    load_texts(embed, tmp_path, TEXTS)
    versions = "select text_hash, encoded_at from search.embedding order by 1"
    before = embed.execute(versions).fetchall()
    loaded = load_vectors(embed, model_id=register_model(embed, SMALL), folder=tmp_path, index_memory=INDEX_MEMORY)
    assert (loaded.vectors, loaded.orphans) == (0, 0)
    assert embed.execute(versions).fetchall() == before


def test_few_new_vectors_go_into_the_live_index_and_many_into_a_new_one(
    embed: psycopg.Connection, tmp_path: Path
) -> None:
    """Up to a fifth of what is there is a few; orphans count as well."""
    table = "select 'search.embedding_' || model_id from search.embedding_model"
    load_texts(embed, tmp_path / "1", TEXTS[:30])
    ((name,),) = embed.execute(table).fetchall()
    filenode = "select pg_relation_filenode(%s)"
    first = embed.execute(filenode, (name,)).fetchone()
    loaded = load_texts(embed, tmp_path / "2", TEXTS[30:36])
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (6, 0, False)
    assert embed.execute(filenode, (name,)).fetchone() == first
    assert stored(embed) == wanted(TEXTS[:36])
    embed.execute("delete from search.document where text = any(%s)", (TEXTS[:5],))
    embed.commit()
    loaded = load_texts(embed, tmp_path / "3", TEXTS[36:])
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (4, 5, True)
    assert embed.execute(filenode, (name,)).fetchone() != first
    assert stored(embed) == wanted(TEXTS[5:])
    assert _leftovers(embed) == []


def test_orphans_go_and_texts_that_other_documents_have_stay(embed: psycopg.Connection, tmp_path: Path) -> None:
    add_documents(embed, [{"text": TEXTS[0], "entity": "account"}])
    load_texts(embed, tmp_path / "1", TEXTS)
    embed.execute("delete from search.document where entity = 'odoo_opportunity' and text = any(%s)", (TEXTS[:3],))
    embed.commit()
    loaded = load_vectors(
        embed, model_id=register_model(embed, SMALL), folder=tmp_path / "nothing", index_memory=INDEX_MEMORY
    )
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (0, 2, False)
    assert stored(embed) == wanted([TEXTS[0], *TEXTS[3:]])


def test_a_text_given_twice_is_stored_once(embed: psycopg.Connection, tmp_path: Path) -> None:
    write_vectors(tmp_path, TEXTS, name="a")
    write_vectors(tmp_path, [*TEXTS[:5], *TEXTS[:5], "without a document"], name="b")
    loaded = load_vectors(embed, model_id=register_model(embed, SMALL), folder=tmp_path, index_memory=INDEX_MEMORY)
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (40, 1, True)
    assert stored(embed) == wanted(TEXTS)


def _bent(value: float) -> np.ndarray:
    vector = dense_of(TEXTS[1])
    vector[3] = value
    return vector


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model_key": "stranger"}, "made with model_key stranger, expected small:key"),
    "dimensions said": ({"dim": "9"}, "made with dim 9, expected 8"),
    "tokens said": ({"sparse_dim": "250002"}, "made with sparse_dim 250002, expected 100"),
    "dimensions": ({"dense": [np.eye(9)[0], np.eye(9)[1]]}, "dense vectors of 9 dimensions, not 8"),
    "not a number": ({"dense": [dense_of(TEXTS[0]), _bent(np.nan)]}, "not finite"),
    "infinite": ({"dense": [dense_of(TEXTS[0]), _bent(np.inf)]}, "not finite"),
    "not of unit length": ({"dense": [dense_of(TEXTS[0]), 2 * dense_of(TEXTS[1])]}, "not of unit length"),
    "all zero": ({"dense": [dense_of(TEXTS[0]), np.zeros(8)]}, "not of unit length"),
    "token too large": ({"sparse_ids": [[1], [100]], "sparse_weights": [[1], [1]]}, "tokens outside of 0 to 99"),
    "token negative": ({"sparse_ids": [[1], [-1]], "sparse_weights": [[1], [1]]}, "tokens outside of 0 to 99"),
    "tokens unsorted": ({"sparse_ids": [[1], [5, 2]], "sparse_weights": [[1], [1, 1]]}, "do not ascend"),
    "weight of nothing": ({"sparse_ids": [[1], [5, 7]], "sparse_weights": [[1], [1]]}, "more tokens than weights"),
    "weight zero": ({"sparse_ids": [[1], [5]], "sparse_weights": [[1], [0]]}, "not positive"),
    "weight not a number": ({"sparse_ids": [[1], [5]], "sparse_weights": [[1], [np.nan]]}, "not positive"),
    "hash": ({"text_hash": [hash_of(TEXTS[0]), b"short"]}, "not of 32 bytes"),
    "nothing": ({"tokens": [1, None]}, "rows without a value"),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("fault", list(WRONG))
def test_a_wrong_shard_is_refused_as_a_whole(
    embed: psycopg.Connection, tmp_path: Path, fault: str, is_first: bool
) -> None:
    kept = [] if is_first else TEXTS[2:]
    if kept:
        load_texts(embed, tmp_path / "good", kept)
    changes, message = WRONG[fault]
    path = write_vectors(tmp_path / "bad", TEXTS[:2], **changes)
    model_id = register_model(embed, SMALL)
    with pytest.raises(EncoderError, match=message) as raised:
        load_vectors(embed, model_id=model_id, folder=tmp_path / "bad", index_memory=INDEX_MEMORY)
    embed.rollback()
    assert str(path) in str(raised.value)
    assert "Remedy: " in str(raised.value)
    assert not any(text in str(raised.value) for text in TEXTS)
    assert stored(embed) == wanted(kept)


def test_a_damaged_file_is_named(embed: psycopg.Connection, tmp_path: Path) -> None:
    path = write_vectors(tmp_path, TEXTS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(EncoderError, match=f"{path.name} is no Parquet file or damaged"):
        open_shards(tmp_path, SMALL)


@pytest.mark.parametrize("stage", ["copying", "indexing", "swapping", "inserting"])
def test_a_load_that_is_killed_is_repeated(
    embed: psycopg.Connection,
    as_role: Callable[[str], psycopg.Connection],
    warehouse_dsn: str,
    tmp_path: Path,
    stage: str,
) -> None:
    """The server's process of the load is ended in the midst of its work."""
    before = TEXTS[:36] if stage == "inserting" else TEXTS[:10]
    load_texts(embed, tmp_path / "1", before)
    model_id = register_model(embed, SMALL)
    write_vectors(tmp_path / "2", TEXTS)

    def end() -> None:
        with psycopg.connect(warehouse_dsn) as killer:
            killer.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))

    def kill(*arguments: Any, **named: Any) -> None:
        end()
        victim.execute("select 1")

    with pytest.MonkeyPatch.context() as patched:
        victim = as_role("revops_embed")
        at = {"copying": (rebuild, "read_copies"), "inserting": (store, "read_copies")}
        at |= {"indexing": (rebuild, "_index"), "swapping": (rebuild, "swap_in")}
        module, name = at[stage]
        if name == "read_copies":
            real = getattr(module, name)

            def broken(*arguments: Any, **named: Any) -> Any:
                yield from real(*arguments, **named)
                end()
                yield from real(*arguments, **named)

            patched.setattr(module, name, broken)
        else:
            patched.setattr(module, name, kill)
        folder = tmp_path / "2"
        if stage == "inserting":
            folder = tmp_path / "3"
            write_vectors(folder, TEXTS[36:])
        with pytest.raises(psycopg.Error):
            load_vectors(victim, model_id=model_id, folder=folder, index_memory=INDEX_MEMORY)
    assert victim.closed
    assert stored(embed) == wanted(before)
    assert len(_leftovers(embed)) == (0 if stage == "inserting" else 1)
    # The retry's session has a lock that the dead one lost.
    load_vectors(embed, model_id=model_id, folder=tmp_path / "2", index_memory=INDEX_MEMORY)
    assert stored(embed) == wanted(TEXTS)
    assert _leftovers(embed) == []


def test_two_loads_at_once_follow_each_other(embed: psycopg.Connection, warehouse_dsn: str, tmp_path: Path) -> None:
    model_id = register_model(embed, SMALL)
    parts = [TEXTS[:25], TEXTS[15:]]
    failures: list[BaseException] = []

    def load(number: int) -> None:
        folder = tmp_path / str(number)
        write_vectors(folder, parts[number])
        try:
            with psycopg.connect(make_conninfo(warehouse_dsn, options="-c role=revops_embed")) as connection:
                load_vectors(connection, model_id=model_id, folder=folder, index_memory=INDEX_MEMORY)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stored(embed) == wanted(TEXTS)


def test_a_text_that_comes_back_during_a_load_keeps_its_vector(
    embed: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    """The export has seen the vector and did not write the text again."""
    load_texts(embed, tmp_path / "1", TEXTS[:3])
    model_id = register_model(embed, SMALL)
    embed.execute("delete from search.document where text = %s", (TEXTS[0],))
    embed.commit()
    writer = as_role("revops_embed")

    def come_back(warehouse: psycopg.Connection, of_model: int) -> int:
        add_documents(writer, [{"text": TEXTS[0], "entity": "account"}])
        assert export_texts(writer, model_id=of_model, source="odoo", folder=tmp_path / "out") == 37
        return swap_in(warehouse, of_model)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rebuild, "swap_in", come_back)
        write_vectors(tmp_path / "2", TEXTS[3:6])
        loaded = load_vectors(embed, model_id=model_id, folder=tmp_path / "2", index_memory=INDEX_MEMORY)
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (3, 0, True)
    assert stored(embed) == wanted(TEXTS[:6])


def test_a_long_search_delays_the_swap_but_no_other_search(
    embed: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    load_texts(embed, tmp_path / "1", TEXTS[:20])
    long, short = as_role("revops_api"), as_role("revops_api")
    long.execute("select count(*) from search.embedding")

    def wait(seconds: float) -> None:
        assert short.execute("select count(*) from search.embedding").fetchone() == (20,)
        short.rollback()
        long.rollback()

    with pytest.MonkeyPatch.context() as patched, structlog.testing.capture_logs() as events:
        patched.setattr(models.time, "sleep", wait)
        load_texts(embed, tmp_path / "2", TEXTS[20:])
    assert "somebody holds the vectors; the swap waits" in [event["event"] for event in events]
    assert stored(embed) == wanted(TEXTS)


def test_who_gives_way_after_a_second_is_waited_for(
    embed: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], warehouse_dsn: str, tmp_path: Path
) -> None:
    """As an autovacuum does: it ends for whoever has waited for longer than deadlock_timeout."""
    load_texts(embed, tmp_path / "1", TEXTS[:20])
    holder = as_role("revops_embed")
    holder.execute("lock table search.embedding in share update exclusive mode")
    waiting = "select count(*) from pg_locks where relation = 'search.embedding'::regclass and not granted"
    loaded = threading.Event()

    def give_way() -> None:
        with psycopg.connect(warehouse_dsn, autocommit=True) as watcher:
            waited = 0.0
            while waited < 1.2 and not loaded.is_set():
                (count,) = watcher.execute(waiting).fetchone() or (0,)
                waited = waited + 0.05 if count else 0.0
                loaded.wait(0.05)
        holder.rollback()

    thread = threading.Thread(target=give_way)
    thread.start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "SWAP_PATIENCE_S", 20.0)
        try:
            load_texts(embed, tmp_path / "2", TEXTS[20:])
        finally:
            loaded.set()
            thread.join()
    assert stored(embed) == wanted(TEXTS)


def test_vectors_that_stay_held_are_a_reason_to_try_again(
    embed: psycopg.Connection, as_role: Callable[[str], psycopg.Connection], tmp_path: Path
) -> None:
    load_texts(embed, tmp_path / "1", TEXTS[:20])
    dump = as_role("revops_api")
    dump.execute("select count(*) from search.embedding")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "SWAP_PATIENCE_S", 0.0)
        with pytest.raises(EncoderInterruptedError, match=r"search.embedding was held .* Remedy: end long"):
            load_texts(embed, tmp_path / "2", TEXTS[20:])
    dump.rollback()
    assert stored(embed) == wanted(TEXTS[:20])
    assert load_texts(embed, tmp_path / "2", TEXTS[20:]).vectors == 20
    assert stored(embed) == wanted(TEXTS)


def test_what_is_built_aside_is_analyzed(embed: psycopg.Connection, warehouse_dsn: str, tmp_path: Path) -> None:
    """The statements that compare it with what is stored are planned for as many rows as there are."""
    said: list[str] = []
    embed.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    planned: list[tuple[Any, ...]] = []
    merge = rebuild._merge

    def look(*arguments: Any) -> tuple[int, int]:
        merged = merge(*arguments)
        planned.extend(
            embed.execute(
                "select c.reltuples from pg_class c where c.relname like 'embedding%next' and c.relkind = 'r'"
            ).fetchall()
        )
        return merged

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rebuild, "_merge", look)
        load_texts(embed, tmp_path, TEXTS)
    assert planned == [(40.0,)]
    assert not [message for message in said if "permission denied" in message]


def test_the_texts_of_one_source_that_lack_a_vector_are_exported(embed: psycopg.Connection, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    add_documents(embed, [{"text": "of ACE", "source_system": "ace"}, {"text": TEXTS[9], "entity": "account"}])
    load_texts(embed, tmp_path / "1", TEXTS[:5])
    ids = [register_model(embed, model) for model in (SMALL, OTHER)]
    counts = [
        export_texts(embed, model_id=model_id, source=source, folder=tmp_path / source / str(model_id))
        for source in ("odoo", "ace")
        for model_id in ids
    ]
    assert counts == [35, 40, 1, 1]
    table = pq.read_table(tmp_path / "odoo" / str(ids[0]))
    assert sorted(zip(*table.to_pydict().values(), strict=True)) == sorted((hash_of(text), text) for text in TEXTS[5:])


def test_one_changed_text_in_a_hundred_is_all_that_is_exported(embed: psycopg.Connection, tmp_path: Path) -> None:
    texts = [f"one of a thousand {number}" for number in range(1_000)]
    add_documents(embed, [{"text": text, "entity": "account"} for text in texts])
    load_texts(embed, tmp_path / "1", [*TEXTS, *texts])
    model_id = register_model(embed, SMALL)
    # Another stage or amount is not another text.
    embed.execute("update search.document set stage = 'Won', amount = 5, template_version = 9")
    changed = [f"{text}, changed" for text in texts[::100]]
    for old, new in zip(texts[::100], changed, strict=True):
        embed.execute("update search.document set text = %s, text_hash = %s where text = %s", (new, hash_of(new), old))
    embed.commit()
    assert export_texts(embed, model_id=model_id, source="odoo", folder=tmp_path / "out") == 10
    loaded = load_texts(embed, tmp_path / "2", changed)
    assert (loaded.vectors, loaded.orphans, loaded.is_rebuilt) == (10, 10, False)
    assert stored(embed) == wanted([*TEXTS, *(text for at, text in enumerate(texts) if at % 100), *changed])
    assert export_texts(embed, model_id=model_id, source="odoo", folder=tmp_path / "out") == 0


def test_common_words_and_tokens_are_counted_when_enough_has_changed(embed: psycopg.Connection, tmp_path: Path) -> None:
    words = "select lexeme, documents from search.lexeme where lexeme in ('many', 'number', '39') order by 1"
    load_texts(embed, tmp_path / "1", TEXTS)
    switch_model(embed, register_model(embed, SMALL))
    assert embed.execute(words).fetchall() == [("39", 1), ("many", 40), ("number", 40)]
    common = embed.execute("select token, texts from search.token_frequency order by 1").fetchall()
    assert common == sorted((token, texts) for token, texts in _frequencies(TEXTS).items() if texts >= 20)
    embed.execute("delete from search.document where text = any(%s)", (TEXTS[38:],))
    embed.commit()
    model_id = register_model(embed, SMALL)
    load_vectors(embed, model_id=model_id, folder=tmp_path / "nothing", index_memory=INDEX_MEMORY)
    assert embed.execute(words).fetchall() == [("39", 1), ("many", 40), ("number", 40)]
    embed.execute("delete from search.document where text = %s", (TEXTS[37],))
    embed.commit()
    load_vectors(embed, model_id=model_id, folder=tmp_path / "nothing", index_memory=INDEX_MEMORY)
    assert embed.execute(words).fetchall() == [("many", 37), ("number", 37)]


def _frequencies(texts: list[str]) -> dict[int, int]:
    from collections import Counter

    from vectors import sparse_of

    return Counter(token for text in texts for token in sparse_of(text))


@pytest.mark.parametrize(("memory", "is_enough"), [(1 << 20, False), (INDEX_MEMORY, True)])
def test_an_index_is_built_within_the_memory_that_it_may_have(
    embed: psycopg.Connection, tmp_path: Path, memory: int, is_enough: bool
) -> None:
    """What does not fit is built on disk, and the log says which setting to raise."""
    texts = [f"text {number} of a thousand" for number in range(1_000)]
    embed.execute("delete from search.document")
    add_documents(embed, texts)
    said: list[str] = []
    embed.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    write_vectors(tmp_path, texts)
    with structlog.testing.capture_logs() as events:
        load_vectors(embed, model_id=register_model(embed, SMALL), folder=tmp_path, index_memory=memory)
    warnings = [event for event in events if event["log_level"] == "warning"]
    assert [(event["needed_mb"], event["memory_mb"]) for event in warnings] == ([] if is_enough else [(67, 1)])
    assert all("REVOPS_EMBEDDING_INDEX_MEMORY" in event["remedy"] for event in warnings)
    assert any("no longer fits into maintenance_work_mem" in message for message in said) is not is_enough
    assert stored(embed) == wanted(texts)
