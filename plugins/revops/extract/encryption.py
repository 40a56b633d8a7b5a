"""Encrypt sensitive columns of a COPY stream in the worker: what reaches the warehouse are tokens and blind indexes."""

from __future__ import annotations

import re
import struct
from binascii import hexlify
from collections.abc import Mapping, Sequence

from revops.extract.errors import ExtractError
from revops.extract.stream import Format
from revops.keyring import INDEX_BYTES, Keyring

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = 19
_FIELDS = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
_pack_length, _unpack_length = _LENGTH.pack, _LENGTH.unpack_from
_BINARY_NULL = _LENGTH.pack(-1)
_TWO_NULLS = 2 * _BINARY_NULL
_INDEX_LENGTH = _LENGTH.pack(INDEX_BYTES)
_TEXT_NULL = b"\\N"
_TWO_TEXT_NULLS = b"\\N\t\\N"
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class RowEncryptor:
    """Turn rows of `copy (select <key text>, <sensitive columns as text>, <others>) to stdout` into rows of the table.

    A row comes with the text of its key first and the sensitive columns next, in the order of `columns`. It goes out
    without the key text, and with two bytea fields for each sensitive column: its token and its blind index, both null
    for null. All other fields pass through unread. The client encoding must be UTF8.

    table: the name in raw, without the schema. domains: blind indexes are comparable within a domain; a column that is
    not named there has its own name as domain, so that `email` of two tables can be joined.
    Each message of libpq is one call: PostgreSQL sends a row a message, in binary format the header in front of the
    first row, and the trailer alone, or right behind the header when there is no row.
    """

    __slots__ = ("_columns", "_fields_in", "_fields_out", "_names", "_row", "_table")

    def __init__(
        self,
        keyring: Keyring,
        table: str,
        columns: Sequence[str],
        *,
        form: Format,
        domains: Mapping[str, str] | None = None,
    ) -> None:
        if not columns:
            raise ValueError(f"{table}: no column to encrypt")
        named = domains or {}
        self._table = table
        self._names = tuple(columns)
        self._columns = [
            (keyring.encryptor(table, column), keyring.indexer(named.get(column, column))) for column in columns
        ]
        self._row = self._binary_row if form == "binary" else self._text_row
        self._fields_in = b""
        self._fields_out = b""

    def __call__(self, message: bytes) -> bytes:
        """Return what to send for one message; raises ExtractError, which quotes no value."""
        try:
            return self._row(message)
        except (ValueError, struct.error) as error:
            # Neither says more than where: a wrong length, or bytes that are not UTF-8.
            raise ExtractError(
                f"{self._table}: a row with the sensitive columns {', '.join(self._names)} can't be encrypted: "
                f"{error}. Remedy: if it is not UTF-8, mend the value in the source, or exclude the column."
            ) from None

    def _binary_row(self, row: bytes) -> bytes:
        if row[:2] != self._fields_in:
            return self._binary_frame(row)
        (length,) = _unpack_length(row, 2)
        if length < 0:
            raise ValueError("the key text is null")
        end = 6 + length
        key_text = row[6:end]
        parts = [self._fields_out]
        for encrypt, index in self._columns:
            (length,) = _unpack_length(row, end)
            start = end + 4
            if length < 0:
                parts.append(_TWO_NULLS)
                end = start
                continue
            end = start + length
            value = row[start:end]
            token, digest = encrypt(key_text, value), index(value)
            parts.append(_pack_length(len(token)))
            parts.append(token)
            parts.append(_BINARY_NULL if digest is None else _INDEX_LENGTH + digest)
        if end > len(row):
            raise ValueError("a field ends behind the row")
        parts.append(row[end:])
        return b"".join(parts)

    def _binary_frame(self, message: bytes) -> bytes:
        """Handle what is not a row like those before: the header with what follows it, and the trailer."""
        header = b""
        if message.startswith(_SIGNATURE):
            # The header may be longer than today: it tells by how much.
            end = _HEADER_BYTES + _LENGTH.unpack_from(message, _HEADER_BYTES - _LENGTH.size)[0]
            header, message = message[:end], message[end:]
            self._fields_in = b""
            if not message:
                return header
        (fields,) = _FIELDS.unpack_from(message)
        if fields == -1:
            return header + message
        if self._fields_in or fields <= len(self._columns):
            raise ValueError(f"it has {fields} fields")
        self._fields_in = message[: _FIELDS.size]
        self._fields_out = _FIELDS.pack(fields - 1 + len(self._columns))
        return header + self._binary_row(message)

    def _text_row(self, row: bytes) -> bytes:
        wanted = len(self._columns)
        fields = row.removesuffix(b"\n").split(b"\t", 1 + wanted)
        if len(fields) <= wanted:
            raise ValueError(f"it has {len(fields)} fields")
        key_text = fields[0]
        if key_text == _TEXT_NULL:
            raise ValueError("the key text is null")
        if b"\\" in key_text:
            key_text = _unescaped(key_text)
        parts = []
        for position, (encrypt, index) in enumerate(self._columns, 1):
            value = fields[position]
            if b"\\" in value:
                if value == _TEXT_NULL:
                    parts.append(_TWO_TEXT_NULLS)
                    continue
                value = _unescaped(value)
            token, digest = encrypt(key_text, value), index(value)
            # bytea reads \x and hexadecimal digits; COPY takes one backslash of two away before.
            parts.append(b"\\\\x" + hexlify(token))
            parts.append(_TEXT_NULL if digest is None else b"\\\\x" + hexlify(digest))
        parts += fields[1 + wanted :]
        return b"\t".join(parts) + b"\n"


def _unescaped(field: bytes) -> bytes:
    """Return the text of a field that is not null and holds a backslash."""
    return _ESCAPE.sub(_character, field)


def _character(escape: re.Match[bytes]) -> bytes:
    hexadecimal, octal, character = escape.groups()
    if character is not None:
        return _ESCAPED.get(character, character)
    code = int(hexadecimal, 16) if hexadecimal is not None else int(octal, 8)
    return bytes([code & 0xFF])
