"""Write tokens anew with the writing key, and blind indexes with the index key, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from revops.extract.shape import blind_index_name
from revops.keyring import HEADER_BYTES, Keyring, TokenError, header_of

# Rows in memory at a time; a token is as long as its value.
FETCH_ROWS = 1_000
NAMED_KEYS = 5
_BY_PLACE = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")

_Cell = Callable[[bytes, bytes | None, bytes | None], tuple[bytes | None, bytes | None]]


@dataclass
class Renewed:
    """Rows that were written; how many tokens could not be read, and the first keys of their rows."""

    rows: int = 0
    unreadable: int = 0
    unreadable_keys: list[str] = field(default_factory=list)


def is_old(columns: Mapping[str, str], keyring: Keyring) -> sql.Composed:
    """Return the condition for rows that have a token of another key than the one that writes."""
    header = sql.Literal(header_of(keyring.writing_id))
    return sql.SQL("({})").format(
        sql.SQL(" or ").join(
            sql.SQL("substr({}, 1, {}) <> {}::bytea").format(sql.Identifier(name), HEADER_BYTES, header)
            for name in columns
        )
    )


def has_any(columns: Mapping[str, str]) -> sql.Composed:
    """Return the condition for rows that have a token or a blind index at all."""
    names = [name for column in columns for name in (column, blind_index_name(column))]
    return sql.SQL("num_nonnulls({}) > 0").format(sql.SQL(", ").join(map(sql.Identifier, names)))


def renew(
    warehouse: psycopg.Connection,
    keyring: Keyring,
    *,
    table: str,
    key: sql.Composable,
    columns: Mapping[str, str],
    condition: sql.Composable,
    with_index: bool = False,
) -> Renewed:
    """Write the tokens of `raw.<table>`'s rows that a condition names with the writing key. Does not commit.

    key: the text that binds tokens to their rows (extract.merge.token_key), in a session that has agreed on text.
    columns: the kind of each column's blind index, which are computed anew with_index. Nothing else of a row changes,
    its load and its times neither: for those who read raw it is the same row. A row that somebody else changes
    meanwhile is left as it is: written is only where the token is still the one that was read. Constant memory.
    Tokens that can't be read are counted and left. Raises KeyringError where a key is missing.
    """
    cells = [_cell(keyring, table, column, kind if with_index else None) for column, kind in columns.items()]
    identifier = sql.Identifier("raw", table)
    chosen = [name for column in columns for name in (column, blind_index_name(column))]
    query = sql.SQL("select t.ctid::text, {}, {} from {} as t where {}").format(
        key, sql.SQL(", ").join(map(sql.Identifier, chosen)), identifier, condition
    )
    update = _update(warehouse, identifier, tuple(columns))
    renewed = Renewed()
    with warehouse.cursor(name="renewal") as reader, warehouse.cursor() as writer:
        reader.execute(query)
        # Rows are found by their place; whatever the planner believes of an array's length, it must not scan for them.
        _set_local(writer, _BY_PLACE, "off")
        while rows := reader.fetchmany(FETCH_ROWS):
            changed = [line for row in rows if (line := _line(row, cells, renewed)) is not None]
            if changed:
                renewed.rows += writer.execute(update, [list(part) for part in zip(*changed, strict=True)]).rowcount
        _set_local(writer, _BY_PLACE, "on")
    return renewed


def _cell(keyring: Keyring, table: str, column: str, kind: str | None) -> _Cell:
    """Return the function (key, token, index) -> (token, index) of one column; kind: None leaves indexes alone."""
    decrypt, encrypt = keyring.decryptor(table, column), keyring.encryptor(table, column)
    index_of = keyring.indexer(kind) if kind is not None else None
    current = header_of(keyring.writing_id)

    def cell(key: bytes, token: bytes | None, index: bytes | None) -> tuple[bytes | None, bytes | None]:
        if token is None:
            # Of a value that nobody can read any more (see forget) no index can be computed.
            return None, index if index_of is None else None
        if index_of is None and token[:HEADER_BYTES] == current:
            return token, index
        value = decrypt(key, token)
        return encrypt(key, value), index if index_of is None else index_of(value)

    return cell


def _line(
    row: tuple[str | bytes | None, ...], cells: list[_Cell], renewed: Renewed
) -> tuple[str | bytes | None, ...] | None:
    """Return place, old tokens, new tokens and new indexes of a row; None where nothing changes."""
    place, key, *pairs = row
    key_text = str(key)
    old: list[bytes | None] = []
    new: list[bytes | None] = []
    indexes: list[bytes | None] = []
    differs = False
    for position, cell in enumerate(cells):
        token, index = (None if part is None else _bytes(part) for part in pairs[2 * position : 2 * position + 2])
        try:
            renewed_token, renewed_index = cell(key_text.encode(), token, index)
        except TokenError:
            renewed.unreadable += 1
            if len(renewed.unreadable_keys) < NAMED_KEYS:
                renewed.unreadable_keys.append(key_text)
            renewed_token, renewed_index = token, index
        differs = differs or renewed_token != token or renewed_index != index
        old.append(token)
        new.append(renewed_token)
        indexes.append(renewed_index)
    return (place, *old, *new, *indexes) if differs else None


def _update(warehouse: psycopg.Connection, table: sql.Identifier, columns: tuple[str, ...]) -> sql.SQL:
    """Return the update that takes a list for each field of `_line`."""
    fields = [f"{part}{position}" for part in ("old", "new", "index") for position in range(len(columns))]
    values = sql.SQL(", ").join(
        sql.SQL("{0} = v.{1}, {2} = v.{3}").format(
            sql.Identifier(column),
            sql.Identifier(f"new{position}"),
            sql.Identifier(blind_index_name(column)),
            sql.Identifier(f"index{position}"),
        )
        for position, column in enumerate(columns)
    )
    same = sql.SQL(" and ").join(
        sql.SQL("t.{} is not distinct from v.{}").format(sql.Identifier(column), sql.Identifier(f"old{position}"))
        for position, column in enumerate(columns)
    )
    head = sql.SQL("update {} as t set {} from unnest(").format(table, values).as_string(warehouse)
    tail = sql.SQL(") as v (place, {}) where t.ctid = v.place and {}")
    rest = tail.format(sql.SQL(", ").join(map(sql.Identifier, fields)), same).as_string(warehouse)
    # Names may hold percent signs, which mark parameters here.
    arrays = ", ".join(["%s::tid[]", *("%s::bytea[]" for _ in fields)])
    return sql.SQL(head.replace("%", "%%") + arrays + rest.replace("%", "%%"))


def _set_local(cursor: psycopg.Cursor, names: tuple[str, ...], value: str) -> None:
    for name in names:
        cursor.execute(sql.SQL("set local {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else bytes(part, "utf-8")
