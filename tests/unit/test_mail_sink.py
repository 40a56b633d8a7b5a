"""The mail sink of both stacks: a process that keeps each mail as a file, and shows them as a page."""

from __future__ import annotations

import json
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from revops.local.airflow_server import MAIL_SINK
from revops.local.ports import free_port


@dataclass
class Sink:
    process: subprocess.Popen[bytes]
    smtp_port: int
    web_port: int
    folder: Path

    def connect(self) -> smtplib.SMTP:
        deadline = time.monotonic() + 20
        while True:
            try:
                return smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=10)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def send(self, *subjects: str, markup: str = "") -> None:
        with self.connect() as client:
            for subject in subjects:
                mail = EmailMessage()
                mail["Subject"], mail["From"], mail["To"] = subject, "airflow@example.test", "data-team@example.test"
                mail.set_content("the table is as it was")
                if markup:
                    mail.add_alternative(markup, subtype="html")
                client.send_message(mail)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.web_port}{path}", timeout=10, trust_env=False)


@pytest.fixture(params=[True, False], ids=["page", "no page"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    smtp_port, web_port, folder = free_port(), free_port() if request.param else 0, tmp_path / "new" / "mail"
    ports = ["--smtp-port", str(smtp_port), "--web-port", str(web_port)]
    with subprocess.Popen(
        [sys.executable, str(MAIL_SINK), "--host", "127.0.0.1", *ports, "--folder", str(folder)],
        stdout=subprocess.DEVNULL,
    ) as process:
        yield Sink(process, smtp_port, web_port, folder)
        process.kill()


def test_each_mail_becomes_a_file_in_their_order(sink: Sink) -> None:
    subjects = [f"failed {number}" for number in range(5)]
    sink.send(*subjects)
    files = sorted(sink.folder.glob("*.eml"))
    assert len(files) == len(list(sink.folder.iterdir())) == len(subjects)
    assert all("the table is as it was" in path.read_text() for path in files)
    assert [subject for path in files for subject in subjects if subject in path.read_text()] == subjects
    listed = subprocess.run(
        [sys.executable, str(MAIL_SINK), "--list", "--folder", str(sink.folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [line.split("  ")[1:] for line in listed] == [["data-team@example.test", subject] for subject in subjects]
    sink.process.send_signal(signal.SIGTERM)
    assert sink.process.wait(timeout=10) == 0


@pytest.mark.parametrize("sink", [True], indirect=True)
def test_the_page_shows_what_came_and_runs_nothing_of_it(sink: Sink) -> None:
    sink.send("<script>alert(1)</script>", markup="<p onclick='x()'>gone</p>")
    page = sink.get("/")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>" not in page.text
    (about,) = json.loads(sink.get("/mails.json").content)
    assert (about["subject"], about["to"]) == ("<script>alert(1)</script>", "data-team@example.test")
    shown = sink.get(f"/mail/{about['name']}.html")
    assert "gone" in shown.text
    assert shown.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert b"the table is as it was" in sink.get(f"/mail/{about['name']}").content
    for path in ("/mail/nothing.eml", "/mail/%2e%2e/x", "/etc/passwd"):
        assert sink.get(path).status_code == 404, path
