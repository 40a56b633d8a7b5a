"""The first load of a table: make it in raw and fill it, in ranges that commit one by one where it is large."""

from __future__ import annotations

from dataclasses import replace

from revops.extract import merge, periods, ranges
from revops.extract.catalog import Relation, read_relation
from revops.extract.drift import Change
from revops.extract.durability import durable_horizon, read_written
from revops.extract.errors import TableChangedError
from revops.extract.hashing import plan_hashing
from revops.extract.job import Job, Outcome
from revops.extract.ledger import record_schema, require_own
from revops.extract.merge import Merged, Pipe
from revops.extract.raw_table import RawTable, add_raw_key, create_raw_table
from revops.extract.reading import Begin, beginner
from revops.extract.settle import count_source, settle
from revops.extract.snapshot import exported_snapshot
from revops.extract.stream import agree_on_text
from revops.extract.watermark import save
from revops.extract.window import Horizon, Window, plan_window, read_horizon, xid_watermark


def first_load(job: Job, relation: Relation) -> Outcome:
    """Fill a table that raw does not have yet. Does not commit what it does to raw's table itself."""
    table = job.order.table
    job.window = Window(None, "first load")
    if table.mode == "replace_period":
        periods.require_period_columns(relation, table.period)
    # Nothing is saved yet: this only finds out now, not tomorrow, whether the mode fits the table.
    plan_window(relation, table, saved=None, now=Horizon(0, 0, relation.identity))
    raw = RawTable(job.order.config.raw_table(table), {column.name: column.type for column in relation.columns})
    pipe = job.pipe(relation, raw)
    job.ledger.enter("reading", full_read_reason=job.window.reason, expected_rows=relation.rows, format=pipe.form)
    if ranges.wants_ranges(job.source, relation, above_mb=job.order.config.ranged_above_mb):
        return _in_ranges(job, pipe)
    ranges.forget(job.warehouse, job.ledger)
    create_raw_table(job.warehouse, raw.identifier, relation)
    moved = merge.fill_table(pipe, raw.identifier, freeze=True)
    merged = Merged(moved.rows, moved.rows, bytes=moved.bytes)
    job.ledger.enter("indexing")
    add_raw_key(job.warehouse, raw.identifier, relation)
    return _finish(job, pipe, merged, read_horizon(job.source, relation))


def _in_ranges(job: Job, pipe: Pipe) -> Outcome:
    order = job.order
    # Each range takes and frees its own locks, on both sides; what was begun here would stand in their way.
    job.warehouse.rollback()
    job.source.rollback()
    with exported_snapshot(job.route.source, job.snapshot) as name:
        begin = beginner(order.config, name)
        found = _begin_again(job, begin, pipe.relation)
        # The table may have grown before this snapshot was taken.
        relation = replace(pipe.relation, rows=found.rows, pages=found.pages)
        pipe = replace(pipe, relation=relation)
        horizon, file = read_horizon(job.source, relation), ranges.read_file(job.source, relation)
        job.written = read_written(job.source)
        resumable = durable_horizon(job.source, horizon, job.written)
        job.source.rollback()
        reader = ranges.RangeReader(job.route, begin, pipe, job.ledger)
        read = ranges.load_ranges(
            reader, horizon=resumable, file=file, workers=order.table.workers, range_mb=order.config.range_mb
        )
        _begin_again(job, begin, relation)
    require_own(job.warehouse, job.ledger)
    agree_on_text(job.warehouse)
    ranges.finish_ranges(job.warehouse, job.ledger)
    job.ledger.enter("indexing", ranges=read.ranges)
    add_raw_key(job.warehouse, pipe.raw.identifier, relation)
    merged = Merged(read.streamed.rows, read.streamed.rows, bytes=read.streamed.bytes)
    if read.since is not None:
        job.ledger.enter("merging")
        by_xid = order.table.model_copy(update={"mode": "xid"})
        window = plan_window(relation, by_xid, saved=xid_watermark(read.since), now=horizon)
        merged += merge.merge_staged(pipe, merge.stage_rows(pipe, condition=window.condition))
    return _finish(job, pipe, merged, horizon)


def _finish(job: Job, pipe: Pipe, merged: Merged, horizon: Horizon) -> Outcome:
    hashing = plan_hashing(pipe.source, pipe.warehouse, pipe.relation, pipe.raw, is_first=True)
    if pipe.relation.key or hashing is not None:
        deleted, source_rows = settle(job, pipe, hashing)
    else:
        deleted, source_rows = 0, count_source(pipe)
    record_schema(job.warehouse, job.ledger, [Change("table_created")])
    save(job, horizon)
    return Outcome(merged, deleted, source_rows)


def _begin_again(job: Job, begin: Begin, relation: Relation) -> Relation:
    begin(job.source)
    found = read_relation(job.source, job.order.config.schema_name, job.order.table.candidates)
    if found is None or found.identity != relation.identity:
        raise TableChangedError(
            f"{job.order.name} was altered while it was read. Remedy: none needed, the task tries again"
        )
    return found
