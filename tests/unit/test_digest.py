"""Waiting for the mail about a failed run."""

from __future__ import annotations

import threading
import time
from email.message import EmailMessage
from pathlib import Path

from revops.local.digest import wait_for_digests

RUN = "manual__2026-11-23T11:56:35.539161+00:00"


def mail(folder: Path, number: int, *, subject: str, run_id: str) -> None:
    made = EmailMessage()
    made["Subject"] = subject
    made.set_content("see the HTML")
    made.add_alternative(f"<table><tr><td>Run</td><td>{run_id}</td></tr></table>", subtype="html")
    (folder / f"{number}.eml").write_bytes(made.as_bytes())


def test_a_mail_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    mail(tmp_path, 1, subject="[revops] ace: run FAILED (task_failure)", run_id=RUN)
    assert wait_for_digests(tmp_path, {RUN}) == set()
    assert wait_for_digests(tmp_path, set()) == set()


def test_only_the_digest_of_that_run_counts(tmp_path: Path) -> None:
    mail(tmp_path, 1, subject="[revops] ace: 1 warning(s), the source has changed", run_id=RUN)
    mail(tmp_path, 2, subject="[revops] ace: run FAILED (task_failure)", run_id="manual__another")
    assert wait_for_digests(tmp_path, {RUN}, timeout_s=0.1) == {RUN}


def test_a_mail_that_comes_later_is_found(tmp_path: Path) -> None:
    def send() -> None:
        time.sleep(0.5)
        mail(tmp_path, 1, subject="[revops] odoo: run FAILED (task_failure)", run_id=RUN)

    threading.Thread(target=send).start()
    assert wait_for_digests(tmp_path, {RUN}) == set()


def test_a_folder_that_is_not_there_has_no_mail(tmp_path: Path) -> None:
    assert wait_for_digests(tmp_path / "mail", {RUN}, timeout_s=0.1) == {RUN}
