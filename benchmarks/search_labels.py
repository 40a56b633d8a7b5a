"""Labelled queries over the sample sources: what is asked, and which documents answer it.

The sample is told from a plan: which customer has which kind of project, and in which system it is told in which words.
The plan is in neither database, so that it can judge what is found there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

from revops.local.sample.deals import Deal
from revops.local.sample.noise import typo
from revops.local.sample.pipeline import Pipeline
from revops.local.sample.workloads import WORKLOADS

WRITTEN = ("meaning", "language", "synonym")
QUERIES = Path(__file__).with_name("search_queries.yaml")
MADE_A_KIND = 40
TYPOS_A_QUERY = 2


@dataclass(frozen=True)
class Query:
    """A question and the documents that answer it, as `entity:id`; never none."""

    kind: str
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True)
class _Told:
    """One opportunity of the plan: its document, its project, and who shares it."""

    document: str
    deal: Deal
    brand: str
    lead: int | None


def label_queries(pipeline: Pipeline, documents: Set[str], *, seed: int) -> list[Query]:
    """Return all queries with those of the `documents` (`entity:id`) that answer them.

    Written ones ask for a kind of project. Made ones: `typo` a title with letters wrong, `company` a customer and its
    project in other words, `id` an opportunity's number in ACE. Depends on (pipeline, documents, seed) only.
    """
    told = [found for found in _told(pipeline) if found.document in documents]
    by_workload: dict[int, set[str]] = defaultdict(set)
    for found in told:
        by_workload[WORKLOADS.index(found.deal.workload)].add(found.document)
    rng = Random(f"{seed} search queries")
    made = [*_with_typos(rng, told, by_workload), *_of_companies(rng, told), *_of_ids(rng, told)]
    return [query for query in (*_written(by_workload), *made) if query.relevant]


def _told(pipeline: Pipeline) -> Iterator[_Told]:
    for lead in pipeline.leads:
        yield _Told(f"odoo_opportunity:{lead.id}", lead.deal, lead.party.brand, lead.id)
    for found in pipeline.opportunities:
        lead_id = found.lead.id if found.lead else None
        yield _Told(f"ace_opportunity:{found.id}", found.deal, found.party.brand, lead_id)


def _written(by_workload: dict[int, set[str]]) -> Iterator[Query]:
    for entry in yaml.safe_load(QUERIES.read_text(encoding="utf-8")):
        for kind in WRITTEN:
            for text in entry[kind]:
                yield Query(kind, text, frozenset(by_workload[entry["workload"]]))


def _with_typos(rng: Random, told: list[_Told], by_workload: dict[int, set[str]]) -> Iterator[Query]:
    for found in _some(rng, told):
        text = found.deal.title(1)
        for _ in range(TYPOS_A_QUERY):
            text = typo(rng, text)
        yield Query("typo", text, frozenset(by_workload[WORKLOADS.index(found.deal.workload)]))


def _of_companies(rng: Random, told: list[_Told]) -> Iterator[Query]:
    for found in _some(rng, [found for found in told if found.lead is not None]):
        same = frozenset(
            other.document
            for other in told
            if other.brand == found.brand and other.deal.workload is found.deal.workload
        )
        yield Query("company", f"{found.deal.slots['company']} {found.deal.title(2)}", same)


def _of_ids(rng: Random, told: list[_Told]) -> Iterator[Query]:
    for found in _some(rng, [found for found in told if found.document.startswith("ace_opportunity:")]):
        yield Query("id", found.document.partition(":")[2], frozenset({found.document}))


def _some(rng: Random, told: Iterable[_Told]) -> list[_Told]:
    among = list(told)
    return rng.sample(among, min(MADE_A_KIND, len(among)))
