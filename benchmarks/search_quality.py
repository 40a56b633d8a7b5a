"""How well search finds what is asked: by words, by meaning, by weighted words, and by all of them together.

The sample sources are extracted, made into core and embedded by the functions that the DAGs use; then labelled queries
are asked (benchmarks/search_labels.py) and judged by recall@10 and nDCG@10. The model is the small one of the embedded
stack, and BGE-M3 as well where REVOPS_BGE_M3 names its directory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import mean

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from pgvector.psycopg import register_vector
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ROOT
from benchmarks.ranking import ndcg, recall
from benchmarks.report import Claim, describe_machine, print_claims
from benchmarks.search_labels import Query, label_queries
from benchmarks.servers import HOME, Servers, running_servers
from revops.embedding.encoder import describe_model, encode_texts
from revops.embedding.handoff import export_texts
from revops.embedding.models import register_model, switch_model
from revops.embedding.queries import QueryVectors
from revops.embedding.query_cache import to_database
from revops.embedding.store import load_vectors
from revops.extract.load import load_table
from revops.extract.sessions import Route
from revops.keyring import Keyring, new_key
from revops.local import sample
from revops.local.sample.plan import make_plan
from revops.seeds import load_seeds
from revops.settings import Settings
from revops.sources import load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS, core_tables
from revops.warehouse_setup import read_migrations, set_up_warehouse

INCLUDE = ROOT / "include"
RESULTS = ROOT / "benchmarks" / "results" / "search_quality.json"
DATABASE = "revops_core"
SOURCES = ("odoo", "ace")
SEED = 20_261_101
TODAY = date(2026, 11, 1)
DEPTH = 10
# Nothing that search reads is made from bills.
WITHOUT = ("bill_line", "billing_usage")
WAYS = ("keyword", "dense", "sparse", "hybrid")
Scores = dict[str, dict[str, tuple[float, float]]]


class Judged:
    """A warehouse made from the sample, with its documents, and what searches in it are worth."""

    def __init__(self, servers: Servers, scale: float, console: Console) -> None:
        self.servers = servers
        self.scale = scale
        self.console = console
        self.queries: list[Query] = []

    def prepare(self) -> None:
        """Make the sample sources, core and the documents; then label the queries."""
        for source in SOURCES:
            self.servers.source.recreate(source)
        self.servers.target.recreate(DATABASE)
        set_up_warehouse(
            self.servers.target.url(DATABASE), read_migrations(INCLUDE / "sql" / "migrations"), progress=lambda _: None
        )
        with self._source("odoo") as odoo, self._source("ace") as ace:
            sample.create(odoo, ace, seed=SEED, today=TODAY, scale=self.scale, truth_path=HOME / "truth.csv")
        for source in SOURCES:
            self._extract(source)
        with self._session("revops_transform") as warehouse:
            load_seeds(warehouse, INCLUDE / "seeds")
            for source in SOURCES:
                for name in (name for name in core_tables(source) if name not in WITHOUT):
                    transform_table(warehouse, target=TARGETS[name], source=source, run_id="benchmark", include=INCLUDE)
        with self._session("revops_embed") as warehouse:
            for source in SOURCES:
                transform_table(
                    warehouse, target=TARGETS["document"], source=source, run_id="benchmark", include=INCLUDE
                )
            found = warehouse.execute("select entity || ':' || entity_id from search.document").fetchall()
        documents = {str(document) for (document,) in found}
        self.queries = label_queries(make_plan(SEED, TODAY, self.scale).pipeline, documents, seed=SEED)
        self.console.print(f"{len(documents):,} documents, {len(self.queries)} labelled queries", highlight=False)

    def judge(self, model: Path) -> tuple[str, Scores]:
        """Embed the documents with a model and ask all queries in each way; return the model's name and the scores."""
        settings = _settings(model)
        described = describe_model(settings)
        with self._session("revops_embed") as warehouse:
            model_id = register_model(warehouse, described)
            for source in SOURCES:
                folder = HOME / "handoff" / str(model_id) / source
                if export_texts(warehouse, model_id=model_id, source=source, folder=folder / "in"):
                    encode_texts(settings, source=folder / "in", output=folder / "out")
                    load_vectors(
                        warehouse,
                        model_id=model_id,
                        folder=folder / "out",
                        index_memory=settings.embedding_index_memory,
                    )
            switch_model(warehouse, model_id)
        vectors = _encode(settings, [query.text for query in self.queries])
        with self._session("revops_api") as warehouse:
            register_vector(warehouse)
            return described.name, self._scores(warehouse, model_id, vectors)

    def _scores(self, warehouse: psycopg.Connection, model_id: int, vectors: list[QueryVectors]) -> Scores:
        scores: Scores = {}
        for way in WAYS:
            by_kind: dict[str, list[tuple[float, float]]] = {}
            for query, vector in zip(self.queries, vectors, strict=True):
                ranking = _ask(warehouse, way, query.text, vector, model_id)
                figures = (recall(ranking, query.relevant, depth=DEPTH), ndcg(ranking, query.relevant, depth=DEPTH))
                by_kind.setdefault(query.kind, []).append(figures)
            scores[way] = {
                kind: (mean(found for found, _ in figures), mean(gain for _, gain in figures))
                for kind, figures in by_kind.items()
            }
        return scores

    def _extract(self, source: str) -> None:
        keyring = Keyring.parse(f"1:{new_key()}", new_key())
        config = load_source(source)
        route = Route(source=lambda: self._source(source), warehouse=lambda: self._session_of("revops_ingest"))
        for table in config.tables:
            load_table(route, config=config, table=table, run_id="benchmark", keyring=keyring)

    def _source(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.servers.source.url(name))

    def _session_of(self, role: str) -> psycopg.Connection:
        return psycopg.connect(self.servers.target.url(DATABASE), options=f"-c role={role} -c timezone=UTC")

    @contextmanager
    def _session(self, role: str) -> Iterator[psycopg.Connection]:
        with self._session_of(role) as connection:
            yield connection


def _ask(warehouse: psycopg.Connection, way: str, text: str, vectors: QueryVectors, model_id: int) -> list[str]:
    """Return the documents that one way of searching puts first, as `entity:id`."""
    dense, sparse = to_database(vectors)
    rows = warehouse.execute(
        "select entity || ':' || entity_id from search.hybrid(%s, %s, %s, %s, %s)",
        (
            text if way in ("keyword", "hybrid") else None,
            dense if way in ("dense", "hybrid") else None,
            sparse if way in ("sparse", "hybrid") else None,
            model_id,
            DEPTH,
        ),
    ).fetchall()
    return [str(document) for (document,) in rows]


def _encode(settings: Settings, texts: list[str]) -> list[QueryVectors]:
    """Encode queries in one run of the encoder, in their order."""
    folder = HOME / "queries"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
    pq.write_table(pa.table({"text_hash": hashes, "text": texts}, schema=schema), folder / "in" / "queries.parquet")
    encoded = encode_texts(settings, source=folder / "in", output=folder / "out", prompt="query")
    rows = [row for path in sorted((folder / "out").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [
        QueryVectors(
            [float(value) for value in row["dense"]],
            dict(zip(row["sparse_ids"], row["sparse_weights"], strict=True)),
            encoded.model_key,
        )
        for row in rows
    ]


def _settings(model: Path) -> Settings:
    return Settings.model_validate(
        {
            "REVOPS_ALERT_EMAIL": "benchmark@example.com",
            "REVOPS_EMBEDDING_PYTHON": str(ROOT / ".venv-embedding" / "bin" / "python"),
            "REVOPS_EMBEDDING_MODEL": str(model),
            "REVOPS_EMBEDDING_HANDOFF": str(HOME / "handoff"),
        }
    )


def _small_model() -> Path:
    """Build the model of the embedded stack."""
    folder = HOME / "model"
    subprocess.run(
        [ROOT / ".venv-embedding" / "bin" / "python", "-m", "embedding", "demo-model", "--output", folder],
        env={"PATH": os.defpath, "HOME": str(HOME), "PYTHONPATH": str(INCLUDE / "embedding")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder


def _show(name: str, scores: Scores, console: Console) -> None:
    kinds = list(next(iter(scores.values())))
    table = Table(title=f"{name}: recall@{DEPTH} / nDCG@{DEPTH}", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in (*kinds, "all kinds"):
        table.add_column(heading, justify="right")
    for way, by_kind in scores.items():
        figures = [*by_kind.values(), _overall(by_kind)]
        table.add_row(way, *(f"{found:.2f} / {gain:.2f}" for found, gain in figures))
    console.print(table)


def _overall(by_kind: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the means over the kinds, each counting the same however many queries it has."""
    return mean(found for found, _ in by_kind.values()), mean(gain for _, gain in by_kind.values())


def _claims(name: str, scores: Scores) -> list[Claim]:
    overall = {way: _overall(by_kind) for way, by_kind in scores.items()}
    best_single = max(overall[way][1] for way in ("keyword", "dense", "sparse"))
    exact = scores["hybrid"]["id"][0]
    return [
        Claim(
            f"{name}: together better than any alone (nDCG@{DEPTH} over all kinds)",
            f"{overall['hybrid'][1]:.3f}, best alone {best_single:.3f}",
            overall["hybrid"][1] > best_single,
        ),
        Claim(
            f"{name}: preferred to keywords (recall@{DEPTH} over all kinds)",
            f"{overall['hybrid'][0]:.3f}, keywords {overall['keyword'][0]:.3f}",
            overall["hybrid"][0] > overall["keyword"][0],
        ),
        Claim(f"{name}: an opportunity's number finds it", f"{exact:.0%}", exact == 1.0),
    ]


def main() -> None:
    """Run the benchmark; exits with 1 when a claim is not met."""
    parser = argparse.ArgumentParser(description="How well search finds what is asked.")
    parser.add_argument("--scale", type=float, default=0.5, help="size of the sample sources; 1 is that of make demo")
    parser.add_argument("--quick", action="store_true", help="a fifth of the usual size")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    console = Console()
    claims: list[Claim] = []
    kept: dict[str, Scores] = {}
    with running_servers(space=4 << 30) as servers:
        machine = describe_machine(servers)
        judged = Judged(servers, 0.1 if arguments.quick else arguments.scale, console)
        judged.prepare()
        real = os.environ.get("REVOPS_BGE_M3")
        for model in (_small_model(), *([Path(real)] if real else [])):
            name, scores = judged.judge(model)
            kept[name] = scores
            _show(name, scores, console)
            claims += _claims(name, scores)
        if not real:
            claims.append(Claim("BGE-M3", "REVOPS_BGE_M3 names no directory of it", None))
        print_claims(console, claims)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "scores": kept}, indent=2, ensure_ascii=False) + "\n")
    sys.exit(any(claim.is_met is False for claim in claims))


if __name__ == "__main__":
    main()
