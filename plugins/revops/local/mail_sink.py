"""A mail server for development: takes every mail and keeps it as a file, newest last by name."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller


class FileHandler:
    """Write each message to `<folder>/<time>-<number>.eml`, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002 - aiosmtpd's name
        self.count += 1
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}-{self.count:04d}.eml"
        partial = self.folder / f".{name}"
        partial.write_bytes(envelope.content)
        partial.replace(self.folder / name)
        return "250 Message accepted for delivery"


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    # Blocked before the server's thread starts, so that they wait for sigwait instead of ending the process.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    controller = Controller(FileHandler(arguments.folder), hostname="127.0.0.1", port=arguments.port)
    controller.start()
    signal.sigwait(ending)
    controller.stop()


if __name__ == "__main__":
    main()
