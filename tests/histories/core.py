"""Core as whole row sets: what two ways of computing it must agree on, and what its records must add up to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from revops.transform.run import TransformResult, transform_table
from revops.transform.targets import TARGETS, core_tables

SOURCES = ("odoo", "ace")
# What tells a row apart; the views stand on several tables.
KEYS = {target.name: target.key for target in TARGETS.values() if target.schema == "core"} | {
    "opportunity": ("source_system", "source_id"),
    "person": ("source_system", "source_id"),
}
# By which run a row was written differs from one way to the other.
_HIDDEN = ("transform_run_id",)
_SAMPLE = 4

Row = dict[str, str | None]
Table = dict[tuple[str | None, ...], Row]


class CoreDiffersError(AssertionError):
    """Core, or a record of a transform, is not what it must be."""


@dataclass(frozen=True)
class Core:
    """Rows by key of each table and view of core, values as PostgreSQL prints them; and what is in quarantine."""

    tables: dict[str, Table]
    quarantine: set[tuple[str, ...]]

    def assert_equal(self, rebuilt: Core) -> None:
        """Raise CoreDiffersError with the table and keys that differ from core rebuilt from scratch."""
        faults = [
            fault
            for name, table in rebuilt.tables.items()
            if (fault := _describe(f"core.{name}", table, self.tables[name]))
        ]
        if missing := sorted(rebuilt.quarantine - self.quarantine):
            faults.append(f"ops.quarantine lacks {missing[:_SAMPLE]}")
        if extra := sorted(self.quarantine - rebuilt.quarantine):
            faults.append(f"ops.quarantine still has {extra[:_SAMPLE]}")
        if faults:
            raise CoreDiffersError("incremental core differs from core rebuilt from scratch:\n" + "\n".join(faults))


@dataclass(frozen=True)
class Transforms:
    """The transforms of both sources. owner: sees everything; worker: does the work, with the rights of its role."""

    owner: psycopg.Connection
    worker: psycopg.Connection
    include: Path

    def run(self, name: str, source: str, run_id: str) -> TransformResult:
        """Transform one table as its task does; raise CoreDiffersError where its records don't add up."""
        target = TARGETS[name]
        before = self._count(name, None if target.is_shared else source)
        result = transform_table(self.worker, target=target, source=source, run_id=run_id, include=self.include)
        after = self._count(name, None if target.is_shared else source)
        if after - before != result.inserted - result.deleted:
            raise CoreDiffersError(f"core.{name} had {before} rows and has {after} after {result}")
        self._assert_recorded(name, source, result)
        if result.full_reason is not None and after != result.read - result.quarantined:
            raise CoreDiffersError(f"core.{name} has {after} rows after {result}")
        return result

    def read(self) -> Core:
        """Return core as it is."""
        tables = {name: self._read_table(name) for name in KEYS}
        entries = self.owner.execute(
            "select target, source, source_key, rule from ops.quarantine where released_at is null"
        ).fetchall()
        return Core(tables, set(entries))

    def rebuild(self, run_id: str) -> Core:
        """Return core as it is once it has been emptied and computed anew; the quarantine's history stays as it was."""
        tables = sql.SQL(", ").join(
            sql.Identifier("core", target.name) for target in TARGETS.values() if target.schema == "core"
        )
        self.owner.execute(sql.SQL("truncate {}, ops.transform_state").format(tables))
        self.owner.execute("create temp table history as select * from ops.quarantine; truncate ops.quarantine")
        for source in SOURCES:
            for name in core_tables(source):
                self.run(name, source, run_id)
        rebuilt = self.read()
        self.owner.execute(
            "truncate ops.quarantine; insert into ops.quarantine select * from history; drop table history"
        )
        return rebuilt

    def _assert_recorded(self, name: str, source: str, result: TransformResult) -> None:
        row = self.owner.execute(
            "select transform_run_id, status, rows_read, inserted, updated, unchanged, quarantined, deleted, fixed, "
            "warned, full_reason, scope from ops.transform_run where source = %s and target = %s "
            "order by transform_run_id desc limit 1",
            (source, f"core.{name}"),
        ).fetchone()
        wanted = (
            "succeeded", result.read, result.inserted, result.updated, result.unchanged, result.quarantined,
            result.deleted, result.fixed, result.warned, result.full_reason, result.scope,
        )  # fmt: skip
        if row is None or row[1:] != wanted:
            raise CoreDiffersError(f"ops.transform_run says {row}, the transform {wanted}")
        if result.read != result.inserted + result.updated + result.unchanged + result.quarantined:
            raise CoreDiffersError(f"the counts don't add up: {result}")
        self._assert_rules(name, source, result, transform_run_id=row[0])

    def _assert_rules(self, name: str, source: str, result: TransformResult, *, transform_run_id: int) -> None:
        """Compare ops.rule_result with the quarantine, and, where everything was computed, with the rows' issues."""
        recorded = {
            (action, rule): rows
            for action, rule, rows in self.owner.execute(
                "select action, rule, rows from ops.rule_result where transform_run_id = %s", (transform_run_id,)
            )
        }
        # Each run computes all rows in quarantine anew.
        held = dict(
            self.owner.execute(
                "select rule, count(*) from ops.quarantine "
                "where target = %s and source = %s and released_at is null group by rule",
                (f"core.{name}", source),
            ).fetchall()
        )
        if held != {rule: rows for (action, rule), rows in recorded.items() if action == "reject" and rows}:
            raise CoreDiffersError(f"core.{name}: ops.quarantine holds {held}, ops.rule_result {recorded}")
        for action, total in (("fix", result.fixed), ("warn", result.warned)):
            if total != sum(rows for (known, _), rows in recorded.items() if known == action):
                raise CoreDiffersError(f"core.{name}: {total} rows are to {action}, ops.rule_result says {recorded}")
        if result.full_reason is None or not recorded:
            return
        shown = dict(
            self.owner.execute(
                sql.SQL(
                    "select rule, count(*) from {} cross join unnest(issues) as rule where source_system = {} "
                    "group by rule"
                ).format(sql.Identifier("core", name), sql.Literal(source))
            ).fetchall()
        )
        for (action, rule), rows in recorded.items():
            # A rejected row may break other rules too, and is in no table.
            if action != "reject" and not shown.get(rule, 0) <= rows <= shown.get(rule, 0) + result.quarantined:
                raise CoreDiffersError(f"core.{name}: {rule!r} is at {shown.get(rule, 0)} rows and counted as {rows}")

    def _count(self, name: str, source: str | None) -> int:
        condition = sql.SQL("true") if source is None else sql.SQL("source_system = {}").format(sql.Literal(source))
        row = self.owner.execute(
            sql.SQL("select count(*) from {} where {}").format(sql.Identifier("core", name), condition)
        ).fetchone()
        return int(row[0]) if row else 0

    def _read_table(self, name: str) -> Table:
        relation = sql.Identifier("core", name)
        columns = [
            column.name
            for column in self.owner.execute(sql.SQL("select * from {} limit 0").format(relation)).description or ()
            if column.name not in _HIDDEN
        ]
        listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
        rows = self.owner.execute(sql.SQL("select {} from {}").format(listed, relation)).fetchall()
        found: Table = {}
        for values in rows:
            row: dict[str, Any] = dict(zip(columns, values, strict=True))
            key = tuple(row[column] for column in KEYS[name])
            if key in found:
                raise CoreDiffersError(f"core.{name} has the key {key} twice")
            found[key] = row
        return found


def _describe(name: str, wanted: Table, found: Table) -> str:
    """Return how rows differ, with the first few keys; nothing where they are the same."""
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    changed = {
        key: {column: (found[key][column], value) for column, value in row.items() if found[key][column] != value}
        for key, row in wanted.items()
        if key in found and found[key] != row
    }
    lines = []
    if missing:
        lines.append(f"  {len(missing)} missing: {sorted(map(str, missing))[:_SAMPLE]}")
    if extra:
        lines.append(f"  {len(extra)} too many: {sorted(map(str, extra))[:_SAMPLE]}")
    if changed:
        shown = [f"{key}: {changed[key]}"[:400] for key in sorted(changed, key=str)[:_SAMPLE]]
        lines.append(f"  {len(changed)} differ (column: incremental, rebuilt):\n    " + "\n    ".join(shown))
    return "\n".join([name, *lines]) if lines else ""
