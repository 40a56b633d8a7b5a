"""Print a run's report and search hits for people."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from revops.lineage.trace import TraceStep
from revops.quality.checks import DIMENSIONS
from revops.report import RunReport, show_found, show_score
from revops.search import Hit

SHOWN_KEYS = 5


def show_report(report: RunReport, console: Console) -> None:
    """Print what a run loaded, transformed, checked and embedded."""
    console.print()
    console.rule(f"[bold]{report.source}[/]  {report.run_id}", align="left")
    loads = Table("raw table", title="Extract", title_justify="left", box=None, pad_edge=False)
    for heading in ("read", "new", "changed", "same", "gone", "seconds", "rows/s"):
        loads.add_column(heading, justify="right")
    for load in report.loads:
        if load["status"] != "succeeded":
            loads.add_row(load["table_name"], f"[red]{load['status']}[/]", str(load["error"]))
            continue
        numbers = [f"{load[kind]:,}" for kind in ("rows_read", "inserted", "updated", "unchanged", "deleted")]
        rate = f"{load['rows_per_second']:,.0f}" if load["rows_read"] else ""
        loads.add_row(f"{report.source}_{load['table_name']}", *numbers, f"{load['seconds']:.2f}", rate)
    console.print(loads)
    for line in report.warnings:
        console.print(f"[yellow]warning[/] {line}", highlight=False)
    transforms = Table("table", title="\nTransform", title_justify="left", box=None, pad_edge=False)
    for heading in ("read", "new", "changed", "same", "quarantined", "gone", "seconds"):
        transforms.add_column(heading, justify="right")
    for run in report.transforms:
        if run["status"] != "succeeded":
            transforms.add_row(run["target"], f"[red]{run['status']}[/]", str(run["error"]))
            continue
        kinds = ("rows_read", "inserted", "updated", "unchanged", "quarantined", "deleted")
        transforms.add_row(run["target"], *(f"{run[kind]:,}" for kind in kinds), f"{run['seconds']:.2f}")
    console.print(transforms)
    _show_quality(report, console)
    for run in report.embedding:
        console.print(
            f"\nEmbedding  {run['encoded']:,} texts of {run['documents']:,} documents encoded, "
            f"{run['tokens']:,} tokens in {run['seconds']:.1f} s on {run['device']} with {run['model_name']}",
            highlight=False,
        )


def _show_quality(report: RunReport, console: Console) -> None:
    for run in report.quality:
        gate = "open" if run["gate"] == "open" else "[red]shut[/]"
        title = (
            f"\nQuality of {run['layer']}  {show_score(run['score'])}, gate {gate}, "
            f"{run['evaluated']} of {run['expected']} checks evaluated"
        )
        scores = Table("", title=title, title_justify="left", box=None, pad_edge=False)
        for heading in (*DIMENSIONS, "all"):
            scores.add_column(heading, justify="right")
        for name, found in _by_table(report, run["layer"]).items():
            cells = (show_score(found[at]) if at in found else "" for at in (*DIMENSIONS, None))
            scores.add_row(name or "all", *cells, style=None if name else "bold")
        console.print(scores)
    for finding in report.findings:
        keys = f" ({', '.join(finding['keys'][:SHOWN_KEYS])}{', ...' if len(finding['keys']) > SHOWN_KEYS else ''})"
        console.print(
            f"  {finding['outcome']:5} {finding['table_name']}: {finding['check_name']}: {show_found(finding)}"
            f"{keys if finding['keys'] else ''}",
            highlight=False,
            markup=False,
        )
    _show_quarantine(report, console)
    if report.anomalies:
        console.print("\nUnlike their history, not judged yet (ops.review_anomaly)")
    for anomaly in report.anomalies:
        line = f"  {anomaly['severity']:8} {anomaly['anomaly_id']}: {anomaly['reason']}"
        console.print(line, highlight=False, markup=False)


def _by_table(report: RunReport, layer: str) -> dict[str | None, dict[str | None, Decimal | None]]:
    """Return the scores of a layer by table and dimension, null for all of them, which come first."""
    scores: dict[str | None, dict[str | None, Decimal | None]] = {}
    for row in report.scores:
        if row["layer"] == layer:
            scores.setdefault(row["table_name"], {})[row["dimension"]] = row["score"]
    return scores


def _show_quarantine(report: RunReport, console: Console) -> None:
    if not report.quarantine:
        return
    held = Table("table", "rule", "reason", title="\nIn quarantine", title_justify="left", box=None, pad_edge=False)
    for heading in ("rows", "new"):
        held.add_column(heading, justify="right")
    held.add_column("first keys")
    for row in report.quarantine:
        texts = (row["target"], row["rule"], row["reason"], f"{row['rows']:,}", f"{row['new_rows']:,}")
        held.add_row(*map(escape, (*texts, ", ".join(row["keys"][:SHOWN_KEYS]))))
    console.print(held)


def show_trace(table: str, key: str, steps: list[TraceStep], console: Console) -> None:
    """Print where a row of core comes from, each step below the one that it leads on from."""
    title = f"\nLineage of {table} {key}"
    shown = Table("what", "relation", "key", "load", "transform", "at", title=title, title_justify="left", box=None)
    for step in steps:
        numbers = ("" if number is None else str(number) for number in (step.load_id, step.transform_run_id))
        at = f"{step.at:%Y-%m-%d %H:%M}" if step.at else ""
        shown.add_row("  " * step.depth + step.what, *map(escape, (step.relation, step.key or "")), *numbers, at)
    console.print(shown)


def show_hits(title: str, hits: list[Hit], console: Console) -> None:
    """Print the hits of a search, best first; below each, which rankings found it and which words it shares."""
    console.print(f"\n[italic]{escape(title)}[/]", highlight=False)
    widest = max((len(hit.entity_id) for hit in hits), default=0)
    for hit in hits:
        what = hit.entity.replace("_", " ")
        line = f"{hit.score:.4f}  {what:<16}  {hit.entity_id:<{widest}}  {' '.join(hit.title.split())}"
        console.print(escape(line), highlight=False, no_wrap=True, overflow="ellipsis")
        matched = f"; has {', '.join(hit.matched)}" if hit.matched else ""
        why = f"[dim]{'':8}{escape(hit.reasons + matched)}[/]"
        console.print(why, highlight=False, no_wrap=True, overflow="ellipsis")
    if not hits:
        console.print("  nothing found")
