"""Bring a table of raw up to date: read what has changed, merge it, mark what is gone, compare."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from psycopg import sql

from revops.extract import compare, completeness, merge, periods
from revops.extract.catalog import Relation
from revops.extract.drift import Change, align_raw_table
from revops.extract.hashing import Hashing, plan_hashing
from revops.extract.job import Job, Outcome
from revops.extract.ledger import previous_load, read_watermark, record_schema, was_absent
from revops.extract.merge import Merged, Pipe
from revops.extract.raw_table import index_changes, read_raw_key
from revops.extract.settle import count_source, require_few_deletions, settle
from revops.extract.watermark import save
from revops.extract.window import Horizon, Window, plan_window, read_horizon

log = structlog.get_logger(__name__)


def next_load(job: Job, relation: Relation) -> Outcome:
    """Load a table that raw has. Does not commit."""
    order = job.order
    name = order.config.raw_table(order.table)
    # Another key empties raw: what it had must be known before.
    is_rekeyed = read_raw_key(job.warehouse, name) != relation.key
    live = compare.count_live(job.warehouse, sql.Identifier("raw", name)) if is_rekeyed else 0
    changes, relation, raw = align_raw_table(
        job.warehouse,
        name,
        relation,
        strictness=order.table.drift,
        is_excluded=lambda name: order.config.is_excluded(order.table, name),
        is_sensitive=lambda name: order.config.sensitive_kind(order.table, name) is not None,
    )
    if was_absent(job.warehouse, job.ledger):
        changes.append(Change("table_returned"))
    record_schema(job.warehouse, job.ledger, changes)
    index_changes(job.warehouse, raw, since=previous_load(job.warehouse, job.ledger))
    horizon = read_horizon(job.source, relation)
    saved = read_watermark(job.warehouse, job.ledger)
    job.loads = int((saved or {}).get("loads", 0))
    job.window = _plan(job, relation, saved=saved, changes=changes, horizon=horizon)
    pipe = job.pipe(relation, raw)
    # How many rows a window holds is known when they have been read.
    job.ledger.expected_rows = relation.rows if job.window.is_full else 0
    job.ledger.enter(
        "reading",
        full_read_reason=job.window.reason,
        expected_rows=job.ledger.expected_rows or None,
        format=pipe.form,
    )
    outcome = _load(job, pipe, plan_hashing(pipe.source, pipe.warehouse, relation, raw), saved)
    if is_rekeyed:
        require_few_deletions(job, pipe, deleted=live - outcome.merged.inserted, live=live)
    save(job, horizon, saved=saved)
    return outcome


def _load(job: Job, pipe: Pipe, hashing: Hashing | None, saved: dict[str, Any] | None) -> Outcome:
    mode = job.order.table.mode
    if not pipe.relation.key:
        return _without_key(job, pipe, hashing)
    if mode == "replace_period" and hashing is not None and not job.window.is_full:
        return _by_period(job, pipe, hashing)
    if mode == "cursor" and not job.window.is_full:
        return _by_cursor(job, pipe, hashing, saved)
    return _by_key(job, pipe, hashing)


def _plan(
    job: Job, relation: Relation, *, saved: dict[str, Any] | None, changes: list[Change], horizon: Horizon
) -> Window:
    if job.order.full_refresh:
        return Window(None, "full_refresh was asked for")
    if rewritten := [change for change in changes if change.needs_full_read]:
        return Window(None, f"{rewritten[0]}: rows may have changed unseen")
    return plan_window(relation, job.order.table, saved=saved, now=horizon)


def _by_key(job: Job, pipe: Pipe, hashing: Hashing | None) -> Outcome:
    """Modes xid and full: one scan of the source finds what to read; keys are compared by their indexes then."""
    return Outcome(_merge(job, pipe, job.window.condition), *settle(job, pipe, hashing))


def _by_cursor(job: Job, pipe: Pipe, hashing: Hashing | None, saved: dict[str, Any] | None) -> Outcome:
    """Mode cursor: what the cursor names; from time to time everything, since not every change moves a cursor."""
    merged = _merge(job, pipe, job.window.condition)
    if _is_comparison_due(job, saved):
        merged += _repair(job, pipe, hashing)
        return Outcome(merged, *settle(job, pipe, hashing))
    if hashing is not None:
        with job.checking("checking"):
            completeness.require_same_values(
                pipe, hashing, rows=merged.read, loads=job.loads, window=job.window.condition
            )
    return Outcome(merged, 0, None)


def _is_comparison_due(job: Job, saved: dict[str, Any] | None) -> bool:
    last = (saved or {}).get("compared_at")
    if last is None:
        return True
    row = job.source.execute(
        "select now() at time zone 'UTC' - %s::timestamp >= %s",
        (last, timedelta(hours=job.order.table.compare_every_h)),
    ).fetchone()
    return row == (True,)


def _repair(job: Job, pipe: Pipe, hashing: Hashing | None) -> Merged:
    """Read the rows again whose content differs although their cursor did not move; all where that can't be told."""
    condition = None
    if hashing is not None and hashing.covers(pipe.relation):
        with job.checking("comparing"):
            condition = compare.differing_rows(pipe, hashing)
        if condition is None:
            return Merged()
    repaired = _merge(job, pipe, condition)
    job.repaired = repaired.inserted + repaired.updated
    if job.repaired:
        log.warning("rows had changed without a trace in their cursor", table=job.order.name, rows=job.repaired)
    return repaired


def _by_period(job: Job, pipe: Pipe, hashing: Hashing) -> Outcome:
    """Mode replace_period: the periods that differ, each as a whole."""
    table = job.order.table
    periods.require_period_columns(pipe.relation, table.period)
    changed = job.window.changed or sql.SQL("false")
    restated = periods.find_restated(pipe, hashing, table.period, changed=changed)
    merged, deleted = Merged(), 0
    if restated.rows:
        job.ledger.expect(sum(after for _, after in restated.rows.values()))
        in_source, in_raw = (restated.condition(pipe, in_source=side) for side in (True, False))
        merged = _merge(job, pipe, in_source)
        deleted = compare.mark_missing_where(pipe, in_source, in_raw)
        # Lines that come again under new ids are gone and there at once: what counts is what is lost.
        require_few_deletions(job, pipe, deleted=deleted - merged.inserted)
        periods.record_restated(pipe, restated, source=job.order.config.source, table=table.name)
    settled, source_rows = settle(job, pipe, hashing)
    return Outcome(merged, deleted + settled, source_rows)


def _without_key(job: Job, pipe: Pipe, hashing: Hashing | None) -> Outcome:
    """A table without key: all of it by content, unless nothing was written since and no row is missing."""
    row = pipe.source.execute(
        sql.SQL("select count(*), count(*) filter (where {}) from {}").format(
            job.window.changed or sql.SQL("true"), pipe.relation.from_clause
        )
    ).fetchone()
    live = compare.count_live(pipe.warehouse, pipe.raw.identifier)
    if not job.window.is_full and row == (live, 0):
        _require_same_content(job, pipe, hashing)
        return Outcome(Merged(), 0, live)
    staged = merge.stage_rows(pipe, condition=None)
    job.ledger.enter("merging")
    merged = merge.merge_staged_without_key(pipe, staged)
    deleted = merge.mark_unmatched(pipe)
    require_few_deletions(job, pipe, deleted=deleted - merged.inserted)
    _require_same_content(job, pipe, hashing)
    return Outcome(merged, deleted, count_source(pipe))


def _require_same_content(job: Job, pipe: Pipe, hashing: Hashing | None) -> None:
    if hashing is not None:
        with job.checking("checking"):
            completeness.require_same_values(pipe, hashing, rows=0, loads=job.loads)


def _merge(job: Job, pipe: Pipe, condition: sql.Composable | None) -> Merged:
    staged = merge.stage_rows(pipe, condition=condition)
    if not staged.rows:
        return Merged()
    job.ledger.enter("merging")
    return merge.merge_staged(pipe, staged)
