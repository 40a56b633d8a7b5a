"""What the catalogue says about tables that are checked, and the view of each that a check sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.quality.checks import Check

DELETED = {"raw": "_deleted_at", "core": "deleted_at"}
CORE_KEY = ("source_id",)
_UNIQUE = re.compile(r'duplicate_count\(\s*("?\w+"?(?:\s*,\s*"?\w+"?)*)\s*\)\s*=\s*0')


@dataclass(frozen=True)
class CheckedTable:
    """A table of raw or core as the catalogue has it.

    key: the columns that name a row in reports; empty when it has none. unique: sets of columns, never null, of which
    the database itself keeps every combination unique.
    """

    layer: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    unique: tuple[frozenset[str], ...] = ()

    def live_rows(self, source: str) -> sql.Composed:
        """Return the condition that rows of the source meet that are still there."""
        conditions: list[sql.Composable] = []
        if (deleted := DELETED[self.layer]) in self.columns:
            conditions.append(sql.SQL("{} is null").format(sql.Identifier(deleted)))
        if self.layer == "core" and "source_system" in self.columns:
            conditions.append(sql.SQL("source_system = {}").format(sql.Literal(source)))
        return sql.SQL("({})").format(sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true"))

    def view(self, source: str) -> sql.Composed:
        """Return the statement that puts the rows to check before the table, as a temporary view of its name.

        In core those of one source: a table that both sources fill is checked in the run of each, its own rows only.
        An account belongs to the source of its leading record.
        """
        return sql.SQL("create temp view {} as select * from {} where {}").format(
            sql.Identifier(self.name), sql.Identifier(self.layer, self.name), self.live_rows(source)
        )

    def proves(self, check: Check) -> bool:
        """Tell whether an index makes duplicates that a check looks for impossible: then nothing need be read."""
        found = _UNIQUE.fullmatch(check.line)
        if not found or check.settings:
            return False
        columns = {name.strip().strip('"') for name in found[1].split(",")}
        return any(index <= columns for index in self.unique)


def read_tables(connection: psycopg.Connection, *, layer: str, names: Sequence[str]) -> dict[str, CheckedTable]:
    """Return the tables of a layer that exist, by name. Ends no transaction."""
    columns = connection.execute(
        "select c.relname, array_agg(a.attname::text order by a.attnum) "
        "from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where c.relnamespace = to_regnamespace(%s) and c.relname = any(%s) and c.relkind in ('r', 'p') "
        "group by c.relname",
        (layer, list(names)),
    ).fetchall()
    indexes = connection.execute(
        "select c.relname, i.indisprimary, array_agg(a.attname::text order by k.position) "
        "from pg_class c join pg_index i on i.indrelid = c.oid "
        "cross join unnest(i.indkey::int2[]) with ordinality as k (attnum, position) "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum "
        "where c.relnamespace = to_regnamespace(%s) and c.relname = any(%s) and i.indisunique and i.indisvalid "
        "and i.indimmediate and i.indpred is null and i.indexprs is null and k.position <= i.indnkeyatts "
        "group by c.relname, i.indexrelid, i.indisprimary having bool_and(a.attnotnull) order by i.indexrelid",
        (layer, list(names)),
    ).fetchall()
    found = {}
    for name, listed in columns:
        primary = next((tuple(key) for table, is_primary, key in indexes if table == name and is_primary), ())
        key = primary if layer == "raw" else tuple(column for column in CORE_KEY if column in listed)
        unique = tuple(frozenset(key) for table, _, key in indexes if table == name)
        found[name] = CheckedTable(layer, name, tuple(listed), key, unique)
    return found
