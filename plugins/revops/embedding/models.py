"""The models that vectors were made with: registered, switched to when complete, and dropped when replaced."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom

import psycopg
import structlog
from psycopg import errors, sql

from revops.embedding.encoder import EncoderError, EncoderInterruptedError, Model
from revops.embedding.shards import DENSE_DIMENSIONS, SPARSE_DIMENSIONS

log = structlog.get_logger(__name__)

# A replaced model stays until a later load: queries that began before it was replaced end meanwhile.
GRACE = "1 hour"
# One that never had a vector for every document may be in the midst of getting them, night by night.
UNFINISHED_GRACE = "30 days"
# A swap gives up after half a second behind a long search and comes again; for so long a dump may hold the vectors.
SWAP_PATIENCE_S = 3600.0
LONGEST_PAUSE_S = 30.0
LOCK_WAIT = "500ms"
# PostgreSQL ends an autovacuum for who has waited longer than deadlock_timeout, a second: every fifth time.
LONG_LOCK_WAIT = "2s"
LONG_WAIT_EVERY = 5
_random = SystemRandom()


def register_model(warehouse: psycopg.Connection, model: Model) -> int:
    """Return the model's id in search.embedding_model, made where it is new, with a place for its vectors; commits.

    Raises EncoderError where its vectors do not fit the columns of search.embedding.
    """
    if not 1 <= model.dimensions <= DENSE_DIMENSIONS or not 1 <= model.sparse_dimensions <= SPARSE_DIMENSIONS:
        raise EncoderError(
            f"model {model.name} has {model.dimensions} dimensions and {model.sparse_dimensions} tokens, but "
            f"search.embedding takes up to {DENSE_DIMENSIONS} and {SPARSE_DIMENSIONS}. "
            "Remedy: set REVOPS_EMBEDDING_MODEL to another model."
        )
    row = warehouse.execute(
        "insert into search.embedding_model (model_key, name, dimensions, sparse_dimensions) values (%s, %s, %s, %s) "
        "on conflict (model_key) do update set name = excluded.name, last_used_at = now() returning model_id",
        (model.key, model.name, model.dimensions, model.sparse_dimensions),
    ).fetchone()
    if row is None:
        raise AssertionError("insert ... returning returns a row")
    warehouse.commit()
    model_id = int(row[0])
    with locked_for_load(warehouse, model_id):
        if not has_vectors_table(warehouse, model_id):
            warehouse.execute("select search.begin_load(%s)", (model_id,))
            warehouse.execute("select search.index_load(%s)", (model_id,))
            warehouse.commit()
            swap_in(warehouse, model_id)
    return model_id


def read_model(warehouse: psycopg.Connection, model_id: int) -> Model:
    """Return a registered model; raises EncoderError where there is none of this id."""
    row = warehouse.execute(
        "select name, model_key, dimensions, sparse_dimensions from search.embedding_model where model_id = %s",
        (model_id,),
    ).fetchone()
    if row is None:
        raise EncoderError(f"search.embedding_model has no model {model_id}. Remedy: clear the task `embed.export`.")
    return Model(*row)


def current_model(warehouse: psycopg.Connection) -> Model | None:
    """Return the model that searches use, None before the first load."""
    row = warehouse.execute(
        "select name, model_key, dimensions, sparse_dimensions from search.embedding_model where is_current"
    ).fetchone()
    return Model(*row) if row else None


def has_vectors_table(warehouse: psycopg.Connection, model_id: int) -> bool:
    """Tell whether search.embedding has a partition for the model."""
    row = warehouse.execute(
        "select exists (select from pg_inherits where inhparent = 'search.embedding'::regclass "
        "and inhrelid = to_regclass(%s))",
        (f"search.embedding_{model_id}",),
    ).fetchone()
    return row == (True,)


@contextmanager
def locked_for_load(warehouse: psycopg.Connection, model_id: int) -> Iterator[None]:
    """Let only this session change the vectors of a model, over several transactions. Another load is waited for."""
    key = _load_key(model_id)
    with warehouse.transaction():
        # The other load may be building an index; how long this one may wait is up to the task's own time-out.
        warehouse.execute("select set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)")
        warehouse.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))
    try:
        yield
    finally:
        if not warehouse.closed:
            warehouse.rollback()
            warehouse.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
            warehouse.commit()


def swap_in(warehouse: psycopg.Connection, model_id: int) -> int:
    """Put what was built aside in the place of the model's vectors; return how many old ones came back. Commits.

    Searches go on but for an instant. Raises EncoderInterruptedError where others held them for an hour.
    """
    deadline = time.monotonic() + SWAP_PATIENCE_S
    for attempt in itertools.count(1):
        lock_wait = LOCK_WAIT if attempt % LONG_WAIT_EVERY else LONG_LOCK_WAIT
        try:
            row = warehouse.execute("select search.finish_load(%s, %s)", (model_id, lock_wait)).fetchone()
            warehouse.commit()
        except errors.LockNotAvailable:
            warehouse.rollback()
            if time.monotonic() > deadline:
                break
            log.info("somebody holds the vectors; the swap waits", attempt=attempt)
            time.sleep(_random.uniform(0.2, min(LONGEST_PAUSE_S, 0.5 * attempt)))
        else:
            return int(row[0]) if row else 0
    raise EncoderInterruptedError(
        f"search.embedding was held for {SWAP_PATIENCE_S / 60:.0f} minutes, so that its new vectors could not be put "
        "in place. Remedy: end long transactions that read it (a dump, a report: pg_stat_activity); a retry builds them"
        " anew."
    )


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
        warehouse.execute(
            "update search.embedding_model set is_current = false, was_current = true, last_used_at = now() "
            "where is_current"
        )
        warehouse.execute(
            "update search.embedding_model set is_current = true, was_current = false, last_used_at = now() "
            "where model_id = %s",
            (model_id,),
        )
    warehouse.commit()
    return bool(is_current or is_complete)


def drop_replaced_models(warehouse: psycopg.Connection, *, grace: str = GRACE) -> list[str]:
    """Drop the vectors of models that searches do not use, unless they were used within the grace; return their keys.

    A model that searches never used is kept for a month: it may be getting its vectors. Commits each. One that is being
    loaded, or that searches hold on to, is left to the next load.
    """
    warehouse.commit()
    replaced = warehouse.execute(
        "select model_id, model_key from search.embedding_model where not is_current "
        "and exists (select from search.embedding_model where is_current) "
        "and last_used_at < now() - (case when was_current then %s else %s end)::interval "
        "and to_regclass('search.embedding_' || model_id) is not null order by model_id",
        (grace, UNFINISHED_GRACE),
    ).fetchall()
    warehouse.commit()
    dropped = []
    for model_id, model_key in replaced:
        try:
            _lock_unless_loading(warehouse, model_id)
            warehouse.execute(sql.SQL("select search.drop_vectors({})").format(sql.Literal(model_id)))
            warehouse.commit()
        except (errors.LockNotAvailable, errors.ObjectInUse) as error:
            warehouse.rollback()
            log.info("vectors are kept for now", model_key=model_key, reason=type(error).__name__)
        else:
            log.info("vectors of a replaced model dropped", model_key=model_key)
            dropped.append(str(model_key))
    return dropped


def _lock_unless_loading(warehouse: psycopg.Connection, model_id: int) -> None:
    """Keep loads of the model out until the transaction ends; raises LockNotAvailable where one is at work."""
    row = warehouse.execute(
        "select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (_load_key(model_id),)
    ).fetchone()
    if row != (True,):
        raise errors.LockNotAvailable("a load of this model is at work")


def _load_key(model_id: int) -> str:
    return f"search.embedding load {model_id}"
