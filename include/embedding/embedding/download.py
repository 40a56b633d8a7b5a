"""One file over HTTP: resumed where it was cut off, kept only when it is what was asked for."""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from embedding.errors import FetchError
from embedding.manifest import File

Emit = Callable[[dict[str, Any]], None]

CHUNK = 1024 * 1024
TIMEOUT_SECONDS = 30.0
# Between tries that brought nothing; a try that brought something counts as the first again.
PAUSES = (1.0, 2.0, 5.0, 10.0)
REPORT_SECONDS = 5.0
# Of this machine: no other mirror and no later try would help.
DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES}
MIRROR = "name a mirror with --endpoint or HF_ENDPOINT, or copy the files from elsewhere and use --from"


def download(url: str, file: File, target: Path, emit: Emit, *, pauses: tuple[float, ...] = PAUSES) -> None:
    """Fetch `url` to `target`, by way of `<target>.part`, which a later call goes on with.

    Proxies are taken from the environment. Raises FetchError naming the address and the remedy, and OSError where the
    disk is full or may not be written.
    """
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    while (have := part.stat().st_size if part.exists() else 0) < file.size:
        try:
            _go_on(url, file, part, have, emit)
        except (URLError, OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
                raise FetchError(f"{url} answers {error.code} {error.reason}: {MIRROR}") from error
            if isinstance(error, HTTPError) and error.code == 416:
                part.unlink()
            if isinstance(error, OSError) and error.errno in DISK_FAULTS:
                raise
        brought = part.exists() and part.stat().st_size > have
        failed = 0 if brought else failed + 1
        if failed > len(pauses):
            raise FetchError(f"{url} brings nothing after {failed} tries: run it again to go on, or {MIRROR}")
        if failed:
            time.sleep(pauses[failed - 1])
    verify(part, file, source=url)
    part.replace(target)


def verify(path: Path, file: File, *, source: str) -> None:
    """Raise FetchError, removing a partial file, where size or SHA-256 are not the manifest's."""
    found = digest(path) if path.stat().st_size == file.size else f"{path.stat().st_size} bytes"
    if found == file.sha256:
        return
    if path.suffix == ".part":
        path.unlink()
    wanted = f"{file.sha256} ({file.size} bytes)"
    raise FetchError(f"{source} is not the file that was asked for: SHA-256 {wanted}, found {found}. {MIRROR}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _go_on(url: str, file: File, part: Path, have: int, emit: Emit) -> None:
    headers = {"User-Agent": "revops", **({"Range": f"bytes={have}-"} if have else {})}
    # The address is http or https: fetch() refuses others.
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        # A server that knows no ranges sends everything again.
        mode = "ab" if answer.status == http.client.PARTIAL_CONTENT and begins else "wb"
        with part.open(mode) as content:
            _copy(answer, content, file, emit)


def _copy(answer: http.client.HTTPResponse, content: IO[bytes], file: File, emit: Emit) -> None:
    reported = 0.0
    while True:
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            emit({"event": "download", "file": file.name, "bytes": content.tell(), "total": file.size})
        chunk = answer.read(CHUNK)
        if not chunk:
            return
        if content.tell() + len(chunk) > file.size:
            content.truncate(0)
            raise FetchError(f"{file.name} is longer than {file.size} bytes there: {MIRROR}")
        content.write(chunk)
