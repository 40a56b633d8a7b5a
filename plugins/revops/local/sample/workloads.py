"""The kinds of cloud projects that the sample's deals are about, read from workloads.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Workload:
    """One kind of project; `monthly` is in USD a month, `local` maps a language to (title, problem).

    industries is empty where any company may have such a project.
    """

    titles: tuple[str, ...]
    problems: tuple[str, ...]
    next_steps: tuple[str, ...]
    use_case: str
    products: tuple[str, ...]
    monthly: tuple[int, int]
    local: dict[str, tuple[str, str]]
    industries: tuple[str, ...]


_TEXTS = yaml.safe_load(Path(__file__).with_name("workloads.yaml").read_text(encoding="utf-8"))

WORKLOADS = tuple(
    Workload(
        titles=tuple(entry["titles"]),
        problems=tuple(entry["problems"]),
        next_steps=tuple(entry["next_steps"]),
        use_case=entry["use_case"],
        products=tuple(entry["products"]),
        monthly=(entry["monthly"][0], entry["monthly"][1]),
        local={tongue: (told["title"], told["problem"]) for tongue, told in entry.get("local", {}).items()},
        industries=tuple(entry.get("industries", ())),
    )
    for entry in _TEXTS["workloads"]
)
INDUSTRY_NOTES: dict[str, tuple[str, ...]] = {
    industry: tuple(notes) for industry, notes in _TEXTS["industry_notes"].items()
}
