"""The seed files of include/seeds, and the tables of the warehouse that are filled from them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psycopg
from psycopg import sql

LOCK_KEY = "revops.seeds"
# core.registrable_domain looks at so many labels of a host.
MOST_LABELS = 9
DOMAIN_KINDS = (
    "free mail", "social network", "site builder", "shared host", "directory", "link shortener", "placeholder",
)  # fmt: skip
SUFFIX_LIST = "https://publicsuffix.org/list/public_suffix_list.dat"
_SECTION = re.compile("// ===(BEGIN|END) (ICANN|PRIVATE) DOMAINS===")
_LABEL = "[a-z0-9\u0080-\U0010ffff-]+"
# A wildcard stands for one label more, and a domain has another one.
_RULE = re.compile(rf"(!|\*\.|)({_LABEL}(?:\.{_LABEL}){{0,{MOST_LABELS - 3}}})")
_RULE_KINDS = {"": "rule", "!": "exception", "*.": "wildcard"}

Values = tuple[str, ...]


class SeedError(ValueError):
    """A seed file is malformed; the message names file, line and remedy."""


@dataclass(frozen=True)
class Entry:
    """One entry of a seed file, as it is written there."""

    path: Path
    line: int
    values: Values

    def error(self, fault: str, remedy: str) -> SeedError:
        return SeedError(f"{self.path}, line {self.line}: {fault}. Remedy: {remedy}.")


@dataclass(frozen=True)
class Seed:
    """One seed file: how it is read, and how its entries become rows of its table."""

    file: str
    table: str
    columns: tuple[str, ...]
    read: Callable[[Path, bytes], list[Entry]]
    rows: Callable[[psycopg.Connection, list[Entry]], set[tuple[object, ...]]]


@dataclass(frozen=True)
class _Content:
    """What one seed file says."""

    entries: list[Entry]
    checksum: str


def seeds_checksum(folder: Path) -> str:
    """Return a checksum of what the files of a folder say.

    The same on every machine, and for every order of the entries, comment or kind of line end. Raises SeedError.
    """
    return _digest([[seed.table, _read(seed, folder).checksum] for seed in SEEDS])


def load_seeds(warehouse: psycopg.Connection, folder: Path) -> bool:
    """Bring the seed tables to the state of the files; tell whether anything was to be done.

    Only tables whose checksum in ops.seed differs, or whose rows are gone, are written. Works as revops_transform and
    as the owner. Commits, unless the session is in a transaction already: then it is a part of that one. Raises
    SeedError, which changes nothing.
    """
    read = {seed.table: _read(seed, folder) for seed in SEEDS}
    wanted = {table: content.checksum for table, content in read.items()}
    with warehouse.transaction():
        if _stored(warehouse) == wanted:
            return False
        warehouse.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (LOCK_KEY,))
        stored = _stored(warehouse)
        changed = [seed for seed in SEEDS if stored.get(seed.table) != wanted[seed.table]]
        for seed in changed:
            _fill(warehouse, seed, seed.rows(warehouse, read[seed.table].entries), wanted[seed.table])
        return bool(changed)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _read(seed: Seed, folder: Path) -> _Content:
    path = folder / seed.file
    if not path.is_file():
        raise SeedError(f"{path} is missing. Remedy: restore it (git checkout).")
    return _parsed(seed, path, path.read_bytes())


# A worker that transforms table after table reads the same 16,000 lines each time, and twice.
@lru_cache(maxsize=16)
def _parsed(seed: Seed, path: Path, content: bytes) -> _Content:
    entries = seed.read(path, content)
    return _Content(entries, _digest(sorted(entry.values for entry in entries)))


def _stored(warehouse: psycopg.Connection) -> dict[str, str]:
    """Return the checksums of the tables that have as many rows as they were given."""
    counts = sql.SQL(" union all ").join(
        sql.SQL("select {}, count(*) from {}").format(sql.Literal(seed.table), sql.Identifier("core", seed.table))
        for seed in SEEDS
    )
    rows = warehouse.execute(
        sql.SQL(
            "select s.table_name, s.checksum from ops.seed as s "
            "inner join ({}) as c (table_name, rows) using (table_name, rows)"
        ).format(counts)
    ).fetchall()
    return dict(rows)


def _fill(warehouse: psycopg.Connection, seed: Seed, rows: set[tuple[object, ...]], checksum: str) -> None:
    table = sql.Identifier("core", seed.table)
    warehouse.execute(sql.SQL("delete from {}").format(table))
    columns = sql.SQL(", ").join(map(sql.Identifier, seed.columns))
    with warehouse.cursor() as cursor, cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, columns)) as copy:
        for row in sorted(rows, key=repr):
            copy.write_row(row)
    warehouse.execute(
        "insert into ops.seed (table_name, checksum, rows) values (%s, %s, %s) on conflict (table_name) do update "
        "set checksum = excluded.checksum, rows = excluded.rows, loaded_at = excluded.loaded_at",
        (seed.table, checksum, len(rows)),
    )


# Files


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SeedError(f"{path}, line {line}: not UTF-8. Remedy: save the file in UTF-8.") from error
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise SeedError(f"{path}, line {line}: has a NUL character. Remedy: delete it.")
    return text


def _read_csv(path: Path, content: bytes, header: Values, *, optional: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Yield the rows below the header, without blank lines and blanks around values."""
    reader = csv.reader(io.StringIO(_text(path, content), newline=""), strict=True)
    is_first = True
    line = 1
    try:
        for cells in reader:
            entry = Entry(path, line, tuple(cell.strip() for cell in cells))
            line = reader.line_num + 1
            if not any(entry.values):
                continue
            if is_first:
                is_first = False
                if entry.values != header:
                    raise entry.error(f"the header is not {','.join(header)}", "write it so, separated by commas")
                continue
            if len(entry.values) != len(header):
                raise entry.error(
                    f"{len(entry.values)} values instead of {len(header)} ({', '.join(header)})",
                    "separate the values by commas, and put a value with a comma in double quotes",
                )
            for name, value in zip(header, entry.values, strict=True):
                if not value and name not in optional:
                    raise entry.error(f"{name} is empty", "fill it in, or delete the line")
            yield entry
    except csv.Error as error:
        raise SeedError(f"{path}, line {line}: {error}. Remedy: close the double quotes of a value.") from error
    if is_first:
        raise SeedError(f"{path} is empty. Remedy: restore it (git checkout).")


def _require(entry: Entry, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise entry.error(f"{name} {value!r} is none of: {', '.join(allowed)}", "use one of these")


def _read_ace_values(path: Path, content: bytes) -> list[Entry]:
    """Return (field, value, spelling) of every spelling, the value's own among them."""
    found = []
    for entry in _read_csv(path, content, ("field", "value", "other_spellings"), optional=("other_spellings",)):
        field, value, others = entry.values
        if not re.fullmatch("[a-z][a-z0-9_]*", field):
            raise entry.error(f"field {field!r} is no column's name", "use small letters, digits and underscores")
        spellings = [value, *(spelling.strip() for spelling in others.split("|"))]
        found += [Entry(path, entry.line, (field, value, spelling)) for spelling in spellings if spelling]
    return found


def _read_legal_forms(path: Path, content: bytes) -> list[Entry]:
    """Return (spelling, place, case) of every form."""
    found = []
    for entry in _read_csv(path, content, ("spelling", "place", "case", "where"), optional=("where",)):
        _require(entry, "place", entry.values[1], ("start", "end", "either"))
        _require(entry, "case", entry.values[2], ("any", "exact"))
        found.append(Entry(path, entry.line, entry.values[:3]))
    return found


def _read_shared_domains(path: Path, content: bytes) -> list[Entry]:
    """Return (domain, kind) of every domain; a domain has one kind."""
    found: dict[str, Entry] = {}
    for entry in _read_csv(path, content, ("domain", "kind")):
        domain, kind = entry.values
        _require(entry, "kind", kind, DOMAIN_KINDS)
        if domain in found:
            raise entry.error(f"{domain} is in line {found[domain].line} as well", "delete one of the two")
        found[domain] = entry
    return list(found.values())


def _read_public_suffixes(path: Path, content: bytes) -> list[Entry]:
    """Return (ending, kind, section) of every rule, the ending in punycode."""
    found = []
    section = ""
    passed = []
    for line, text in enumerate(_text(path, content).split("\n"), start=1):
        if mark := _SECTION.fullmatch(text.strip()):
            passed.append(mark.group(1, 2))
            section = mark[2].lower() if mark[1] == "BEGIN" else ""
        # The list's own format: a rule ends at the first blank.
        written = text.split(maxsplit=1)[:1]
        if not written or written[0].startswith("//"):
            continue
        rule = _RULE.fullmatch(written[0])
        if rule is None or not section:
            raise Entry(path, line, ()).error(
                f"{written[0]!r} is no rule of the list", f"download the list again from {SUFFIX_LIST}"
            )
        found.append(Entry(path, line, (_ascii(rule[2]), _RULE_KINDS[rule[1]], section)))
    if passed != [(side, part) for part in ("ICANN", "PRIVATE") for side in ("BEGIN", "END")]:
        raise SeedError(
            f"{path}, last line: the list is not whole, marks of its two sections are missing. "
            f"Remedy: download it again from {SUFFIX_LIST}."
        )
    return found


def _ascii(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    labels = unicodedata.normalize("NFC", domain.lower()).split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii") for label in labels)


# Rows. What the functions of the warehouse make of a spelling decides whether two are the same.


def _made_of(warehouse: psycopg.Connection, expression: str, texts: list[str]) -> list[str | None]:
    """Return an expression of `t` for each of the texts, in their order."""
    statement = f"select {expression} from unnest(%s::text[]) with ordinality as u (t, position) order by position"
    return [made for (made,) in warehouse.execute(statement.encode(), (texts,)).fetchall()]


def _ace_value_rows(warehouse: psycopg.Connection, entries: list[Entry]) -> set[tuple[object, ...]]:
    found: dict[tuple[str, str | None], Entry] = {}
    keys = _made_of(warehouse, "core.spelling_key(t)", [entry.values[2] for entry in entries])
    for entry, key in zip(entries, keys, strict=True):
        field, value, spelling = entry.values
        other = found.setdefault((field, key), entry)
        if other.values[1] != value:
            raise entry.error(
                f"{spelling!r} stands for {other.values[1]!r} in line {other.line} and for {value!r} here",
                "delete one of the two",
            )
    return {(entry.values[0], entry.values[2], entry.values[1]) for entry in found.values()}


def _legal_form_rows(warehouse: psycopg.Connection, entries: list[Entry]) -> set[tuple[object, ...]]:
    typed = _made_of(warehouse, "core.name_words(t)", [entry.values[0] for entry in entries])
    small = _made_of(warehouse, "core.small_letters(core.name_words(t))", [entry.values[0] for entry in entries])
    rows: set[tuple[object, ...]] = set()
    for entry, words, small_words in zip(entries, typed, small, strict=True):
        spelling, place, case = entry.values
        if not words:
            raise entry.error(f"{spelling!r} has neither letter nor digit", "correct it, or delete the line")
        is_exact = case == "exact"
        places = ("start", "end") if place == "either" else (place,)
        rows |= {(at, words if is_exact else small_words, is_exact) for at in places}
    return rows


def _shared_domain_rows(warehouse: psycopg.Connection, entries: list[Entry]) -> set[tuple[object, ...]]:
    hosts = _made_of(warehouse, "core.web_host(t)", [entry.values[0] for entry in entries])
    registries = {
        ending for (ending,) in warehouse.execute("select ending from core.public_suffix where not is_private")
    }
    for entry, host in zip(entries, hosts, strict=True):
        if host is None or host != _ascii(entry.values[0]) or host.count(".") >= MOST_LABELS:
            raise entry.error(f"{entry.values[0]!r} is no domain", "write it like gmail.com")
        if host in registries:
            raise entry.error(
                f"below {host} everybody registers names (public suffix list)", "name the domains one by one"
            )
    return {(host, entry.values[1]) for entry, host in zip(entries, hosts, strict=True)}


def _public_suffix_rows(_: psycopg.Connection, entries: list[Entry]) -> set[tuple[object, ...]]:
    # What a wildcard stands below is an ending as well, as browsers have it.
    more = {"rule": [("rule", 1)], "wildcard": [("wildcard", 2), ("rule", 1)], "exception": [("exception", 0)]}
    return {
        (ending, as_kind, ending.count(".") + labels, section == "private")
        for ending, kind, section in (entry.values for entry in entries)
        for as_kind, labels in more[kind]
    }


# In the order in which they are filled: shared domains are held against the list.
SEEDS = (
    Seed(
        "public_suffix_list.dat",
        "public_suffix",
        ("ending", "kind", "suffix_labels", "is_private"),
        _read_public_suffixes,
        _public_suffix_rows,
    ),
    Seed("shared_domain.csv", "shared_domain", ("domain", "kind"), _read_shared_domains, _shared_domain_rows),
    Seed("legal_form.csv", "legal_form", ("place", "form", "is_exact"), _read_legal_forms, _legal_form_rows),
    Seed("ace_value.csv", "ace_value_map", ("field", "spelling", "value"), _read_ace_values, _ace_value_rows),
)
