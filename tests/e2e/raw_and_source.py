"""Raw against its source, value by value."""

from __future__ import annotations

from collections import Counter

from revops.keyring import Keyring
from revops.sources import Source
from tests.stack import Commands

DATABASES = {"odoo": "odoo", "ace": "c303_prod_apn_01"}


def _columns(commands: Commands, database: str, schema: str, table: str) -> list[str]:
    rows = commands.query(
        database,
        "select column_name from information_schema.columns "
        f"where table_schema = '{schema}' and table_name = '{table}' order by ordinal_position",
    )
    return [str(name) for (name,) in rows]


def _rows(commands: Commands, database: str, relation: str, columns: list[str], where: str = "true") -> Counter[object]:
    listed = ", ".join(f'"{column}"::text' for column in columns)
    return Counter(commands.query(database, f"select {listed} from {relation} where {where}"))


def assert_raw_equals_source(commands: Commands, config: Source) -> None:
    for table in config.tables:
        raw = config.raw_table(table)
        columns = [
            column
            for column in _columns(commands, DATABASES[config.source], "public", table.name)
            if not config.is_excluded(table, column)
        ]
        raw_columns = _columns(commands, "revops_core", "raw", raw)
        assert set(raw_columns) >= set(columns), f"{raw} lacks columns"
        assert not [column for column in raw_columns if config.is_excluded(table, column)], f"{raw} has secrets"
        plain = [column for column in columns if config.sensitive_kind(table, column) is None]
        source_rows = _rows(commands, DATABASES[config.source], f'public."{table.name}"', plain)
        raw_rows = _rows(commands, "revops_core", f'raw."{raw}"', plain, "_deleted_at is null")
        assert raw_rows == source_rows, f"{raw} differs from its source"
        for column in set(columns) - set(plain):
            _assert_decrypts_to_source(commands, DATABASES[config.source], table.name, raw, column)


def _assert_decrypts_to_source(commands: Commands, database: str, table: str, raw: str, column: str) -> None:
    """All tables with sensitive columns have the key id."""
    keyring = Keyring.parse(commands.stack.passwords["data_keys"], commands.stack.passwords["index_key"])
    tokens = commands.query("revops_core", f'select id::text, "{column}" from raw."{raw}" where _deleted_at is null')
    values = commands.query(database, f'select id::text, "{column}"::text from public."{table}"')
    found = {
        key: None if token is None else keyring.decrypt(token, table=raw, column=column, key_text=str(key))
        for key, token in tokens
    }
    assert found == dict(values), f"{raw}.{column} does not decrypt to its source"
