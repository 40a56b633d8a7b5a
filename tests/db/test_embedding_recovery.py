"""What runs that ended early had encoded: it is loaded by the next export, and their texts leave the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import structlog
from vectors import INDEX_MEMORY, OTHER, SMALL, add_documents, dense_of, stored, wanted, write_vectors

from revops.embedding import handoff
from revops.embedding.models import register_model
from revops.embedding.recovery import recover_vectors

pytestmark = pytest.mark.db

TEXTS = [f"text number {number} of a long night" for number in range(30)]
SIX_HOURS = timedelta(hours=6)


@pytest.fixture
def embed(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    connection = as_role("revops_embed")
    add_documents(connection, TEXTS)
    return connection


def _night(source: Path, name: str, texts: list[str], *, hours_ago: float = 0.0) -> Path:
    """A run's folder with the texts handed over and one finished shard, last touched so long ago."""
    folder = source / name
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "texts-0000000000.parquet").write_bytes(b"texts")
    write_vectors(folder / "out", texts)
    _age(folder, hours_ago)
    return folder


def _age(folder: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    for path in (folder / "in", folder / "out", folder):
        os.utime(path, (then, then))


def _recover(embed: psycopg.Connection, own: Path) -> int:
    return recover_vectors(
        embed,
        SMALL,
        model_id=register_model(embed, SMALL),
        own=own,
        abandoned_after=SIX_HOURS,
        index_memory=INDEX_MEMORY,
    )


def test_a_night_goes_on_where_the_last_one_stopped(embed: psycopg.Connection, tmp_path: Path) -> None:
    _night(tmp_path, "monday", TEXTS[:10], hours_ago=25)
    _night(tmp_path, "sunday", TEXTS[5:15], hours_ago=49)
    assert _recover(embed, tmp_path / "tuesday") == 15
    assert stored(embed) == wanted(TEXTS[:15])
    assert list(tmp_path.iterdir()) == []


def test_the_runs_own_shards_are_loaded_at_once(embed: psycopg.Connection, tmp_path: Path) -> None:
    """The task was cleared, or ran before."""
    own = _night(tmp_path, "tuesday", TEXTS[:10])
    assert _recover(embed, own) == 10
    assert stored(embed) == wanted(TEXTS[:10])
    assert not own.exists()


@pytest.mark.parametrize("touched", ["in", "out"])
def test_a_folder_that_another_run_may_be_using_is_left_alone(
    embed: psycopg.Connection, tmp_path: Path, touched: str
) -> None:
    other = _night(tmp_path, "by hand", TEXTS[:10], hours_ago=30)
    os.utime(other / touched)
    before = sorted(tmp_path.rglob("*"))
    assert _recover(embed, tmp_path / "tuesday") == 0
    assert stored(embed) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_shards_that_may_not_be_loaded_are_left_out(embed: psycopg.Connection, tmp_path: Path) -> None:
    """Of another model, cut off, or with a vector that is none: the good ones beside them are kept if they can be."""
    own = _night(tmp_path, "tuesday", TEXTS[:10])
    write_vectors(own / "out", TEXTS[10:12], OTHER, name="other")
    (own / "out" / "part-00009-cut.parquet").write_bytes(b"PAR1")
    wrong = _night(tmp_path, "monday", TEXTS[:0], hours_ago=25)
    write_vectors(wrong / "out", TEXTS[12:14], name="zero", dense=[dense_of(TEXTS[12]), 0 * dense_of(TEXTS[13])])
    _age(wrong, 25)
    with structlog.testing.capture_logs() as events:
        assert _recover(embed, own) == 10
    reasons = [event["reason"] for event in events if event["event"] == "vectors of an earlier try are left out"]
    assert [
        [part for part in ("no Parquet file", "model_key", "unit length") if part in reason] for reason in reasons
    ] == [["unit length"], ["model_key"], ["no Parquet file"]]
    assert stored(embed) == wanted(TEXTS[:10])
    assert list(tmp_path.iterdir()) == []


def test_without_an_earlier_run_nothing_happens(embed: psycopg.Connection, tmp_path: Path) -> None:
    assert _recover(embed, tmp_path / "nowhere" / "tuesday") == 0
    assert stored(embed) == []


def test_a_folder_that_can_not_be_removed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(handoff.shutil, "rmtree", refuse)
    with structlog.testing.capture_logs() as events:
        handoff.remove_folder(tmp_path)
    assert [(event["log_level"], event["folder"]) for event in events] == [("warning", str(tmp_path))]
