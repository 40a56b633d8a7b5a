"""A web server with a model in the layout of Hugging Face's repositories, which misbehaves when told to."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import load_file

from embedding.manifest import WEIGHTS, File, Manifest

REVISION = "0123456789abcdef0123456789abcdef01234567"


def make_repository(tiny: Path, folder: Path) -> Manifest:
    """Lay the tiny model out as published: pickled weights, no safetensors; return its manifest."""
    shutil.copytree(tiny, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / WEIGHTS)
    (folder / "model.safetensors").unlink()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    files = [
        File(path.relative_to(folder).as_posix(), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return Manifest("example/tiny", REVISION, "MIT", tuple(files))


@dataclass
class Server:
    """Serve a folder. cut_after: bytes after which an answer to a large file is cut, once each entry."""

    folder: Path
    url: str = ""
    knows_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    changed: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Answer on a free port of 127.0.0.1 meanwhile."""
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                own.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        prefix = f"/example/tiny/resolve/{REVISION}/"
        name = request.path.removeprefix(prefix)
        range_asked = request.headers.get("Range", "")
        self.asked.append((name, range_asked))
        if self.status:
            request.send_error(self.status.pop(0))
            return
        path = self.folder / name
        if not request.path.startswith(prefix) or not path.is_file():
            request.send_error(404)
            return
        content = self.changed.get(name, path.read_bytes())
        start = int(re.fullmatch(r"bytes=(\d+)-", range_asked)[1]) if range_asked and self.knows_ranges else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        body = content[start:]
        if name == WEIGHTS and self.cut_after:
            body = body[: self.cut_after.pop(0)]
        request.wfile.write(body)
