"""Print a run's report and search hits for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from revops.report import RunReport
from revops.search import Hit


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
    quality = Table("layer", "status", title="\nQuality", title_justify="left", box=None, pad_edge=False)
    for heading in ("score", "checks", "evaluated"):
        quality.add_column(heading, justify="right")
    for run in report.quality:
        score = "unknown" if run["score"] is None else f"{float(run['score']):.1%}"
        quality.add_row(run["layer"], run["status"], score, str(run["expected"]), str(run["evaluated"]))
    console.print(quality)
    for finding in report.findings:
        value = "" if finding["value"] is None else f": {float(finding['value']):g}"
        console.print(
            f"  {finding['outcome']:5} {finding['table_name']}: {finding['check_name']}{value}",
            highlight=False,
        )


def show_hits(query: str, hits: list[Hit], console: Console) -> None:
    """Print the hits of a search, best first, with the reasons for each."""
    table = Table(
        "what",
        "id",
        "title",
        "found by",
        title=f"\nSearch: {query}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for hit in hits:
        table.add_row(hit.entity.replace("_", " "), hit.entity_id, hit.title[:60], hit.reasons)
    console.print(table)
    if not hits:
        console.print("  nothing found")
