"""docs/requirements.md names every criterion, and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRITERIA = {"1": 5, "2": 5, "3": 6, "4": 5, "5": 5, "6": 5, "7": 5, "8": 5, "A": 4, "P": 5, "S": 5, "R": 5, "U": 5}
ROWS = re.findall(
    r"^\| (\w)\.(\d) [^|]+\| (\w+) \| (?:`([^`]+)`)? ?\| (?:`([^`]+)`)? ?\|$",
    (ROOT / "docs" / "requirements.md").read_text(),
    re.MULTILINE,
)


def test_every_criterion_is_listed_once() -> None:
    listed = [(requirement, int(number)) for requirement, number, *_ in ROWS]
    assert listed == [(requirement, number) for requirement, last in CRITERIA.items() for number in range(1, last + 1)]


def test_what_is_met_names_code_and_test_that_exist() -> None:
    for requirement, number, status, code, test in ROWS:
        assert status in ("met", "begun", "open"), f"{requirement}.{number}"
        assert (status == "open") == (not code), f"{requirement}.{number}"
        for path in filter(None, (code, test)):
            assert (ROOT / path).exists(), f"{requirement}.{number}: {path} does not exist"
