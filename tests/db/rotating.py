"""What tests of key rotation share: keyrings that follow one another, and raw's rows as people with keys read them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from builders import Extract, query, source_config
from psycopg import sql

from revops.extract.merge import token_key
from revops.extract.raw_table import read_raw_key
from revops.extract.shape import blind_index_name
from revops.extract.stream import agree_on_text
from revops.keyring import Keyring, key_id_of, new_key
from revops.rotation.registry import token_columns
from revops.rotation.run import Rotated, rotate_keys

Decrypted = Counter[tuple[Any, ...]]


class Keys:
    """Data keys 1, 2, 3 and two index keys; `ring(2, 1)` writes with 2 and reads 1 as well."""

    def __init__(self) -> None:
        self.data = {number: new_key() for number in (1, 2, 3)}
        self.indexes = [new_key(), new_key()]

    def ring(self, *ids: int, index: int = 0) -> Keyring:
        return Keyring.parse(",".join(f"{number}:{self.data[number]}" for number in ids), self.indexes[index])


def rotate(extract: Extract, keyring: Keyring, *, of: list[dict[str, Any]] | None = None, **options: Any) -> Rotated:
    """Rotate as the command does; of: the settings of the source's tables, as they were loaded."""
    configs = [source_config(**settings) for settings in of or [{"name": "t", "encrypt": ["email", "phone"]}]]
    options.setdefault("patience_s", 20)
    done = rotate_keys(extract.connect_ingest, keyring, run_id="rotation", sources=configs, **options)
    assert done is not None
    return done


def decrypted(
    connection: psycopg.Connection, keyring: Keyring, name: str = "odoo_t", *, hidden: tuple[str, ...] = ()
) -> Decrypted:
    """All rows of a raw table, deleted ones and metadata included, with values in place of tokens."""
    tokens = token_columns(connection).get(name, [])
    with connection.transaction(), connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        agree_on_text(connection)
        key = token_key(read_raw_key(connection, name))
        cursor.execute(sql.SQL("select * from {} limit 0").format(sql.Identifier("raw", name)))
        # As text: Python has no infinity among its dates.
        columns = sql.SQL(", ").join(
            sql.Identifier(column.name)
            if column.name in tokens
            else sql.SQL("{0}::text as {0}").format(sql.Identifier(column.name))
            for column in cursor.description or ()
        )
        rows = cursor.execute(
            sql.SQL("select {} as {}, {} from {}").format(
                key, sql.Identifier("the key"), columns, sql.Identifier("raw", name)
            )
        ).fetchall()
    found: Decrypted = Counter()
    for row in rows:
        key_text = row.pop("the key")
        for column in tokens:
            if row[column] is not None:
                row[column] = keyring.decrypt(row[column], table=name, column=column, key_text=key_text)
        found[tuple(str(value) for name, value in row.items() if name not in hidden)] += 1
    return found


def key_ids(connection: psycopg.Connection, name: str = "odoo_t") -> Counter[int | None]:
    """How many tokens of a raw table each key has written."""
    found: Counter[int | None] = Counter()
    for column in token_columns(connection).get(name, []):
        for (token,) in connection.execute(
            sql.SQL("select {} from {}").format(sql.Identifier(column), sql.Identifier("raw", name))
        ):
            if token is not None:
                found[key_id_of(token)] += 1
    return found


def assert_indexes(
    connection: psycopg.Connection, keyring: Keyring, kinds: dict[str, str], name: str = "odoo_t"
) -> None:
    """Every blind index is what the keyring computes of the value that the token beside it holds."""
    with connection.transaction():
        agree_on_text(connection)
        key = token_key(read_raw_key(connection, name))
        for column, kind in kinds.items():
            rows = connection.execute(
                sql.SQL("select {}, {}, {} from {}").format(
                    key,
                    sql.Identifier(column),
                    sql.Identifier(blind_index_name(column)),
                    sql.Identifier("raw", name),
                )
            ).fetchall()
            for key_text, token, index in rows:
                if token is None:
                    assert index is None
                    continue
                value = keyring.decrypt(token, table=name, column=column, key_text=key_text)
                assert index == keyring.blind_index(value, kind)


def in_use(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return query(connection, "select raw_table, column_name, key_id from ops.data_key_use order by 1, 2, 3")
