"""How fast and how lean the extraction is, beside psql COPY, dlt, sling, ingestr, pandas and GenericTransfer.

Every run of a contender comes with a run of the reference right before it, and what is claimed are ratios of medians:
other work on the machine hits both. The reference is `psql COPY | psql COPY` in binary format into an equal logged
table with its primary key: what PostgreSQL itself can do between two servers.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import psycopg
from rich.console import Console

from benchmarks.contenders import (
    ROOT,
    Command,
    Contender,
    Job,
    dlt,
    generic_transfer,
    ingestr,
    pandas_to_sql,
    psql_copy,
    revops,
    sling,
)
from benchmarks.data import BILLING, LEAD, NARROW, Table, change_source, fill_source, fingerprint
from benchmarks.extract_claims import (
    ENCRYPTION,
    FIRST_A,
    FIRST_B,
    INCREMENT,
    MEMORY,
    NOTHING,
    SLICE,
    extract_claims,
)
from benchmarks.measure import ContenderError, Measured, measure
from benchmarks.report import LEGEND, Run, describe_machine, print_claims, print_section, summarise, write_results
from benchmarks.servers import READER, Servers, running_servers, scratch
from revops.warehouse_setup import read_migrations, set_up_warehouse

RESULTS = ROOT / "benchmarks" / "results" / "extract.json"
MIGRATIONS = ROOT / "include" / "sql" / "migrations"
# What a row of billing takes at the most: the source's, a handful of targets' and the logs of both servers.
BYTES_A_ROW = 16_000
SOURCE_DATABASE = "source"
WAREHOUSE_TEMPLATE = "warehouse_template"

REFERENCE = psql_copy.CONTENDER
SINGLE = revops.CONTENDER
RANGED = revops.variant("revops ranged", source=revops.RANGED)
CURSOR = revops.variant("revops cursor", source=revops.SINGLE_SHOT, table={"mode": "cursor", "cursor": "write_date"})
XID = revops.variant("revops xid", source=revops.SINGLE_SHOT, table={"mode": "xid"})
ENCRYPTED = revops.variant("revops encrypted", source=revops.SINGLE_SHOT, encrypt=list(LEAD.sensitive))
SCAN = Contender("source scan", psql_copy.scan, psql_copy.scan)
# One round each: they are slow, and far enough from the claims.
RIVALS = (dlt.CONTENDER, ingestr.CONTENDER, sling.CONTENDER)
RIVALS_OF_SLICE = (pandas_to_sql.CONTENDER, generic_transfer.CONTENDER)
INCREMENTAL = (CURSOR, XID, ingestr.CONTENDER, sling.CONTENDER)


@dataclass(frozen=True)
class Scale:
    """How much is moved how often. large_rows: of a third narrow table, 0 for none."""

    rows: int = 2_000_000
    large_rows: int = 0
    rounds: int = 3

    @property
    def wide_rows(self) -> int:
        return self.rows // 10

    @property
    def slice_rows(self) -> int:
        return self.rows // 2


class Extraction:
    """The runs: prepares a source table and a target for each, measures, checks what arrived, and keeps the result."""

    def __init__(self, servers: Servers, scale: Scale, console: Console) -> None:
        self.servers = servers
        self.scale = scale
        self.console = console
        self.runs: list[Run] = []
        self._started = time.monotonic()
        self._filled: dict[str, int] = {}
        self._expected: dict[tuple[str, tuple[str, ...]], str] = {}
        self._loaded: set[tuple[str, str]] = set()

    def first_loads(self) -> None:
        """Load an empty target with everything: ourselves, and each rival that can bear it."""
        for section, table, rows in ((FIRST_A, BILLING, self.scale.rows), (FIRST_B, LEAD, self.scale.wide_rows)):
            self._fill(table, rows)
            for _ in range(self.scale.rounds):
                for contender in (SINGLE, RANGED):
                    self._pair(section, contender, table)
            for rival in RIVALS:
                self._pair(section, rival, table)
            self._print(section, f"First load of {rows:,} rows of {table.name}, {len(table.columns)} columns")

    def slices(self) -> None:
        """Load an empty target with half of it, for those whose memory or patience ends before the whole."""
        piece = BILLING.named("billing_slice")
        self._fill(piece, self.scale.slice_rows)
        for _ in range(self.scale.rounds):
            self._pair(SLICE, SINGLE, piece)
        for rival in RIVALS_OF_SLICE:
            self._pair(SLICE, rival, piece)
        self._print(SLICE, f"First load of {self.scale.slice_rows:,} rows of {BILLING.name}")

    def increments(self) -> None:
        """Change one per cent and bring the targets up to date; each contender has a target of its own."""
        self._fill(BILLING, self.scale.rows)
        for contender in INCREMENTAL:
            self._load_once(contender, BILLING)
        rows = 0
        for turn in range(1, self.scale.rounds + 1):
            self._say(f"changing one per cent of {BILLING.name}")
            with self.servers.source.admin(SOURCE_DATABASE) as connection:
                since, rows = change_source(connection, BILLING, self.scale.rows, turn=turn)
            self._expected.clear()
            self._filled[BILLING.name] += rows * 2 // 10
            # The first one after a change finds the disk busy: each has its turn at it.
            for contender in (*INCREMENTAL[turn % len(INCREMENTAL) :], *INCREMENTAL[: turn % len(INCREMENTAL)], SCAN):
                self._pair(INCREMENT, contender, BILLING, since=since, rows=rows)
        self._print(
            INCREMENT, f"Increment of {rows:,} rows of {self.scale.rows:,}", reference="psql COPY of these rows"
        )

    def nothing_changed(self) -> None:
        """Look for changes where there are none."""
        self._fill(BILLING, self.scale.rows)
        self._load_once(XID, BILLING)
        for _ in range(self.scale.rounds):
            self._pair(NOTHING, XID, BILLING, since="now", reference=SCAN)
        self._print(NOTHING, f"Nothing changed in {self.scale.rows:,} rows", reference="source scan")

    def memory(self) -> None:
        """Load ever more rows: the worker's memory must not follow."""
        for rows in (self.scale.rows // 10, self.scale.rows, self.scale.large_rows):
            if rows:
                self._fill(NARROW, rows)
                section = f"{MEMORY}, {rows:,} rows"
                for contender in (SINGLE, RANGED):
                    self._pair(section, contender, NARROW)
                self._print(section, f"Memory: first load of {rows:,} narrow rows")

    def encryption(self) -> None:
        """Load with two columns encrypted in the worker, and without."""
        self._fill(LEAD, self.scale.wide_rows)
        for _ in range(self.scale.rounds):
            self._pair(ENCRYPTION, SINGLE, LEAD)
            self._pair(ENCRYPTION, ENCRYPTED, LEAD, unreadable=LEAD.sensitive)
        self._print(ENCRYPTION, f"First load of {self.scale.wide_rows:,} rows of {LEAD.name}, two columns encrypted")

    def _fill(self, table: Table, rows: int) -> None:
        """Make a source table of so many rows where it isn't there, and read it once."""
        if table.name in self._filled and (rows == self._filled[table.name] or table is BILLING):
            return
        self._say(f"making {rows:,} rows of {table.name}")
        if not self._filled:
            self.servers.source.recreate(SOURCE_DATABASE)
        with self.servers.source.admin(SOURCE_DATABASE) as connection:
            connection.execute(f"drop table if exists {table.name}".encode())
            fill_source(connection, table, rows, reader=READER)
            row = connection.execute("select pg_table_size(%s) / %s", (table.name, rows)).fetchone()
        self._say(f"made them: {row[0] if row else 0} bytes a row; one run of {REFERENCE.name} to warm up")
        self._filled[table.name] = rows
        self._forget(table)
        self._run_reference(REFERENCE, REFERENCE.load, table)

    def _forget(self, table: Table) -> None:
        self._expected = {place: value for place, value in self._expected.items() if place[0] != table.name}
        self._loaded = {place for place in self._loaded if place[1] != table.name}

    def _load_once(self, contender: Contender, table: Table) -> None:
        """Give a contender the full table in its target, unmeasured, where it hasn't got it from a run before."""
        if (contender.name, table.name) not in self._loaded:
            self._say(f"preparing {contender.name}")
            try:
                self._run(contender, contender.load, table, is_first=True)
                if _is_ours(contender):
                    # The second load makes indexes for all that follow.
                    self._run(contender, contender.load, table, is_first=False)
            except ContenderError as error:
                self._say(f"{contender.name} failed: {str(error).splitlines()[0]}")
            else:
                self._keep_or_drop(contender, table)

    def _pair(
        self,
        section: str,
        contender: Contender,
        table: Table,
        *,
        since: str = "",
        rows: int = 0,
        reference: Contender = REFERENCE,
        unreadable: Sequence[str] = (),
    ) -> None:
        """Run the reference, then the contender; `since` asks for an increment instead of a first load."""
        kept = partial(Run, section, contender.name, rows or self._filled[table.name])
        wanted = contender.increment if since else contender.load
        assert wanted is not None
        try:
            beside = self._run_reference(
                reference, reference.increment if since else reference.load, table, since=since
            )
            own = self._run(contender, wanted, table, since=since, is_first=not since)
            content = self._check(contender, table, unreadable)
        except ContenderError as error:
            self.runs.append(kept(None, None, error=str(error)))
            self._say(f"{contender.name} failed: {str(error).splitlines()[0]}")
            return
        told = json.loads(own.output.splitlines()[-1]) if _is_ours(contender) else {}
        start, load, check = (float(told.get(name, 0)) for name in ("start_seconds", "seconds", "check_seconds"))
        self.runs.append(kept(own, beside, start=start, load=load, check=check, content=content))
        self._say(f"{section}: {contender.name} {own.wall:.2f} s, {reference.name} {beside.wall:.2f} s")
        self._keep_or_drop(contender, table)

    def _run_reference(
        self, reference: Contender, wanted: Callable[[Job], Command] | None, table: Table, *, since: str = ""
    ) -> Measured:
        assert wanted is not None
        return self._run(reference, wanted, table, since=since, is_first=True)

    def _run(
        self, contender: Contender, wanted: Callable[[Job], Command], table: Table, *, is_first: bool, since: str = ""
    ) -> Measured:
        """Measure one run with both servers at rest before it."""
        if is_first:
            self._empty_target(contender, table)
        job = Job(
            self.servers.source.url(SOURCE_DATABASE),
            self.servers.target.url(contender.database(table.name)),
            table.name,
            table.names,
            str(scratch(contender.database(table.name))),
            since=since,
        )
        self.servers.source.checkpoint()
        self.servers.target.checkpoint()
        return measure(wanted(job), self.servers)

    def _empty_target(self, contender: Contender, table: Table) -> None:
        target = self.servers.target
        if _is_ours(contender):
            target.recreate(contender.database(table.name), template=self._warehouse_template)
            return
        target.recreate(contender.database(table.name))
        if contender.is_given_table:
            with psycopg.connect(target.url(contender.database(table.name)), autocommit=True) as connection:
                connection.execute(table.definition.encode())

    @cached_property
    def _warehouse_template(self) -> str:
        url = self.servers.target.url(WAREHOUSE_TEMPLATE)
        set_up_warehouse(url, read_migrations(MIGRATIONS), progress=lambda _: None)
        return WAREHOUSE_TEMPLATE

    def _check(self, contender: Contender, table: Table, unreadable: Sequence[str]) -> str:
        """Compare what arrived with the source: of Revops every value, of others the keys, since they change types."""
        if contender is SCAN:
            return ""
        names = tuple(name for name in table.names if name not in unreadable) if _is_ours(contender) else ("id",)
        with self.servers.source.admin(SOURCE_DATABASE) as connection:
            place = (table.name, names)
            if place not in self._expected:
                self._expected[place] = fingerprint(connection, table.name, names)
        with self.servers.target.admin(contender.database(table.name)) as connection:
            where = "_deleted_at is null" if _is_ours(contender) else "true"
            found = fingerprint(connection, contender.landing(table.name), names, where=where)
        if found != self._expected[place]:
            raise ContenderError(f"what arrived differs from the source: {found} instead of {self._expected[place]}")
        return "equal" if _is_ours(contender) else "all keys"

    def _keep_or_drop(self, contender: Contender, table: Table) -> None:
        """Keep a target for increments as autovacuum would leave it, lest they pay for the load; drop any other."""
        database = contender.database(table.name)
        if contender not in INCREMENTAL or table is not BILLING:
            self.servers.target.drop(database)
            return
        self._loaded.add((contender.name, table.name))
        with self.servers.target.admin(database) as connection:
            connection.execute(f"vacuum (analyze) {contender.landing(table.name)}".encode())

    def _print(self, section: str, title: str, *, reference: str = REFERENCE.name) -> None:
        print_section(self.console, title, [run for run in self.runs if run.section == section], reference=reference)

    def _say(self, what: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self._started:6.0f} s[/]  {what}", highlight=False)


def _is_ours(contender: Contender) -> bool:
    return contender.name.startswith("revops")


SECTIONS: dict[str, Callable[[Extraction], None]] = {
    "first": Extraction.first_loads,
    "slice": Extraction.slices,
    "increment": Extraction.increments,
    "nothing": Extraction.nothing_changed,
    "memory": Extraction.memory,
    "encryption": Extraction.encryption,
}


def main() -> int:
    """Run the sections asked for and print their tables, then the claims; 1 when a run failed or lost rows."""
    arguments = _parse()
    scale = Scale(arguments.rows, arguments.large_rows, arguments.rounds)
    console = Console(width=None if sys.stdout.isatty() else 160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_servers(space=scale.rows * BYTES_A_ROW) as servers:
        machine = describe_machine(servers)
        for name, value in machine.items():
            console.print(f"{name:12} {value}", highlight=False)
        console.print(LEGEND, style="dim", highlight=False)
        extraction = Extraction(servers, scale, console)
        for name in arguments.only:
            SECTIONS[name](extraction)
    claims = extract_claims(summarise(extraction.runs))
    print_claims(console, claims)
    if scale.rows < Scale.rows:
        console.print(
            f"The claims are about {Scale.rows:,} rows: with fewer, starting a process weighs more than moving rows."
        )
    write_results(
        RESULTS,
        machine=machine,
        settings=asdict(scale) | {"sections": arguments.only},
        runs=extraction.runs,
        claims=claims,
    )
    console.print(f"every run: {RESULTS.relative_to(ROOT)}")
    return 1 if any(run.error for run in extraction.runs) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extract", description=__doc__)
    parser.add_argument("--rows", type=int, default=Scale.rows, help="rows of the table billing; others follow")
    parser.add_argument("--large-rows", type=int, default=0, help="rows of a third narrow table, such as 20000000")
    parser.add_argument("--rounds", type=int, default=Scale.rounds, help="runs of Revops, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="50,000 rows, one round: does it work at all?")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to run")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.rounds = 50_000, 1
    return arguments


if __name__ == "__main__":
    sys.exit(main())
