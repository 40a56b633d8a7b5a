"""Bring a table to the wanted rows: write what differs, remove what is no longer described."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.transform.errors import TransformError
from revops.transform.rules import REJECTED
from revops.transform.targets import Target

DESIRED = sql.Identifier("pg_temp", "desired")
DIFFERING = sql.Identifier("pg_temp", "differing")
RUN_COLUMN = "transform_run_id"


@dataclass(frozen=True)
class Merged:
    """Rows by what became of them in the target."""

    inserted: int
    updated: int
    unchanged: int
    deleted: int


def read_column_types(warehouse: psycopg.Connection, target: Target) -> dict[str, str]:
    """Return the type of each column of the target that a transform writes, in order."""
    rows = warehouse.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass "
        "and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = '' order by attnum",
        (target.qualified,),
    ).fetchall()
    return dict(rows)


def merge(
    warehouse: psycopg.Connection,
    target: Target,
    columns: list[str],
    *,
    wanted: int,
    within: sql.Composable,
    is_full: bool,
    transform_run_id: int | None,
) -> Merged:
    """Make the rows of the target `within` a condition over `t` equal to those of pg_temp.desired. Does not commit.

    Rows that are equal byte for byte are not touched. wanted: rows of desired that are not rejected. is_full: desired
    has all rows there are, not only those of some keys. Raises TransformError where the select gives a key twice.
    """
    work = _Merge(warehouse, target, columns, within, transform_run_id)
    if target.months:
        work.add_months(target.months)
    before = work.count_before() if is_full else None
    if before == 0:
        return Merged(work.insert(DESIRED, sql.SQL("{} is null").format(sql.Identifier(REJECTED))), 0, 0, 0)
    work.find_differing()
    deleted = work.delete_gone()
    updated = work.update()
    inserted = work.insert(DIFFERING, sql.SQL("_is_new"))
    # Of all rows the table itself says how many there are; of some keys, counting these is cheaper.
    after = before - deleted + inserted if before is not None else work.count_distinct()
    if after != wanted:
        raise TransformError(
            f"{target.qualified}: {wanted} rows wanted, but there are {after}; nothing was changed. Remedy: "
            f"include/sql/{target.schema}/{target.name}.sql gives a key ({', '.join(target.key)}) more than once; "
            "make its joins unique."
        )
    return Merged(inserted, updated, wanted - inserted - updated, deleted)


class _Merge:
    def __init__(
        self,
        warehouse: psycopg.Connection,
        target: Target,
        columns: list[str],
        within: sql.Composable,
        transform_run_id: int | None,
    ) -> None:
        self._warehouse = warehouse
        self._table = sql.Identifier(target.schema, target.name)
        self._columns = columns
        self._key = target.key
        self._within = within
        self._run = transform_run_id
        self._same = sql.SQL(" and ").join(sql.SQL("d.{0} = t.{0}").format(sql.Identifier(name)) for name in target.key)
        self._data = [name for name in columns if name not in target.key]

    def count_before(self) -> int:
        return _count(
            self._warehouse, sql.SQL("select count(*) from {} as t where {}").format(self._table, self._within)
        )

    def count_distinct(self) -> int:
        keys = sql.SQL(", ").join(map(sql.Identifier, self._key))
        return _count(
            self._warehouse,
            sql.SQL("select count(*) from (select distinct {} from {} where {} is null) as k").format(
                keys, DESIRED, sql.Identifier(REJECTED)
            ),
        )

    def add_months(self, column: str) -> None:
        self._warehouse.execute(
            sql.SQL(
                "select core.add_billing_months(coalesce(array_agg(distinct {}), '{{}}')) from {} where {} is null"
            ).format(sql.Identifier(column), DESIRED, sql.Identifier(REJECTED))
        )

    def find_differing(self) -> None:
        # Images, not values: 1.0 and 1.00 are equal, but a table made anew would hold the other one.
        image = sql.SQL("record_image_ne(row({}), row({}))").format(self._list("d"), self._list("t"))
        self._warehouse.execute(
            sql.SQL(
                "create temp table differing on commit drop as select {columns}, t.{key} is null as _is_new "
                "from {desired} as d left join {table} as t on {same} "
                "where d.{rejected} is null and (t.{key} is null or {image})"
            ).format(
                columns=self._list("d"),
                key=sql.Identifier(self._key[0]),
                desired=DESIRED,
                table=self._table,
                same=self._same,
                rejected=sql.Identifier(REJECTED),
                image=image,
            )
        )
        self._warehouse.execute(sql.SQL("analyze {}").format(DIFFERING))

    def delete_gone(self) -> int:
        return self._warehouse.execute(
            sql.SQL(
                "delete from {table} as t where {within} "
                "and not exists (select from {desired} as d where {same} and d.{rejected} is null)"
            ).format(
                table=self._table,
                within=self._within,
                desired=DESIRED,
                same=self._same,
                rejected=sql.Identifier(REJECTED),
            )
        ).rowcount

    def update(self) -> int:
        names = list(self._data)
        values = [sql.SQL("{0} = d.{0}").format(sql.Identifier(name)) for name in names]
        if self._run is not None:
            values.append(sql.SQL("{} = {}").format(sql.Identifier(RUN_COLUMN), sql.Literal(self._run)))
        return self._warehouse.execute(
            sql.SQL("update {} as t set {} from {} as d where {} and not d._is_new").format(
                self._table, sql.SQL(", ").join(values), DIFFERING, self._same
            )
        ).rowcount

    def insert(self, rows: sql.Composable, condition: sql.Composable) -> int:
        names = [sql.Identifier(name) for name in self._columns]
        values: list[sql.Composable] = list(names)
        if self._run is not None:
            names.append(sql.Identifier(RUN_COLUMN))
            values.append(sql.Literal(self._run))
        return self._warehouse.execute(
            sql.SQL("insert into {} ({}) select {} from {} where {}").format(
                self._table, sql.SQL(", ").join(names), sql.SQL(", ").join(values), rows, condition
            )
        ).rowcount

    def _list(self, alias: str) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(alias, name) for name in self._columns)


def _count(warehouse: psycopg.Connection, statement: sql.Composed) -> int:
    row = warehouse.execute(statement).fetchone()
    if row is None:
        raise AssertionError("an aggregate returns a row")
    return int(row[0])
