"""How common words and tokens are, counted when enough has changed, so that no search has to count."""

from __future__ import annotations

import psycopg

# Of the texts that were counted. Words of new texts are found all the same; they are only taken for rare.
RECOUNT_SHARE = 0.05


def count_changes(warehouse: psycopg.Connection, *, model_id: int, changed: int) -> bool:
    """Note how many texts came or went, and count anew once it is a twentieth; return whether it was. Commits."""
    with warehouse.transaction():
        # Loads of several sources end at the same time.
        warehouse.execute("select set_config('lock_timeout', '10min', true)")
        warehouse.execute("select pg_advisory_xact_lock(hashtextextended('search.frequency_count', 0))")
        rows = warehouse.execute(
            "update search.frequency_count set changed = changed + %(changed)s where model_id in (0, %(model)s) "
            "returning model_id, changed > %(share)s * counted",
            {"changed": changed, "model": model_id, "share": RECOUNT_SHARE},
        ).fetchall()
        due: dict[int, bool] = dict(rows)
        if is_counted := due.get(0, True):
            warehouse.execute("select search.count_lexemes()")
        if due.get(model_id, True):
            warehouse.execute("select search.count_tokens(%s)", (model_id,))
            is_counted = True
    return is_counted
