"""What of a source table is stored, and as what: without forbidden columns, sensitive ones as tokens."""

from __future__ import annotations

from dataclasses import replace

from revops.extract.catalog import METADATA_COLUMNS, Column, Relation
from revops.extract.errors import ExtractError
from revops.naming import fitting_name
from revops.sources import Source, Table

BLIND_INDEX_SUFFIX = "_blind_index"


def shape_relation(relation: Relation, config: Source, table: Table) -> Relation:
    """Return the relation as raw takes it; raises ExtractError when its names or its key forbid that."""
    return _with_tokens(_without_excluded(relation, config, table), config, table)


def blind_index_name(column: str) -> str:
    """Return the name of the column that the blind index of an encrypted column is kept in."""
    return fitting_name(f"{column}{BLIND_INDEX_SUFFIX}")


def _without_excluded(relation: Relation, config: Source, table: Table) -> Relation:
    kept = tuple(column for column in relation.columns if not config.is_excluded(table, column.name))
    names = {column.name for column in kept}
    if lost := [name for name in relation.key if name not in names]:
        raise ExtractError(
            f"{config.source}.{table.name}: exclude_columns names the key column(s) {lost}. "
            f"Remedy: narrow the pattern in include/sources/{config.source}.yaml."
        )
    if not kept:
        raise ExtractError(
            f"{config.source}.{table.name}: no column is left after exclude_columns. "
            f"Remedy: narrow the patterns, or take the table out of include/sources/{config.source}.yaml."
        )
    if reserved := sorted(names & set(METADATA_COLUMNS)):
        raise ExtractError(
            f"{config.source}.{table.name} has the column(s) {reserved}, names that Revops uses itself. "
            f"Remedy: put them into exclude_columns of the table in include/sources/{config.source}.yaml."
        )
    return replace(relation, columns=kept)


def _with_tokens(relation: Relation, config: Source, table: Table) -> Relation:
    names = {column.name for column in relation.columns}
    kinds = {name: kind for name in names if (kind := config.sensitive_kind(table, name)) is not None}
    if keys := sorted(kinds.keys() & set(relation.key)):
        raise ExtractError(
            f"{config.source}.{table.name}: encrypt names the key column(s) {keys}; rows could not be matched any "
            f"more. Remedy: take them out of `encrypt` in include/sources/{config.source}.yaml."
        )
    columns: list[Column] = []
    for column in relation.columns:
        if column.name not in kinds:
            columns.append(column)
            continue
        index = blind_index_name(column.name)
        if index in names:
            raise ExtractError(
                f"{config.source}.{table.name} has a column {index!r}, the name that the blind index of "
                f"{column.name!r} needs. Remedy: put it into exclude_columns in include/sources/{config.source}.yaml."
            )
        columns.append(Column(column.name, "bytea", column.source_type, "token", kinds[column.name]))
        columns.append(Column(index, "bytea", column.source_type, "blind_index", kinds[column.name]))
    return replace(relation, columns=tuple(columns))
