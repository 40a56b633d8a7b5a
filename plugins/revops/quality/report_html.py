"""The quality report of a run as one HTML page: no scripts, no other files, readable in a mail client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from revops.quality.checks import DIMENSIONS
from revops.report import Row, RunReport, show_found, show_score, stopping

SHOWN_KEYS = 20
_CELL = "border:1px solid #ccc;padding:3px 8px;vertical-align:top"
_GOOD, _BAD, _UNKNOWN = "#2a7a2a", "#b00020", "#8a6d00"


class Markup(str):
    """Text that is HTML already: `table` leaves it as it is."""

    __slots__ = ()


def render_html(report: RunReport) -> str:
    """Return the page: gates, scores, failed checks with numbers, keys and remedy, quarantine, rules and anomalies."""
    title = f"Quality of {report.source}, {report.run_id}"
    parts = [
        _gates(report),
        *(_scores(report, run["layer"]) for run in report.quality),
        findings_table("Checks that stopped the run", stopping(report)),
        findings_table("Warnings", [one for one in report.findings if one["outcome"] == "warn"]),
        _errors(report),
        _totals(report),
        quarantine_table(report),
        _rules(report),
        _anomalies(report),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        '<body style="font-family:sans-serif;font-size:14px;color:#222">'
        f"<h2>{escape(title)}</h2>{''.join(parts)}</body></html>\n"
    )


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table with a heading, every cell escaped but Markup; nothing where there are no rows."""
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f'<th style="{_CELL};text-align:left;background:#eee">{escape(name)}</th>' for name in header)
    return f'<h3>{escape(title)}</h3><table style="border-collapse:collapse">{f"<tr>{head}</tr>"}{body}</table>'


def findings_table(title: str, findings: Sequence[Row]) -> str:
    """Return checks with what they found, the first keys and the remedy."""
    return table(
        title,
        ("table", "check", "found", "first keys", "remedy"),
        [
            (
                f"{one['layer']}.{one['table_name']}",
                _lines(one["check_name"], one["definition"]),
                show_found(one),
                first_keys(one["keys"], one["rows_failed"]),
                one["remedy"],
            )
            for one in findings
        ],
    )


def quarantine_table(report: RunReport) -> str:
    """Return what rules keep out of core, by rule, with how many rows are new and the first keys."""
    return table(
        "In quarantine",
        ("table", "rule", "reason", "rows", "new", "since", "first keys"),
        [
            (
                one["target"],
                one["rule"],
                one["reason"],
                f"{one['rows']:,}",
                f"{one['new_rows']:,}",
                f"{one['first_seen_at']:%Y-%m-%d}",
                first_keys(one["keys"], one["rows"]),
            )
            for one in report.quarantine
        ],
    )


def first_keys(keys: Sequence[str], number: int | None) -> str:
    """Return keys in one line, and how many more there are."""
    shown = ", ".join(keys[:SHOWN_KEYS])
    more = (number or 0) - min(len(keys), SHOWN_KEYS)
    return f"{shown} and {more:,} more" if shown and more > 0 else shown


def _gates(report: RunReport) -> str:
    return table(
        "Gates",
        ("layer", "gate", "score", "checks", "evaluated", "seconds"),
        [
            (
                run["layer"],
                _coloured(run["gate"], _GOOD if run["gate"] == "open" else _BAD),
                _score(run["score"]),
                run["expected"],
                run["evaluated"],
                f"{run['seconds']:.1f}",
            )
            for run in report.quality
        ],
    )


def _scores(report: RunReport, layer: str) -> str:
    by_table: dict[str | None, dict[str | None, Row]] = {}
    for one in report.scores:
        if one["layer"] == layer:
            by_table.setdefault(one["table_name"], {})[one["dimension"]] = one
    return table(
        f"Scores of {layer}",
        ("table", *DIMENSIONS, "all"),
        [
            (name or "all", *(_score(of[at]["score"]) if at in of else "" for at in (*DIMENSIONS, None)))
            for name, of in by_table.items()
        ],
    )


def _errors(report: RunReport) -> str:
    return table(
        "What kept checks from being evaluated",
        ("layer", "error"),
        [(run["layer"], _lines(*run["error"].split("\n"))) for run in report.quality if run["error"]],
    )


def _totals(report: RunReport) -> str:
    apart = [one for one in report.totals if one["difference"] != 0 or one["quarantined_rows"]]
    title = f"Sums by month, raw against core: {len(report.totals) - len(apart)} of {len(report.totals)} are the same"
    if report.totals and not apart:
        return f"<h3>{escape(title)}</h3>"
    return table(
        title,
        ("table", "month", "raw", "core", "in quarantine", "difference"),
        [
            (
                f"core.{one['table_name']}",
                one["period"],
                _amount(one, "raw"),
                _amount(one, "core"),
                _amount(one, "quarantined"),
                f"{one['difference']:,}",
            )
            for one in apart
        ],
    )


def _amount(total: Row, where: str) -> str:
    return f"{total[f'{where}_amount']:,.2f} in {total[f'{where}_rows']:,} rows"


def _rules(report: RunReport) -> str:
    return table(
        "Rules that rows of this run broke",
        ("table", "rule", "action", "rows"),
        [(one["target"], one["rule"], one["action"], f"{one['rows']:,}") for one in report.rules],
    )


def _anomalies(report: RunReport) -> str:
    return table(
        "Anomalies that nobody has judged yet",
        ("id", "data", "metric", "value", "expected", "severity", "seen"),
        [
            (
                one["anomaly_id"],
                ".".join(filter(None, (one["dataset"], one["column_name"]))),
                one["metric"],
                _number(one["value"]),
                f"{_number(one['expected_low'])} to {_number(one['expected_high'])}",
                one["severity"],
                f"{one['seen_at']:%Y-%m-%d %H:%M}",
            )
            for one in report.anomalies
        ],
    )


def _number(value: Any) -> str:
    return "-" if value is None else f"{float(value):,.6g}"


def _score(score: Any) -> Markup:
    colour = _UNKNOWN if score is None else _GOOD if score == 1 else "#222"
    return _coloured(show_score(score), colour)


def _coloured(text: str, colour: str) -> Markup:
    return Markup(f'<span style="color:{colour}">{escape(text)}</span>')


def _lines(*texts: str) -> Markup:
    return Markup("<br>".join(escape(text) for text in texts))


def _cell(cell: Any) -> str:
    text = cell if isinstance(cell, Markup) else escape("-" if cell is None else str(cell))
    return f'<td style="{_CELL}">{text}</td>'
