"""Write the corpus into sources that take anything, as databases do that no ORM guards."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

from tests.corpus.item import Item, Model

# What keeps wrong values out of the sample sources: real ones were written by scripts and imports as well.
_OPEN = """
do $$
declare c record;
begin
    for c in select conrelid::regclass as relation, conname from pg_constraint
        where connamespace = 'public'::regnamespace and contype in ('f', 'c', 'u') loop
        execute format('alter table %s drop constraint %I', c.relation, c.conname);
    end loop;
    for c in select indexrelid::regclass as index from pg_index
        where not indisprimary and indrelid in
            (select oid from pg_class where relnamespace = 'public'::regnamespace) loop
        execute format('drop index %s', c.index);
    end loop;
    for c in select a.attrelid::regclass as relation, a.attname, format_type(a.atttypid, a.atttypmod) as declared
        from pg_attribute a join pg_class r on r.oid = a.attrelid
        where r.relnamespace = 'public'::regnamespace and r.relkind = 'r' and a.attnum > 0 and not a.attisdropped
            and r.relname = any(array['crm_lead', 'res_partner', 'apn_opportunity', 'apn_companies']) loop
        if not exists (select from pg_index i where i.indrelid = c.relation::regclass and i.indisprimary
                       and (select attnum from pg_attribute where attrelid = i.indrelid and attname = c.attname)
                           = any(i.indkey)) then
            execute format('alter table %s alter column %I drop not null', c.relation, c.attname);
        end if;
        if c.declared like 'character varying(%' or c.declared = 'apn_stage' then
            execute format('alter table %s alter column %I type text', c.relation, c.attname);
        end if;
    end loop;
end
$$
"""
FIRST_NUMBER = 9_000_001


def open_source(source: psycopg.Connection) -> None:
    """Take constraints, lengths, enums and all indexes but those of keys off the tables."""
    source.execute(_OPEN)


def key_of(item: Item, position: int) -> str:
    """Return the key that the item has, by its position among the items of its table."""
    if item.key is not None:
        return item.key
    number = FIRST_NUMBER + 100 + position
    return str(number) if item.source == "odoo" else f"O{number}"


def plant(
    source: psycopg.Connection, items: Iterable[Item], models: dict[tuple[str, str], Model], *, of: str
) -> dict[tuple[str, str], Item | None]:
    """Write the items of one source, and one good copy of each table's model; return them by table and key."""
    planted: dict[tuple[str, str], Item | None] = {}
    for (name, table), model in models.items():
        if name != of:
            continue
        good = str(FIRST_NUMBER) if of == "odoo" else f"O{FIRST_NUMBER + 99}"
        _copy(source, table, good, model, {})
        planted[table, good] = None
        own = [item for item in items if (item.source, item.table) == (of, table)]
        for position, item in enumerate(own):
            key = key_of(item, position)
            _copy(source, table, key, model, item.values)
            planted[table, key] = item
    return planted


def _copy(source: psycopg.Connection, table: str, key: str, model: Model, values: dict[str, str]) -> None:
    name = sql.Identifier(table)
    columns = [
        column
        for (column,) in source.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped "
            "and attgenerated = ''",
            (f"public.{table}",),
        )
    ]
    given = {column.strip('"'): value for column, value in {**model.values, **values}.items()}
    given["id"] = sql.Literal(key).as_string(source)
    if "commercial_partner_id" in columns:
        given["commercial_partner_id"] = given["id"]
    if unknown := set(given) - set(columns):
        raise AssertionError(f"{table} has no column {sorted(unknown)}")
    done = source.execute(
        sql.SQL("insert into {} ({}) select {} from {} where {} order by id limit 1").format(
            name,
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(
                sql.SQL(given[column]) if column in given else sql.Identifier(column)  # type: ignore[arg-type]
                for column in columns
            ),
            name,
            sql.SQL(model.where),  # type: ignore[arg-type]
        )
    )
    if done.rowcount != 1:
        raise AssertionError(f"{table} has no row like the model: {model.where}")
