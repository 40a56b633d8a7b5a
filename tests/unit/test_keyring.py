"""Keyring: what is written can be read by the right key in the right place only, and nothing tells a key."""

from __future__ import annotations

import base64
import copy
import hmac
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from revops.keyring import (
    DATA_KEYS,
    DATA_KEYS_FILE,
    INDEX_KEY,
    INDEX_KEY_FILE,
    MAKE_A_KEY,
    Keyring,
    KeyringError,
    TokenError,
    header_of,
    key_id_of,
    new_key,
    normalise,
)

OLD, NEW, INDEX = (base64.b64encode(bytes(range(start, start + 32))).decode() for start in (0, 40, 80))
PLACE = {"table": "odoo_res_partner", "column": "email", "key_text": "7"}
HOSTILE = [
    "",
    " ",
    "a",
    "anna@example.com",
    "tab\tline\nreturn\rback\\slash",
    "\\N",
    "\\x00",
    "\\.",
    "".join(map(chr, range(1, 32))) + "\x7f",
    "🚀👩‍💻",
    "\u0301\u0308",
    "e\u0301 é",
    "\ufeff\u200b\u202e",
    "\U0010ffff",
    "中文" * 1000,
    "x" * 1_000_000,
]


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.parse(f"2:{NEW},1:{OLD}", INDEX)


def all_that_is_told(error: BaseException) -> str:
    return "".join([*traceback.format_exception(error), repr(error)])


# RFC 8452, appendix C.2: AEAD_AES_256_GCM_SIV.
@pytest.mark.parametrize(
    ("plaintext", "associated", "result"),
    [
        ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
        ("0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
        ("0200000000000000", "01", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
    ],
)
def test_the_cipher_is_that_of_the_rfc(plaintext: str, associated: str, result: str) -> None:
    cipher = AESGCMSIV(b"\x01" + bytes(31))
    nonce = b"\x03" + bytes(11)
    assert cipher.encrypt(nonce, bytes.fromhex(plaintext), bytes.fromhex(associated)).hex() == result


def test_the_format_of_a_token_is_as_described(keyring: Keyring) -> None:
    associated = b"\x01\x00\x02odoo_res_partner\x00email\x007"
    key = base64.b64decode(NEW)
    nonce_key = HKDFExpand(SHA256(), 32, b"revops nonce v1").derive(key)
    nonce = blake2b(associated, digest_size=12, key=nonce_key).digest()
    cipher = AESGCMSIV(HKDFExpand(SHA256(), 32, b"revops data v1").derive(key))
    token = keyring.encrypt("anna@example.com", **PLACE)
    assert token == b"\x01\x00\x02" + cipher.encrypt(nonce, b"anna@example.com", associated)
    assert len(token) == len("anna@example.com") + 19


def test_tokens_and_indexes_of_earlier_versions_are_still_read_and_found(keyring: Keyring) -> None:
    # Stored in warehouses: a change here means that their values are lost.
    token = bytes.fromhex("01000244bd7244a3480c69e50786c043d3644ab5532f80fa6a4092601248232f18649e")
    assert keyring.decrypt(token, **PLACE) == "Anna@Example.com"
    assert keyring.blind_index("Anna@Example.com", "email") == bytes.fromhex("f18238ca096c4fc3f9d471093dc522fb")


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:12]))
def test_values_come_back_as_they_were(keyring: Keyring, value: str) -> None:
    token = keyring.encrypt(value, **PLACE)
    assert keyring.decrypt(token, **PLACE) == value
    assert len(value) < 4 or value.encode() not in token


@pytest.mark.parametrize("key_text", ["", "7", '(1,"a,b")', "a\tb\\", "é🚀", "x" * 3000])
def test_any_key_of_a_row_will_do(keyring: Keyring, key_text: str) -> None:
    place = {**PLACE, "key_text": key_text}
    assert keyring.decrypt(keyring.encrypt("value", **place), **place) == "value"


def test_a_cell_that_has_not_changed_gives_the_same_token(keyring: Keyring) -> None:
    again = Keyring.parse(f"2:{NEW}", INDEX)
    assert again.encrypt("anna@example.com", **PLACE) == keyring.encrypt("anna@example.com", **PLACE)
    assert again.encrypt("bert@example.com", **PLACE) != keyring.encrypt("anna@example.com", **PLACE)


@pytest.mark.parametrize("elsewhere", [{"table": "odoo_crm_lead"}, {"column": "phone"}, {"key_text": "8"}])
def test_equal_values_look_different_and_tokens_can_not_be_moved(keyring: Keyring, elsewhere: dict[str, str]) -> None:
    token = keyring.encrypt("anna@example.com", **PLACE)
    other = keyring.encrypt("anna@example.com", **{**PLACE, **elsewhere})
    assert token[3:] != other[3:]
    with pytest.raises(TokenError, match="belongs to another table, column or row"):
        keyring.decrypt(token, **{**PLACE, **elsewhere})


def test_places_that_read_alike_are_different(keyring: Keyring) -> None:
    tokens = {
        keyring.encrypt("v", table=table, column=column, key_text=key_text)
        for table, column, key_text in [("a.b", "c", "d"), ("a", "b.c", "d"), ("a", "b", "c.d"), ("ab", "c", "d")]
    }
    assert len(tokens) == 4


@pytest.mark.parametrize("position", [2, 3, 10, -1])
def test_an_altered_token_is_refused(keyring: Keyring, position: int) -> None:
    token = bytearray(keyring.encrypt("anna@example.com", **PLACE))
    token[position] ^= 3
    with pytest.raises(TokenError, match="altered"):
        keyring.decrypt(bytes(token), **PLACE)


@pytest.mark.parametrize("token", [b"", b"\x01", b"\x01\x00\x02" + bytes(15), b"\x02\x00\x02" + bytes(40)])
def test_what_is_no_token_is_refused(keyring: Keyring, token: bytes) -> None:
    with pytest.raises(TokenError, match=r"odoo_res_partner\.email: not a token of version 1"):
        keyring.decrypt(token, **PLACE)


def test_old_keys_read_and_the_first_writes(keyring: Keyring) -> None:
    before = Keyring.parse(f"1:{OLD}", INDEX)
    token = before.encrypt("anna@example.com", **PLACE)
    assert token[:3] == b"\x01\x00\x01"
    assert keyring.decrypt(token, **PLACE) == "anna@example.com"
    assert keyring.encrypt("anna@example.com", **PLACE)[:3] == b"\x01\x00\x02"
    # The index key has not changed: old rows are still found.
    assert before.blind_index("anna@example.com", "email") == keyring.blind_index("anna@example.com", "email")


def test_a_key_that_is_not_here_is_named_with_the_remedy(keyring: Keyring) -> None:
    token = keyring.encrypt("anna@example.com", **PLACE)
    with pytest.raises(KeyringError, match=r"REVOPS_DATA_KEYS lacks key 2.*odoo_res_partner\.email.*append `2:KEY`"):
        Keyring.parse(f"1:{OLD}", INDEX).decrypt(token, **PLACE)


def test_another_key_under_the_same_id_is_told(keyring: Keyring) -> None:
    token = keyring.encrypt("anna@example.com", **PLACE)
    with pytest.raises(TokenError, match="another key under the id 2"):
        Keyring.parse(f"2:{OLD}", INDEX).decrypt(token, **PLACE)


def test_a_blind_index_is_an_hmac_of_the_normalised_value(keyring: Keyring) -> None:
    expected = hmac.digest(base64.b64decode(INDEX), b"email\0anna@example.com", "sha256")[:16]
    assert keyring.blind_index("  ANNA@example.com\n", "email") == expected
    expected = hmac.digest(base64.b64decode(INDEX), "email\0jürgen".encode(), "sha256")[:16]
    assert keyring.blind_index("JU\u0308RGEN", "email") == expected


def test_blind_indexes_compare_within_a_domain_only(keyring: Keyring) -> None:
    assert keyring.blind_index("anna", "email") != keyring.blind_index("anna", "name")
    assert keyring.blind_index("anna", "email") != keyring.blind_index("bert", "email")
    assert keyring.blind_index("anna", "email") != Keyring.parse(f"2:{NEW}", OLD).blind_index("anna", "email")


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0", "\u3000 "])
def test_a_value_that_says_nothing_has_no_index(keyring: Keyring, value: str) -> None:
    assert keyring.blind_index(value, "email") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna@Example.COM", "anna@example.com"),
        ("\u00a0anna ", "anna"),
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\uff21\uff22", "ab"),
        ("ﬁn", "FIN"),
        ("é", "E\u0301"),
        ("\u0130", "i\u0307"),
        ("①", "1"),
    ],
)
def test_what_people_take_for_equal_has_one_index(keyring: Keyring, one: str, other: str) -> None:
    assert keyring.blind_index(one, "d") == keyring.blind_index(other, "d")


def test_the_short_way_of_ascii_is_the_long_one(keyring: Keyring) -> None:
    index = keyring.indexer("d")
    for code in range(1, 128):
        for text in (f"{chr(code)}aB{chr(code)}", f"a{chr(code)}B"):
            assert index(text.encode()) == index(normalise(text).encode()), hex(code)


def test_normalising_again_changes_nothing() -> None:
    changed = [
        hex(code)
        for code in range(sys.maxunicode + 1)
        if not 0xD800 <= code < 0xE000 and normalise(normalise(chr(code))) != normalise(chr(code))
    ]
    assert changed == []


def test_bytes_that_are_not_utf8_have_no_index(keyring: Keyring) -> None:
    value = b"secret \xff"
    with pytest.raises(ValueError, match=r"^not UTF-8$") as caught:
        keyring.indexer("email")(value)
    # Python's own error would carry the bytes along.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("data_keys", "reason"),
    [
        (None, "is missing"),
        ("  ", "is missing"),
        (OLD, "entry 1 is not ID:KEY"),
        (f"1:{OLD},", "entry 2 is not ID:KEY"),
        (f"1:{OLD};2:{NEW}", "entry 1: is not 32 bytes as base64"),
        (f"0:{OLD}", "entry 1 has an id that is no whole number from 1 to 65535"),
        (f"65536:{OLD}", "entry 1 has an id that is no whole number from 1 to 65535"),
        (f"-1:{OLD}", "entry 1 has an id that is no whole number"),
        (f"٣:{OLD}", "entry 1 has an id that is no whole number"),
        (f"{OLD}:1", "entry 1 has an id that is no whole number"),
        (f"2:{NEW},2:{OLD}", "names the id 2 twice"),
        (f"2:{NEW},1:{NEW}", "holds one key under two ids"),
        (f"1:{OLD[:-4]}", "entry 1: is not 32 bytes as base64"),
        (f"1:{OLD}!", "entry 1: is not 32 bytes as base64"),
        ("1:CHANGE_ME", "entry 1: is not 32 bytes as base64"),
        (f"1:{base64.b64encode(bytes(32)).decode()}", "entry 1: is not random"),
        (f"1:{base64.b64encode(b'password' * 4).decode()}", "entry 1: is not random"),
    ],
)
def test_malformed_data_keys_are_refused_without_being_quoted(data_keys: str | None, reason: str) -> None:
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(data_keys, INDEX)
    told = all_that_is_told(caught.value)
    assert str(caught.value).startswith(f"{DATA_KEYS} {reason}")
    assert not any(key[:20] in told for key in (OLD, NEW, INDEX))


@pytest.mark.parametrize(
    ("index_key", "reason"),
    [
        (None, "is missing"),
        (INDEX[:-4], "is not 32 bytes as base64"),
        (f"1:{INDEX}", "is not 32 bytes as base64"),
        (NEW, "is one of REVOPS_DATA_KEYS too"),
    ],
)
def test_a_malformed_index_key_is_refused_without_being_quoted(index_key: str | None, reason: str) -> None:
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(f"2:{NEW}", index_key)
    assert str(caught.value) == f"{INDEX_KEY} {reason}; make a key with `{MAKE_A_KEY}`"
    assert not any(key[:20] in all_that_is_told(caught.value) for key in (OLD, NEW, INDEX))


def test_both_faults_are_told_at_once() -> None:
    with pytest.raises(KeyringError) as caught:
        Keyring.from_environment({})
    assert [line.split(";")[0] for line in str(caught.value).splitlines()] == [
        f"{DATA_KEYS} is missing",
        f"{INDEX_KEY} is missing",
    ]


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, keyring: Keyring) -> None:
    monkeypatch.setenv(DATA_KEYS, f" 2:{NEW} , 1:{OLD}\n")
    monkeypatch.setenv(INDEX_KEY, f" {INDEX} ")
    assert Keyring.from_environment().encrypt("v", **PLACE) == keyring.encrypt("v", **PLACE)


def test_the_command_that_messages_name_makes_a_key() -> None:
    command = MAKE_A_KEY.replace("python", sys.executable, 1)
    made = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    Keyring.parse(f"65535:{made}", new_key())


def test_generated_keyrings_differ() -> None:
    assert Keyring.generate().encrypt("v", **PLACE) != Keyring.generate().encrypt("v", **PLACE)


@pytest.mark.parametrize("show", [repr, str, "{!r:}".format, lambda keyring: f"{[keyring]}"])
def test_a_keyring_shows_ids_and_no_keys(keyring: Keyring, show: Callable[[Keyring], str]) -> None:
    shown = show(keyring)
    assert "writes with key 2, reads keys [1, 2]" in shown
    material = [base64.b64decode(key) for key in (OLD, NEW, INDEX)]
    forms = [
        form for key in material for form in (key.hex()[:12], repr(key)[2:20], base64.b64encode(key).decode()[:12])
    ]
    assert not any(form in shown for form in forms)


@pytest.mark.parametrize("way_out", [pickle.dumps, copy.deepcopy, vars])
def test_a_keyring_can_not_be_sent_or_copied(keyring: Keyring, way_out: Callable[[Keyring], object]) -> None:
    with pytest.raises(TypeError):
        way_out(keyring)


def test_messages_about_tokens_hold_neither_value_nor_key_of_the_row(keyring: Keyring) -> None:
    place = {**PLACE, "key_text": "row-4711"}
    token = keyring.encrypt("anna@example.com", **place)
    with pytest.raises(TokenError) as caught:
        keyring.decrypt(token[:-1], **place)
    told = str(caught.value) + repr(caught.value)
    assert not any(secret in told for secret in ("anna", "row-4711", token.hex()[6:20]))


def test_keys_may_stand_in_files_which_are_read_at_each_use(tmp_path: Path) -> None:
    keys, index = tmp_path / "data_keys", tmp_path / "index_key"
    variables = {DATA_KEYS_FILE: str(keys), INDEX_KEY_FILE: str(index)}
    keys.write_text(f"1:{OLD}\n")
    index.write_text(f"{INDEX}\n")
    assert Keyring.from_environment(variables).writing_id == 1
    keys.write_text(f"2:{NEW},1:{OLD}\n")
    assert Keyring.from_environment(variables).writing_id == 2
    assert Keyring.from_environment({DATA_KEYS_FILE: str(keys), INDEX_KEY: INDEX}).writing_id == 2


@pytest.mark.parametrize(
    ("content", "others", "reason"),
    [
        (None, {}, r"REVOPS_DATA_KEYS can't be read from .*keys \(REVOPS_DATA_KEYS_FILE\): No such file"),
        (b"", {}, r"REVOPS_DATA_KEYS is missing: .*keys \(REVOPS_DATA_KEYS_FILE\) is empty; make a key with"),
        (b"\xff\xfe", {}, r"REVOPS_DATA_KEYS can't be read from .*: it is not text"),
        (OLD.encode(), {}, r"REVOPS_DATA_KEYS entry 1 is not ID:KEY"),
        (f"1:{OLD}".encode(), {DATA_KEYS: f"1:{OLD}"}, "REVOPS_DATA_KEYS and REVOPS_DATA_KEYS_FILE are both set"),
    ],
)
def test_a_file_that_can_not_count_is_named_and_not_quoted(
    content: bytes | None, others: dict[str, str], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyringError, match=reason) as caught:
        Keyring.from_environment({DATA_KEYS_FILE: str(path), INDEX_KEY: INDEX, **others})
    assert OLD[:16] not in str(caught.value)


def test_fingerprints_tell_keys_apart_and_nothing_else(keyring: Keyring) -> None:
    again = Keyring.parse(f"1:{OLD},2:{NEW}", INDEX)
    assert again.fingerprints == keyring.fingerprints
    assert again.index_fingerprint == keyring.index_fingerprint
    other = Keyring.parse(f"1:{new_key()},2:{NEW}", new_key())
    assert other.fingerprints[2] == keyring.fingerprints[2]
    assert other.fingerprints[1] != keyring.fingerprints[1]
    assert other.index_fingerprint != keyring.index_fingerprint
    # Not a part of what encrypts: derived under a purpose of its own.
    derived = HKDFExpand(SHA256(), 32, b"revops fingerprint v1").derive(base64.b64decode(NEW))
    assert keyring.fingerprints[2] == derived[:8].hex()


def test_tokens_tell_their_key(keyring: Keyring) -> None:
    assert key_id_of(keyring.encrypt("v", **PLACE)) == keyring.writing_id == 2
    assert header_of(2) == keyring.encrypt("v", **PLACE)[:3]
    assert key_id_of(b"\x02\x00\x01") is None
    assert key_id_of(b"\x01\x00") is None
