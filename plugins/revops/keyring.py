"""Keys of sensitive columns: tokens that can be read again, and blind indexes that can only be compared.

A token is AES-256-GCM-SIV (RFC 8452) of a value, bound to its table, column and row:

    token       = version (1 byte) || key id (2 bytes, big-endian) || ciphertext || tag (16 bytes)
    associated  = version || key id || table || 0x00 || column || 0x00 || key of the row as text
    nonce       = keyed BLAKE2b(associated) of 12 bytes, under a key of its own

The nonce is not random on purpose: a value that has not changed gives the same token, so that reading a row again finds
it unchanged. Under other modes a nonce that comes twice is a disaster; GCM-SIV withstands it (RFC 8452, section 9): it
shows that a cell holds a value that it held before under the same key, and nothing else. Two cells never share a
nonce but by chance, hence equal values look different; rows without a key are the exception, they share the empty one.
A token is as much longer than its value as version, id and tag: lengths are not hidden.

A blind index is the first 16 bytes of HMAC-SHA256(domain || 0x00 || normalised value). Values of one domain can be
compared and joined without being readable; that is its purpose, and its price is that anybody who reads the table sees
which rows are equal and how often. What few people share (a surname, a country) can be guessed from that.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

if TYPE_CHECKING:
    from _hashlib import HASH

DATA_KEYS = "REVOPS_DATA_KEYS"
INDEX_KEY = "REVOPS_INDEX_KEY"
# Files that hold what the variables would; read at each use, so that a new key takes effect without a restart.
DATA_KEYS_FILE = f"{DATA_KEYS}_FILE"
INDEX_KEY_FILE = f"{INDEX_KEY}_FILE"
KEY_BYTES = 32
INDEX_BYTES = 16
MAKE_A_KEY = 'python -c "import base64,os;print(base64.b64encode(os.urandom(32)).decode())"'

_VERSION = 1
# Version and key id, with which every token begins.
HEADER_BYTES = 3
FINGERPRINT_BYTES = 8
_TAG_BYTES = 16
_NONCE_BYTES = 12
# 32 random bytes have fewer distinct values than this once in 10^16 keys; zeros and repeated words always do.
_DISTINCT_BYTES = 16
# What str.strip() removes of ASCII; bytes.strip() would leave the last four.
_ASCII_SPACE = b" \t\n\v\f\r\x1c\x1d\x1e\x1f"


class KeyringError(ValueError):
    """A key is missing or malformed; the message names the variable and the remedy, never the key."""


class TokenError(ValueError):
    """A token can't be read with the key it names; the message holds neither token nor value."""


def new_key() -> str:
    """Return a random key as the variables hold it: base64 of 32 bytes."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def read_data_keys(text: str) -> dict[int, bytes]:
    """Return the keys of `ID:KEY,ID:KEY,...` by id, the writing key first; raises ValueError with a reason."""
    keys: dict[int, bytes] = {}
    for number, entry in enumerate(text.split(","), 1):
        written_id, colon, key = entry.strip().partition(":")
        # The entry is not quoted in any message: where the colon is missing, all of it is the key.
        if not colon:
            raise ValueError(f"entry {number} is not ID:KEY, such as 1:KEY; {_remedy()}")
        if not re.fullmatch(r"[0-9]{1,5}", written_id) or not 1 <= (key_id := int(written_id)) <= 0xFFFF:
            raise ValueError(f"entry {number} has an id that is no whole number from 1 to 65535")
        if key_id in keys:
            raise ValueError(f"names the id {key_id} twice: give every key an id of its own")
        try:
            keys[key_id] = read_key(key)
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
    if len(set(keys.values())) < len(keys):
        raise ValueError(f"holds one key under two ids; {_remedy()}")
    return keys


def read_key(text: str) -> bytes:
    """Return the 32 bytes of a key in base64; raises ValueError with a reason."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"is not {KEY_BYTES} bytes as base64; {_remedy()}")
    if len(set(key)) < _DISTINCT_BYTES:
        raise ValueError(f"is not random; {_remedy()}")
    return key


def read_variable(variables: Mapping[str, str], name: str) -> str | None:
    """Return what a variable says, or the file that `<name>_FILE` names; None where neither is set.

    Raises ValueError with a reason when both are set, or the file can't be read; it never quotes what is in there.
    """
    given, path = (variables.get(key, "").strip() for key in (name, f"{name}_FILE"))
    if not path:
        return given or None
    if given:
        raise ValueError(f"and {name}_FILE are both set: leave one out, or nobody knows which one counts")
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ValueError(f"can't be read from {path} ({name}_FILE): {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"can't be read from {path} ({name}_FILE): it is not text") from None
    if not text.strip():
        raise ValueError(f"is missing: {path} ({name}_FILE) is empty; {_remedy()}")
    return text


def header_of(key_id: int) -> bytes:
    """Return the bytes that tokens of a key begin with."""
    return bytes([_VERSION]) + key_id.to_bytes(2, "big")


def key_id_of(header: bytes) -> int | None:
    """Return the id of the key that a token was written with, None for what is no token of ours."""
    if len(header) < HEADER_BYTES or header[0] != _VERSION:
        return None
    return int.from_bytes(header[1:HEADER_BYTES], "big")


def normalise(value: str) -> str:
    """Return the form in which values are compared: compatibility characters, case and outer space do not count."""
    # Case folding can undo the normal form, for which reason it is made again.
    folded = unicodedata.normalize("NFKC", value).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


class Keyring:
    """Data keys by id, the first of which writes, and the index key. Not to be printed, stored or sent: it can't be."""

    __slots__ = ("_data_keys", "_index_key", "_writing_id")

    def __init__(self, data_keys: Mapping[int, bytes], index_key: bytes) -> None:
        """Take keys as `read_data_keys` and `read_key` return them."""
        if index_key in data_keys.values():
            raise KeyringError(f"{INDEX_KEY} is one of {DATA_KEYS} too; {_remedy()}")
        self._writing_id = next(iter(data_keys))
        self._data_keys = {key_id: _DataKey(key_id, key) for key_id, key in data_keys.items()}
        self._index_key = index_key

    @classmethod
    def parse(cls, data_keys: str | None, index_key: str | None) -> Keyring:
        """Make a keyring of the two variables' texts; raises KeyringError with every fault."""
        return cls._made(lambda: data_keys, lambda: index_key)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Keyring:
        """Make a keyring of the process's environment, or of the mapping given; raises KeyringError.

        A key may stand in its variable or in the file that `<variable>_FILE` names.
        """
        variables = os.environ if environment is None else environment
        return cls._made(lambda: read_variable(variables, DATA_KEYS), lambda: read_variable(variables, INDEX_KEY))

    @classmethod
    def _made(cls, data_keys: Callable[[], str | None], index_key: Callable[[], str | None]) -> Keyring:
        faults = []
        keys, index = {}, b""
        try:
            keys = read_data_keys(_given(data_keys()))
        except ValueError as error:
            faults.append(f"{DATA_KEYS} {error}")
        try:
            index = read_key(_given(index_key()))
        except ValueError as error:
            faults.append(f"{INDEX_KEY} {error}")
        if faults:
            raise KeyringError("\n".join(faults))
        return cls(keys, index)

    @classmethod
    def generate(cls) -> Keyring:
        """Make a keyring of new random keys, for data that need not outlive the process."""
        return cls.parse(f"1:{new_key()}", new_key())

    def __repr__(self) -> str:
        return f"Keyring(writes with key {self._writing_id}, reads keys {sorted(self._data_keys)})"

    @property
    def writing_id(self) -> int:
        """The id of the key that writes."""
        return self._writing_id

    @property
    def fingerprints(self) -> dict[int, str]:
        """What tells each data key from another under the same id, by id; nothing can be computed back from it."""
        return {key_id: key.fingerprint for key_id, key in self._data_keys.items()}

    @property
    def index_fingerprint(self) -> str:
        """What tells the index key from another one."""
        return _fingerprint(self._index_key)

    def encryptor(self, table: str, column: str) -> Callable[[bytes, bytes], bytes]:
        """Return the function (key of the row, value) -> token of one column, texts as UTF-8."""
        return self._data_keys[self._writing_id].encryptor(table, column)

    def decryptor(self, table: str, column: str) -> Callable[[bytes, bytes], bytes]:
        """Return the function (key of the row, token) -> value of one column, texts as UTF-8.

        The function raises KeyringError when the token's key is not here, TokenError when the token was altered.
        """
        of_key = {header_of(key_id): key.decryptor(table, column) for key_id, key in self._data_keys.items()}

        def value(key_text: bytes, token: bytes) -> bytes:
            decrypt = of_key.get(token[:HEADER_BYTES])
            if decrypt is not None and len(token) >= HEADER_BYTES + _TAG_BYTES:
                return decrypt(key_text, token)
            if decrypt is not None or (key_id := key_id_of(token)) is None:
                raise TokenError(f"{table}.{column}: not a token of version {_VERSION}")
            raise KeyringError(
                f"{DATA_KEYS} lacks key {key_id}, with which a value of {table}.{column} was written. "
                f"Remedy: append `{key_id}:KEY` with that key; what is written uses the first key all the same."
            )

        return value

    def indexer(self, domain: str) -> Callable[[bytes], bytes | None]:
        """Return the function value -> blind index of one domain; the value as UTF-8.

        A value that is empty once normalised has no index, or else all that say nothing would seem the same.
        The function raises ValueError for bytes that are not UTF-8.
        """
        inner, outer = _keyed_hashes(self._index_key)
        inner.update(domain.encode() + b"\0")

        def index(value: bytes) -> bytes | None:
            compared = value.strip(_ASCII_SPACE).lower() if value.isascii() else _normalised_bytes(value)
            if not compared:
                return None
            # HMAC from keyed states, which costs a third of hmac.digest and half of copying an hmac object.
            first, second = inner.copy(), outer.copy()
            first.update(compared)
            second.update(first.digest())
            return second.digest()[:INDEX_BYTES]

        return index

    def encrypt(self, value: str, *, table: str, column: str, key_text: str) -> bytes:
        """Return the token of one value. table: its name in raw, without the schema."""
        return self.encryptor(table, column)(key_text.encode(), value.encode())

    def decrypt(self, token: bytes, *, table: str, column: str, key_text: str) -> str:
        """Return the value of a token; table, column and key of the row must be those it was made with.

        Raises KeyringError when its key is not here, TokenError when it was altered or belongs elsewhere.
        """
        return self.decryptor(table, column)(key_text.encode(), token).decode()

    def blind_index(self, value: str, domain: str) -> bytes | None:
        """Return the blind index by which equal values of a domain are found; None for a value that says nothing."""
        return self.indexer(domain)(value.encode())


class _DataKey:
    """One data key: two keys are derived from it, one for the cipher and one for the nonces (RFC 5869, expand only)."""

    __slots__ = ("_cipher", "_header", "_id", "_nonce_key", "fingerprint")

    def __init__(self, key_id: int, key: bytes) -> None:
        self._id = key_id
        self._header = header_of(key_id)
        self.fingerprint = _fingerprint(key)
        self._cipher = AESGCMSIV(_derived(key, b"revops data v1"))
        self._nonce_key = _derived(key, b"revops nonce v1")

    def encryptor(self, table: str, column: str) -> Callable[[bytes, bytes], bytes]:
        header, encrypt = self._header, self._cipher.encrypt
        place = self._place(table, column)
        nonces = blake2b(place, digest_size=_NONCE_BYTES, key=self._nonce_key)

        def token(key_text: bytes, value: bytes) -> bytes:
            nonce = nonces.copy()
            nonce.update(key_text)
            return header + encrypt(nonce.digest(), value, place + key_text)

        return token

    def decryptor(self, table: str, column: str) -> Callable[[bytes, bytes], bytes]:
        decrypt, place = self._cipher.decrypt, self._place(table, column)
        nonces = blake2b(place, digest_size=_NONCE_BYTES, key=self._nonce_key)
        altered = (
            f"{table}.{column}: the token was altered, or belongs to another table, column or row, "
            f"or {DATA_KEYS} holds another key under the id {self._id} than the one that wrote it"
        )

        def value(key_text: bytes, token: bytes) -> bytes:
            nonce = nonces.copy()
            nonce.update(key_text)
            try:
                return decrypt(nonce.digest(), token[HEADER_BYTES:], place + key_text)
            except (InvalidTag, ValueError):
                raise TokenError(altered) from None

        return value

    def _place(self, table: str, column: str) -> bytes:
        # PostgreSQL allows zero bytes neither in names nor in texts: no two places read the same.
        return self._header + f"{table}\0{column}\0".encode()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, purpose).derive(key)


def _fingerprint(key: bytes) -> str:
    return _derived(key, b"revops fingerprint v1")[:FINGERPRINT_BYTES].hex()


def _keyed_hashes(key: bytes) -> tuple[HASH, HASH]:
    """Return the inner and the outer hash of HMAC-SHA256 with the key taken in (RFC 2104)."""
    block = key.ljust(sha256().block_size, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


def _normalised_bytes(value: bytes) -> bytes:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        # The original error carries the value.
        raise ValueError("not UTF-8") from None
    return normalise(text).encode()


def _given(text: str | None) -> str:
    if text is None or not text.strip():
        raise ValueError(f"is missing; {_remedy()}")
    return text


def _remedy() -> str:
    return f"make a key with `{MAKE_A_KEY}`"
