"""How fast core is made from raw, beside a plain INSERT ... SELECT of the same rows.

Ten million rows of billing and 100,000 opportunities lie in raw. Each table of core is computed by the engine that the
DAGs use, into empty tables, after one change in a hundred, when nothing changed, and as a full refresh over filled
tables. The reference runs the same select into an equal table with the same key and indexes: no rules, no comparison,
no quarantine, nothing recorded.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg
import structlog
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ROOT
from benchmarks.report import Claim, describe_machine, print_claims
from benchmarks.servers import Server, running_servers
from benchmarks.transform_data import change_raw, create_raw, sizes
from revops.seeds import load_seeds
from revops.transform.definition import read_definition, read_inputs
from revops.transform.run import TransformResult, transform_table
from revops.transform.targets import TARGETS, core_tables
from revops.transform.views import InputViews
from revops.warehouse_setup import read_migrations, set_up_warehouse

INCLUDE = ROOT / "include"
RESULTS = ROOT / "benchmarks" / "results" / "transform.json"
DATABASE = "revops_core"
ROWS = 10_000_000
BYTES_A_ROW = 3_000
FULL_LIMIT_S = 300
INCREMENTAL_SHARE = 0.1
MEMORY_LIMIT_MB = 1_500
PHASES = ("reference", "first run", "1 % changed", "nothing changed", "full refresh")
Seconds = dict[str, dict[str, float]]


class Transforms:
    """One warehouse with its raw tables, and what each table of core took in each phase."""

    def __init__(self, server: Server, rows: int, console: Console) -> None:
        self.server = server
        self.rows = rows
        self.console = console
        self.seconds: Seconds = {phase: {} for phase in PHASES}
        self.results: dict[str, dict[str, TransformResult]] = {phase: {} for phase in PHASES}
        self.memory = 0
        self._started = time.monotonic()

    def prepare(self) -> None:
        """Create the warehouse and fill raw."""
        self.server.recreate(DATABASE)
        set_up_warehouse(
            self.server.url(DATABASE), read_migrations(INCLUDE / "sql" / "migrations"), progress=lambda _: None
        )
        inputs = {item.table: item for item in read_inputs(INCLUDE / "sql" / "core" / "inputs.yaml")}
        with self._session("revops_ingest") as connection:
            create_raw(connection, inputs, sizes(self.rows))
            connection.commit()
        self._settle()
        self._say(f"raw: {self.rows:,} rows of billing, {sizes(self.rows)['odoo_crm_lead']:,} opportunities")

    def reference(self) -> None:
        """Time INSERT ... SELECT of each table's select into an equal table, which is then dropped."""
        with self._session("revops_transform") as warehouse:
            load_seeds(warehouse, INCLUDE / "seeds")
        with self.server.admin(DATABASE) as owner:
            for name in core_tables("odoo"):
                copy = sql.Identifier("core", f"{name}_reference")
                parts = sql.SQL("partition by range (billing_month)") if TARGETS[name].months else sql.SQL("")
                like = sql.SQL("create table {} (like {} including all) {}").format(
                    copy, sql.Identifier("core", name), parts
                )
                owner.execute(like)
                if TARGETS[name].months:
                    owner.execute(sql.SQL("create table core.one_partition partition of {} default").format(copy))
                try:
                    self.seconds["reference"][name] = self._plain_insert(owner, name, copy)
                finally:
                    if name not in ("account_record", "account_link"):
                        owner.execute(sql.SQL("drop table {}").format(copy))
                self.server.checkpoint()

    def _plain_insert(self, owner: psycopg.Connection, name: str, copy: sql.Identifier) -> float:
        definition = read_definition(TARGETS[name], INCLUDE / "sql")
        with owner.transaction():
            views = InputViews(owner, definition, "odoo")
            views.create()
            views.create_scoped(is_full=True)
            # What the accounts are made of stands in the copies made before.
            statement = definition.statement
            for made in ("account_record", "account_link"):
                statement = statement.replace(f"core.{made} ", f"core.{made}_reference ")
                statement = statement.replace(f"core.{made}\n", f"core.{made}_reference\n")
            cursor = psycopg.ClientCursor(owner)
            described = cursor.execute(
                sql.SQL("select * from ({}) as s limit 0").format(sql.SQL(statement)), {"source": "odoo"}
            )
            names = [sql.Identifier(column.name) for column in described.description or ()]
            started = time.perf_counter()
            cursor.execute(
                sql.SQL("insert into {} ({}, transform_run_id) select *, 1 from ({}) as s").format(
                    copy, sql.SQL(", ").join(names), sql.SQL(statement)
                ),
                {"source": "odoo"},
            )
            seconds = time.perf_counter() - started
            views.drop()
        self._say(f"reference: {name} {seconds:.1f} s")
        return seconds

    def run(self, phase: str, *, full_refresh: bool = False) -> None:
        """Compute every table of core, and watch the memory of the session."""
        for name in core_tables("odoo"):
            with self._session("revops_transform") as warehouse, self._watched(warehouse):
                result = transform_table(
                    warehouse,
                    target=TARGETS[name],
                    source="odoo",
                    run_id=phase,
                    include=INCLUDE,
                    full_refresh=full_refresh,
                )
            self.seconds[phase][name] = result.seconds
            self.results[phase][name] = result
            self._say(f"{phase}: {name} {result.seconds:.1f} s, {result.read:,} rows read")
        self._settle()

    def change(self) -> None:
        """Change one row in a hundred of raw."""
        with self._session("revops_ingest") as connection:
            change_raw(connection)
            connection.commit()
        self._settle()

    @contextmanager
    def _session(self, role: str) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server.url(DATABASE), options=f"-c role={role}") as connection:
            yield connection

    @contextmanager
    def _watched(self, warehouse: psycopg.Connection) -> Iterator[None]:
        """Keep the most memory that the session's process had of its own, without the shared buffers."""
        path = Path(f"/proc/{warehouse.info.backend_pid}/status")
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                try:
                    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
                except OSError:
                    return
                self.memory = max(self.memory, int(lines["RssAnon"].split()[0]) * 1024)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _settle(self) -> None:
        # What autovacuum does between two nights.
        with self.server.admin(DATABASE) as owner:
            owner.execute("vacuum analyze")
        self.server.checkpoint()

    def _say(self, what: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self._started:6.0f} s[/]  {what}", highlight=False)


def _print(transforms: Transforms, console: Console) -> None:
    table = Table(title="Seconds a table", title_justify="left", title_style="bold")
    table.add_column("core")
    table.add_column("rows", justify="right")
    for phase in PHASES:
        table.add_column(phase, justify="right")
    for name in core_tables("odoo"):
        rows = transforms.results["first run"][name].read
        table.add_row(name, f"{rows:,}", *(f"{transforms.seconds[phase][name]:.2f}" for phase in PHASES))
    table.add_row("all", "", *(f"{sum(transforms.seconds[phase].values()):.1f}" for phase in PHASES), style="bold")
    console.print(table)


def _claims(transforms: Transforms) -> list[Claim]:
    total = {phase: sum(seconds.values()) for phase, seconds in transforms.seconds.items()}
    full = max(total["first run"], total["full refresh"])
    share = total["1 % changed"] / median((total["first run"], total["full refresh"]))
    client = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    server = transforms.memory / 1024**2
    plain = total["reference"]
    return [
        Claim(f"everything computed within {FULL_LIMIT_S} s", f"at most {full:.0f} s", full <= FULL_LIMIT_S),
        Claim("first run, plain INSERT ... SELECT = 1", f"{total['first run'] / plain:.2f} x its time", None),
        Claim(
            f"1 % changed within {INCREMENTAL_SHARE * FULL_LIMIT_S:.0f} s, a tenth of what everything may take",
            f"{total['1 % changed']:.1f} s",
            total["1 % changed"] <= INCREMENTAL_SHARE * FULL_LIMIT_S,
        ),
        Claim("1 % changed, everything = 100 %", f"{share:.1%}", None),
        Claim(
            f"memory of the session in the server below {MEMORY_LIMIT_MB} MB, of Python below 200 MB",
            f"{server:.0f} MB, {client:.0f} MB",
            server < MEMORY_LIMIT_MB and client < 200,
        ),
    ]


def main() -> int:
    """Run every phase and print the table and the claims."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transform", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of billing in raw; others follow")
    parser.add_argument("--quick", action="store_true", help="100,000 rows: does it work at all?")
    arguments = parser.parse_args()
    rows = 100_000 if arguments.quick else arguments.rows
    console = Console(width=None if sys.stdout.isatty() else 160)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_servers(space=rows * BYTES_A_ROW) as servers:
        machine = describe_machine(servers)
        for name, value in machine.items():
            console.print(f"{name:12} {value}", highlight=False)
        transforms = Transforms(servers.target, rows, console)
        transforms.prepare()
        transforms.reference()
        transforms.run("first run")
        transforms.change()
        transforms.run("1 % changed")
        transforms.run("nothing changed")
        transforms.run("full refresh", full_refresh=True)
    claims = _claims(transforms)
    _print(transforms, console)
    print_claims(console, claims)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "machine": machine,
                "rows": rows,
                "seconds": transforms.seconds,
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
