"""Replace restated periods as a whole: billing months of a payer, whose lines come again under new ids."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from revops.extract.at_once import at_once
from revops.extract.catalog import Relation
from revops.extract.errors import ExtractError
from revops.extract.hashing import Hashing, Side, as_text, stored_text
from revops.extract.merge import Pipe

# A list of periods travels inside a setting; a table with more of them has the wrong columns for periods.
MOST_PERIODS = 100_000

Period = tuple[str | None, ...]


@dataclass(frozen=True)
class Restated:
    """The periods that differ between source and raw, with their live rows in raw and in the source."""

    columns: tuple[str, ...]
    rows: dict[Period, tuple[int, int]]

    def condition(self, pipe: Pipe, *, in_source: bool) -> sql.Composed:
        """Return what chooses the rows of these periods on one side, in the transaction that is open there.

        The periods are handed over as settings of the session: COPY takes no parameters, and what stands in a statement
        stands in the server's log.
        """
        texts = _texts(pipe, self.columns, in_source=in_source)
        connection = pipe.source if in_source else pipe.warehouse
        settings = [f"revops.period_{number}" for number in range(len(self.columns))]
        for name, part in zip(settings, zip(*self.rows, strict=True), strict=True):
            connection.execute("select set_config(%s, %s::text[]::text, true)", (name, list(part)))
        # A subquery is hashed, so that many periods cost no more than one. The text of a record has a place for null,
        # which is a period like any other: rows without a month must not be overlooked.
        return sql.SQL("row({})::text in (select row(p.*)::text from unnest({}) as p)").format(
            sql.SQL(", ").join(texts),
            sql.SQL(", ").join(sql.SQL("current_setting({})::text[]").format(sql.Literal(name)) for name in settings),
        )


def require_period_columns(relation: Relation, columns: tuple[str, ...]) -> None:
    """Raise ExtractError when a period's column is not read, or the table has no key."""
    known = {column.name for column in relation.plain}
    if missing := [name for name in columns if name not in known]:
        raise ExtractError(
            f"{relation.schema}.{relation.name} has no column {', '.join(missing)} to tell periods by. "
            "Remedy: correct `period` of the table in include/sources."
        )
    if not relation.key:
        raise ExtractError(
            f"{relation.schema}.{relation.name} has no primary key. Remedy: use mode full for it in include/sources."
        )


def find_restated(pipe: Pipe, hashing: Hashing, columns: tuple[str, ...], *, changed: sql.Composable) -> Restated:
    """Compare the periods of both sides by number and hash of their keys; one scan of each.

    changed: the condition for rows that were written since the last load; a period that has one is restated even
    where its keys are the same.
    """
    in_source, in_raw = _texts(pipe, columns, in_source=True), _texts(pipe, columns, in_source=False)
    wanted, found = at_once(
        pipe,
        lambda: _read_periods(pipe.source, hashing.source, columns, in_source, changed),
        lambda: _read_periods(pipe.warehouse, hashing.warehouse, columns, in_raw, sql.SQL("false")),
    )
    nothing = (0, 0, False)
    rows = {
        period: (found.get(period, nothing)[0], wanted.get(period, nothing)[0])
        for period in wanted.keys() | found.keys()
        if wanted.get(period, nothing)[:2] != found.get(period, nothing)[:2] or wanted.get(period, nothing)[2]
    }
    return Restated(columns, rows)


def record_restated(pipe: Pipe, restated: Restated, *, source: str, table: str) -> None:
    """Write the restated periods to ops.period_restatement. Does not commit."""
    with pipe.warehouse.cursor() as cursor:
        cursor.executemany(
            "insert into ops.period_restatement (source, table_name, load_id, period, rows_before, rows_after) "
            "values (%s, %s, %s, %s, %s, %s)",
            [
                (source, table, pipe.load_id, Jsonb(dict(zip(restated.columns, period, strict=True))), before, after)
                for period, (before, after) in restated.rows.items()
            ],
        )


def _texts(pipe: Pipe, columns: tuple[str, ...], *, in_source: bool) -> list[sql.Composed]:
    """Return what a period's columns are told apart by: the text of the value that raw holds."""
    by_name = {column.name: column for column in pipe.relation.columns}
    return [stored_text(by_name[name], pipe.raw.types[name]) if in_source else as_text(name) for name in columns]


def _read_periods(
    connection: psycopg.Connection,
    side: Side,
    columns: tuple[str, ...],
    texts: list[sql.Composed],
    changed: sql.Composable,
) -> dict[Period, tuple[int, int, bool]]:
    numbers = sql.SQL(", ").join(sql.SQL(str(number)) for number in range(1, len(columns) + 1))
    counted = sql.SQL("") if side.gone is None else sql.SQL(" where not ({})").format(side.gone)
    rows = connection.execute(
        sql.SQL(
            "select {}, count(*), sum({})::text, coalesce(bool_or({}), false) from {}{} group by {} limit {}"
        ).format(
            sql.SQL(", ").join(texts), side.key, changed, side.table, counted, numbers, sql.Literal(MOST_PERIODS + 1)
        )
    ).fetchall()
    if len(rows) > MOST_PERIODS:
        raise ExtractError(
            f"the columns {', '.join(columns)} make more than {MOST_PERIODS} periods. Remedy: name the columns of a "
            "billing period, such as payer and month, in `period` of the table in include/sources."
        )
    width = len(columns)
    return {tuple(row[:width]): (int(row[width]), int(row[width + 1]), bool(row[width + 2])) for row in rows}
