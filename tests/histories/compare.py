"""Compare raw with its source, whole rows as PostgreSQL prints them, and the records of the loads with raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.catalog import METADATA_COLUMNS
from tests.histories.shape import Field, Shape, read_shape

Lines = Counter[bytes]

# Both sides print alike, whatever the databases' own settings.
_PRINTING = (
    "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set extra_float_digits = 1;"
    "set bytea_output = 'hex'; set lc_monetary = 'C'; set client_encoding = 'UTF8'"
)


class RawDiffersError(AssertionError):
    """Raw, or the records of its loads, are not what the source says they must be."""


@dataclass(frozen=True)
class Keys:
    """What raw's rows are told apart by: their key, or all of their columns where there is none.

    columns: with their types; other columns or types make others of the same rows.
    """

    columns: tuple[tuple[str, str], ...]
    lines: Lines


@dataclass(frozen=True)
class Pair:
    """A source table and the raw table that must equal it; sessions in autocommit, that may read both.

    is_hidden: tells of a column that it is not to be compared.
    """

    source: psycopg.Connection
    warehouse: psycopg.Connection
    name: str
    raw: str
    is_hidden: Callable[[str], bool] = lambda _: False

    def prepare(self) -> None:
        """Make both sessions print values alike."""
        for connection in (self.source, self.warehouse):
            connection.execute(_PRINTING.encode())

    def exists(self) -> bool:
        """Tell whether the source has the table."""
        return bool(read_shape(self.source, self.name).fields)

    def assert_equal(self) -> None:
        """Raise RawDiffersError unless raw's live rows are exactly the source's rows."""
        shape = read_shape(self.source, self.name)
        fields = [field for field in shape.fields if not self.is_hidden(field.name)]
        types = _raw_types(self.warehouse, self.raw)
        if missing := [field.name for field in fields if field.name not in types]:
            raise RawDiffersError(f"raw.{self.raw} lacks the columns {missing}")
        wanted = _lines(self.source, [_as_in_raw(field, types[field.name]) for field in fields], shape.own_rows)
        columns = [field.identifier for field in fields]
        found = _lines(self.warehouse, columns, self._target, where="_deleted_at is null")
        if wanted != found:
            raise RawDiffersError(_describe(f"rows of raw.{self.raw}", wanted, found))

    def keys(self, *, where: str = "true") -> Keys:
        """Return what raw's rows are told apart by; nothing when there is no such table yet."""
        shape = _raw_shape(self.warehouse, self.raw)
        fields = shape.key or tuple(field for field in shape.fields if field.name not in METADATA_COLUMNS)
        if not fields:
            return Keys((), Counter())
        columns = tuple((field.name, field.declared) for field in fields)
        return Keys(columns, _lines(self.warehouse, [field.identifier for field in fields], self._target, where=where))

    def everything(self) -> Lines:
        """Return raw's rows with their metadata; none when there is no such table."""
        fields = _raw_shape(self.warehouse, self.raw).fields
        return _lines(self.warehouse, [field.identifier for field in fields], self._target) if fields else Counter()

    def assert_deletions(self, before: Keys) -> None:
        """Raise RawDiffersError unless all rows of `before` are in raw, marked exactly where the source lacks them."""
        shape = read_shape(self.source, self.name)
        raw_key = [field.name for field in _raw_shape(self.warehouse, self.raw).key]
        if raw_key != [field.name for field in shape.key]:
            raise RawDiffersError(f"the key of raw.{self.raw} is {raw_key}, the source's is {shape.key}")
        live, marked = self.keys(where="_deleted_at is null"), self.keys(where="_deleted_at is not null")
        if shape.key:
            types = dict(live.columns)
            columns = [_as_in_raw(field, types[field.name]) for field in shape.key]
            in_source = _lines(self.source, columns, shape.own_rows)
            if live.lines != in_source:
                raise RawDiffersError(_describe(f"live keys of raw.{self.raw}", in_source, live.lines))
            if both := marked.lines & in_source:
                raise RawDiffersError(f"{len(both)} keys are marked deleted, but the source has them: {_sample(both)}")
        # Under another key, or with other columns, rows can't be told to be the same ones.
        lost = before.lines - marked.lines - live.lines
        if lost and before.columns == live.columns:
            raise RawDiffersError(f"{lost.total()} rows have vanished from raw.{self.raw}: {_sample(lost)}")

    @property
    def _target(self) -> sql.Identifier:
        return sql.Identifier("raw", self.raw)


def _as_in_raw(field: Field, raw_type: str) -> sql.Composable:
    # Where raw holds a wider type, a value prints as that type prints it, once it has been read as text.
    if raw_type in (field.declared, "text", "text[]"):
        return field.identifier
    return sql.SQL("{}::text::{}").format(field.identifier, sql.SQL(raw_type))


def _lines(
    connection: psycopg.Connection,
    columns: list[sql.Composable] | list[sql.Identifier],
    table: sql.Composable,
    *,
    where: str = "true",
) -> Lines:
    query = sql.SQL("copy (select {} from {} where {}) to stdout").format(
        sql.SQL(", ").join(columns),
        table,
        sql.SQL(where),
    )
    with connection.cursor() as cursor, cursor.copy(query) as rows:
        return Counter(bytes(row) for row in rows)


def _raw_types(warehouse: psycopg.Connection, raw: str) -> dict[str, str]:
    return {field.name: field.declared for field in _raw_shape(warehouse, raw).fields}


def _raw_shape(warehouse: psycopg.Connection, raw: str) -> Shape:
    return read_shape(warehouse, raw, schema="raw")


def _describe(what: str, wanted: Lines, found: Lines) -> str:
    missing, extra = wanted - found, found - wanted
    return (
        f"{what} differ from the source: {missing.total()} missing, {extra.total()} too many, of {wanted.total()}\n"
        f"  missing: {_sample(missing)}\n  too many: {_sample(extra)}"
    )


def _sample(lines: Lines) -> str:
    return "; ".join(line[:300].decode(errors="replace").rstrip("\n") for line in sorted(lines)[:3])
