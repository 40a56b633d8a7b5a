"""Show one value of raw to somebody who holds the keys, and record who asked."""

from __future__ import annotations

import psycopg
from psycopg import sql

from revops.extract.merge import token_key
from revops.extract.raw_table import read_raw_key
from revops.extract.stream import agree_on_text
from revops.keyring import Keyring
from revops.rotation.errors import RotationError
from revops.rotation.registry import token_columns


def read_value(
    warehouse: psycopg.Connection, keyring: Keyring, *, table: str, column: str, key: str, person: str
) -> str | None:
    """Return a value of `raw.<table>`, None for null; commits the record of it before.

    key: the row's key as text, a composite one as PostgreSQL writes a record, such as `(7,EUR)`. Raises RotationError
    where there is no such token, KeyringError, TokenError.
    """
    table = table.removeprefix("raw.")
    columns = token_columns(warehouse)
    if column not in columns.get(table, []):
        known = ", ".join(columns.get(table, [])) or "none; tables with any: " + (", ".join(columns) or "none")
        raise RotationError(f"raw.{table} has no encrypted column {column!r}. Encrypted columns there: {known}")
    names = read_raw_key(warehouse, table)
    if not names:
        raise RotationError(f"raw.{table} has no key to find a row by. Remedy: read its tokens with SQL and Python")
    agree_on_text(warehouse)
    found = warehouse.execute(
        sql.SQL("select {} from {} where {} = {}").format(
            sql.Identifier(column), sql.Identifier("raw", table), token_key(names), sql.Literal(key)
        )
    ).fetchone()
    if found is None:
        form = "(" + ",".join(names) + ")" if len(names) > 1 else names[0]
        raise RotationError(f"raw.{table} has no row with this key. Its key is {form}")
    warehouse.execute(
        "insert into ops.value_reading (raw_table, column_name, row_key, person) values (%s, %s, %s, %s)",
        (table, column, key, person),
    )
    warehouse.commit()
    return None if found[0] is None else keyring.decrypt(found[0], table=table, column=column, key_text=key)
