"""The documents to encode: Parquet files with text_hash and text, read in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedding.errors import InputError

CONTRACT: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "text_hash": (
        "binary",
        lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t),
    ),
    "text": ("string", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
}
READ_ROWS = 4_096


def list_inputs(directory: Path) -> list[Path]:
    """Return a directory's Parquet files by name, each checked against the contract; raises InputError."""
    if not directory.is_dir():
        raise InputError(f"no input directory at {directory}: create it, or name another with --input")
    files = sorted(path for path in directory.glob("*.parquet") if path.is_file())
    for path in files:
        _check_schema(path)
    return files


def read_chunks(files: list[Path], columns: list[str], *, rows: int) -> Iterator[pa.Table]:
    """Yield tables of exactly `rows` rows (the last may be shorter) across file borders, in bounded memory.

    Raises InputError for nulls and for files that are damaged.
    """
    pending: list[pa.Table] = []
    held = 0
    for table in _read(files, columns):
        start = 0
        while start < len(table):
            part = table.slice(start, rows - held)
            pending.append(part)
            held += len(part)
            start += len(part)
            if held == rows:
                yield pa.concat_tables(pending)
                pending, held = [], 0
    if pending:
        yield pa.concat_tables(pending)


def _check_schema(path: Path) -> None:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({error}): write it again") from error
    for name, (wanted, fits) in CONTRACT.items():
        if schema.names.count(name) != 1:
            raise InputError(f"{path} needs one column {name}, of type {wanted}; it has {', '.join(schema.names)}")
        if not fits(schema.field(name).type):
            raise InputError(f"{path}: column {name} is {schema.field(name).type}; write it as {wanted}")


def _read(files: list[Path], columns: list[str]) -> Iterator[pa.Table]:
    for path in files:
        row = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=READ_ROWS, columns=columns):
                    table = pa.Table.from_batches([batch])
                    _check_text(path, table, first_row=row)
                    _check_nulls(path, table, first_row=row)
                    row += len(table)
                    yield _plain(table)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged from row {row} on ({error}): write it again") from error


def _check_text(path: Path, table: pa.Table, *, first_row: int) -> None:
    # Parquet does not check that a string is UTF-8. A lone surrogate, which other programs let through, is not.
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        bad = next((row for row in range(len(table)) if not _is_valid(table.slice(row, 1))), 0)
        raise InputError(
            f"{path} is damaged in row {first_row + bad} ({error}): clean the text, write it again"
        ) from error


def _is_valid(table: pa.Table) -> bool:
    try:
        pa.concat_tables([table]).combine_chunks().validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _plain(table: pa.Table) -> pa.Table:
    # Files may differ in binary(32) and binary; one table has one type.
    types = {"text_hash": pa.binary(), "text": pa.large_string()}
    return table.cast(pa.schema([(name, types[name]) for name in table.column_names]))


def _check_nulls(path: Path, table: pa.Table, *, first_row: int) -> None:
    for name in table.column_names:
        if table.column(name).null_count:
            row = first_row + table.column(name).is_null().to_pylist().index(True)
            raise InputError(f"{path}: column {name} is null in row {row}; write an empty value, or leave the row out")
