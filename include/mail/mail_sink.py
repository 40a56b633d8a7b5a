"""A mail server for development: takes every mail, delivers none, keeps each as a file, and shows them as a page.

The Compose stack has it as a container, the embedded stack as a process without the page (--web-port 0).

/                   the mails as a page, newest first
/mails.json         the same for programs: name, date, from, to, subject, text
/mail/NAME          one as it came
/mail/NAME.html     its HTML part, shut in
"""

from __future__ import annotations

import argparse
import html
import json
import signal
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

KEPT = 1000
LARGEST = 10 * 1024 * 1024
# What is in a mail may run nothing and fetch nothing.
_SHUT_IN = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<title>Mails ({count})</title><style>body{{font:15px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}}
td,th{{padding:.3rem 1rem .3rem 0;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}}</style>
<h1>Mails</h1><p>{count} mails, newest first. This server delivers none.</p>
<table><tr><th>Received<th>To<th>Subject<th></tr>{rows}</table></html>"""


class Taker:
    """Write each mail as a file, whole or not at all; of too many the oldest go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002 - aiosmtpd's name
        self.count += 1
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}-{self.count:04d}.eml"
        partial = self.folder / f".{name}"
        partial.write_bytes(envelope.content)
        partial.replace(self.folder / name)
        for old in sorted(self.folder.glob("*.eml"))[:-KEPT]:
            old.unlink(missing_ok=True)
        print(json.dumps({"event": "mail", "name": name, "to": envelope.rcpt_tos, "bytes": len(envelope.content)}))
        return "250 Message accepted, and delivered to nobody"


class Page(BaseHTTPRequestHandler):
    """Show what has come into `folder`."""

    folder: Path

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer("text/html; charset=utf-8", _page(self.folder).encode())
        elif self.path == "/mails.json":
            self._answer("application/json", json.dumps([_about(path) for path in _mails(self.folder)]).encode())
        elif (path := self._mail(".html")) is not None:
            self._answer("text/html; charset=utf-8", (_part(_read(path), "html") or "no HTML part").encode())
        elif (path := self._mail("")) is not None:
            self._answer("text/plain; charset=utf-8", path.read_bytes())
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        """Answer the health check, for which no mail is read."""
        self.send_response(200)
        self.end_headers()

    def _mail(self, suffix: str) -> Path | None:
        wanted = self.path.removeprefix("/mail/")
        # Compared with the names that there are: no path is made of what was asked for.
        return next((path for path in _mails(self.folder) if f"{path.name}{suffix}" == wanted), None)

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _SHUT_IN)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the health check comes every few seconds."""


def _mails(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.eml"), reverse=True)


def _read(path: Path) -> EmailMessage:
    message: EmailMessage = message_from_bytes(path.read_bytes(), policy=policy.default)  # type: ignore[assignment]
    return message


def _part(message: EmailMessage, kind: str) -> str | None:
    body = message.get_body(preferencelist=(kind,))
    return None if body is None else str(body.get_content())


def _about(path: Path) -> dict[str, str | None]:
    message = _read(path)
    headers = {name: str(message[name]) for name in ("date", "from", "to", "subject") if message[name]}
    return {"name": path.name, **headers, "text": _part(message, "plain"), "html": _part(message, "html")}


def _page(folder: Path) -> str:
    rows = []
    for path in (mails := _mails(folder))[:200]:
        about = {name: html.escape(value or "") for name, value in _about(path).items()}
        rows.append(
            f"<tr><td>{about['name'][:15]}<td>{about.get('to', '')}<td>{about.get('subject', '')}"
            f"<td><a href='/mail/{about['name']}.html'>HTML</a> <a href='/mail/{about['name']}'>source</a>"
        )
    return _PAGE.format(count=len(mails), rows="".join(rows))


def list_mails(folder: Path) -> None:
    """Print the mails, oldest first."""
    for path in reversed(_mails(folder)):
        about = _about(path)
        print(f"{path.name[:15]}  {about.get('to', '')}  {about.get('subject', '')}")


def main() -> None:
    """Serve until told to end, or with --list show what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/lib/mail"))
    parser.add_argument("--host", default="0.0.0.0", help="where to listen")  # noqa: S104 - the container's own
    parser.add_argument("--smtp-port", type=int, default=1025)
    parser.add_argument("--web-port", type=int, default=8025, help="0: no page")
    parser.add_argument("--list", action="store_true", help="only list the mails that came")
    options = parser.parse_args()
    if options.list:
        list_mails(options.folder)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    # Blocked before a thread starts, so that they wait for sigwait: a container's first process has no default end.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    controller = Controller(
        Taker(options.folder), hostname=options.host, port=options.smtp_port, data_size_limit=LARGEST
    )
    controller.start()
    if options.web_port:
        handler = type("PageOfFolder", (Page,), {"folder": options.folder})
        server = ThreadingHTTPServer((options.host, options.web_port), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    # Nobody is waited for: every mail is on the disk when it is accepted.
    signal.sigwait(ending)


if __name__ == "__main__":
    main()
