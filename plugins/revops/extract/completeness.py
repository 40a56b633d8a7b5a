"""Prove after a load, in the snapshot that it read, that raw holds what the source holds: values, not only keys."""

from __future__ import annotations

from psycopg import sql

from revops.extract.compare import NAMED_KEYS, digest_both, incomplete
from revops.extract.hashing import Hashing, Side, key_text
from revops.extract.merge import Pipe
from revops.extract.pages import has_pages, in_pages
from revops.extract.stream import stream_rows

# How many rows are compared after each load: about 40 ms a server for a table of 40 columns.
SAMPLE_ROWS = 5_000
SAMPLE = sql.Identifier("pg_temp", "sampled_rows")
# The lower bits choose buckets when keys are compared; the sample takes others.
_SAMPLE_SHIFT = 20


def require_same_values(
    pipe: Pipe, hashing: Hashing, *, rows: int, loads: int, window: sql.Composable | None = None
) -> None:
    """Compare every value of a sample of the rows; raise IncompleteLoadError, which names keys and columns.

    rows: of how many. loads: how often the table has been loaded: each load takes the next sample, until every row has
    been compared. window: only rows that this condition names in the source. Of a table without key, whose key is its
    whole content, the digest of all rows is compared. Encrypted columns have no hash.
    """
    if not pipe.relation.key:
        wanted, found = digest_both(pipe, hashing)
        if found != wanted:
            raise incomplete(pipe, "holds other rows than the source", keys=[], total=0)
        return
    condition = sample_condition(pipe, hashing, rows=rows, loads=loads, window=window)
    _take_sample(pipe, _alone(hashing.source.row), condition)
    keys, total = _differing_keys(pipe, _alone(hashing.warehouse.row))
    if total:
        _take_sample(pipe, hashing.source.hashes, condition)
        columns = _differing_columns(pipe, hashing.warehouse)
        what = f"differs from the source in column(s) {', '.join(columns)}" if columns else "lacks rows of the source"
        raise incomplete(pipe, what, keys=keys, total=total)


def sample_condition(
    pipe: Pipe, hashing: Hashing, *, rows: int, loads: int, window: sql.Composable | None = None
) -> sql.Composable:
    """Return what chooses the sample in the source: one part of as many as make SAMPLE_ROWS each.

    Neighbouring pages where rows have some, which costs nothing but reading them; else by the hash of the key.
    """
    parts = max(1, -(-rows // SAMPLE_ROWS))
    if window is None and has_pages(pipe.source, pipe.relation):
        pages = pipe.relation.pages
        parts = min(parts, pages)
        part = loads % parts
        return in_pages(part * pages // parts, (part + 1) * pages // parts if part + 1 < parts else None)
    conditions = [] if window is None else [sql.SQL("({})").format(window)]
    if parts > 1:
        conditions.append(
            sql.SQL("((({} >> {}) & 2147483647) % {}) = {}").format(
                hashing.source.key, sql.Literal(_SAMPLE_SHIFT), sql.Literal(parts), sql.Literal(loads % parts)
            )
        )
    return sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true")


def _take_sample(pipe: Pipe, hashes: sql.Composed, condition: sql.Composable) -> None:
    """Bring keys and hashes, an array, of the source's rows to the warehouse, where raw's are found by primary key."""
    key, name = _key(pipe), _hashes_name(pipe)
    pipe.warehouse.execute(sql.SQL("drop table if exists {}").format(SAMPLE))
    pipe.warehouse.execute(
        sql.SQL(
            "create temp table sampled_rows on commit drop as select {}, null::bigint[] as {} from {} with no data"
        ).format(key, name, pipe.raw.identifier)
    )
    query = sql.SQL("select {}, {} from {} where {}").format(key, hashes, pipe.relation.from_clause, condition)
    stream_rows(pipe.source, query, pipe.warehouse, sql.SQL("{} ({}, {})").format(SAMPLE, key, name))


def _differing_keys(pipe: Pipe, hashes: sql.Composed) -> tuple[list[str], int]:
    """Return the first keys whose rows differ or are not in raw, as people read them, and how many there are."""
    named = key_text(pipe.relation.key, prefix=sql.SQL("k."))
    row = pipe.warehouse.execute(
        sql.SQL(
            "select (array_agg({named} order by {named}))[1:{most}], count(*) from {pairs}"
            " where t.{hashes} is distinct from k.{hashes}"
        ).format(named=named, most=sql.Literal(NAMED_KEYS), pairs=_pairs(pipe, hashes), hashes=_hashes_name(pipe))
    ).fetchone()
    return (list(row[0]), int(row[1])) if row and row[1] else ([], 0)


def _differing_columns(pipe: Pipe, side: Side) -> list[str]:
    """Return the columns that differ in rows that raw has."""
    rows = pipe.warehouse.execute(
        sql.SQL(
            "select distinct h.position from {pairs}"
            " cross join unnest(t.{hashes}, k.{hashes}) with ordinality as h (found, wanted, position)"
            " where h.found is distinct from h.wanted and t.{hashes} is not null order by 1"
        ).format(pairs=_pairs(pipe, side.hashes), hashes=_hashes_name(pipe))
    )
    return [side.columns[position - 1][0] for (position,) in rows]


def _pairs(pipe: Pipe, hashes: sql.Composed) -> sql.Composed:
    return sql.SQL(
        "{sample} as k left join (select {key}, {hashes} as {name} from {raw} where _deleted_at is null) as t on {same}"
    ).format(
        sample=SAMPLE,
        key=_key(pipe),
        hashes=hashes,
        name=_hashes_name(pipe),
        raw=pipe.raw.identifier,
        same=sql.SQL(" and ").join(sql.SQL("k.{0} = t.{0}").format(sql.Identifier(name)) for name in pipe.relation.key),
    )


def _alone(value: sql.Composed) -> sql.Composed:
    return sql.SQL("array[{}]").format(value)


def _key(pipe: Pipe) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, pipe.relation.key))


def _hashes_name(pipe: Pipe) -> sql.Identifier:
    """Return a name that no column of the key has."""
    name = "hashes"
    while name in pipe.relation.key:
        name += "_"
    return sql.Identifier(name)
