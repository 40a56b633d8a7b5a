"""Wait for the mail about a failed run: whoever stops Airflow before it is sent would never get it."""

from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Collection
from pathlib import Path

TIMEOUT_S = 60.0
POLL_S = 0.3


def wait_for_digests(folder: Path, run_ids: Collection[str], *, timeout_s: float = TIMEOUT_S) -> set[str]:
    """Return the runs that no mail in the folder of the mail sink speaks of after some time; none when all are told."""
    deadline = time.monotonic() + timeout_s
    missing, seen = set(run_ids), set[Path]()
    while missing:
        for path in set(folder.glob("*.eml")) - seen:
            text = _text(path)
            missing -= {run_id for run_id in missing if run_id in text}
            seen.add(path)
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return missing


def _text(path: Path) -> str:
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = mail.get_body(("html", "plain"))
    return f"{mail['Subject']}\n{body.get_content() if body else ''}" if "FAILED" in str(mail["Subject"]) else ""
