"""How fast and how well search.hybrid finds, what its indexes cost, and what a load of vectors takes.

Made-up documents with vectors (benchmarks/search_data.py) are loaded by the code that the DAGs use. Recall is that of
the dense ranking's first ten against all vectors compared. Times are of one session on this machine, TLS included.
Beside it on the same server: the plain query of two rankings without filters, and a scan without an index.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import structlog
from pgvector import HalfVector, SparseVector
from pgvector.psycopg import register_vector
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ROOT
from benchmarks.report import Claim, describe_machine, physical_memory, print_claims
from benchmarks.search_data import (
    CHUNK,
    DIMENSIONS,
    DOCUMENT_COLUMNS,
    MODEL_KEY,
    SHARES,
    VOCABULARY,
    Chunk,
    Query,
    World,
    document_rows,
    write_shard,
)
from benchmarks.servers import SHARED_BUFFERS, Server, running_servers, scratch
from revops.embedding.encoder import Model
from revops.embedding.handoff import export_texts
from revops.embedding.models import register_model, switch_model
from revops.embedding.store import Loaded, load_vectors
from revops.warehouse_setup import read_migrations, set_up_warehouse

INCLUDE = ROOT / "include"
RESULTS = ROOT / "benchmarks" / "results" / "search.json"
DATABASE = "revops_core"
ROWS = 100_000
BYTES_A_ROW = 20_000
# The graph of a million vectors fits; a deployment says REVOPS_EMBEDDING_INDEX_MEMORY.
INDEX_MEMORY = 4 << 30
QUERIES = 300
WARM_UP = 50
SLOW_QUERIES = 30
# What takes longer is timed with fewer queries, ten at the least.
BUDGET_S = 90.0
FEWEST_QUERIES = 10
# From here on the server has a quarter of the machine's memory for itself, as the warehouse's container takes it.
MANY_ROWS = 500_000
TICKS = os.sysconf("SC_CLK_TCK")
MODEL = Model("benchmark", MODEL_KEY, DIMENSIONS, VOCABULARY)
FILTERS = {"no filter": "", **{f"{share:.1%}": column for column, (_, share) in SHARES.items()}}
PLAIN = """
with d as (select text_hash, row_number() over (order by distance) r from (
        select text_hash, dense <=> %(dense)s as distance from search.embedding where model_id = %(model)s
        order by dense <=> %(dense)s limit 100) z),
     l as (select text_hash, row_number() over (order by product) r from (
        select text_hash, sparse <#> %(sparse)s as product from search.embedding
        where model_id = %(model)s and token_ids && %(tokens)s::int[] order by sparse <#> %(sparse)s limit 100) z)
select text_hash, coalesce(1.0 / (60 + d.r), 0) + coalesce(1.0 / (60 + l.r), 0) as score
from d full join l using (text_hash) order by score desc, text_hash limit 10
"""
EXACT_TOKENS = """
select d.entity_id from (select text_hash from search.embedding where model_id = %(model)s
    order by (sparse <#> %(sparse)s) + 0, text_hash limit 10) e inner join search.document d using (text_hash)
"""
TITLES = """
select document_id from search.document where %(text)s <%% title
order by word_similarity(%(text)s, title) desc, document_id limit 100
"""
EXACT = "select text_hash from search.embedding where model_id = %(model)s order by (dense <=> %(dense)s) + 0 limit 10"


@dataclass(frozen=True)
class Times:
    """Times of queries in milliseconds: wall of the client, and processor time of the server's session a query."""

    p50: float
    p95: float
    p99: float
    cpu: float
    queries: int


class Bench:
    """One warehouse with documents and vectors, and what was measured of it."""

    def __init__(self, server: Server, rows: int, console: Console) -> None:
        self.server = server
        self.rows = rows
        self.console = console
        self.world = World()
        self.queries = self.world.queries(QUERIES + WARM_UP, rows)
        self.times: dict[str, Times] = {}
        self.recall: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.sizes: dict[str, int] = {}
        self.nearest: dict[str, npt.NDArray[np.int64]] = {}
        self.model_id = 0
        self._started = time.monotonic()

    def prepare(self) -> None:
        """Create the warehouse, its documents and the shards of all vectors; find what is nearest to each query."""
        self.server.recreate(DATABASE)
        migrations = read_migrations(INCLUDE / "sql" / "migrations")
        set_up_warehouse(self.server.url(DATABASE), migrations, progress=lambda _: None)
        self.shards = scratch("search")
        asked = np.array([query.dense for query in self.queries[WARM_UP:]], np.float32)
        best = {name: _Nearest(len(asked)) for name in FILTERS}
        with self.session("revops_embed") as warehouse:
            for first in range(0, self.rows, CHUNK):
                chunk = self.world.chunk(first, min(CHUNK, self.rows - first))
                _copy_documents(warehouse, chunk)
                write_shard(chunk, self.shards)
                closeness = asked @ chunk.dense.astype(np.float32).T
                for name, column in FILTERS.items():
                    chosen = np.array(
                        [not column or value == SHARES[column][0] for value in chunk.columns.get(column, chunk.titles)]
                    )
                    best[name].add(np.where(chosen, closeness, -np.inf), first)
            warehouse.commit()
        self.nearest = {name: one.documents for name, one in best.items()}
        with self.server.admin(DATABASE) as owner:
            owner.execute("vacuum analyze search.document")
        self.say(f"{self.rows:,} documents")

    def load(self) -> None:
        """Load all vectors by COPY, build their indexes, count words and tokens."""
        with self.session("revops_embed") as warehouse, structlog.testing.capture_logs() as events:
            self.model_id = register_model(warehouse, MODEL)
            loaded = load_vectors(warehouse, model_id=self.model_id, folder=self.shards, index_memory=INDEX_MEMORY)
            switch_model(warehouse, self.model_id)
        (built,) = [event for event in events if event["event"] == "vectors are built"]
        self.figures["copy rows/s"] = self.rows / built["copy_seconds"]
        self.figures["index s"] = built["index_seconds"]
        self.figures["load s"] = loaded.seconds
        self.settle()
        self._read_sizes()
        self.say(f"loaded in {loaded.seconds:.0f} s, of that indexes {built['index_seconds']:.0f} s")

    def search(self) -> None:
        """Time the hybrid search without and with filters, and measure the recall of its dense ranking."""
        with self.session("revops_api") as warehouse:
            register_vector(warehouse)
            for name, column in FILTERS.items():
                condition = f", {_argument(column)} => array['{SHARES[column][0]}']" if column else ""
                hybrid = sql.SQL(
                    "select entity_id from search.hybrid(%(text)s, %(dense)s, %(sparse)s, %(model)s, 10"
                    + condition
                    + ")"
                )
                self.times[f"hybrid, {name}"] = self._time(warehouse, hybrid)
                dense = sql.SQL(
                    "select entity_id from search.hybrid(null, %(dense)s, null, %(model)s, 10" + condition + ")"
                )
                found = [_numbers(warehouse, dense, self._parameters(query)) for query in self.queries[WARM_UP:]]
                self.recall[name] = _share_found(found, self.nearest[name])
                times = self.times[f"hybrid, {name}"]
                self.say(f"{name}: p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms, recall {self.recall[name]:.4f}")
            own = [
                query.made_from
                in _numbers(
                    warehouse,
                    sql.SQL("select entity_id from search.hybrid(%(text)s, null, null, %(model)s, 10)"),
                    self._parameters(query),
                )
                for query in self.queries[WARM_UP:]
            ]
            self.figures["found by words alone"] = float(np.mean(own))
            self.times["words and titles only"] = self._time(
                warehouse, sql.SQL("select entity_id from search.hybrid(%(text)s, null, null, %(model)s, 10)")
            )
            similar = sql.SQL("select entity_id from search.similar(%(entity)s, %(id)s, 10)")
            self.times["similar to a document"] = self._time(warehouse, similar)
            self._look_up(warehouse)

    def peers(self) -> None:
        """Time a plain query of two rankings, without filters, words and titles, and a scan of all vectors."""
        with self.session("revops_api") as warehouse:
            register_vector(warehouse)
            for setting in ("hnsw.ef_search = 100", "jit = off", "max_parallel_workers_per_gather = 0"):
                warehouse.execute(f"set {setting}".encode())
            self.times["plain: dense and tokens"] = self._time(warehouse, sql.SQL(PLAIN))
            self.times["scan of all vectors"] = self._time(warehouse, sql.SQL(EXACT), most=SLOW_QUERIES)
            tokens = sql.SQL("select entity_id from search.hybrid(null, null, %(sparse)s, %(model)s, 10)")
            shares = []
            for query in self.queries[:SLOW_QUERIES]:
                parameters = self._parameters(query)
                found, best = (_numbers(warehouse, one, parameters) for one in (tokens, sql.SQL(EXACT_TOKENS)))
                shares.append(len(set(found) & set(best)) / len(best))
            self.figures["token recall@10"] = float(np.mean(shares))
        with self.server.admin(DATABASE) as owner:
            register_vector(owner)
            owner.execute("create index document_title_trgm_idx on search.document using gin (title gin_trgm_ops)")
            owner.execute("set pg_trgm.word_similarity_threshold = 0.3")
            self.times["titles by a trigram index"] = self._time(owner, sql.SQL(TITLES), most=SLOW_QUERIES)
            owner.execute("drop index search.document_title_trgm_idx")

    def change(self) -> None:
        """Change one text in a hundred: what is exported, and what a vector costs in the live index."""
        changed = self.rows // 100
        with self.session("revops_embed") as warehouse:
            warehouse.execute(
                "update search.document set text = text || ' changed', "
                "text_hash = sha256(convert_to(text || ' changed', 'UTF8')) where entity_id::int % 100 = 7"
            )
            warehouse.commit()
            folder = scratch("changed")
            self.figures["exported"] = export_texts(
                warehouse, model_id=self.model_id, source="odoo", folder=folder / "in"
            )
            (folder / "out").mkdir()
            chunk = self.world.chunk(self.rows, changed)
            renamed = Chunk(**{**vars(chunk), "texts": _exported(folder / "in")})
            write_shard(renamed, folder / "out")
            cpu = _cpu(warehouse)
            loaded: Loaded = load_vectors(
                warehouse, model_id=self.model_id, folder=folder / "out", index_memory=INDEX_MEMORY
            )
            self.figures["live insert cpu-ms/row"] = 1000 * (_cpu(warehouse) - cpu) / changed
            self.figures["live load s"] = loaded.seconds
            self.figures["orphans"] = loaded.orphans
            self.figures["exported again"] = export_texts(
                warehouse, model_id=self.model_id, source="odoo", folder=folder / "again"
            )
        self.say(f"{changed:,} changed texts: live load {loaded.seconds:.1f} s, {loaded.orphans:,} orphans removed")

    def settle(self) -> None:
        """Do what autovacuum does between two nights."""
        with self.server.admin(DATABASE) as owner:
            owner.execute("vacuum analyze search.document")
            owner.execute("vacuum analyze search.lexeme")
        self.server.checkpoint()

    @contextmanager
    def session(self, role: str) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server.url(DATABASE), options=f"-c role={role}") as connection:
            yield connection

    def say(self, what: str) -> None:
        load = os.getloadavg()[0]
        self.console.print(
            f"[dim]{time.monotonic() - self._started:6.0f} s[/]  {what}  [dim]load {load:.1f}[/]", highlight=False
        )

    def _parameters(self, query: Query) -> dict[str, Any]:
        return {
            "text": query.text,
            "dense": HalfVector(query.dense),
            "sparse": SparseVector(query.sparse, VOCABULARY),
            "tokens": list(query.sparse),
            "model": self.model_id,
            "id": str(query.made_from),
            "entity": ("odoo_opportunity", "ace_opportunity", "account")[query.made_from % 3],
        }

    def _time(self, warehouse: psycopg.Connection, statement: sql.SQL, *, most: int = QUERIES) -> Times:
        walls: list[float] = []
        started = time.monotonic()
        for query in self.queries[: min(WARM_UP, most)]:
            warehouse.execute(statement, self._parameters(query)).fetchall()
            if time.monotonic() - started > BUDGET_S:
                break
        before = _cpu(warehouse)
        for query in self.queries[WARM_UP:][:most]:
            parameters = self._parameters(query)
            asked = time.perf_counter()
            warehouse.execute(statement, parameters).fetchall()
            walls.append(1000 * (time.perf_counter() - asked))
            if sum(walls) > 1000 * BUDGET_S and len(walls) >= FEWEST_QUERIES:
                break
        cpu = 1000 * (_cpu(warehouse) - before) / len(walls)
        warehouse.rollback()
        p50, p95, p99 = (float(value) for value in np.percentile(walls, (50, 95, 99)))
        return Times(p50, p95, p99, cpu, len(walls))

    def _look_up(self, warehouse: psycopg.Connection) -> None:
        keys = {
            "a document by key, server ms": "select * from search.document where source_system = 'odoo' "
            "and entity = 'account' and entity_id = {number}",
            "a vector by key, server ms": "select e.* from search.embedding e where e.model_id = {model} and "
            "e.text_hash = (select text_hash from search.document where document_id = {number}::bigint)",
        }
        for name, statement in keys.items():
            times = []
            for query in self.queries:
                row: Any = warehouse.execute(
                    sql.SQL("explain (analyze, timing off, format json) " + statement).format(
                        number=sql.Literal(str(3 * query.made_from % self.rows + 2)), model=sql.Literal(self.model_id)
                    )
                ).fetchone()
                times.append(row[0][0]["Execution Time"] + row[0][0]["Planning Time"])
            self.figures[name] = float(np.percentile(times, 99))
        warehouse.rollback()

    def _read_sizes(self) -> None:
        table = f"search.embedding_{self.model_id}"
        with self.server.admin(DATABASE) as owner:
            row = owner.execute(
                "select pg_table_size(%(t)s), pg_relation_size(%(t)s || '_dense_idx'), "
                "pg_relation_size(%(t)s || '_token_ids_idx'), pg_relation_size(%(t)s || '_pkey'), "
                "pg_total_relation_size('search.document'), "
                "pg_total_relation_size('search.lexeme') + pg_total_relation_size('search.token_frequency')",
                {"t": table},
            ).fetchone()
        names = ("vectors", "HNSW index", "token index", "key", "documents with indexes", "frequencies")
        self.sizes = dict(zip(names, row or (), strict=True))


class _Nearest:
    """The ten documents closest to each query, of all chunks so far."""

    def __init__(self, queries: int) -> None:
        self.documents: npt.NDArray[np.int64] = np.full((queries, 10), -1)
        self._closeness = np.full((queries, 10), -np.inf, np.float32)

    def add(self, closeness: npt.NDArray[np.floating[Any]], first: int) -> None:
        both = np.concatenate([self._closeness, closeness], axis=1)
        numbers = np.broadcast_to(np.arange(first, first + closeness.shape[1]), closeness.shape)
        documents = np.concatenate([self.documents, numbers], axis=1)
        best = np.argsort(-both, axis=1)[:, :10]
        self._closeness = np.take_along_axis(both, best, axis=1)
        self.documents = np.take_along_axis(documents, best, axis=1)
        self.documents[np.isneginf(self._closeness)] = -1


def _share_found(found: list[list[int]], nearest: npt.NDArray[np.int64]) -> float:
    wanted = [{int(one) for one in row if one >= 0} for row in nearest]
    return float(np.mean([len(set(got) & want) / len(want) for got, want in zip(found, wanted, strict=True) if want]))


def _numbers(warehouse: psycopg.Connection, statement: sql.SQL, parameters: dict[str, Any]) -> list[int]:
    return [int(row[0]) for row in warehouse.execute(statement, parameters).fetchall()]


def _argument(column: str) -> str:
    return {"stage": "stages", "team": "teams", "country_code": "countries"}[column]


def _copy_documents(warehouse: psycopg.Connection, chunk: Chunk) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, DOCUMENT_COLUMNS))
    with warehouse.cursor().copy(sql.SQL("copy search.document ({}) from stdin").format(columns)) as copy:
        for row in document_rows(chunk):
            copy.write_row(row)


def _exported(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [text for path in sorted(folder.glob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]


def _cpu(warehouse: psycopg.Connection) -> float:
    """Return the processor time of a session's process in seconds."""
    fields = Path(f"/proc/{warehouse.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _print(bench: Bench, console: Console) -> None:
    table = Table(title="Milliseconds a query", title_justify="left", title_style="bold")
    for heading in ("", "queries", "p50", "p95", "p99", "server CPU", "recall@10"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, times in bench.times.items():
        recall = bench.recall.get(name.removeprefix("hybrid, "))
        figures = (f"{value:.1f}" for value in (times.p50, times.p95, times.p99, times.cpu))
        table.add_row(name, str(times.queries), *figures, f"{recall:.4f}" if recall is not None else "")
    console.print(table)
    for name, value in bench.figures.items():
        console.print(f"{name:32} {value:,.3f}", highlight=False)
    for name, size in bench.sizes.items():
        console.print(f"{name:32} {size / 1e6:,.0f} MB, {size / bench.rows:,.0f} bytes a document", highlight=False)


def _claims(bench: Bench) -> list[Claim]:
    hybrid = bench.times["hybrid, no filter"]
    changed = bench.rows // 100
    keys = [name for name in bench.figures if name.endswith("server ms")]
    slowest = max(bench.figures[name] for name in keys)
    is_large = bench.rows >= 1_000_000
    limits: list[tuple[str, str, bool]] = []
    most = 100 if is_large else 50
    limits.append((f"hybrid p99 at most {most} ms", f"{hybrid.p99:.1f} ms", hybrid.p99 <= most))
    if not is_large:
        limits.append(("hybrid p50 at most 15 ms", f"{hybrid.p50:.1f} ms", hybrid.p50 <= 15))
        for name, recall in bench.recall.items():
            least = 0.98 if FILTERS[name] else 0.99
            limits.append((f"dense recall@10, {name}: at least {least}", f"{recall:.4f}", recall >= least))
    limits.append(("look-up by key below 1 ms in the server", f"{slowest:.2f} ms", slowest < 1))
    got = (bench.figures["exported"], bench.figures["orphans"], bench.figures["exported again"])
    limits.append(
        (
            f"1 % changed texts: exactly those are encoded ({changed:,}), as many vectors go",
            f"{got[0]:,.0f}, {got[1]:,.0f}",
            got == (changed, changed, 0),
        )
    )
    return [Claim(*limit) for limit in limits]


def main() -> int:
    """Load, search, change; print the tables and the claims."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="documents")
    parser.add_argument("--quick", action="store_true", help="10,000 documents: does it work at all?")
    arguments = parser.parse_args()
    rows = 10_000 if arguments.quick else arguments.rows
    console = Console(width=None if sys.stdout.isatty() else 160)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shared_buffers = SHARED_BUFFERS if rows < MANY_ROWS else f"{physical_memory() // 4 >> 20}MB"
    with running_servers(space=rows * BYTES_A_ROW, shared_buffers=shared_buffers) as servers:
        machine = describe_machine(servers)
        for name, value in machine.items():
            console.print(f"{name:12} {value}", highlight=False)
        bench = Bench(servers.target, rows, console)
        steps: tuple[Callable[[], None], ...] = (bench.prepare, bench.load, bench.search, bench.peers, bench.change)
        for step in steps:
            step()
    claims = _claims(bench)
    _print(bench, console)
    print_claims(console, claims)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "machine": machine,
                "rows": rows,
                "times": {name: vars(times) for name, times in bench.times.items()},
                "recall": bench.recall,
                "figures": bench.figures,
                "sizes": bench.sizes,
                "claims": [vars(claim) for claim in claims],
            },
            indent=1,
        )
        + "\n"
    )
    console.print(f"every figure: {RESULTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
