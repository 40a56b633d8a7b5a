"""The reports of runs as files: one HTML page and one JSON document for each source and run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

from revops.quality.report_html import render_html
from revops.report import RunReport

NAME_CHARACTERS = 100


def write_reports(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Write the HTML page and the JSON document of a run, each as a whole; return their paths.

    The folder is made where it is missing. Written again, as after a task was cleared, they are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = report_paths(folder, source=report.source, run_id=report.run_id)
    for path, text in zip(paths, (render_html(report), render_json(report)), strict=True):
        _write(path, text)
    return paths


def report_paths(folder: Path, *, source: str, run_id: str) -> tuple[Path, Path]:
    """Return where the HTML page and the JSON document of a run are kept."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", run_id)
    # Two runs whose ids differ only in such a character must not share a file; a run id can be as long as it likes.
    if plain != run_id or len(plain) > NAME_CHARACTERS:
        plain = f"{plain[:NAME_CHARACTERS]}_{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
    return folder / f"{source}_{plain}.html", folder / f"{source}_{plain}.json"


def render_json(report: RunReport) -> str:
    """Return the report as JSON: scores as numbers or null, amounts as text to the last digit, times in ISO 8601."""
    content = dataclasses.asdict(report)
    for row in (*content["quality"], *content["scores"]):
        row["score"] = None if row["score"] is None else float(row["score"])
    return json.dumps(content, default=_plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    raise TypeError(f"a report holds no {type(value).__name__}")


def _write(path: Path, text: str) -> None:
    """Put a file in place at once: whoever reads sees the whole of it, or the one before."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
