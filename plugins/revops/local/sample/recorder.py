"""Count what a day changes, row by row, side effects of deletes included."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import Cursor, sql

Key = object
Counts = dict[str, dict[str, int]]
# Where one row is changed in several ways, the first of these counts.
KINDS = ("inserted", "deleted", "updated", "silent")


class Recorder:
    """Remember the keys of changed rows by table and kind.

    inserted and deleted are rows; updated rows moved their write date (ACE: updated_at); silent ones changed
    without moving it. Other kinds are plain numbers.
    """

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, set[Key]]] = {}
        self._numbers: Counts = {}

    def add(self, table: str, kind: str, keys: Iterable[Key]) -> None:
        """Note rows of one of KINDS; rows noted twice count once."""
        self._keys.setdefault(table, {}).setdefault(kind, set()).update(keys)

    def number(self, table: str, kind: str, count: int) -> None:
        """Add to a number beside the rows, such as merged (of the deleted ones) or column_added."""
        numbers = self._numbers.setdefault(table, {})
        numbers[kind] = numbers.get(kind, 0) + count

    def counts(self) -> Counts:
        """Return the count of each table and kind; kinds without rows are left out."""
        found: Counts = {}
        for table, by_kind in self._keys.items():
            seen: set[Key] = set()
            for kind in KINDS:
                fresh = by_kind.get(kind, set()) - seen
                seen |= fresh
                if fresh:
                    found.setdefault(table, {})[kind] = len(fresh)
        for table, numbers in self._numbers.items():
            found.setdefault(table, {}).update(numbers)
        return found


def references(cursor: Cursor[tuple[object, ...]], table: str) -> list[tuple[str, str, str]]:
    """Return (table, column, on delete) of each foreign key to `table`: n set null, c cascade, r restrict."""
    cursor.execute(
        "select r.relname, a.attname, c.confdeltype::text"
        " from pg_constraint c join pg_class r on r.oid = c.conrelid"
        " join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]"
        " where c.contype = 'f' and c.confrelid = %s::regclass order by 1, 2",
        [table],
    )
    return [(str(child), str(column), str(action)) for child, column, action in cursor]


def keys_of(cursor: Cursor[tuple[object, ...]], table: str, column: str, values: list[object]) -> list[Key]:
    """Return the keys of the rows of `table` whose `column` is one of `values`."""
    key = "lead_id, tag_id" if table == "crm_tag_rel" else "id"
    cursor.execute(
        sql.SQL("select {} from {} where {} = any(%s) order by 1").format(
            sql.SQL(key), sql.Identifier(table), sql.Identifier(column)
        ),
        [values],
    )
    return [row if len(row) > 1 else row[0] for row in cursor]


def delete_rows(cursor: Cursor[tuple[object, ...]], table: str, ids: list[object], *, recorder: Recorder) -> None:
    """Delete rows for good, noting links that go with them and references that become null silently.

    Raises psycopg's RestrictViolation or ForeignKeyViolation where a row is held by another. Does not commit.
    """
    for child, column, action in references(cursor, table):
        touched = keys_of(cursor, child, column, ids)
        recorder.add(child, "deleted" if action == "c" else "silent", touched)
    cursor.execute(sql.SQL("delete from {} where id = any(%s)").format(sql.Identifier(table)), [ids])
    recorder.add(table, "deleted", ids)
