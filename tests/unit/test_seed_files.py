"""Seed files: the real ones are read, their checksum is what they say, every malformed one is told by file and line."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from revops.seeds import SEEDS, SeedError, seeds_checksum
from revops.warehouse_setup import SEEDS as FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "seeds"))


def test_every_file_has_a_table_and_a_line_in_the_page_about_them() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix != ".md"}
    assert files == {seed.file for seed in SEEDS}
    page = (FOLDER / "README.md").read_text()
    assert [seed.file for seed in SEEDS if f"| `{seed.file}` | `core.{seed.table}` |" not in page] == []


def test_the_list_keeps_its_licence_and_the_page_names_its_version() -> None:
    head = (FOLDER / "public_suffix_list.dat").read_text().splitlines()[:12]
    assert "Mozilla Public" in head[0]
    (version,) = [line.removeprefix("// VERSION: ")[:10] for line in head if line.startswith("// VERSION: ")]
    assert version in (FOLDER / "README.md").read_text()


def lines_in_another_order(text: str) -> str:
    header, *lines = text.splitlines()
    random.Random(1).shuffle(lines)
    return "\n".join([header, *lines])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\n\n", 3),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", " , "),
        lines_in_another_order,
    ],
    ids=["CRLF", "BOM", "blank lines", "no last line end", "blanks around commas", "another order"],
)
def test_how_a_file_is_written_does_not_matter(folder: Path, change: Callable[[str], str]) -> None:
    before = seeds_checksum(folder)
    path = folder / "shared_domain.csv"
    path.write_bytes(change(path.read_text()).encode())
    assert seeds_checksum(folder) == before


def test_a_comment_of_the_list_and_a_remark_do_not_matter(folder: Path) -> None:
    before = seeds_checksum(folder)
    path = folder / "public_suffix_list.dat"
    path.write_text(path.read_text().replace("// VERSION: ", "// VERSION: 1"))
    forms = folder / "legal_form.csv"
    forms.write_text(forms.read_text().replace("Nordic", "North"))
    assert seeds_checksum(folder) == before


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ace_value.csv", "stage,Parked,"),
        ("legal_form.csv", "XYZ,end,any,"),
        ("shared_domain.csv", "shared.test,free mail"),
        ("public_suffix_list.dat", None),
    ],
)
def test_what_a_file_says_matters(folder: Path, file: str, line: str | None) -> None:
    before = seeds_checksum(folder)
    path = folder / file
    text = path.read_text()
    path.write_text(text.replace("\ngithub.io\n", "\n") if line is None else text + line + "\n")
    assert seeds_checksum(folder) != before


def test_the_checksum_is_of_one_length_and_does_not_depend_on_where_the_folder_is(folder: Path) -> None:
    assert seeds_checksum(folder) == seeds_checksum(FOLDER)
    assert len(seeds_checksum(folder)) == 64


MALFORMED = [
    ("ace_value.csv", None, r"ace_value\.csv is missing. Remedy: restore it"),
    ("ace_value.csv", b"", r"ace_value\.csv is empty. Remedy: restore it"),
    ("ace_value.csv", b"\n\n", r"ace_value\.csv is empty"),
    (
        "ace_value.csv",
        b"field;value;other_spellings\n",
        "line 1: the header is not field,value,other_spellings.*commas",
    ),
    ("ace_value.csv", b"field,value\nstage,Launched\n", "line 1: the header is not field,value,other_spellings"),
    (
        "ace_value.csv",
        b"field,value,other_spellings\nstage,Launched,\nstage,Qualified\n",
        r"line 3: 2 values instead of 3 \(field, value, other_spellings\). Remedy: separate the values by commas",
    ),
    ("ace_value.csv", b"field,value,other_spellings\n\nstage,,x\n", "line 3: value is empty. Remedy: fill it in"),
    ("ace_value.csv", b"field,value,other_spellings\n,Launched,\n", "line 2: field is empty"),
    (
        "ace_value.csv",
        b"field,value,other_spellings\nThe Stage,Launched,\n",
        "line 2: field 'The Stage' is no column's",
    ),
    (
        "ace_value.csv",
        b'field,value,other_spellings\nstage,Launched,\nstage,"Qualified,\nstage,Prospect,\n',
        "line 3: unexpected end of data. Remedy: close the double quotes",
    ),
    (
        "ace_value.csv",
        b"field,value,other_spellings\nstage,Caf\xe9,\n",
        "line 2: not UTF-8. Remedy: save the file in UTF-8",
    ),
    ("ace_value.csv", b"field,value,other_spellings\nstage,Lau\x00nched,\n", "line 2: has a NUL character"),
    (
        "legal_form.csv",
        b"spelling,place,case,where\nInc,end,any,\nLtd,last,any,\n",
        "line 3: place 'last' is none of: start, end, either. Remedy: use one of these",
    ),
    ("legal_form.csv", b"spelling,place,case,where\nInc,end,maybe,\n", "line 2: case 'maybe' is none of: any, exact"),
    (
        "shared_domain.csv",
        b"domain,kind\ngmail.com,mail\n",
        "line 2: kind 'mail' is none of: free mail, social network",
    ),
    (
        "shared_domain.csv",
        b"domain,kind\ngmail.com,free mail\nwix.com,site builder\ngmail.com,placeholder\n",
        r"line 4: gmail\.com is in line 2 as well. Remedy: delete one of the two",
    ),
    (
        "public_suffix_list.dat",
        b"<!DOCTYPE html>\n<html></html>\n",
        "line 1: '<!DOCTYPE' is no rule.*download.*publicsuffix",
    ),
    (
        "public_suffix_list.dat",
        b"// a list\n",
        "last line: the list is not whole.*Remedy: download it again from https",
    ),
    (
        "public_suffix_list.dat",
        b"// ===BEGIN ICANN DOMAINS===\ncom\n// ===END ICANN DOMAINS===\n// ===BEGIN PRIVATE DOMAINS===\ngithub.io\n",
        "last line: the list is not whole",
    ),
    ("public_suffix_list.dat", b"com\n// ===BEGIN ICANN DOMAINS===\n", "line 1: 'com' is no rule of the list"),
    ("public_suffix_list.dat", b"// ===BEGIN ICANN DOMAINS===\na.*.com\n", r"line 2: 'a\.\*\.com' is no rule"),
    (
        "public_suffix_list.dat",
        b"// ===BEGIN ICANN DOMAINS===\na.b.c.d.e.f.g.h\n",
        "line 2: 'a.b.c.d.e.f.g.h' is no rule",
    ),
]


@pytest.mark.parametrize(("file", "content", "expected"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_file_is_told_by_file_line_and_remedy(
    folder: Path, file: str, content: bytes | None, expected: str
) -> None:
    path = folder / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SeedError, match=expected) as raised:
        seeds_checksum(folder)
    assert str(raised.value).startswith(str(path))
