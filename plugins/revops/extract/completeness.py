"""Prove after a load, in the snapshot that it read, that raw holds what the source holds: values, not only keys."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.compare import NAMED_KEYS, digest, incomplete
from revops.extract.hashing import Hashing, Side, key_text
from revops.extract.merge import STAGING, Pipe

# How many rows are compared column by column after each load: about 50 ms a server for a table of 40 columns.
SAMPLE_ROWS = 10_000
# The lower bits choose buckets when keys are compared; the sample takes others.
_SAMPLE_SHIFT = 20


@dataclass(frozen=True)
class Sample:
    """One of `parts` shares of the table by the hash of the key; the next load takes the next one."""

    part: int
    parts: int

    def condition(self, side: Side) -> sql.Composed:
        if self.parts == 1:
            return sql.Composed([sql.SQL("true")])
        return sql.SQL("((({} >> {}) & 2147483647) % {}) = {}").format(
            side.key, sql.Literal(_SAMPLE_SHIFT), sql.Literal(self.parts), sql.Literal(self.part)
        )


def next_sample(rows: int, *, loads: int) -> Sample:
    """Return the sample of a table with so many rows that has been loaded so many times."""
    parts = max(1, -(-rows // SAMPLE_ROWS))
    return Sample(loads % parts, parts)


def require_same_values(pipe: Pipe, hashing: Hashing, sample: Sample, *, window: sql.Composable | None = None) -> None:
    """Compare checksums of every column over a sample of the rows; raise IncompleteLoadError naming keys and columns.

    window: only rows that this condition names in the source, and that are staged, are looked at. Of a table without
    key, whose key is its whole content, the digest of all rows is compared. Encrypted columns have no checksum.
    """
    if not pipe.relation.key:
        if not digest(pipe.source, hashing.source).same_keys(digest(pipe.warehouse, hashing.warehouse)):
            raise incomplete(pipe, "holds other rows than the source", keys=[], total=0)
        return
    in_source, in_raw = sample.condition(hashing.source), sample.condition(hashing.warehouse)
    if window is not None:
        in_source = in_source + sql.SQL(" and ") + window
        key = sql.SQL(", ").join(map(sql.Identifier, pipe.relation.key))
        in_raw = in_raw + sql.SQL(" and ({0}) in (select {0} from {1})").format(key, STAGING)
    wanted = _checksums(pipe.source, hashing.source, in_source)
    found = _checksums(pipe.warehouse, hashing.warehouse, in_raw)
    if wanted != found:
        names = [name for name, _ in hashing.source.columns]
        columns = [name for name, a, b in zip(names, wanted[1:], found[1:], strict=True) if a != b]
        keys = _differing_keys(pipe, hashing, in_source, in_raw)
        raise incomplete(
            pipe,
            f"differs from the source in column(s) {', '.join(columns)}" if columns else "holds other rows",
            keys=keys[:NAMED_KEYS],
            total=len(keys),
        )


def _checksums(connection: psycopg.Connection, side: Side, condition: sql.Composable) -> tuple[object, ...]:
    # Mixed with the key's hash, or values that stand in each other's rows would have the same sum.
    sums = [sql.SQL("count(*)"), *(sql.SQL("sum({} # {})").format(value, side.key) for _, value in side.columns)]
    row = connection.execute(
        sql.SQL("select {} from {}").format(sql.SQL(", ").join(sums), side.chosen(condition))
    ).fetchone()
    return row or ()


def _differing_keys(pipe: Pipe, hashing: Hashing, in_source: sql.Composable, in_raw: sql.Composable) -> list[str]:
    wanted = _hash_by_key(pipe.source, pipe, hashing.source, in_source)
    found = _hash_by_key(pipe.warehouse, pipe, hashing.warehouse, in_raw)
    return sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))


def _hash_by_key(
    connection: psycopg.Connection, pipe: Pipe, side: Side, condition: sql.Composable
) -> dict[str, tuple[object, ...]]:
    values = [key_text(pipe.relation.key), *(value for _, value in side.columns)]
    rows = connection.execute(sql.SQL("select {} from {}").format(sql.SQL(", ").join(values), side.chosen(condition)))
    return {key: tuple(hashes) for key, *hashes in rows}
