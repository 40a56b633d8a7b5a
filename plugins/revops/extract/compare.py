"""Find the rows that the source no longer has, and prove that raw has all that it has: sets of keys, not counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from revops.extract.at_once import at_once
from revops.extract.errors import IncompleteLoadError, TooManyDeletionsError
from revops.extract.hashing import Hashing, Side, key_text
from revops.extract.merge import Pipe
from revops.extract.stream import stream_rows

KEYS = sql.Identifier("pg_temp", "source_keys")
# Few rows a bucket, so that scattered deletions leave most buckets equal; at most so many that they fit in memory.
ROWS_A_BUCKET = 64
MOST_BUCKETS = 1 << 16
# Below this, or where more than this share of the buckets differs, all keys are moved: one plain scan of each side.
FEW_ROWS = 10_000
MOST_DIFFERING = 0.3
# A share of few rows says nothing.
UNASKED_DELETIONS = 20
NAMED_KEYS = 5


@dataclass(frozen=True)
class Digest:
    """A set of keys in short: how many, and the sum of their hashes."""

    rows: int
    keys: int


def digest(connection: psycopg.Connection, side: Side) -> Digest:
    """Read the digest of one side, by the index of its key where that is enough; rows that do not count are taken off.

    Those have an index as well.
    """
    query = sql.SQL("select count(*), coalesce(sum({}), 0) from {}").format(side.key, side.table)
    found = _read_digest(connection, query)
    if side.gone is None:
        return found
    gone = _read_digest(connection, query + sql.SQL(" where ") + side.gone)
    return Digest(found.rows - gone.rows, found.keys - gone.keys)


def count_live(warehouse: psycopg.Connection, table: sql.Composable) -> int:
    """Return how many rows of a raw table are not marked deleted."""
    row = warehouse.execute(
        sql.SQL("select (select count(*) from {0}) - (select count(*) from {0} where _deleted_at is not null)").format(
            table
        )
    ).fetchone()
    return int(row[0]) if row else 0


def mark_missing(pipe: Pipe, hashing: Hashing | None, wanted: Digest | None, found: Digest | None) -> int:
    """Mark the rows whose keys the source no longer has; return how many. Does not commit.

    wanted, found: the digests of source and raw. Where they differ, digests of buckets of keys are read; then the keys
    of the buckets that differ, which are compared one by one in the warehouse. So memory is bounded here, and the
    cost is that of a scan of the keys on both sides. Without a common hash all keys are moved.
    Raises IncompleteLoadError, which names keys, when the source has keys that raw has not.
    """
    if hashing is None or wanted is None or found is None:
        return _resolve(pipe, None, None)
    if found == wanted:
        return 0
    buckets = _bucket_count(wanted.rows)
    differing = None
    if wanted.rows > FEW_ROWS:
        differing = _differing_buckets(pipe, hashing, buckets)
        if len(differing) > MOST_DIFFERING * buckets:
            differing = None
    if differing is None:
        return _resolve(pipe, None, None)
    return _resolve(
        pipe,
        _in_buckets(hashing.source.key, differing, buckets),
        _in_buckets(hashing.warehouse.key, differing, buckets),
    )


def mark_missing_where(pipe: Pipe, in_source: sql.Composable, in_raw: sql.Composable) -> int:
    """Mark the rows of raw that are gone from the source, of those that a condition chooses on each side."""
    return _resolve(pipe, in_source, in_raw)


def differing_rows(pipe: Pipe, hashing: Hashing) -> sql.Composable | None:
    """Compare every value of the table by buckets of rows; return what names the rows of the source to read again.

    Costs a hash of every value on both sides. None when nothing differs.
    """
    buckets = _bucket_count(digest(pipe.source, hashing.source).rows)
    differing = _differing_buckets(pipe, hashing, buckets, with_values=True)
    return _in_buckets(hashing.source.key, differing, buckets) if differing else None


def digest_both(pipe: Pipe, hashing: Hashing) -> tuple[Digest, Digest]:
    """Return the digests of source and raw."""
    return at_once(pipe, lambda: digest(pipe.source, hashing.source), lambda: digest(pipe.warehouse, hashing.warehouse))


def require_few_deletions(pipe: Pipe, *, deleted: int, live: int, most_share: float, accepted: bool) -> None:
    """Raise TooManyDeletionsError when a run would mark more than a share of the live rows deleted, unless accepted."""
    if accepted or deleted <= max(UNASKED_DELETIONS, most_share * live):
        return
    raise TooManyDeletionsError(
        f"raw.{pipe.raw.name}: {deleted} of {live} rows ({100 * deleted / live:.0f} %) are gone from the source, more "
        f"than {100 * most_share:.0f} %. Nothing was changed. Remedy: check that the connection leads to the right "
        "database and that the table is whole; if the rows are really gone, trigger the DAG with `accept_deletions`."
    )


def _bucket_count(rows: int) -> int:
    wanted = max(1, rows // ROWS_A_BUCKET)
    return min(MOST_BUCKETS, 1 << (wanted - 1).bit_length())


def _differing_buckets(pipe: Pipe, hashing: Hashing, buckets: int, *, with_values: bool = False) -> list[int]:
    read = partial(_read_buckets, buckets=buckets, with_values=with_values)
    wanted, found = at_once(
        pipe, lambda: read(pipe.source, hashing.source), lambda: read(pipe.warehouse, hashing.warehouse)
    )
    return [bucket for bucket in wanted.keys() | found.keys() if wanted.get(bucket) != found.get(bucket)]


def _read_buckets(
    connection: psycopg.Connection, side: Side, buckets: int, *, with_values: bool
) -> dict[int, tuple[int, int, int]]:
    values = side.row if with_values else sql.SQL("0::bigint")
    # Offset 0 keeps the planner from computing the key's hash twice.
    rows_of = sql.SQL("select {} as key, {} as content from {}").format(side.key, values, side.table)
    group = sql.SQL(
        "select (key & {})::int, count(*), sum(key)::text, sum(content)::text from ({} offset 0) as k group by 1"
    )
    mask = sql.Literal(buckets - 1)
    found = _collect(connection, group.format(mask, rows_of))
    if side.gone is not None:
        for bucket, gone in _collect(connection, group.format(mask, rows_of + sql.SQL(" where ") + side.gone)).items():
            rows, keys, content = found[bucket]
            found[bucket] = (rows - gone[0], keys - gone[1], content - gone[2])
    return {bucket: sums for bucket, sums in found.items() if sums[0]}


def _collect(connection: psycopg.Connection, query: sql.Composed) -> dict[int, tuple[int, int, int]]:
    return {bucket: (rows, int(keys), int(content)) for bucket, rows, keys, content in connection.execute(query)}


def _read_digest(connection: psycopg.Connection, query: sql.Composed) -> Digest:
    row = connection.execute(query).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return Digest(int(row[0]), int(row[1]))


def _in_buckets(key: sql.Composable, differing: list[int], buckets: int) -> sql.Composed:
    # A subquery is hashed by every server version, a long list only by newer ones.
    return sql.SQL("({} & {}) in (select unnest({}::bigint[]))").format(
        key, sql.Literal(buckets - 1), sql.Literal(differing)
    )


def _resolve(pipe: Pipe, in_source: sql.Composable | None, in_raw: sql.Composable | None) -> int:
    """Move the keys that the conditions name and compare them; mark those that are in raw only."""
    relation, raw = pipe.relation, pipe.raw.identifier
    key = sql.SQL(", ").join(map(sql.Identifier, relation.key))
    pipe.warehouse.execute(sql.SQL("drop table if exists {}").format(KEYS))
    pipe.warehouse.execute(
        sql.SQL("create temp table source_keys on commit drop as select {} from {} with no data").format(key, raw)
    )
    query = sql.SQL("select {} from {}").format(key, relation.from_clause)
    if in_source is not None:
        query += sql.SQL(" where ") + in_source
    stream_rows(pipe.source, query, pipe.warehouse, sql.SQL("{} ({})").format(KEYS, key))
    pipe.warehouse.execute(sql.SQL("analyze {}").format(KEYS))
    same = sql.SQL(" and ").join(sql.SQL("k.{0} = t.{0}").format(sql.Identifier(name)) for name in relation.key)
    # The candidates are chosen by their key before _deleted_at is looked at: it is the last column, and in one WHERE
    # with the key the server would unpack every row to its end.
    marked = pipe.warehouse.execute(
        sql.SQL(
            "update {raw} as r set _deleted_at = now(), _loaded_at = now(), _load_id = {load_id} from"
            " (select t.ctid as place from {raw} as t where {condition}"
            " and not exists (select from {keys} as k where {same}) offset 0) as missing"
            " where r.ctid = missing.place and r._deleted_at is null"
        ).format(
            raw=raw,
            load_id=sql.Literal(pipe.load_id),
            condition=in_raw or sql.SQL("true"),
            keys=KEYS,
            same=same,
        )
    ).rowcount
    _require_all_there(pipe, same)
    return marked


def _require_all_there(pipe: Pipe, same: sql.Composable) -> None:
    names = list(pipe.relation.key)
    row = pipe.warehouse.execute(
        sql.SQL(
            "select count(*), (array_agg({named} order by {named}))[1:{most}] from {keys} as k"
            " where not exists (select from {raw} as t where {same} and t._deleted_at is null)"
        ).format(
            named=key_text(names, prefix=sql.SQL("k.")),
            most=sql.Literal(NAMED_KEYS),
            keys=KEYS,
            raw=pipe.raw.identifier,
            same=same,
        )
    ).fetchone()
    if row is not None and row[0]:
        raise incomplete(pipe, f"lacks {row[0]} row(s) of the source", keys=row[1], total=row[0])


def incomplete(pipe: Pipe, what: str, *, keys: list[str], total: int) -> IncompleteLoadError:
    """Return the error that says how raw differs from the source, and where."""
    named = "; ".join(keys) + ("; ..." if total > len(keys) else "")
    of = f" by {', '.join(pipe.relation.key)}: {named}" if keys else ""
    return IncompleteLoadError(
        f"raw.{pipe.raw.name} {what}{of}. The load was rolled back. "
        "Remedy: trigger the DAG with `full_refresh`, which reads every row again; if that does not help, somebody "
        "else writes to the table in raw."
    )
