"""The mail sink: a process that keeps each mail as a file."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from revops.local.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    port, folder = free_port(), tmp_path / "new" / "mail"
    command = [sys.executable, "-m", "revops.local.mail_sink", "--port", str(port), "--folder", str(folder)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")}) as process:
        yield process, port, folder
        process.kill()


def connect(port: int) -> smtplib.SMTP:
    deadline = time.monotonic() + 20
    while True:
        try:
            return smtplib.SMTP("127.0.0.1", port, timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_each_mail_becomes_a_file_in_their_order(sink: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    process, port, folder = sink
    subjects = [f"failed {number}" for number in range(5)]
    with connect(port) as client:
        for subject in subjects:
            mail = EmailMessage()
            mail["Subject"], mail["From"], mail["To"] = subject, "airflow@example.test", "data-team@example.test"
            mail.set_content("the table is as it was")
            client.send_message(mail)
    files = sorted(folder.glob("*.eml"))
    assert len(files) == len(list(folder.iterdir())) == len(subjects)
    assert all("the table is as it was" in path.read_text() for path in files)
    assert [subject for path in files for subject in subjects if subject in path.read_text()] == subjects
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
