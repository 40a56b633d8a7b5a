"""The models that vectors were made with, and which of them searches use."""

from __future__ import annotations

import psycopg

from revops.embedding.encoder import Model


def register_model(warehouse: psycopg.Connection, model: Model) -> int:
    """Return the model's id in search.embedding_model, made where it is new; commits."""
    row = warehouse.execute(
        "insert into search.embedding_model (model_key, name, dimensions, sparse_dimensions) values (%s, %s, %s, %s) "
        "on conflict (model_key) do update set name = excluded.name returning model_id",
        (model.key, model.name, model.dimensions, model.sparse_dimensions),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    warehouse.commit()
    return int(row[0])


def switch_model(warehouse: psycopg.Connection, model_id: int) -> bool:
    """Search with a model from now on, once it has a vector for every document; return whether it is current. Commits.

    Until then searches go on with the model before; the very first model is current at once.
    """
    warehouse.execute("select pg_advisory_xact_lock(hashtextextended('switch model', 0))")
    row = warehouse.execute(
        "select m.is_current, not exists (select from search.embedding_model where is_current) or not exists ("
        " select from search.document d where not exists ("
        " select from search.embedding e where e.model_id = m.model_id and e.text_hash = d.text_hash)) "
        "from search.embedding_model m where m.model_id = %s",
        (model_id,),
    ).fetchone()
    is_current, is_complete = row or (False, False)
    if not is_current and is_complete:
        warehouse.execute("update search.embedding_model set is_current = false where is_current")
        warehouse.execute("update search.embedding_model set is_current = true where model_id = %s", (model_id,))
    warehouse.commit()
    return bool(is_current or is_complete)
