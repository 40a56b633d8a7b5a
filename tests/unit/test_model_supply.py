"""`make model`, as far as it goes without two gigabytes."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from revops.embedding.encoder import EncoderError
from revops.local.__main__ import _parser
from revops.local.model_supply import _show, fetch_model


class Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_a_folder_must_be_named() -> None:
    with pytest.raises(EncoderError, match=r"REVOPS_EMBEDDING_MODEL=/models/bge-m3.*VOLUME=revops-models"):
        fetch_model(Console(), {}, source=None, endpoint=None)


def test_what_the_encoder_says_comes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    own = {"REVOPS_EMBEDDING_MODEL": str(tmp_path / "bge-m3")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        assert fetch_model(Console(), own, source=None, endpoint=endpoint) == 8
        server.shutdown()
        thread.join()
    assert f"{endpoint}/BAAI/bge-m3/resolve/" in capfd.readouterr().err
    assert fetch_model(Console(), own, source=str(tmp_path), endpoint=None) == 8
    assert f"{tmp_path}/config.json is missing: --from needs all of" in capfd.readouterr().err
    assert not (tmp_path / "bge-m3").exists()


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=200)
    _show(console, {"event": "download", "file": "pytorch_model.bin", "bytes": 500_000_000, "total": 2_000_000_000})
    _show(console, {"event": "model", "model_name": "BAAI/bge-m3", "path": "/m", "built": False, "seconds": 1})
    assert capsys.readouterr().out.splitlines() == [
        "  pytorch_model.bin  25 % of 2,000.0 MB",
        "BAAI/bge-m3 was there already, unharmed in /m",
    ]


def test_arguments() -> None:
    given = _parser().parse_args(["model", "--from", "stick", "--endpoint", "https://mirror.example.com"])
    assert (given.source, given.endpoint) == ("stick", "https://mirror.example.com")
