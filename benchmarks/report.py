"""What a benchmark prints and keeps: runs summed up in tables, claims with their figures, the machine, a JSON file."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured
from benchmarks.servers import Servers

MEGABYTE = 1024 * 1024
LEGEND = """
speed and CPU x are shares of the reference's, which ran before each run: 1 is as fast, and as dear. wall s is from the
start of the process to its end; of that, start s: interpreter and imports; load s: the load as it records itself; of
that, check s: its proof that nothing is missing. CPU s: client and both servers. RSS: the client's processes together.
"""


@dataclass(frozen=True)
class Run:
    """One run of a contender with the reference run beside it; a run that failed has an error and no figures.

    rows: how many there were to move. start, load, check: seconds of the wall time that went into starting the process,
    into the load as the contender itself records it, and of that into its completeness check; 0 where it doesn't tell.
    """

    section: str
    contender: str
    rows: int
    measured: Measured | None
    reference: Measured | None
    start: float = 0.0
    load: float = 0.0
    check: float = 0.0
    content: str = ""
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """The medians of a contender's runs. speed, cpu: as shares of the reference's speed and processor time.

    net_speed: without the contender's completeness check, which the reference has none of.
    """

    section: str
    contender: str
    runs: int
    rows: int
    wall: float
    speed: float
    net_speed: float
    start: float
    load: float
    check: float
    client: float
    source: float
    target: float
    cpu: float
    rss: float
    reference_wall: float
    content: str

    @property
    def net_wall(self) -> float:
        return self.wall - self.check


@dataclass(frozen=True)
class Claim:
    """Something said of Revops, what was measured, and whether it is so; None when it could not be measured."""

    text: str
    figure: str
    is_met: bool | None


def summarise(runs: Iterable[Run]) -> dict[tuple[str, str], Summary]:
    """Return the medians by section and contender, in the order of the runs; those that never succeeded are left out.

    A ratio is that of two medians; the reference's is that of the whole section, in which it ran before each run: what
    else went on in the machine hit both, and one run of the reference is no better known than one of a contender.
    """
    references: dict[str, list[Measured]] = {}
    grouped: dict[tuple[str, str], list[tuple[Run, Measured, Measured]]] = {}
    for run in runs:
        if run.measured is not None and run.reference is not None:
            grouped.setdefault((run.section, run.contender), []).append((run, run.measured, run.reference))
            references.setdefault(run.section, []).append(run.reference)
    return {place: _summary(pairs, references[place[0]]) for place, pairs in grouped.items()}


def _summary(pairs: Sequence[tuple[Run, Measured, Measured]], references: Sequence[Measured]) -> Summary:
    run = pairs[0][0]
    wall = median(own.wall for _, own, _ in pairs)
    reference_wall = median(reference.wall for reference in references)
    return Summary(
        run.section,
        run.contender,
        runs=len(pairs),
        rows=run.rows,
        wall=wall,
        speed=reference_wall / wall,
        net_speed=reference_wall / median(own.wall - run.check for run, own, _ in pairs),
        start=median(run.start for run, _, _ in pairs),
        load=median(run.load for run, _, _ in pairs),
        check=median(run.check for run, _, _ in pairs),
        client=median(own.client for _, own, _ in pairs),
        source=median(own.source for _, own, _ in pairs),
        target=median(own.target for _, own, _ in pairs),
        cpu=median(own.cpu / max(reference.cpu, 0.01) for _, own, reference in pairs),
        rss=max(own.rss for _, own, _ in pairs) / MEGABYTE,
        reference_wall=reference_wall,
        content=", ".join(sorted({run.content for run, _, _ in pairs if run.content})),
    )


def print_section(console: Console, title: str, runs: Sequence[Run], *, reference: str = "psql COPY") -> None:
    """Print a section as a table, the reference's own medians first."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in (
        "rounds",
        "wall s",
        "speed",
        "start s",
        "load s",
        "check s",
        "rows/s",
        "CPU s",
        "client",
        "source",
        "target",
        "CPU x",
        "RSS MB",
    ):
        table.add_column(heading, justify="right")
    table.add_column("content")
    references = [run.reference for run in runs if run.reference is not None]
    if references:
        first = Run("", reference, runs[0].rows, None, None)
        _add(table, _summary([(first, own, own) for own in references], references))
    for summary in summarise(runs).values():
        _add(table, summary)
    console.print(table)
    for run in runs:
        if run.error:
            console.print(f"[red]{run.contender} failed:[/] {run.error.splitlines()[0]}", highlight=False)


def _add(table: Table, summary: Summary) -> None:
    table.add_row(
        summary.contender,
        str(summary.runs),
        f"{summary.wall:.2f}",
        f"{summary.speed:.2f}",
        f"{summary.start:.2f}" if summary.start else "",
        f"{summary.load:.2f}" if summary.load else "",
        f"{summary.check:.2f}" if summary.check else "",
        f"{summary.rows / summary.wall:,.0f}",
        f"{summary.client + summary.source + summary.target:.2f}",
        f"{summary.client:.2f}",
        f"{summary.source:.2f}",
        f"{summary.target:.2f}",
        f"{summary.cpu:.2f}",
        f"{summary.rss:.0f}",
        summary.content,
    )


def print_claims(console: Console, claims: Sequence[Claim]) -> None:
    """Print each claim with its figure."""
    table = Table(title="Claims", title_justify="left", title_style="bold")
    for heading in ("claim", "measured", ""):
        table.add_column(heading)
    for claim in claims:
        verdict = {True: "[green]met[/]", False: "[red]MISSED[/]", None: "not measured"}[claim.is_met]
        table.add_row(claim.text, claim.figure, verdict)
    console.print(table)


def physical_memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe_machine(servers: Servers | None = None) -> dict[str, str]:
    """Say what the figures were taken on; without servers PostgreSQL is left out."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^([a-z _]+?)\s*: (.*)$", cpuinfo, re.MULTILINE))
    model = (
        fields.get("model name")
        or f"{fields.get('vendor_id')} family {fields.get('cpu family')} model {fields.get('model')}"
    )
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{physical_memory() / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        **({"PostgreSQL": _server_version(servers)} if servers else {}),
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _server_version(servers: Servers) -> str:
    with servers.source.admin() as connection:
        row = connection.execute("show server_version").fetchone()
    return str(row[0]) if row else ""


def write_results(
    path: Path, *, machine: dict[str, str], settings: dict[str, Any], runs: Sequence[Run], claims: Sequence[Claim]
) -> None:
    """Write everything that was measured, every run of it, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine,
        "settings": settings,
        "summaries": [asdict(summary) for summary in summarise(runs).values()],
        "claims": [asdict(claim) for claim in claims],
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
