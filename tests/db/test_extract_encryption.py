"""Sensitive columns through real servers: COPY out, encrypted on the way, COPY in, in both formats."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from builders import Extract, query
from psycopg import sql

from revops.extract.encryption import RowEncryptor
from revops.extract.errors import ExtractError
from revops.extract.stream import Format, agree_on_text
from revops.keyring import Keyring

pytestmark = pytest.mark.db

FORMATS: list[Format] = ["binary", "text"]
RAW = "odoo_t"
EMAILS = [
    "Anna@Example.com",
    "anna@example.com ",
    "",
    " ",
    None,
    "a\tb\nc\rd\\e\b\f\v",
    "\\N",
    "\\.",
    "\\\\N",
    "\\x41\\101",
    "".join(map(chr, range(1, 32))) + "\x7f",
    "🚀👩‍💻 ‮ é é 中文",
    "\u0301",
    "\ufeff\u2028",
    "NULL",
    "x" * 1_000_000,
]

# Reads the rows of t, encrypts email and doc, and writes them to raw; the key's text is an SQL expression.
Transfer = Callable[..., list[bytes]]


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.generate()


@pytest.fixture
def transfer(extract: Extract, keyring: Keyring) -> Transfer:
    extract.warehouse.execute(
        "create table raw.odoo_t "
        "(email bytea, email_index bytea, doc bytea, doc_index bytea, id int, b text, n numeric)"
    )

    def move(form: Format, *, key: str = "id::text", where: str = "true") -> list[bytes]:
        encryptor = RowEncryptor(keyring, RAW, ["email", "doc"], form=form)
        chosen = f"select {key}, email::text, doc::text, id, b, n from t where {where}"
        read = f"copy ({chosen}) to stdout (format {form})"
        write = f"copy raw.odoo_t from stdin (format {form})"
        sent = []
        with extract.connect_source() as source, psycopg.connect(extract.warehouse_dsn) as warehouse:
            agree_on_text(source)
            agree_on_text(warehouse)
            with source.cursor().copy(read.encode()) as rows, warehouse.cursor().copy(write.encode()) as sink:
                for row in rows:
                    sent.append(encryptor(bytes(row)))
                    sink.write(sent[-1])
        return sent

    return move


def create_source(extract: Extract) -> None:
    extract.run("create table t (id int, email varchar, doc jsonb, b text, n numeric)")
    for number, email in enumerate(EMAILS):
        extract.source.execute(
            "insert into t values (%s, %s, %s, %s, 'NaN')", (number, email, '{"phone": "+49\\t30"}', email)
        )


@pytest.mark.parametrize("form", FORMATS)
def test_values_are_unreadable_in_the_warehouse_and_come_back_with_the_key(
    extract: Extract, transfer: Transfer, keyring: Keyring, form: Format
) -> None:
    create_source(extract)
    transfer(form)
    rows = query(extract.warehouse, "select id, email, email_index, doc, b, n::text from raw.odoo_t order by id")
    assert len(rows) == len(EMAILS)
    for number, token, index, document, other, numeric in rows:
        email, place = EMAILS[number], {"table": RAW, "key_text": str(number)}
        assert (token is None) == (email is None)
        if email is not None:
            assert keyring.decrypt(token, column="email", **place) == email
            assert index == keyring.blind_index(email, "email")
        assert keyring.decrypt(document, column="doc", **place) == '{"phone": "+49\\t30"}'
        assert (other, numeric) == (email, "NaN")


@pytest.mark.parametrize("form", FORMATS)
def test_the_warehouse_is_never_sent_a_value(extract: Extract, transfer: Transfer, form: Format) -> None:
    create_source(extract)
    extract.run("update t set b = null; delete from t where email is null or length(trim(email)) < 4")
    stream = b"".join(transfer(form))
    for plain in (b"Anna", b"example", b"phone", "中文".encode()):
        assert plain not in stream
        assert plain.hex().encode() not in stream


def test_both_formats_store_the_same(extract: Extract, transfer: Transfer) -> None:
    create_source(extract)
    for form in FORMATS:
        transfer(form, key=r"'(' || id || ',a\b' || chr(9) || ')'")
    assert query(extract.warehouse, "select count(*), count(distinct (email, doc)) from raw.odoo_t") == [
        (2 * len(EMAILS), len(EMAILS))
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_equal_values_are_found_and_joined_by_their_index(
    extract: Extract, transfer: Transfer, keyring: Keyring, form: Format
) -> None:
    create_source(extract)
    transfer(form)
    wanted = keyring.blind_index("ANNA@example.com", "email")
    found = query(extract.warehouse, "select id from raw.odoo_t where email_index = %s order by id", wanted)
    assert found == [(0,), (1,)]
    # Neither null nor empty values pair with each other.
    joined = "select a.id, b.id from raw.odoo_t a join raw.odoo_t b using (email_index) where a.id < b.id"
    assert query(extract.warehouse, joined) == [(0, 1)]
    assert query(extract.warehouse, "select count(distinct email) = count(email) from raw.odoo_t") == [(True,)]


@pytest.mark.parametrize("form", FORMATS)
def test_reading_again_finds_unchanged_cells_unchanged(extract: Extract, transfer: Transfer, form: Format) -> None:
    create_source(extract)
    transfer(form)
    extract.run("update t set email = 'new@example.com' where id = 0")
    transfer(form)
    changed = (
        "select id from raw.odoo_t group by id, email is null "
        "having count(distinct (email, email_index, doc, doc_index)) > 1"
    )
    assert query(extract.warehouse, changed) == [(0,)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_without_rows(extract: Extract, transfer: Transfer, form: Format) -> None:
    create_source(extract)
    transfer(form, where="false")
    assert query(extract.warehouse, "select count(*) from raw.odoo_t") == [(0,)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_key_that_is_null_stops_the_stream(extract: Extract, transfer: Transfer, form: Format) -> None:
    create_source(extract)
    with pytest.raises(ExtractError, match="the key text is null"):
        transfer(form, key="nullif(id, 3)::text")
    assert query(extract.warehouse, "select count(*) from raw.odoo_t") == [(0,)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_moved_token_is_refused(extract: Extract, transfer: Transfer, keyring: Keyring, form: Format) -> None:
    create_source(extract)
    transfer(form)
    extract.warehouse.execute("update raw.odoo_t set email = (select email from raw.odoo_t where id = 0) where id = 1")
    ((token,),) = query(extract.warehouse, "select email from raw.odoo_t where id = 1")
    with pytest.raises(ValueError, match="belongs to another table, column or row"):
        keyring.decrypt(token, table=RAW, column="email", key_text="1")


@pytest.mark.parametrize("form", FORMATS)
def test_the_widest_table(extract: Extract, keyring: Keyring, form: Format) -> None:
    names = [sql.Identifier(f"c{number}") for number in range(1596)]
    columns = sql.SQL(", ").join(sql.SQL("{} bool").format(name) for name in names)
    target = sql.SQL("create table raw.odoo_t (email bytea, email_index bytea, {})").format(columns)
    extract.warehouse.execute(target)
    extract.source.execute(sql.SQL("create table t (id int, email text, {})").format(columns))
    extract.run("insert into t (id, email, c0, c1595) values (1, 'anna', true, false)")
    listed = sql.SQL(", ").join(names)
    encryptor = RowEncryptor(keyring, RAW, ["email"], form=form)
    read = sql.SQL("copy (select id::text, email, {} from t) to stdout (format {})").format(listed, sql.SQL(form))
    write = sql.SQL("copy raw.odoo_t from stdin (format {})").format(sql.SQL(form))
    with extract.source.cursor().copy(read) as rows, extract.warehouse.cursor().copy(write) as sink:
        for row in rows:
            sink.write(encryptor(bytes(row)))
    ((token, first, last),) = query(extract.warehouse, "select email, c0, c1595 from raw.odoo_t")
    assert keyring.decrypt(token, table=RAW, column="email", key_text="1") == "anna"
    assert (first, last) == (True, False)


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_that_are_not_utf8_stop_the_stream_without_being_quoted(
    extract: Extract, keyring: Keyring, form: Format
) -> None:
    # What a database in SQL_ASCII may hold and send, whatever client encoding was asked for.
    extract.source.execute("set client_encoding = latin1")
    encryptor = RowEncryptor(keyring, RAW, ["email"], form=form)
    read = f"copy (select '1'::text, 'secr' || chr(233) || 't') to stdout (format {form})"
    with extract.source.cursor().copy(read.encode()) as rows:
        message = bytes(next(iter(rows)))
        with pytest.raises(ExtractError, match="not UTF-8") as caught:
            encryptor(message)
        list(rows)
    assert "secr" not in str(caught.value)
