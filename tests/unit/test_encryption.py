"""RowEncryptor: rows of a COPY stream, framed as PostgreSQL frames them, in both formats."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from revops.extract.encryption import RowEncryptor
from revops.extract.errors import ExtractError
from revops.extract.stream import Format
from revops.keyring import Keyring

TABLE = "odoo_res_partner"
COLUMNS = ("email", "phone")
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = b"\xff\xff"
Field = bytes | None
ESCAPES = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 92: b"\\\\"}
HOSTILE = [
    "",
    " ",
    "anna@example.com",
    "tab\tline\nreturn\rback\\slash\b\f\v",
    "\\N",
    "\\",
    "\\t",
    "\\x41\\101",
    "\\.",
    "".join(map(chr, range(1, 32))) + "\x7f",
    "🚀👩‍💻",
    "\u0301",
    "x" * 1_000_000,
    "\\" * 10_000,
]


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring.generate()


def binary(fields: Sequence[Field]) -> bytes:
    encoded = [struct.pack(">i", -1) if field is None else struct.pack(">i", len(field)) + field for field in fields]
    return struct.pack(">h", len(fields)) + b"".join(encoded)


def text(fields: Sequence[Field]) -> bytes:
    return b"\t".join(b"\\N" if field is None else escaped(field) for field in fields) + b"\n"


def escaped(field: bytes) -> bytes:
    return b"".join(ESCAPES.get(byte, bytes([byte])) for byte in field)


def read_binary(row: bytes) -> list[Field]:
    (count,) = struct.unpack_from(">h", row)
    fields: list[Field] = []
    position = 2
    for _ in range(count):
        (length,) = struct.unpack_from(">i", row, position)
        position += 4
        fields.append(None if length < 0 else row[position : position + length])
        position += max(length, 0)
    assert position == len(row)
    return fields


def read_text(row: bytes, *, encrypted: int) -> list[Field]:
    """Return the fields of a row, the first ones read as bytea; no other field of these tests needs unescaping."""
    assert row.endswith(b"\n")
    fields: list[Field] = []
    for position, field in enumerate(row[:-1].split(b"\t")):
        if field == b"\\N":
            fields.append(None)
        elif position < encrypted:
            assert field.startswith(b"\\\\x")
            fields.append(bytes.fromhex(field[3:].decode()))
        else:
            fields.append(field)
    return fields


def encrypt_rows(
    keyring: Keyring,
    rows: Sequence[Sequence[Field]],
    *,
    form: Format,
    columns: Sequence[str] = COLUMNS,
    domains: dict[str, str] | None = None,
) -> list[list[Field]]:
    """Send rows through an encryptor as the server would, and return the fields that come out."""
    encryptor = RowEncryptor(keyring, TABLE, columns, form=form, domains=domains)
    if form == "text":
        return [read_text(encryptor(text(row)), encrypted=2 * len(columns)) for row in rows]
    messages = [encryptor((b"" if number else HEADER) + binary(row)) for number, row in enumerate(rows)]
    assert messages[0].startswith(HEADER)
    assert encryptor(TRAILER) == TRAILER
    return [read_binary(message.removeprefix(HEADER)) for message in messages]


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:12]))
def test_values_become_tokens_and_indexes(keyring: Keyring, form: Format, value: str) -> None:
    row = [b"7", value.encode(), None, b"other", None, b""]
    ((token, index, *others),) = encrypt_rows(keyring, [row], form=form)
    assert token is not None
    assert keyring.decrypt(token, table=TABLE, column="email", key_text="7") == value
    assert index == keyring.blind_index(value, "email")
    assert others == [None, None, b"other", None, b""]


def test_both_formats_give_the_same_tokens(keyring: Keyring) -> None:
    rows = [[f"({number},\t\\)".encode(), value.encode(), None] for number, value in enumerate(HOSTILE)]
    assert encrypt_rows(keyring, rows, form="binary") == encrypt_rows(keyring, rows, form="text")


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("key_text", ["", "7", '(1,"a,b")', "tab\tback\\slash\n", "\\N", "é🚀"])
def test_the_key_of_the_row_is_bound_as_it_is(keyring: Keyring, form: Format, key_text: str) -> None:
    ((token, *_),) = encrypt_rows(keyring, [[key_text.encode(), b"value", None]], form=form)
    assert token is not None
    assert keyring.decrypt(token, table=TABLE, column="email", key_text=key_text) == "value"


@pytest.mark.parametrize("form", ["binary", "text"])
def test_null_stays_null_and_empty_has_a_token_but_no_index(keyring: Keyring, form: Format) -> None:
    ((token, index, *nulls),) = encrypt_rows(keyring, [[b"7", b"", None]], form=form)
    assert token is not None
    assert keyring.decrypt(token, table=TABLE, column="email", key_text="7") == ""
    assert index is None
    assert nulls == [None, None]


@pytest.mark.parametrize("form", ["binary", "text"])
def test_equal_values_in_two_rows_have_one_index_and_two_tokens(keyring: Keyring, form: Format) -> None:
    rows = [[b"7", b"Anna@example.com", b"1"], [b"8", b"anna@EXAMPLE.com", b"1"]]
    first, second = encrypt_rows(keyring, rows, form=form)
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert first[2] != second[2]


@pytest.mark.parametrize("form", ["binary", "text"])
def test_reading_a_row_again_gives_the_same_row(keyring: Keyring, form: Format) -> None:
    rows = [[b"7", b"anna@example.com", b"1", b"x"]]
    assert encrypt_rows(keyring, rows, form=form) == encrypt_rows(keyring, rows, form=form)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_domains_make_columns_of_other_names_comparable(keyring: Keyring, form: Format) -> None:
    row = [b"7", b"anna@example.com", b"anna@example.com"]
    ((_, email, _, phone),) = encrypt_rows(keyring, [row], form=form)
    assert email != phone
    ((_, email, _, phone),) = encrypt_rows(keyring, [row], form=form, domains={"phone": "email"})
    assert email == phone == keyring.blind_index("anna@example.com", "email")


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("others", [0, 1, 1500])
def test_any_number_of_other_columns(keyring: Keyring, form: Format, others: int) -> None:
    rows = [[b"7", b"a", *[b"x"] * others], [b"8", None, *[None] * others]]
    first, second = encrypt_rows(keyring, rows, form=form, columns=["email"])
    assert first[2:] == [b"x"] * others
    assert second == [None] * (2 + others)


def test_fields_that_are_not_sensitive_pass_unread(keyring: Keyring) -> None:
    encryptor = RowEncryptor(keyring, TABLE, ["email"], form="text")
    rest = b"\\N\ttab\\tback\\\\slash\t\\\\x00ff\t\xff\t\n"
    assert encryptor(b"7\ta\t" + rest).split(b"\t", 2)[2] == rest


@pytest.mark.parametrize("escape", [b"\\x41", b"\\101", b"\\A", b"A"])
def test_every_escape_of_copy_is_read(keyring: Keyring, escape: bytes) -> None:
    encryptor = RowEncryptor(keyring, TABLE, ["email"], form="text")
    token, _ = read_text(encryptor(b"7\t1" + escape + b"2\\x9\\0012\\xg\n"), encrypted=2)
    assert token is not None
    assert keyring.decrypt(token, table=TABLE, column="email", key_text="7") == "1A2\t\x012xg"


def test_the_header_may_come_alone_with_a_row_or_with_the_trailer(keyring: Keyring) -> None:
    row = binary([b"7", b"a", None])
    encryptor = RowEncryptor(keyring, TABLE, COLUMNS, form="binary")
    assert encryptor(HEADER) == HEADER
    alone = encryptor(row)
    assert encryptor(TRAILER) == TRAILER
    assert encryptor(HEADER + TRAILER) == HEADER + TRAILER
    # The next stream of the same encryptor, with other columns beside the sensitive ones.
    assert encryptor(HEADER + row) == HEADER + alone
    assert encryptor(HEADER + binary([b"7", b"a", None, b"x"]))[:21] == HEADER + struct.pack(">h", 5)


def test_a_longer_header_passes_whole(keyring: Keyring) -> None:
    header = HEADER[:15] + struct.pack(">i", 3) + b"ext"
    encryptor = RowEncryptor(keyring, TABLE, ["email"], form="binary")
    assert encryptor(header + binary([b"7", None])) == header + binary([None, None])


@pytest.mark.parametrize(
    ("form", "messages"),
    [
        ("binary", [HEADER + binary([b"7", b"secret"])]),
        ("binary", [HEADER + binary([None, b"secret", b"1"])]),
        ("binary", [HEADER + binary([b"7", b"secret", b"1"]), binary([b"7", b"secret", b"1", b"2"])]),
        ("binary", [HEADER + binary([b"7", b"secret", b"1"])[:-3]]),
        ("binary", [HEADER + binary([b"7", b"secret", b"1"])[:-1]]),
        ("binary", [HEADER + binary([b"7", b"secret \xff", b"1"])]),
        ("binary", [b"\x00"]),
        ("text", [text([b"7", b"secret"])]),
        ("text", [text([None, b"secret", b"1"])]),
        ("text", [text([b"7", b"secret \xff", b"1"])]),
        ("text", [b"\n"]),
    ],
)
def test_what_can_not_be_encrypted_stops_the_load_without_being_quoted(
    keyring: Keyring, form: Format, messages: list[bytes]
) -> None:
    encryptor = RowEncryptor(keyring, TABLE, COLUMNS, form=form)
    for message in messages[:-1]:
        encryptor(message)
    with pytest.raises(ExtractError, match="odoo_res_partner: a row with the sensitive columns email, phone") as caught:
        encryptor(messages[-1])
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_table_without_sensitive_columns_needs_no_encryptor(keyring: Keyring) -> None:
    with pytest.raises(ValueError, match="no column to encrypt"):
        RowEncryptor(keyring, TABLE, [], form="binary")


def test_no_value_is_left_in_the_stream(keyring: Keyring) -> None:
    rows = [[b"7", b"anna@example.com", b"+49 30 1234567", b"x"]]
    for sent in (
        RowEncryptor(keyring, TABLE, COLUMNS, form="binary")(HEADER + binary(rows[0])),
        RowEncryptor(keyring, TABLE, COLUMNS, form="text")(text(rows[0])),
    ):
        for plain in (b"anna", b"1234567", b"anna".hex().encode(), b"1234567".hex().encode()):
            assert plain not in sent
