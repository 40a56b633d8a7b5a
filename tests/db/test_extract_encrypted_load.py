"""Sensitive columns through whole loads: raw gets tokens and blind indexes, never a value, whatever changes later."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import psycopg
import pytest
from builders import Extract, counts, query
from psycopg import sql

from revops.extract import ranges
from revops.extract.errors import ExtractError, SchemaFrozenError
from revops.extract.merge import token_key
from revops.extract.stream import agree_on_text
from revops.keyring import Keyring, new_key
from revops.local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, email text, phone varchar(40));"
    "insert into t select n, 'name ' || n, 'Secret-' || n || '@example.com', '+43 secret ' || n"
    " from generate_series(1, 10) n;"
    "insert into t values (11, 'nothing', null, ''), (12, 'same', 'secret-1@EXAMPLE.com ', E'secret\\t\\\\N\\n☎')"
)
# With a column of a type of the source's own, rows go as text.
AS_TEXT = "create type mood as enum ('so so'); alter table t add column mood mood default 'so so'"
SECRET: dict[str, Any] = {"encrypt": ["email", "phone"]}


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.generate()


def decrypted(
    extract: Extract, keyring: Keyring, column: str, *, name: str = "t", key: tuple[str, ...] = ("id",)
) -> Counter[tuple[str, str | None]]:
    """(key, value) of a sensitive column's live rows, read from raw with keys."""
    with psycopg.connect(extract.warehouse_dsn) as connection:
        agree_on_text(connection)
        rows = connection.execute(
            sql.SQL("select {}, {} from {} where _deleted_at is null").format(
                token_key(key), sql.Identifier(column), sql.Identifier("raw", f"odoo_{name}")
            )
        ).fetchall()
    table = f"odoo_{name}"
    return Counter(
        (text, None if token is None else keyring.decrypt(token, table=table, column=column, key_text=text))
        for text, token in rows
    )


def in_source(
    extract: Extract, column: str, *, name: str = "t", key: tuple[str, ...] = ("id",)
) -> Counter[tuple[str, str | None]]:
    with psycopg.connect(extract.source_dsn) as connection:
        agree_on_text(connection)
        rows = connection.execute(
            sql.SQL("select {}, {}::text from {}").format(token_key(key), sql.Identifier(column), sql.Identifier(name))
        ).fetchall()
    return Counter(rows)


def assert_encrypted(extract: Extract, keyring: Keyring, *columns: str) -> None:
    """Raw has the values of these columns as tokens, and all others as they are."""
    indexes = {f"{column}_blind_index" for column in columns}
    types = extract.raw_types()
    for column in columns:
        assert decrypted(extract, keyring, column) == in_source(extract, column)
        assert types[column] == types[f"{column}_blind_index"] == "bytea"
    with extract.warehouse.cursor() as cursor:
        hidden = {*columns, *indexes, "_loaded_at", "_load_id", "_deleted_at"}
        plain = [name for name in types if name not in hidden]
        chosen = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in plain)
        found = cursor.execute(sql.SQL("select {} from raw.odoo_t where _deleted_at is null").format(chosen)).fetchall()
        wanted = extract.source.execute(sql.SQL("select {} from t").format(chosen)).fetchall()
    assert Counter(found) == Counter(wanted)


def everything_in_the_warehouse(extract: Extract) -> str:
    """All that can be selected from raw and ops, also in rows that are marked deleted, as one text; bytes as text."""
    texts = []
    tables = query(extract.warehouse, "select schemaname, tablename from pg_tables where schemaname in ('raw', 'ops')")
    for schema, table in tables:
        name = sql.Identifier(schema, table).as_string(None)
        texts += [row for (row,) in query(extract.warehouse, f"select t::text from {name} as t")]
        columns = query(
            extract.warehouse,
            "select attname from pg_attribute where attrelid = %s::regclass and atttypid = 'bytea'::regtype "
            "and attnum > 0 and not attisdropped",
            name,
        )
        for (column,) in columns:
            quoted = sql.Identifier(column).as_string(None)
            texts += [str(bytes(row)) for (row,) in query(extract.warehouse, f"select {quoted} from {name}") if row]
    texts += [str(row) for row in query(extract.warehouse, "select * from pg_stats where schemaname = 'raw'")]
    return "\n".join(texts).lower()


@pytest.mark.parametrize("form", ["binary", "text"])
def test_values_never_reach_the_warehouse(extract: Extract, keyring: Keyring, form: str) -> None:
    extract.run(PEOPLE if form == "binary" else f"{PEOPLE}; {AS_TEXT}")
    assert counts(extract.load(keyring=keyring, **SECRET)) == (12, 12, 0, 0, 0)
    assert extract.last_load()["format"] == form
    assert_encrypted(extract, keyring, "email", "phone")
    assert "secret" not in everything_in_the_warehouse(extract)
    # What is read again is the same, to the byte.
    before = extract.everything()
    assert counts(extract.load(keyring=keyring, full_refresh=True, **SECRET)) == (12, 0, 0, 12, 0)
    assert extract.everything() == before
    # Changes and deletions as with any other column.
    extract.run("update t set email = 'Secret-new@example.com' where id = 2; update t set phone = null where id = 3")
    extract.run("insert into t values (13, 'new', 'secret-13@example.com'); delete from t where id = 4")
    assert counts(extract.load(keyring=keyring, **SECRET)) == (3, 1, 2, 0, 1)
    assert_encrypted(extract, keyring, "email", "phone")
    assert "secret" not in everything_in_the_warehouse(extract)
    extract.run("update t set name = 'changed' where id = 5")
    assert counts(extract.load(keyring=keyring, **SECRET)) == (1, 0, 1, 0, 0)
    assert_encrypted(extract, keyring, "email", "phone")


def test_no_file_of_the_warehouse_holds_a_value(extract: Extract, keyring: Keyring, postgres: EmbeddedPostgres) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keyring, **SECRET)
    extract.run("update t set email = email || '.at'")
    extract.load(keyring=keyring, **SECRET)
    with psycopg.connect(postgres.conninfo(extract.warehouse.info.dbname), autocommit=True) as superuser:
        superuser.execute("checkpoint")
        content = query(superuser, "select pg_read_binary_file(pg_relation_filepath('raw.odoo_t'))")[0][0]
    assert b"name 1" in content
    assert b"ecret" not in content


@pytest.mark.parametrize("form", ["binary", "text"])
def test_equal_values_have_equal_blind_indexes_within_a_kind(extract: Extract, keyring: Keyring, form: str) -> None:
    extract.run(PEOPLE if form == "binary" else f"{PEOPLE}; {AS_TEXT}")
    extract.run(
        "create table u (id integer primary key, other_mail text); insert into u values (1, 'SECRET-1@example.com')"
    )
    kinds = [{"kind": "mail", "columns": ["*.email", "u.other*"]}]
    of_source = {"of_source": {"encrypt": kinds}}
    extract.load(keyring=keyring, encrypt=["phone"], **of_source)
    extract.load("u", keyring=keyring, **of_source)
    assert query(
        extract.warehouse, "select t.id from raw.odoo_t as t join raw.odoo_u as u "
        "on u.other_mail_blind_index = t.email_blind_index order by id"
    ) == [(1,), (12,)]  # fmt: skip
    indexes = dict(query(extract.warehouse, "select id, email_blind_index from raw.odoo_t"))
    assert indexes[1] == keyring.blind_index("secret-1@example.com", "mail")
    assert indexes[11] is None
    assert len(set(indexes.values())) == 11
    # What one table lists for itself is a kind of its own; empty text has a token, and no index.
    phones = query(extract.warehouse, "select id, phone is null, phone_blind_index from raw.odoo_t where id in (1, 11)")
    assert sorted(phones) == [(1, False, keyring.blind_index("+43 secret 1", "phone")), (11, False, None)]


KEYS = {
    "composite": ("a integer, b text, primary key (b, a)", ("b", "a"), "(1, 'x,y'), (2, 'x\"y'), (3, ''), (4, '(')"),
    "uuid": ("a uuid primary key", ("a",), "(md5('1')::uuid), (md5('2')::uuid)"),
    "text": ("a text primary key", ("a",), "(E'tab\\t\\\\N'), (''), ('é🚀'), ('{}')"),
    "timestamptz": ("a timestamptz primary key", ("a",), "('infinity'), ('2026-01-01 12:00+05:45')"),
    "enum": ("a mood primary key", ("a",), "('so so'), ('ok')"),
    "none": ("a integer", (), "(1), (1), (null)"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_tokens_are_bound_to_keys_of_every_kind(extract: Extract, keyring: Keyring, kind: str) -> None:
    columns, key, values = KEYS[kind]
    extract.run("set timezone = 'Asia/Kathmandu'; create type mood as enum ('so so', 'ok')")
    extract.run(f"create table t ({columns}); insert into t values {values}; alter table t add secret text")
    extract.run("update t set secret = 'secret ' || coalesce(a::text, 'none')")
    extract.load(keyring=keyring, encrypt=["secret"])
    assert decrypted(extract, keyring, "secret", key=key) == in_source(extract, "secret", key=key)
    extract.run("update t set secret = secret || '!' where ctid = (select min(ctid) from t)")
    result = extract.load(keyring=keyring, encrypt=["secret"])
    assert decrypted(extract, keyring, "secret", key=key) == in_source(extract, "secret", key=key)
    assert (result.inserted + result.updated, result.unchanged, result.deleted) == (
        (1, 2, 1) if kind == "none" else (1, 0, 0)
    )


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("text", "'secret'"),
        ("varchar(9)", "'secret'"),
        ("bytea", "'secret'::bytea"),
        ("integer", "735203"),
        ("date", "date '1973-05-20'"),
        ("mood", "'secret'"),
        ("text[]", "array['secret']"),
        ("boolean", "true"),
        ("jsonb", """'{"a": "secret"}'"""),
    ],
)
def test_a_column_that_becomes_sensitive_later(extract: Extract, keyring: Keyring, declared: str, value: str) -> None:
    """What was stored in clear goes, also from rows that are gone from the source and will not be read again."""
    # Where drift is ignored it goes all the same.
    drift = "ignore" if declared in ("text", "bytea", "mood") else "evolve"
    extract.run("create type mood as enum ('secret'); create table t (id integer primary key, name text)")
    extract.run(
        f"alter table t add email {declared}; insert into t select n, 'n', {value} from generate_series(1, 4) n"
    )
    extract.load()
    extract.run("delete from t where id = 1")
    extract.load()
    result = extract.load(keyring=keyring, encrypt=["email"], drift=drift)
    assert result.read == result.updated == 3
    assert_encrypted(extract, keyring, "email")
    assert query(extract.warehouse, "select email, email_blind_index from raw.odoo_t where id = 1") == [(None, None)]
    for clear in ("secret", "735203", "1973-05-20"):
        assert clear not in everything_in_the_warehouse(extract)
    before = (
        "text[]"
        if declared == "text[]"
        else {"mood": "text", "varchar(9)": "character varying(9)"}.get(declared, declared)
    )
    assert extract.changes()[1:] == [
        ("column_encrypted", "email", before, "bytea"),
        ("column_added", "email_blind_index", None, "bytea"),
    ]
    assert extract.last_load()["full_read_reason"].startswith("column encrypted")
    assert counts(extract.load(keyring=keyring, encrypt=["email"], drift=drift)) == (0, 0, 0, 0, 0)
    assert len(extract.changes()) == 3


def test_a_column_that_became_sensitive_after_the_source_dropped_it(extract: Extract, keyring: Keyring) -> None:
    """It can't be read again, so that what raw has in clear can only go."""
    extract.run(PEOPLE)
    extract.load()
    extract.run("alter table t drop column email")
    extract.load()
    extract.load(keyring=keyring, encrypt=["email"])
    assert "email" not in extract.raw_types()
    assert extract.changes()[-1] == ("column_excluded", "email", "text", None)
    # A token may stay: it says nothing.
    extract.load(keyring=keyring, encrypt=["*email*", "phone"])
    tokens = decrypted(extract, keyring, "phone")
    extract.run("alter table t drop column phone")
    for _ in range(2):
        extract.load(keyring=keyring, encrypt=["*email*", "*phone*"])
        assert decrypted(extract, keyring, "phone") == tokens
    assert extract.changes()[-2:] == [
        ("column_dropped", "phone", "bytea", None),
        ("column_dropped", "phone_blind_index", "bytea", None),
    ]


@pytest.mark.parametrize("was_encrypted", [True, False])
def test_a_column_that_is_excluded_later_goes_with_its_index(
    extract: Extract, keyring: Keyring, was_encrypted: bool
) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keyring, **(SECRET if was_encrypted else {"encrypt": ["phone"]}))
    extract.run("delete from t where id = 5")
    extract.load(keyring=keyring, exclude_columns=["email"], encrypt=["phone"])
    assert [name for name in extract.raw_types() if "email" in name] == []
    assert_encrypted(extract, keyring, "phone")
    excluded = [(change, column) for change, column, *_ in extract.changes()[1:]]
    assert excluded == [("column_excluded", "email")] + was_encrypted * [("column_excluded", "email_blind_index")]
    # It may come back.
    extract.load(keyring=keyring, **SECRET)
    assert_encrypted(extract, keyring, "email", "phone")


def test_a_pattern_of_exclusions_does_not_reach_our_own_columns(extract: Extract, keyring: Keyring) -> None:
    extract.run(PEOPLE + "; alter table t add search_index text default 'x'")
    settings = {"exclude_columns": ["*_index"], **SECRET}
    for _ in range(2):
        extract.load(keyring=keyring, **settings)
        assert decrypted(extract, keyring, "email") == in_source(extract, "email")
        extract.run("update t set email = 'other' where id = 3")
    assert list(extract.raw_types())[:6] == [
        "id", "name", "email", "email_blind_index", "phone", "phone_blind_index"
    ]  # fmt: skip
    assert len(extract.changes()) == 1


@pytest.mark.parametrize("declared", ["text", "bytea"])
def test_a_column_that_is_sensitive_no_more(extract: Extract, keyring: Keyring, declared: str) -> None:
    extract.run(f"create table t (id integer primary key, email {declared})")
    for number in range(1, 6):
        extract.source.execute("insert into t values (%s, %s)", (number, f"mail {number}"))
    extract.load(keyring=keyring, encrypt=["email"])
    extract.load()
    emails = "select id, email::text from {} order by id"
    assert query(extract.warehouse, emails.format("raw.odoo_t")) == query(extract.source, emails.format("t"))
    extract.load(keyring=keyring, encrypt=["email"])
    assert_encrypted(extract, keyring, "email")


def test_a_frozen_table_stops_at_a_column_that_becomes_sensitive(extract: Extract, keyring: Keyring) -> None:
    extract.run(PEOPLE)
    extract.load()
    with pytest.raises(SchemaFrozenError, match=r'column encrypted "email" \(text -> bytea\)'):
        extract.load(keyring=keyring, encrypt=["email"], drift="freeze")


@pytest.mark.parametrize("is_first", [True, False])
def test_without_keys_nothing_is_loaded(extract: Extract, keyring: Keyring, is_first: bool) -> None:
    extract.run(PEOPLE)
    if not is_first:
        extract.load(keyring=keyring, **SECRET)
    before = extract.everything() if not is_first else None
    extract.run("update t set name = 'changed' where id = 1")
    with pytest.raises(ExtractError, match=r"odoo\.t: email, phone must be encrypted, but there is no key.*DATA_KEYS"):
        extract.load(**SECRET)
    assert extract.last_load()["status"] == "failed"
    assert extract.raw_types() == {} if is_first else extract.everything() == before
    assert "secret" not in everything_in_the_warehouse(extract)


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        ("id integer primary key, name text", {"encrypt": ["id"]}, r"encrypt names the key column\(s\) \['id'\]"),
        ("id integer primary key, name text", {"encrypt": ["*"]}, r"encrypt names the key column\(s\) \['id'\]"),
        (
            "id integer primary key, name text, name_blind_index text",
            {"encrypt": ["name"]},
            r"has a column 'name_blind_index', the name that the blind index of 'name' needs.*exclude_columns",
        ),
    ],
)
def test_columns_that_can_not_be_encrypted(
    extract: Extract, keyring: Keyring, table: str, settings: dict[str, Any], message: str
) -> None:
    extract.run(f"create table t ({table}); insert into t (id, name) values (1, 'secret')")
    with pytest.raises(ExtractError, match=message):
        extract.load(keyring=keyring, **settings)
    assert extract.raw_types() == {}
    # The remedy is one.
    if "blind" in table:
        extract.load(keyring=keyring, exclude_columns=["*_blind_index"], **settings)
        assert decrypted(extract, keyring, "name") == in_source(extract, "name")


def test_names_at_the_limit_have_indexes_of_their_own(extract: Extract, keyring: Keyring) -> None:
    first, second = "e" * 62 + "1", "e" * 62 + "2"
    extract.run(f"create table t (id integer primary key, {first} text, {second} text)")
    extract.run("insert into t values (1, 'secret 1', 'secret 2')")
    for _ in range(2):
        extract.load(keyring=keyring, encrypt=["e*"], full_refresh=True)
        for column in (first, second):
            assert decrypted(extract, keyring, column) == in_source(extract, column)


def test_a_new_key_writes_and_the_old_one_still_reads(extract: Extract) -> None:
    old, new, index = new_key(), new_key(), new_key()
    first = Keyring.parse(f"1:{old}", index)
    second = Keyring.parse(f"2:{new},1:{old}", index)
    extract.run(PEOPLE)
    extract.load(keyring=first, **SECRET)
    extract.run("update t set email = 'secret-changed' where id = 2")
    assert counts(extract.load(keyring=second, **SECRET)) == (1, 0, 1, 0, 0)
    assert_encrypted(extract, second, "email", "phone")
    # What is read again comes to the new key and is the same row all the same: no load of it, nothing for core to do.
    before = query(extract.warehouse, "select id, _load_id, _loaded_at from raw.odoo_t order by id")
    assert counts(extract.load(keyring=second, full_refresh=True, **SECRET)) == (12, 0, 0, 12, 0)
    assert query(extract.warehouse, "select id, _load_id, _loaded_at from raw.odoo_t order by id") == before
    only_new = Keyring.parse(f"2:{new}", index)
    assert_encrypted(extract, only_new, "email", "phone")


def test_in_ranges(extract: Extract, keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MEBIBYTE", ranges.BLOCK_BYTES)
    extract.run(PEOPLE)
    extract.run("insert into t select n, repeat('x', 700), 'secret ' || n from generate_series(100, 140) n")
    extract.load(keyring=keyring, workers=2, of_source={"ranged_above_mb": 0, "range_mb": 1}, **SECRET)
    assert extract.last_load()["ranges"] > 2
    assert_encrypted(extract, keyring, "email", "phone")
    assert "secret" not in everything_in_the_warehouse(extract)


def test_a_silent_change_of_a_sensitive_column_is_repaired(extract: Extract, keyring: Keyring) -> None:
    """In mode cursor the periodic comparison has no hash of what is encrypted: such a table is read in full then."""
    settings = {"mode": "cursor", "cursor": "at", "keyring": keyring, **SECRET}
    extract.run(PEOPLE + "; alter table t add at timestamptz; update t set at = now() - interval '1 day'")
    extract.load(**settings)
    extract.run("update t set email = 'secret-silent' where id = 3")
    extract.load(**settings)
    assert decrypted(extract, keyring, "email") != in_source(extract, "email")
    assert extract.load(compare_every_h=0, **settings).repaired == 1
    assert decrypted(extract, keyring, "email") == in_source(extract, "email")


def test_errors_quote_no_value(extract: Extract, keyring: Keyring) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keyring, **SECRET)
    extract.ingest.execute("alter table raw.odoo_t add constraint planted check (name <> 'poison')")
    extract.ingest.commit()
    extract.run("update t set name = 'poison' where id = 2")
    with pytest.raises(psycopg.errors.CheckViolation):
        extract.load(keyring=keyring, **SECRET)
    assert "secret" not in everything_in_the_warehouse(extract)
    assert os.environ.get("REVOPS_DATA_KEYS") is None
