"""Switching the model: searches change over only when the new one has every document."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from revops.embedding.encoder import Model
from revops.embedding.models import register_model, switch_model

pytestmark = pytest.mark.db


@pytest.fixture
def embed(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    connection = as_role("revops_embed")
    connection.execute(
        "insert into search.document (source_system, entity, entity_id, title, text, text_hash) "
        "values ('odoo', 'odoo_account', '1', 'a', 'a', 'h1'), ('ace', 'ace_account', '1', 'b', 'b', 'h2')"
    )
    connection.commit()
    return connection


def _give_vector(connection: psycopg.Connection, model_id: int, text_hash: str) -> None:
    connection.execute(
        "insert into search.embedding (text_hash, model_id, dense, sparse, tokens, is_truncated) "
        "values (%s::bytea, %s, '[1,0]', '{1:1}/9', 1, false)",
        (text_hash, model_id),
    )
    connection.commit()


def _current(connection: psycopg.Connection) -> list[tuple[str]]:
    return connection.execute("select model_key from search.embedding_model where is_current").fetchall()


def test_the_first_model_is_current_at_once(embed: psycopg.Connection) -> None:
    first = register_model(embed, Model("small", "k1", 2, 9))
    assert _current(embed) == []
    assert switch_model(embed, first)
    assert _current(embed) == [("k1",)]


def test_another_model_takes_over_when_it_has_every_document(embed: psycopg.Connection) -> None:
    switch_model(embed, register_model(embed, Model("small", "k1", 2, 9)))
    second = register_model(embed, Model("large", "k2", 2, 9))
    assert register_model(embed, Model("large", "k2", 2, 9)) == second
    _give_vector(embed, second, "h1")
    assert not switch_model(embed, second)
    assert _current(embed) == [("k1",)]
    _give_vector(embed, second, "h2")
    assert switch_model(embed, second)
    assert _current(embed) == [("k2",)]
