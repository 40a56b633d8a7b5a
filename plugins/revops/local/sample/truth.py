"""The true matches of the sample, kept in a CSV file apart from both databases."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from revops.local.sample.pipeline import Opportunity

HEADER = ("ace_opportunity_id", "odoo_lead_id", "kind")


@dataclass(frozen=True)
class Match:
    """One true pair; kind says keyed where a side holds the other's id, split_ on later ones of a lead."""

    ace_opportunity_id: str
    odoo_lead_id: int
    kind: str


def matches_of(opportunities: Iterable[Opportunity]) -> list[Match]:
    """Return the true pairs of planned opportunities; those without a lead have none."""
    return [
        Match(
            found.id,
            found.lead.id,
            ("split_" if found.part else "") + ("keyed" if found.key in {"partner", "crm", "both"} else "unkeyed"),
        )
        for found in opportunities
        if found.lead
    ]


def read(path: Path) -> list[Match]:
    """Return the pairs in the file at `path`. Raises FileNotFoundError where there is none."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Match(row[HEADER[0]], int(row[HEADER[1]]), row[HEADER[2]]) for row in csv.DictReader(file)]


def write(path: Path, matches: Iterable[Match]) -> None:
    """Replace the file at `path` at once, so that a reader sees the old pairs or the new ones."""
    draft = path.with_name(f"{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((match.ace_opportunity_id, match.odoo_lead_id, match.kind) for match in matches)
    draft.replace(path)
