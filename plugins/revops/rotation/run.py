"""Rotate keys: find the tables that need it, bring them to the writing key one by one, and say what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg
import structlog
from psycopg import sql

from revops.errors import describe
from revops.extract.ledger import try_table_lock
from revops.keyring import DATA_KEYS, Keyring, KeyringError
from revops.naming import raw_table_name
from revops.rotation import record
from revops.rotation.errors import RotationBusyError, RotationError
from revops.rotation.record import Tell, Teller
from revops.rotation.registry import (
    TokenTable,
    loading_name,
    read_tables,
    record_use,
    register,
    require_data_keys,
    token_columns,
)
from revops.rotation.table import PATIENCE_S, Connect, TableRotation, count_tokens
from revops.sources import Source

log = structlog.get_logger(__name__)

_ALONE = "revops.rotation"


@dataclass
class Rotated:
    """What a rotation did.

    rows: renewed, by table. tokens: all of them, as counted at the end. retired: ids of keys that read nothing of raw
    any more and may go. kept: why other keys must stay. indexed: tables whose blind indexes were computed anew.
    """

    writing_id: int
    rows: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    retired: list[int] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    indexed: list[str] = field(default_factory=list)

    @property
    def remedy(self) -> str:
        """What may be done now, in a sentence."""
        if self.kept:
            return f"Keep all keys in {DATA_KEYS}: {'; '.join(self.kept)}"
        if not self.retired:
            return f"All {self.tokens:,} tokens are of key {self.writing_id}; {DATA_KEYS} holds no other key."
        ids = ", ".join(map(str, self.retired))
        return (
            f"All {self.tokens:,} tokens are of key {self.writing_id}. Remove key {ids} from {DATA_KEYS}; "
            "keep a copy as long as backups of the warehouse from before this rotation are kept."
        )


def rotate_keys(
    connect: Connect,
    keyring: Keyring,
    *,
    run_id: str,
    sources: Sequence[Source],
    tell: Tell | None = None,
    forgotten: int | None = None,
    only_due: bool = False,
    patience_s: float = PATIENCE_S,
) -> Rotated | None:
    """Bring all tokens of raw to the writing key, and all blind indexes to the index key; commits batch by batch.

    connect: opens sessions with the rights of revops_ingest. sources: say of which kind a column is. forgotten: the id
    of a key whose values are given up where they can't be read. only_due: return None, and count nothing, where the
    register knows of no other key. A table that fails does not keep the others from their turn.
    Raises KeyringError where a key is missing, RotationBusyError where another rotation is at work or a load was not
    outlasted, RotationError where tokens can't be read.
    """
    if forgotten == keyring.writing_id:
        raise RotationError(f"key {forgotten} is the one that writes: nothing of it can be given up")
    with closing(connect()) as warehouse, _alone(connect):
        record.close_lost(warehouse)
        _register_all(warehouse, keyring, sources)
        tables = [_as_configured(table, sources) for table in read_tables(warehouse)]
        warehouse.rollback()
        if forgotten is not None and forgotten not in keyring.fingerprints:
            for table in tables:
                TableRotation(connect, warehouse, keyring, table, patience_s=patience_s).forget(forgotten)
        require_data_keys(warehouse, keyring)
        due = {table.raw_table for table in tables if _is_due(warehouse, keyring, table)}
        warehouse.rollback()
        if only_due and not due:
            return None
        done = Rotated(keyring.writing_id)
        failures: dict[str, Exception] = {}
        for table in tables:
            try:
                _rotate(connect, warehouse, keyring, table, done, run_id, Teller(tell), forgotten, patience_s)
            except (RotationError, RotationBusyError, KeyringError, psycopg.Error) as error:
                if warehouse.closed:
                    raise
                failures[table.raw_table] = error
        _raise_for(failures)
        _conclude(warehouse, keyring, done)
    log.info("keys rotated", rows=sum(done.rows.values()), tokens=done.tokens, what_now=done.remedy)
    return done


@contextmanager
def _alone(connect: Connect) -> Iterator[None]:
    """Hold the lock of all rotations in a session of its own; it goes with the process."""
    with closing(connect()) as holder:
        holder.autocommit = True
        if holder.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (_ALONE,)).fetchone() != (True,):
            raise RotationBusyError(
                "another rotation of keys is at work; ops.key_rotation says how far it is. Remedy: wait for it"
            )
        yield


def _register_all(warehouse: psycopg.Connection, keyring: Keyring, sources: Sequence[Source]) -> None:
    """Register what a warehouse from before the register has, and forget what raw has no more; commits."""
    loaded = {
        raw_table_name(source, table): (source, table)
        for source, table in warehouse.execute("select distinct source, table_name from ops.load")
    }
    present = token_columns(warehouse)
    warehouse.commit()
    for raw_table, columns in present.items():
        if raw_table not in loaded:
            continue
        source, name = loaded[raw_table]
        kinds = {column: kind for column in columns if (kind := _kind(sources, source, name, column)) is not None}
        register(warehouse, keyring, TokenTable(raw_table, source, name, kinds), columns)
        warehouse.commit()
    for raw_table, source, name, column, fingerprint in warehouse.execute(
        "select raw_table, source, table_name, column_name, index_fingerprint from ops.encrypted_column"
    ).fetchall():
        if column in present.get(raw_table, ()):
            continue
        if column in present.get(loading_name(raw_table), ()):
            if fingerprint == keyring.index_fingerprint:
                continue
            _drop_unfinished(warehouse, TokenTable(raw_table, source, name, {}))
        warehouse.execute(
            "delete from ops.encrypted_column where raw_table = %s and column_name = %s", (raw_table, column)
        )
    warehouse.commit()


def _as_configured(table: TokenTable, sources: Sequence[Source]) -> TokenTable:
    """Return the table with the kinds that its source's file says now; those it was loaded with where it says none."""
    kinds = {
        column: _kind(sources, table.source, table.table_name, column) or kind for column, kind in table.columns.items()
    }
    return TokenTable(table.raw_table, table.source, table.table_name, kinds)


def _kind(sources: Sequence[Source], source: str, table_name: str, column: str) -> str | None:
    for config in sources:
        if config.source != source:
            continue
        if table := next((table for table in config.tables if table.name == table_name), None):
            return config.sensitive_kind(table, column)
        for pattern in config.patterns:
            if config.fitting(pattern, [table_name]):
                return config.sensitive_kind(pattern.table(table_name), column)
    return None


def _rotate(
    connect: Connect,
    warehouse: psycopg.Connection,
    keyring: Keyring,
    table: TokenTable,
    done: Rotated,
    run_id: str,
    teller: Teller,
    forgotten: int | None,
    patience_s: float,
) -> None:
    """Rotate one table, where there is anything to do."""
    with_index = _has_other_index(warehouse, keyring, table)
    is_due = _is_due(warehouse, keyring, table)
    warehouse.rollback()
    if with_index:
        _drop_unfinished(warehouse, table)
    if not is_due:
        # The register says so; the tokens themselves are asked all the same.
        counted = count_tokens(warehouse, keyring, table)
        warehouse.rollback()
        if counted.left == 0:
            done.tokens += counted.tokens
            return
    rotation = TableRotation(connect, warehouse, keyring, table, with_index=with_index, patience_s=patience_s)
    # Before it writes, as a load does: the register may name too many keys, never too few.
    for column in table.columns:
        record_use(warehouse, keyring, table.raw_table, column, [keyring.writing_id])
    warehouse.commit()
    standing = record.begin(
        warehouse,
        keyring,
        run_id=run_id,
        raw_table=table.raw_table,
        expected=rotation.count(),
        with_index=with_index,
    )
    try:
        counted = rotation.run(standing, teller, forgotten=forgotten)
    except BaseException as error:
        if not warehouse.closed:
            warehouse.rollback()
            record.fail(warehouse, standing, error)
        raise
    done.rows[table.raw_table] = standing.renewed
    done.tokens += counted.tokens
    if with_index:
        done.indexed.append(table.raw_table)
    log.info(
        "table renewed",
        table=table.raw_table,
        rows=standing.renewed,
        rows_per_second=standing.rows_per_second,
        tokens=counted.tokens,
        seconds=round(standing.seconds, 1),
    )


def _has_other_index(warehouse: psycopg.Connection, keyring: Keyring, table: TokenTable) -> bool:
    rows = warehouse.execute(
        "select column_name, kind, index_fingerprint from ops.encrypted_column where raw_table = %s",
        (table.raw_table,),
    ).fetchall()
    return any(
        column in table.columns and (kind, fingerprint) != (table.columns[column], keyring.index_fingerprint)
        for column, kind, fingerprint in rows
    )


def _is_due(warehouse: psycopg.Connection, keyring: Keyring, table: TokenTable) -> bool:
    row = warehouse.execute(
        "select exists (select from ops.data_key_use where raw_table = %s and key_id <> %s)",
        (table.raw_table, keyring.writing_id),
    ).fetchone()
    return row == (True,) or _has_other_index(warehouse, keyring, table)


def _drop_unfinished(warehouse: psycopg.Connection, table: TokenTable) -> None:
    """Drop what an unfinished first load in ranges has: its blind indexes are the old ones, and it begins anew."""
    if not try_table_lock(warehouse, table.source, table.table_name):
        warehouse.rollback()
        raise RotationBusyError(f"raw.{table.raw_table} is being loaded. Remedy: wait for that, then rotate again")
    warehouse.execute(sql.SQL("drop table if exists {}").format(sql.Identifier("raw", loading_name(table.raw_table))))
    warehouse.execute(
        "delete from ops.load_range where source = %s and table_name = %s", (table.source, table.table_name)
    )
    warehouse.commit()


def _conclude(warehouse: psycopg.Connection, keyring: Keyring, done: Rotated) -> None:
    """Tell which keys may go: those of which no token is left anywhere."""
    in_use: dict[int, str] = dict(
        warehouse.execute(
            "select key_id, string_agg(distinct 'raw.' || raw_table, ', ') from ops.data_key_use "
            "where key_id <> %s group by key_id order by key_id",
            (keyring.writing_id,),
        ).fetchall()
    )
    unfinished = [name for name in token_columns(warehouse) if name.startswith(loading_name(""))]
    warehouse.rollback()
    done.kept = [f"key {key_id} is in use in {tables}" for key_id, tables in in_use.items()]
    if unfinished:
        done.kept.append("a first load is not finished: run its source's DAG, then rotate again")
    done.retired = [] if done.kept else sorted(set(keyring.fingerprints) - {keyring.writing_id})


def _raise_for(failures: dict[str, Exception]) -> None:
    if not failures:
        return
    lines = [describe(error) if isinstance(error, psycopg.Error) else str(error) for error in failures.values()]
    text = f"{len(failures)} table(s) were not brought to the writing key:\n" + "\n".join(lines)
    if any(isinstance(error, RotationError | KeyringError) for error in failures.values()):
        raise RotationError(text)
    raise RotationBusyError(text)
