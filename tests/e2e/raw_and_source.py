"""Raw against its source, value by value."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from revops.keyring import Keyring
from revops.sources import Source


class Databases(Protocol):
    """A stack, wherever it runs: its databases, and the keys of its encrypted columns."""

    def query(self, database: str, statement: str) -> list[tuple[object, ...]]: ...

    @property
    def keyring(self) -> Keyring: ...


DATABASES = {"odoo": "odoo", "ace": "c303_prod_apn_01"}


def _columns(stack: Databases, database: str, schema: str, table: str) -> list[str]:
    rows = stack.query(
        database,
        "select column_name from information_schema.columns "
        f"where table_schema = '{schema}' and table_name = '{table}' order by ordinal_position",
    )
    return [str(name) for (name,) in rows]


def _rows(stack: Databases, database: str, relation: str, columns: list[str], where: str = "true") -> Counter[object]:
    listed = ", ".join(f'"{column}"::text' for column in columns)
    return Counter(stack.query(database, f"select {listed} from {relation} where {where}"))


def assert_raw_equals_source(stack: Databases, config: Source) -> None:
    for table in config.tables:
        raw = config.raw_table(table)
        columns = [
            column
            for column in _columns(stack, DATABASES[config.source], "public", table.name)
            if not config.is_excluded(table, column)
        ]
        raw_columns = _columns(stack, "revops_core", "raw", raw)
        assert set(raw_columns) >= set(columns), f"{raw} lacks columns"
        assert not [column for column in raw_columns if config.is_excluded(table, column)], f"{raw} has secrets"
        plain = [column for column in columns if config.sensitive_kind(table, column) is None]
        source_rows = _rows(stack, DATABASES[config.source], f'public."{table.name}"', plain)
        raw_rows = _rows(stack, "revops_core", f'raw."{raw}"', plain, "_deleted_at is null")
        assert raw_rows == source_rows, f"{raw} differs from its source"
        for column in set(columns) - set(plain):
            _assert_decrypts_to_source(stack, DATABASES[config.source], table.name, raw, column)


def _assert_decrypts_to_source(stack: Databases, database: str, table: str, raw: str, column: str) -> None:
    """All tables with sensitive columns have the key id."""
    keyring = stack.keyring
    tokens = stack.query("revops_core", f'select id::text, "{column}" from raw."{raw}" where _deleted_at is null')
    values = stack.query(database, f'select id::text, "{column}"::text from public."{table}"')
    found = {
        key: None if token is None else keyring.decrypt(token, table=raw, column=column, key_text=str(key))
        for key, token in tokens
    }
    assert found == dict(values), f"{raw}.{column} does not decrypt to its source"
