"""ops.encrypted_column and ops.data_key_use: which keys the tokens of raw need, checked before they are touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from revops.extract.shape import blind_index_name
from revops.keyring import DATA_KEYS, HEADER_BYTES, INDEX_KEY, Keyring, KeyringError, key_id_of
from revops.naming import fitting_name


@dataclass(frozen=True)
class TokenTable:
    """A table of raw with the columns that hold tokens, and the kind of each."""

    raw_table: str
    source: str
    table_name: str
    columns: dict[str, str]


def loading_name(raw_table: str) -> str:
    """Return the table that an unfinished first load in ranges fills; no source's name has a space in it."""
    return fitting_name(f"loading {raw_table}")


def token_columns(warehouse: psycopg.Connection) -> dict[str, list[str]]:
    """Return the columns that hold tokens, by table of raw: bytes with a blind index beside them."""
    rows = warehouse.execute(
        "select c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "where c.relnamespace = 'raw'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 "
        "and not a.attisdropped and a.atttypid = 'bytea'::regtype order by c.relname, a.attnum"
    ).fetchall()
    names: dict[str, list[str]] = {}
    for table, column in rows:
        names.setdefault(table, []).append(column)
    found = {table: [name for name in has if blind_index_name(name) in has] for table, has in names.items()}
    return {table: columns for table, columns in found.items() if columns}


def read_tables(warehouse: psycopg.Connection) -> list[TokenTable]:
    """Return the registered tables, with those columns that raw has."""
    present = token_columns(warehouse)
    tables: dict[str, TokenTable] = {}
    for raw_table, source, table_name, column, kind in warehouse.execute(
        "select raw_table, source, table_name, column_name, kind from ops.encrypted_column "
        "order by raw_table, column_name"
    ):
        if column in present.get(raw_table, ()):
            table = tables.setdefault(raw_table, TokenTable(raw_table, source, table_name, {}))
            table.columns[column] = kind
    return list(tables.values())


def admit(
    warehouse: psycopg.Connection,
    keyring: Keyring,
    *,
    source: str,
    table_name: str,
    raw_table: str,
    columns: Mapping[str, str],
) -> bool:
    """See that a load may write these columns with this keyring, and record it before it does; commits.

    warehouse: in autocommit. columns: kind by name. Returns whether tokens of other keys may be there. Raises
    KeyringError where a key is missing or another one stands under its id, and where blind indexes of before can't be
    compared with those of now.
    """
    present = token_columns(warehouse)
    there = {*present.get(raw_table, ()), *present.get(loading_name(raw_table), ())}
    register(warehouse, keyring, TokenTable(raw_table, source, table_name, dict(columns)), there)
    require_data_keys(warehouse, keyring, [raw_table])
    require_same_index(warehouse, keyring, TokenTable(raw_table, source, table_name, dict(columns)), there)
    with warehouse.transaction():
        for column, kind in columns.items():
            warehouse.execute(
                "insert into ops.encrypted_column as c "
                "(raw_table, column_name, source, table_name, kind, index_fingerprint) values (%s, %s, %s, %s, %s, %s) "
                "on conflict (raw_table, column_name) do update set source = excluded.source, "
                "table_name = excluded.table_name, kind = excluded.kind, "
                "index_fingerprint = excluded.index_fingerprint, registered_at = excluded.registered_at "
                "where (c.source, c.table_name, c.kind, c.index_fingerprint) <> "
                "(excluded.source, excluded.table_name, excluded.kind, excluded.index_fingerprint)",
                (raw_table, column, source, table_name, kind, keyring.index_fingerprint),
            )
            record_use(warehouse, keyring, raw_table, column, [keyring.writing_id])
        other = warehouse.execute(
            "select exists (select from ops.data_key_use where raw_table = %s and key_id <> %s)",
            (raw_table, keyring.writing_id),
        ).fetchone()
    return other == (True,)


def register(
    warehouse: psycopg.Connection, keyring: Keyring, table: TokenTable, there: set[str] | Sequence[str]
) -> None:
    """Record columns that have tokens and are not registered: of warehouses from before the register; commits.

    One scan each, once. Their blind indexes are taken for those of the keyring's index key.
    """
    known = {
        column
        for (column,) in warehouse.execute(
            "select column_name from ops.encrypted_column where raw_table = %s", (table.raw_table,)
        )
    }
    present = token_columns(warehouse)
    for column in sorted(set(there) - known):
        ids: set[int | None] = set()
        for relation in (table.raw_table, loading_name(table.raw_table)):
            if column in present.get(relation, ()):
                ids |= _key_ids(warehouse, relation, column)
        if None in ids and column not in table.columns:
            continue  # bytes of the source's own
        with warehouse.transaction():
            warehouse.execute(
                "insert into ops.encrypted_column "
                "(raw_table, column_name, source, table_name, kind, index_fingerprint) values (%s, %s, %s, %s, %s, %s)",
                (
                    table.raw_table,
                    column,
                    table.source,
                    table.table_name,
                    table.columns.get(column, column),
                    keyring.index_fingerprint,
                ),
            )
            record_use(
                warehouse, keyring, table.raw_table, column, sorted(key_id for key_id in ids if key_id is not None)
            )


def record_use(
    warehouse: psycopg.Connection, keyring: Keyring, raw_table: str, column: str, key_ids: Sequence[int]
) -> None:
    """Record that tokens of a column may be of these keys. Does not commit."""
    for key_id in key_ids:
        warehouse.execute(
            "insert into ops.data_key_use (raw_table, column_name, key_id, key_fingerprint) values (%s, %s, %s, %s) "
            "on conflict do nothing",
            (raw_table, column, key_id, keyring.fingerprints.get(key_id)),
        )


def require_data_keys(warehouse: psycopg.Connection, keyring: Keyring, raw_tables: Sequence[str] | None = None) -> None:
    """Raise KeyringError where a key that tokens may need is missing, or another one stands under its id.

    raw_tables: all that are registered where left out.
    """
    rows = warehouse.execute(
        "select key_id, key_fingerprint, raw_table, string_agg(column_name, ', ' order by column_name) "
        "from ops.data_key_use where %(tables)s::text[] is null or raw_table = any(%(tables)s) "
        "group by key_id, key_fingerprint, raw_table order by key_id, raw_table",
        {"tables": None if raw_tables is None else list(raw_tables)},
    ).fetchall()
    lost: dict[int, list[str]] = {}
    changed: dict[int, list[str]] = {}
    for key_id, fingerprint, raw_table, columns in rows:
        place = f"raw.{raw_table} ({columns})"
        if key_id not in keyring.fingerprints:
            lost.setdefault(key_id, []).append(place)
        elif fingerprint not in (None, keyring.fingerprints[key_id]):
            changed.setdefault(key_id, []).append(place)
    faults = [
        f"{DATA_KEYS} lacks key {key_id}, with which values of {', '.join(places)} were written. Remedy: append "
        f"`{key_id}:KEY` with that key; what is written uses the first key all the same. If it is lost for good, "
        f"`make rotate-keys FORGET={key_id}` gives up the values that only it reads (docs/security.md)."
        for key_id, places in lost.items()
    ]
    faults += [
        f"{DATA_KEYS} holds another key under the id {key_id} than the one that wrote values of {', '.join(places)}. "
        "Remedy: put that one back, and give the new key an id of its own."
        for key_id, places in changed.items()
    ]
    if faults:
        raise KeyringError("\n".join(faults))


def require_same_index(
    warehouse: psycopg.Connection, keyring: Keyring, table: TokenTable, there: set[str] | Sequence[str]
) -> None:
    """Raise KeyringError where blind indexes that are there were computed otherwise than they would be now."""
    for column, kind, fingerprint in warehouse.execute(
        "select column_name, kind, index_fingerprint from ops.encrypted_column where raw_table = %s "
        "order by column_name",
        (table.raw_table,),
    ):
        if column not in there:
            continue
        if fingerprint != keyring.index_fingerprint:
            raise KeyringError(_other_index_key([f"raw.{table.raw_table}"]))
        if table.columns.get(column, kind) != kind:
            raise KeyringError(
                f"raw.{table.raw_table}.{column}: its blind indexes are of kind {kind!r}, and include/sources says "
                f"{table.columns[column]!r} now; both would never meet in a join. Remedy: undo the change, or compute "
                "them anew with `make rotate-keys`."
            )


def require_all(warehouse: psycopg.Connection, keyring: Keyring) -> None:
    """Raise KeyringError where any table of raw needs a key that is not here; ends its transaction."""
    require_data_keys(warehouse, keyring)
    present = token_columns(warehouse)
    rows = warehouse.execute(
        "select raw_table, column_name from ops.encrypted_column where index_fingerprint <> %s order by 1, 2",
        (keyring.index_fingerprint,),
    ).fetchall()
    warehouse.rollback()
    if tables := sorted({f"raw.{table}" for table, column in rows if column in present.get(table, ())}):
        raise KeyringError(_other_index_key(tables))


def _other_index_key(tables: Sequence[str]) -> str:
    return (
        f"{INDEX_KEY} is not the key that the blind indexes of {', '.join(tables)} were computed with: joins would "
        "find nothing. Remedy: put that key back, or compute them anew with `make rotate-keys`."
    )


def _key_ids(warehouse: psycopg.Connection, relation: str, column: str) -> set[int | None]:
    """Return the ids of all keys that tokens of a column were written with, None for what is no token; one scan."""
    rows = warehouse.execute(
        sql.SQL("select distinct substr({0}, 1, {1}) from {2} where {0} is not null").format(
            sql.Identifier(column), HEADER_BYTES, sql.Identifier("raw", relation)
        )
    ).fetchall()
    return {key_id_of(bytes(header)) for (header,) in rows}
