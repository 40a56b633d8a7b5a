"""The labelled queries that search is judged by, and the two figures that judge it."""

from __future__ import annotations

import math
from datetime import date

import pytest
import yaml

from benchmarks.ranking import ndcg, recall
from benchmarks.search_labels import QUERIES, WRITTEN, label_queries
from revops.local.sample.plan import make_plan
from revops.local.sample.workloads import WORKLOADS

PIPELINE = make_plan(7, date(2026, 11, 22), 0.05).pipeline
DOCUMENTS = {f"odoo_opportunity:{lead.id}" for lead in PIPELINE.leads} | {
    f"ace_opportunity:{found.id}" for found in PIPELINE.opportunities
}


def test_recall_counts_a_full_page_as_all() -> None:
    assert recall(["a", "x", "b"], {"a", "b", "c"}, depth=3) == pytest.approx(2 / 3)
    assert recall(["a", "b"], {"a", "b", "c"}, depth=2) == 1
    assert recall(["x", "a"], {"a"}, depth=1) == 0


def test_ndcg_wants_the_right_ones_first() -> None:
    assert ndcg(["a", "b", "x"], {"a", "b"}) == 1
    assert ndcg(["x", "a", "b"], {"a", "b"}) == pytest.approx((1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)))
    assert ndcg([], {"a"}) == 0


@pytest.mark.parametrize("figure", [recall, ndcg])
def test_a_query_without_an_answer_measures_nothing(figure) -> None:
    with pytest.raises(ValueError, match="no answer is right"):
        figure(["a"], set())


def test_every_workload_is_asked_for_and_no_query_quotes_a_title() -> None:
    entries = yaml.safe_load(QUERIES.read_text(encoding="utf-8"))
    assert [entry["workload"] for entry in entries] == list(range(len(WORKLOADS)))
    for entry, workload in zip(entries, WORKLOADS, strict=True):
        assert entry["about"] in workload.titles
        titles = [title.lower() for title in (*workload.titles, *(title for title, _ in workload.local.values()))]
        texts = [text for kind in WRITTEN for text in entry[kind]]
        assert len(texts) == len(set(texts)) > 3
        assert not [text for text in texts for title in titles if text.lower() in title or title in text.lower()]


def test_answers_are_documents_of_the_same_kind_of_project() -> None:
    kinds = {
        **{f"odoo_opportunity:{lead.id}": lead.deal.workload for lead in PIPELINE.leads},
        **{f"ace_opportunity:{found.id}": found.deal.workload for found in PIPELINE.opportunities},
    }
    queries = label_queries(PIPELINE, DOCUMENTS, seed=7)
    assert {query.kind for query in queries} == {*WRITTEN, "typo", "company", "id"}
    for query in queries:
        assert query.relevant <= DOCUMENTS
        assert len({kinds[document].titles for document in query.relevant}) == 1
    asked = {document for query in queries if query.kind == "meaning" for document in query.relevant}
    assert asked == DOCUMENTS


def test_only_documents_that_exist_are_answers_and_the_seed_decides() -> None:
    some = set(sorted(DOCUMENTS)[::2])
    queries = label_queries(PIPELINE, some, seed=7)
    assert all(query.relevant <= some for query in queries)
    assert queries == label_queries(PIPELINE, some, seed=7)
    assert queries != label_queries(PIPELINE, some, seed=8)
